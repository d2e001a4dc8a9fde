"""A study of two variants that trains in seconds, and results with known figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from pipeline.ablation.plan import plan
from pipeline.ablation.results import Protocol, Recipe, Results
from pipeline.ablation.trainings import Result

ROOT = Path(__file__).parents[3]

TINY = {
    "model": {"backbone": "test_vit", "backbone_args": {"patch_size": 8, "img_size": 64}, "decoder_channels": 16},
    "train": {"steps": 2, "warmup_steps": 0, "batch_size": 2, "crop_px": 32},
    "runtime": {"device": "cpu", "checkpoint_every_steps": 1, "log_every_steps": 1, "tracking": "none"},
    "evaluate": {"stride_px": 32},
}

STUDIES = {
    "small": {
        "about": "What the gate is worth.",
        "base": {"train.masking.paired": 0.0},
        "variants": {"with gate": {"train.masking.share": 1.0}, "without gate": {"model.dgfm": False}},
    }
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("GIT_COMMIT", "c" * 40)  # the same for all trainings of a test


@pytest.fixture
def params(tmp_path) -> Path:
    """A params.yaml with which a training takes a second."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, changes in TINY.items():
        document[name] |= changes
    document["train"]["validation"] |= {"every_steps": 1, "stride_px": 32, "pictures": 0}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def studies(tmp_path):
    """Write a file of studies."""

    def write(content=STUDIES) -> Path:
        path = tmp_path / "studies.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def small(params, studies, toy_store, tmp_path):
    """The plan of the small study."""

    def make(seeds=(1, 2), workers=1, content=STUDIES):
        return plan("small", studies(content), params, seeds, toy_store, tmp_path / "out", workers)

    return make


@pytest.fixture
def made_up():
    """Results with given figures: variant -> (mIoU, E(p)) of every seed, on validation and test tiles.

    `single` has the sensor of networks with one sensor, `steps` the steps of variants that do not have 2.
    """

    def make(found: dict[str, list[tuple[float, float]]], gates=True, single=(), steps=()) -> Results:
        runs, recipes = [], {}
        single, steps = dict(single), dict(steps)
        for variant, pairs in found.items():
            modalities = (single[variant],) if variant in single else ("rgb", "dsm")
            recipes[variant] = Recipe(modalities, steps.get(variant, 2), 100 * len(modalities))
            for seed, (miou, expected) in enumerate(pairs, start=1):
                row = {"miou": miou, "expected_miou": expected, "worst_class_iou": miou / 2}
                if variant not in single:
                    row |= {"miou_rgb": 40.0, "miou_dsm": 30.0, "shapley_rgb": 35.0, "shapley_dsm": 25.0}
                if gates and variant not in single:
                    for name in ("gate_mean", "gate_std", "gate_saturated"):
                        row |= {f"{name}{stage}": 0.5 for stage in ("", "_1", "_2", "_3", "_4")}
                runs.append(Result(variant, seed, "f", 100, 64, "c" * 40, None, {"val": row, "test": row}))
        tiles = {"val": ("4_10",), "test": ("5_10", "5_11")}
        seeds = tuple(range(1, max(map(len, found.values())) + 1))
        data = ("sample", "sample", "sample", "d" * 32, tiles, "eroded", ("road", "lawn"))
        protocol = Protocol(*data, (64,), 32, 0.1, 0.5, "test_vit", "none", (2,), seeds, ("c" * 40,), "0.1.0")
        return Results("made-up", "About nothing.", protocol, dict.fromkeys(found, {}), recipes, runs)

    return make
