"""components/export/formats/servable.py: pixels as stored and metres become what readers of rasters make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.data.height_scaling import scale_part
from components.common.data.store import Heights
from components.common.exported.graph_inputs import dsm_values, stored_heights, stored_pixels
from components.export.formats.servable import Servable, StoredInputs
from model.inputs import normalise
from tests.components.conftest import toy_facts
from tests.model.toys import distinguishing

NAN = np.float32(np.nan)
ABSOLUTE = Heights("training-range", 312.5, 20.0, None, (2.0, 98.0), (-0.5, 2.0), "datum")


@pytest.fixture(scope="module")
def network():
    return distinguishing()


@pytest.fixture(scope="module")
def facts(network):
    return replace(toy_facts(network.config), image_range=(100.0, 4195.0), heights=ABSOLUTE)


def test_pixels_become_the_whole_numbers_of_the_reader(facts) -> None:
    pixels = np.random.default_rng(0).integers(0, 5000, (2, 3, 8, 8)).astype(np.float32)
    expected = np.rint((pixels - 100) / 4095 * 255).clip(0, 255)
    found = StoredInputs(facts).eight_bit(torch.from_numpy(pixels)).numpy()
    np.testing.assert_array_equal(found, expected)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_pixel_without_a_number_in_one_band_is_not_measured(facts, hole) -> None:
    pixels = np.full((1, 3, 2, 2), 1000, np.float32)
    pixels[0, 1, 0, 1] = hole
    found = StoredInputs(facts).eight_bit(torch.from_numpy(pixels)).isnan()
    assert found[0, :, 0, 1].all() and int(found.sum()) == 3


def test_heights_are_scaled_as_the_store_does_and_nodata_is_not_measured(facts) -> None:
    metres = np.random.default_rng(1).uniform(290, 370, (1, 1, 8, 8)).astype(np.float32)
    nodata = np.array([-9999, 3.4e38, np.inf, -np.inf, np.nan, 9000, -500], np.float32)
    metres[0, 0, 0, :7] = nodata
    expected = metres.copy()
    expected[0, 0, 0, :7] = np.nan
    scale_part(expected[0, 0], slice(0, 8), slice(0, 8), ABSOLUTE, None, None)
    found = StoredInputs(facts).scaled(torch.from_numpy(metres)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert int(np.isnan(found).sum()) == 7 and np.nanmin(found) == -0.5 and np.nanmax(found) == 2.0


@pytest.mark.parametrize(
    ("heights", "kind"),
    [
        (ABSOLUTE, "metres"),
        (replace(ABSOLUTE, relative_to="ground"), "metres above ground"),
        (Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"), "metres above ground"),
        (Heights("per-tile", None, None, None, (2.0, 98.0), (0.0, 1.0), "datum"), "scaled"),
    ],
)
def test_what_a_graph_takes_follows_from_the_heights_and_converts_back(network, heights, kind) -> None:
    assert dsm_values(heights) == kind
    facts = replace(toy_facts(network.config), heights=heights, image_range=(0.0, 65535.0))
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (1, 3, 8, 8)).astype(np.float32)
    dsm = rng.uniform(*heights.clip, (1, 1, 8, 8)).astype(np.float32)
    dsm[0, 0, 0, 0] = np.nan
    inputs = StoredInputs(facts)
    np.testing.assert_array_equal(inputs.eight_bit(torch.from_numpy(stored_pixels(image, facts))).numpy(), image)
    found = inputs.scaled(torch.from_numpy(stored_heights(dsm, facts).astype(np.float32))).numpy()
    np.testing.assert_allclose(found, dsm, atol=1e-5)


def test_the_outputs_are_those_of_the_network_with_the_temperature_of_each_sample(network, facts) -> None:
    warm = replace(facts, temperature={"rgb+dsm": 0.5, "rgb": 2.0, "dsm": 4.0})
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.integers(100, 4196, (3, 3, 64, 64)).astype(np.float32))
    dsm = torch.from_numpy(rng.uniform(300, 350, (3, 1, 64, 64)).astype(np.float32))
    dsm[1], image[2] = torch.nan, torch.nan
    module = Servable(network, warm, ("confidence", "logits", "classes")).eval()
    with torch.inference_mode():
        confidence, logits, classes = module(image, dsm)
        rgb, heights = normalise(
            module.inputs.eight_bit(image), module.inputs.scaled(dsm), facts.image_mean, facts.image_std
        )
        expected = torch.cat([network(rgb[:1], heights[:1]), network(rgb[1:2], None), network(None, heights[2:])])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert classes.dtype == torch.uint8 and torch.equal(classes, logits.argmax(1).to(torch.uint8))
    for sample, temperature in enumerate((0.5, 2.0, 4.0)):
        wanted = torch.softmax(expected[sample] / temperature, 0).amax(0)
        torch.testing.assert_close(confidence[sample], wanted, atol=1e-4, rtol=0)
