from __future__ import annotations

import pytest
import torch

from components.common.inference.windows import Windows
from components.train.batches import Inputs, make_inputs, one_ahead
from components.train.crops import Batch
from tests.components.train.conftest import TRAIN

CPU = torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def batch(seed=0, side_px=60):
    generator = torch.Generator().manual_seed(seed)
    dsm = torch.randn(4, 1, side_px, side_px, generator=generator)
    dsm[0, 0, 0, 0] = torch.nan
    return Batch(
        torch.randint(0, 256, (4, 3, side_px, side_px), generator=generator, dtype=torch.uint8),
        dsm,
        torch.randint(0, 6, (4, side_px, side_px), generator=generator, dtype=torch.uint8),
        torch.ones(4, dtype=torch.bool),
    )


@pytest.fixture
def make(train_config):
    windows = Windows(64, 64, 4, 8, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))

    def call(given: Batch, step: int, device: torch.device = CPU, share: float = 0.5, **more) -> Inputs:
        config = train_config(masking=TRAIN["masking"] | {"share": share})
        return make_inputs(given, step, config, windows, device, **more)

    return call


def same(a: Inputs, b: Inputs) -> bool:
    pairs = zip((a.rgb_B3HW, a.dsm_B1HW, a.target_BHW), (b.rgb_B3HW, b.dsm_B1HW, b.target_BHW), strict=True)
    return all(torch.equal(x.cpu(), y.cpu()) for x, y in pairs)


def test_inputs_are_padded_finite_and_ignored_where_they_are_padding(make):
    inputs = make(batch(), 1)
    assert inputs.rgb_B3HW.shape == (4, 3, 64, 64) and inputs.dsm_B1HW.shape == (4, 1, 64, 64)
    assert inputs.dsm_B1HW.isfinite().all()
    assert inputs.target_BHW.dtype == torch.int64
    assert (inputs.target_BHW[:, 60:] == 255).all() and (inputs.target_BHW[:, :60, :60] < 6).all()


def test_masks_are_a_function_of_the_step(make):
    assert same(make(batch(), 5), make(batch(), 5))
    assert not same(make(batch(), 5), make(batch(), 6))


@pytest.mark.parametrize("modalities", [("rgb",), ("dsm",)])
def test_the_inputs_of_a_single_modality_network_are_never_masked(make, modalities):
    unmasked = make(batch(), 1, share=0.0)
    for step in range(1, 10):
        assert same(make(batch(), step, modalities=modalities), unmasked)
        assert not same(make(batch(), step), unmasked)


@gpu
def test_a_gpu_gets_the_same_inputs_one_ahead_as_in_turn(make):
    device = torch.device("cuda")
    pinned = [Batch(*(x.pin_memory() for x in b.tensors)) for b in map(batch, range(5))]
    ahead = list(one_ahead(pinned, lambda given, step: make(given, step, device), 3))
    assert len(ahead) == 5
    for step, (found, given) in enumerate(zip(ahead, pinned, strict=True), start=3):
        expected = make(given, step)
        torch.testing.assert_close(found.rgb_B3HW.cpu(), expected.rgb_B3HW)
        torch.testing.assert_close(found.dsm_B1HW.cpu(), expected.dsm_B1HW)
        assert torch.equal(found.target_BHW.cpu(), expected.target_BHW)
