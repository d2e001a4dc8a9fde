from __future__ import annotations

import torch

from model.inputs import normalise, pad_to_multiple, padded_side


def test_image_is_normalised_per_band_and_missing_heights_become_zero():
    image = torch.full((1, 2, 1, 2), 255, dtype=torch.uint8)
    dsm = torch.tensor([[[[float("nan"), 1.5]]]])
    rgb, heights = normalise(image, dsm, (0.5, 0.0), (0.25, 2.0))
    assert rgb[0, :, 0, 0].tolist() == [2.0, 0.5]
    assert heights.flatten().tolist() == [0.0, 1.5]


def test_padding_is_at_the_bottom_and_the_right():
    padded = pad_to_multiple(torch.ones(1, 1, 256, 256), 14)
    assert padded.shape[-2:] == (266, 266)
    assert padded[..., :256, :256].min() == 1
    assert padded[..., 256:, :].max() == padded[..., :, 256:].max() == 0
    assert padded_side(256, 14) == 266


def test_a_side_that_fits_is_left_alone():
    assert pad_to_multiple(torch.ones(1, 1, 28, 14), 14).shape[-2:] == (28, 14)
