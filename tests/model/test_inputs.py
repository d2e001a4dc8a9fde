from __future__ import annotations

import math

import pytest
import torch

from model.inputs import normalise, pad_to_multiple, padded_side


def test_image_is_normalised_per_band_and_what_is_missing_stays_nan():
    image = torch.tensor([255.0, math.nan]).expand(1, 2, 1, 2)
    dsm = torch.tensor([[[[float("nan"), 1.5]]]])
    rgb, heights = normalise(image, dsm, (0.5, 0.0), (0.25, 2.0))
    assert rgb[0, :, 0, 0].tolist() == [2.0, 0.5] and rgb[..., 1].isnan().all()
    assert heights[0, 0, 0, 0].isnan() and heights[0, 0, 0, 1] == 1.5
    assert normalise(image[..., :1].byte(), dsm.double(), (0.5, 0.0), (0.25, 2.0))[1].dtype == torch.float32


def test_padding_is_at_the_bottom_and_the_right():
    padded = pad_to_multiple(torch.ones(1, 1, 256, 256), 14)
    assert padded.shape[-2:] == (266, 266)
    assert padded[..., :256, :256].min() == 1
    assert padded[..., 256:, :].isnan().all() and padded[..., :, 256:].isnan().all()
    assert padded_side(256, 14) == 266


def test_whole_numbers_are_padded_with_a_value_only():
    labels = torch.ones(1, 1, 3, 3, dtype=torch.uint8)
    assert pad_to_multiple(labels, 4, 255)[0, 0, 3].tolist() == [255] * 4
    with pytest.raises(ValueError, match="NaN, which torch.uint8 cannot represent"):
        pad_to_multiple(labels, 4)


def test_a_side_that_fits_is_left_alone():
    assert pad_to_multiple(torch.ones(1, 1, 28, 14), 14).shape[-2:] == (28, 14)
