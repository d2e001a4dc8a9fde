from __future__ import annotations

import math

import pytest
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.train.config import ValidationConfig
from components.train.ranks.distributed import single_rank
from components.train.validation import validate
from pipeline.ablation.subset_figures import subset_figures

VALIDATION = ValidationConfig(
    every_steps=1, stride_px=32, batch_size=16, failure_probability=0.1, guard=0.5, pictures=0
)
CPU = torch.device("cpu")
WINDOWS = Windows(32, 32, 16, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_figures_of_the_validation_tiles_are_those_that_training_computes(toy_store, toy_network):
    network, store = toy_network(), Store(toy_store)
    known = validate(network, store, WINDOWS, VALIDATION, single_rank(CPU))
    found = subset_figures(network.eval(), store, "val", WINDOWS, CPU, 0.1)
    found["miou_fused"] = found["miou"]
    known = {name: value for name, value in known.items() if math.isfinite(value)}
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-4)


def test_a_network_of_one_modality_has_no_balance_and_its_own_expectation(toy_store, toy_network):
    found = subset_figures(toy_network(modalities=("dsm",)), Store(toy_store), "test", WINDOWS, CPU, 0.1)
    assert found["expected_miou"] == found["miou"]
    assert found.keys() <= {"miou", "oa", "mf1", "expected_miou", "worst_class_iou"}
