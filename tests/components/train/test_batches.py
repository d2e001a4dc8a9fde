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

    def call(given: Batch, step: int, device: torch.device = CPU, masking=None, **more) -> Inputs:
        config = train_config(batch_size=4, masking=TRAIN["masking"] | (masking or {}))
        return make_inputs(given, step, config, windows, device, **more)

    return call


def same(a: Inputs, b: Inputs) -> bool:
    return all(equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True))


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same values, and NaN in the same places."""
    return torch.equal(a.cpu().nan_to_num(-99.0), b.cpu().nan_to_num(-99.0))


def test_inputs_are_padded_with_nan_and_ignored_where_they_are_padding(make):
    inputs = make(batch(), 1)
    assert inputs.rgb_B3HW.shape == (4, 3, 64, 64) and inputs.dsm_B1HW.shape == (4, 1, 64, 64)
    for values in (inputs.rgb_B3HW, inputs.dsm_B1HW):
        assert values[:, :, 60:].isnan().all() and values[:, :, :, 60:].isnan().all()
    assert inputs.target_BHW.dtype == torch.int64
    assert (inputs.target_BHW[:, 60:] == 255).all() and (inputs.target_BHW[:, :60, :60] < 6).all()


def test_masks_are_a_function_of_the_step(make):
    assert same(make(batch(), 5), make(batch(), 5))
    assert not same(make(batch(), 5), make(batch(), 6))


@pytest.mark.parametrize("modalities", [("rgb",), ("dsm",)])
def test_the_inputs_of_a_single_modality_network_have_no_masks_and_no_copies(make, modalities):
    unmasked = make(batch(), 1, masking={"share": 0.0})
    for step in range(1, 10):
        assert same(make(batch(), step, masking={"paired": 2.0}, modalities=modalities), unmasked)
        assert not same(make(batch(), step), unmasked)


def without(given: Batch, image: tuple[int, ...] = (), heights: tuple[int, ...] = ()) -> Batch:
    """The batch, in which some crops have no image and some no heights."""
    for crop in image:
        given.image_BCHW[crop], given.has_image_B[crop] = 0, False
    for crop in heights:
        given.dsm_B1HW[crop] = torch.nan
    return given


def test_a_crop_of_one_sensor_is_nan_in_the_other_and_never_masked(make):
    complete = make(batch(), 1, masking={"share": 0.0})
    for step in range(1, 10):
        inputs = make(without(batch(), image=(1,), heights=(2,)), step, masking={"share": 1.0, "full_share": 1.0})
        assert inputs.rgb_B3HW[1].isnan().all() and equal(inputs.dsm_B1HW[1], complete.dsm_B1HW[1])
        assert inputs.dsm_B1HW[2].isnan().all() and equal(inputs.rgb_B3HW[2], complete.rgb_B3HW[2])
        for crop in (0, 3):
            assert inputs.rgb_B3HW[crop].isnan().all() != inputs.dsm_B1HW[crop].isnan().all()
        assert torch.equal(inputs.target_BHW, complete.target_BHW)


@pytest.mark.parametrize(("modalities", "ignored"), [(("rgb", "dsm"), {3}), (("rgb",), {1, 3}), (("dsm",), {2, 3})])
def test_labels_of_a_crop_without_a_sensor_of_the_network_are_ignored(make, modalities, ignored):
    inputs = make(without(batch(), image=(1, 3), heights=(2, 3)), 1, modalities=modalities)
    assert {crop for crop in range(4) if (inputs.target_BHW[crop] == 255).all()} == ignored


@gpu
def test_a_gpu_gets_the_same_inputs_one_ahead_as_in_turn(make):
    device = torch.device("cuda")
    pinned = [Batch(*(x.pin_memory() for x in b.tensors)) for b in map(batch, range(5))]
    ahead = list(one_ahead(pinned, lambda given, step: make(given, step, device), 3))
    assert len(ahead) == 5
    for step, (found, given) in enumerate(zip(ahead, pinned, strict=True), start=3):
        expected = make(given, step)
        torch.testing.assert_close(found.rgb_B3HW.cpu(), expected.rgb_B3HW, equal_nan=True)
        torch.testing.assert_close(found.dsm_B1HW.cpu(), expected.dsm_B1HW, equal_nan=True)
        assert torch.equal(found.target_BHW.cpu(), expected.target_BHW)
