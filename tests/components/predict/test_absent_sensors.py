"""A window is computed with the sensors of its own pixels, whatever the other windows of its batch have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.inference.modelfile import save_model
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Maps
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice
from components.predict.scores.meter import Meter
from components.predict.scores.window_batches import window_batches
from model.inputs import normalise_image
from tests.components.conftest import toy_facts
from tests.components.predict.known import FACTS, ArrayInputs, KnownPredictor, noise
from tests.model.toys import distinguishing

CPU = torch.device("cpu")
HEIGHT, WIDTH, WINDOW, STRIDE = 75, 101, 32, 24
TEMPERATURES = {"rgb+dsm": 1.0, "rgb": 2.0, "dsm": 4.0}


def partly_measured():
    """A raster with heights on the left only, with holes, and one far hole that leaves a window without heights."""
    inputs = noise(HEIGHT, WIDTH)
    inputs._dsm_HW[:, 60:] = np.nan
    inputs._dsm_HW[40:, :33] = np.nan
    inputs._sensors_HW[np.isnan(inputs._dsm_HW)] = 1
    return inputs


def only(sensor):
    """The raster with one sensor."""
    inputs = partly_measured()
    if sensor == "rgb":
        return ArrayInputs(inputs._image_HWC)
    dsm_HW = np.nan_to_num(inputs._dsm_HW, nan=0.5)
    return ArrayInputs(inputs._image_HWC, dsm_HW, np.full((HEIGHT, WIDTH), 2, np.uint8))


@pytest.fixture(scope="module")
def network():
    return distinguishing()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, network, replace(toy_facts(network.config), temperature=TEMPERATURES))
    return str(path)


def scores(inputs, predictor, rows=slice(0, HEIGHT), columns=slice(0, WIDTH), batch=4):
    lattice = Lattice(HEIGHT, WIDTH, WINDOW, STRIDE, batch)
    bands = list(blended(inputs, predictor, lattice, rows, columns, Meter(1)))
    probabilities_KhW = torch.cat([band.probabilities_KhW for band in bands], 1)
    return torch.cat([probabilities_KhW, torch.cat([band.gates_hW for band in bands])[None]]).numpy()


def one_by_one(inputs, network):
    """Weighted sums of windows that are computed alone, with None for a sensor that a window lacks."""
    lattice, facts = Lattice(HEIGHT, WIDTH, WINDOW, STRIDE, 1), toy_facts(network.config)
    weight_HW = np.outer(lattice.profile(), lattice.profile())
    total_MHW, weights_HW, seen = np.zeros((7, 200, 200)), np.zeros((200, 200)), set()
    for i in range(lattice.shape[0]):
        for j in range(lattice.shape[1]):
            here = lattice.pixels(i), lattice.pixels(j)
            patch = inputs.read(*here)
            image = torch.from_numpy(patch.image_HWC).movedim(-1, 0)[None]
            rgb = normalise_image(image, facts.image_mean, facts.image_std) if (patch.sensors_HW & 1).any() else None
            dsm = None if np.isnan(patch.dsm_HW).all() else torch.from_numpy(patch.dsm_HW)[None, None]
            condition = "rgb" if dsm is None else "dsm" if rgb is None else "rgb+dsm"
            seen.add(condition)
            with torch.no_grad():
                logits, gates = network.forward_with_gates(rgb, dsm)
            gate_HW = torch.stack([gate.mean(1) for gate in gates]).mean(0)[0].numpy().repeat(8, 0).repeat(8, 1)
            found_KHW = (logits[0] / TEMPERATURES[condition]).softmax(0).numpy()
            total_MHW[:, *here] += weight_HW * np.concatenate([found_KHW, gate_HW[None]])
            weights_HW[here] += weight_HW
    return (total_MHW / np.maximum(weights_HW, 1e-12))[:, :HEIGHT, :WIDTH], seen


@pytest.mark.parametrize(
    ("given", "conditions"),
    [(partly_measured, {"rgb+dsm", "rgb"}), (lambda: only("rgb"), {"rgb"}), (lambda: only("dsm"), {"dsm"})],
    ids=["part of the DSM", "image only", "DSM only"],
)
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_map_is_that_of_windows_computed_one_by_one(network, file, given, conditions, batch):
    expected, seen = one_by_one(given(), network)
    assert seen == conditions
    with open_model(file, CPU) as predictor:
        assert predictor.by_condition
        np.testing.assert_allclose(scores(given(), predictor, batch=batch), expected, atol=2e-5)


def test_any_part_is_the_same_bits_as_the_whole(file):
    inputs = partly_measured()
    with open_model(file, CPU) as predictor:
        whole = scores(inputs, predictor)
        for rows, columns in [
            (slice(0, HEIGHT), slice(0, 50)),
            (slice(0, HEIGHT), slice(50, WIDTH)),
            (slice(30, 52), slice(0, WIDTH)),
            (slice(74, 75), slice(100, 101)),
        ]:
            assert np.array_equal(scores(inputs, predictor, rows, columns), whole[:, rows, columns])


def test_gates_are_1_where_only_the_image_was_measured(file):
    with open_model(file, CPU) as predictor:
        gates_HW = scores(partly_measured(), predictor)[6]
    assert (gates_HW[:, 80:] > 1 - 1e-6).all() and (gates_HW[:30, :20] < 0.99).all()


class Recording(KnownPredictor):
    """Records which inputs it gets."""

    def __init__(self, **options):
        super().__init__(**options)
        self.by_condition = True
        self.given = []

    def __call__(self, image_BCHW, dsm_B1HW):
        given = image_BCHW if image_BCHW is not None else dsm_B1HW
        self.given.append((image_BCHW is not None, dsm_B1HW is not None, len(given)))
        logits = torch.zeros(len(given), 6, 32, 32)
        logits[:, 0] = 8
        return Maps(logits, None)


@pytest.mark.parametrize(("sensor", "expected"), [("rgb", (True, False, 4)), ("dsm", (False, True, 4))])
def test_the_stream_of_a_sensor_that_a_raster_lacks_never_runs(sensor, expected):
    predictor = Recording()
    list(blended(only(sensor), predictor, Lattice(HEIGHT, WIDTH, 32, 24, 4), slice(0, 75), slice(0, 101), Meter(1)))
    assert set(predictor.given) == {expected} and len(predictor.given) == 3  # 3 x 4 windows in batches of 4


def test_windows_with_other_sensors_share_no_batch_and_few_slots_stay_empty():
    inputs, predictor = partly_measured(), Recording()
    lattice = Lattice(HEIGHT, WIDTH, 32, 24, 4)
    list(blended(inputs, predictor, lattice, slice(0, 75), slice(0, 101), Meter(1)))
    windows = {"rgb+dsm": 0, "rgb": 0}
    for batch in window_batches(inputs, lattice, FACTS, slice(0, 75), slice(0, 101), by_condition=True, pinned=False):
        for name, group in batch.groups.items():
            windows[name] += len(group.slots)
            assert all(group.conditions[slot] == name for slot in group.slots)
    assert windows["rgb+dsm"] + windows["rgb"] == 12 and min(windows.values()) > 0
    assert set(predictor.given) == {(True, True, 4), (True, False, 4)} and len(predictor.given) <= 6


def test_windows_that_alternate_need_two_passes_per_batch_not_one_per_window():
    inputs = noise(32, 32 * 16)
    for j in range(0, 16, 2):
        inputs._dsm_HW[:, 32 * j : 32 * (j + 1)] = np.nan
    predictor = Recording()
    lattice = Lattice(32, 32 * 16, 32, 32, 4)
    list(blended(inputs, predictor, lattice, slice(0, 32), slice(0, 32 * 16), Meter(1)))
    assert len(predictor.given) == 8


def test_a_network_that_needs_no_groups_gets_both_tensors_and_the_temperature_of_each_window():
    inputs, facts = noise(32, 64), replace(FACTS, temperature=TEMPERATURES)
    inputs._dsm_HW[:, 32:] = np.nan
    predictor = KnownPredictor(facts=facts)
    lattice = Lattice(32, 64, 32, 32, 2)
    (band,) = blended(inputs, predictor, lattice, slice(0, 32), slice(0, 64), Meter(1))
    assert len(predictor.batches) == 1
    highest_hW = band.probabilities_KhW.max(0).values.numpy()
    for columns, heat in ((slice(0, 32), 1.0), (slice(32, 64), 2.0)):
        expected = np.exp(8 / heat) / (np.exp(8 / heat) + 5)
        np.testing.assert_allclose(highest_hW[:, columns], expected, atol=1e-5)
