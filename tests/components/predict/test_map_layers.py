from __future__ import annotations

import numpy as np
import torch

from components.predict.outputs.map_layers import LAYERS, layer_names, layer_path, layers_of
from tests.components.predict.drawn_maps import DrawnBand, drawn


def band(probabilities, gates, sensors):
    shape = (slice(0, 1), slice(0, len(sensors[0])))
    return DrawnBand(*shape, torch.tensor(probabilities), torch.tensor(gates), np.array(sensors, np.uint8), 0, 0)


def test_every_layer_of_a_pixel_is_what_its_name_states():
    scores = [[[0.7, 0.25, 1.0, 0.5]], [[0.2, 0.25, 0.0, 0.5]], [[0.1, 0.25, 0.0, 0.0]], [[0.0, 0.25, 0.0, 0.0]]]
    layers = layers_of(band(scores, [[0.0, 1.0, 0.503, 0.5]], [[1, 2, 3, 0]]), tuple(LAYERS))
    assert layers["classes"].tolist() == [[[0, 0, 0, 255]]]
    assert layers["confidence"].tolist() == [[[70, 25, 100, 255]]]
    assert layers["entropy"].tolist() == [[[58, 100, 0, 255]]]  # (0.7 ln 0.7 + 0.2 ln 0.2 + 0.1 ln 0.1) / -ln 4 = 0.578
    assert layers["probabilities"][:, 0].tolist() == [
        [70, 25, 100, 255],
        [20, 25, 0, 255],
        [10, 25, 0, 255],
        [0, 25, 0, 255],
    ]
    assert layers["gates"].tolist() == [[[0, 100, 50, 255]]]
    assert layers["sensors"].tolist() == [[[1, 2, 3, 0]]]
    assert all(layer.dtype == np.uint8 for layer in layers.values())


def test_entropy_is_that_of_the_logarithm_within_the_rounding():
    scores = torch.rand(6, 40, 50, generator=torch.Generator().manual_seed(1)).softmax(0)
    exact = -(scores.double() * scores.double().log()).sum(0) / np.log(6) * 100
    found = layers_of(band(scores.tolist(), [[0.5] * 50] * 40, [[3] * 50] * 40), ("entropy",))["entropy"][0]
    assert np.abs(found - exact.numpy()).max() < 0.51


def test_a_pixel_does_not_depend_on_the_rectangle_that_it_is_computed_in():
    names = tuple(LAYERS)
    complete = layers_of(drawn(slice(0, 40), slice(0, 61)), names)
    part = layers_of(drawn(slice(13, 14), slice(7, 60)), names)
    for name in names:
        assert np.array_equal(part[name], complete[name][:, 13:14, 7:60]), name


def test_one_class_alone_has_no_entropy():
    layers = layers_of(band([[[1.0]]], [[0.5]], [[3]]), ("classes", "entropy"))
    assert (layers["classes"].item(), layers["entropy"].item()) == (0, 0)


def test_layers_have_one_order_and_files_next_to_the_class_map(tmp_path):
    assert layer_names({"sensors", "confidence"}) == ("classes", "confidence", "sensors")
    assert layer_names(()) == ("classes",)
    assert layer_path(tmp_path / "a.b.tif", "entropy") == tmp_path / "a.b_entropy.tif"
    assert layer_path(tmp_path / "a.b.tif", "classes") == tmp_path / "a.b.tif"
