"""A pixel's score is the same bits whatever is computed with it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from components.common.errors import NonFiniteError
from components.common.inference.modelfile import save_model
from components.common.predictors.models import open_model
from components.common.predictors.predictor import Maps
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice, strips
from components.predict.scores.meter import Meter
from tests.components.conftest import toy_facts
from tests.components.predict.known import ArrayInputs, KnownPredictor, class_of, noise

CPU = torch.device("cpu")
SIZES = [(75, 101), (1, 90), (90, 1), (20, 27), (1, 1)]


def lattice_of(inputs, window=32, stride=24, batch=4):
    return Lattice(inputs.height_px, inputs.width_px, window, stride, batch)


def computed(inputs, predictor, lattice, rows=None, columns=None):
    """Scores, sensors, agreeing pairs and pairs of a rectangle; None: the raster."""
    rows, columns = rows or slice(0, inputs.height_px), columns or slice(0, inputs.width_px)
    meter = Meter(1)
    bands = list(blended(inputs, predictor, lattice, rows, columns, meter))
    assert [band.rows.start for band in bands] == [rows.start, *(band.rows.stop for band in bands[:-1])]
    assert bands[-1].rows.stop == rows.stop and all(band.columns == columns for band in bands)
    scores = torch.cat([band.probabilities_KhW for band in bands], 1).numpy()
    if predictor.has_gates:
        scores = np.concatenate([scores, torch.cat([band.gates_hW for band in bands])[None].numpy()])
    sensors = np.concatenate([band.sensors_hW for band in bands])
    assert meter.pixels == sensors.size
    return scores, sensors, sum(band.agreeing for band in bands), sum(band.pairs for band in bands)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def toy_file(toy_network, tmp_path):
    """A toy network with random weights that matter, in a file."""
    network = toy_network()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "pos_embed" in name or "gate" in name:
                value.normal_(std=0.5)
    save_model(tmp_path / "model.safetensors", network, toy_facts(network.config))
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def toy(toy_file):
    with open_model(toy_file, CPU) as predictor:
        yield predictor


def parts(size, count):
    return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_parts_are_the_same_bits_as_the_whole(toy, threads, height, width):
    inputs = noise(height, width)
    lattice = lattice_of(inputs)
    scores, sensors, agreeing, pairs = computed(inputs, toy, lattice)
    for count in (2, 7) if threads == 1 else (4,):
        cuts = [(part, None) for part in parts(height, min(count, height))]
        if (height, width) == (75, 101):
            cuts = cuts if count == 4 else [(None, part) for part in parts(width, count)]
        found = [computed(inputs, toy, lattice, *cut) for cut in cuts]
        axis = 1 if cuts[0][1] is None else 2
        assert np.array_equal(np.concatenate([part[0] for part in found], axis), scores)
        assert np.array_equal(np.concatenate([part[1] for part in found], axis - 1), sensors)
        assert sum(part[2] for part in found) == agreeing and sum(part[3] for part in found) == pairs


def test_any_rectangle_is_the_same_bits_as_the_whole(toy):
    inputs = noise(75, 101)
    lattice = lattice_of(inputs)
    whole = computed(inputs, toy, lattice)[0]
    for rows, columns in [
        (slice(0, 1), slice(0, 1)),
        (slice(74, 75), slice(100, 101)),
        (slice(23, 25), slice(31, 33)),
        (slice(24, 48), slice(5, 99)),
    ]:
        assert np.array_equal(computed(inputs, toy, lattice, rows, columns)[0], whole[:, rows, columns])


def test_parts_are_the_same_bits_in_bf16(toy_file):
    inputs = noise(50, 90)
    lattice = lattice_of(inputs)
    with open_model(toy_file, CPU, precision="bf16") as predictor:
        whole = computed(inputs, predictor, lattice)[0]
        found = [computed(inputs, predictor, lattice, None, part)[0] for part in parts(90, 2)]
    assert np.array_equal(np.concatenate(found, 2), whole)


def test_windows_that_are_skipped_change_no_other_score(toy):
    inputs, holed = noise(75, 101), noise(75, 101)
    holed._sensors_HW[:, :60] = 0  # two of four columns of windows have no class, so batches hold other windows
    whole, rest = (computed(given, toy, lattice_of(given))[0] for given in (inputs, holed))
    assert np.array_equal(rest[:, :, 80:], whole[:, :, 80:])  # only the last column of windows covers these pixels
    assert not np.array_equal(rest[:, :, 60:80], whole[:, :, 60:80])


def test_pairs_of_more_than_255_windows_are_counted():
    inputs = noise(31, 31)
    pairs = 256 * 255 // 2  # all 256 windows are over the pixel in the middle
    predictor, lattice = KnownPredictor(16), lattice_of(inputs, 16, 1)
    assert computed(inputs, predictor, lattice, slice(15, 16), slice(15, 16))[2:] == (pairs, pairs)


@pytest.mark.parametrize(("window", "stride"), [(32, 24), (32, 32), (32, 7), (16, 1)])
def test_every_pixel_has_its_own_class(window, stride):
    inputs = noise(45, 67)
    lattice = lattice_of(inputs, window, stride)
    scores, _, agreeing, pairs = computed(inputs, KnownPredictor(window), lattice)
    assert np.array_equal(scores.argmax(0), class_of(inputs._image_HWC))
    assert np.abs(scores.sum(0) - 1).max() < 1e-5
    assert agreeing == pairs and (pairs > 0) == (stride < window)


def test_pairs_are_counted_per_pixel_with_a_class():
    inputs = noise(40, 40)
    inputs._sensors_HW[:, :10] = 0
    lattice = lattice_of(inputs, 32, 16)
    covering = np.zeros((40, 40), int)
    for i in range(lattice.shape[0]):
        for j in range(lattice.shape[1]):
            covering[lattice.pixels(i), lattice.pixels(j)] += 1
    pairs = (covering * (covering - 1) // 2)[:, 10:].sum()
    assert computed(inputs, KnownPredictor(), lattice)[2:] == (pairs, pairs)


def test_windows_that_disagree_lower_the_agreement():
    class Alternating(KnownPredictor):
        """Class 0 in even slots, class 1 in odd slots."""

        def __call__(self, image_BCHW, dsm_B1HW):
            logits = torch.zeros(len(image_BCHW), 6, 32, 32)
            logits[0::2, 0] = logits[1::2, 1] = 1
            return Maps(logits, None)

    inputs = noise(32, 48)  # two windows, which share 16 columns
    assert computed(inputs, Alternating(), lattice_of(inputs, 32, 16))[2:] == (0, 32 * 16)


def test_gates_are_blended_with_the_same_weights():
    inputs = noise(45, 67)
    scores, *_ = computed(inputs, KnownPredictor(32, has_gates=True), lattice_of(inputs))
    assert np.allclose(scores[6], np.isnan(inputs._dsm_HW), atol=1e-6)


def test_a_temperature_softens_the_scores():
    inputs = noise(20, 20)
    sharp, soft = KnownPredictor(), KnownPredictor()
    object.__setattr__(soft.facts, "temperature", {"rgb+dsm": 4.0, "rgb": 4.0, "dsm": 4.0})
    lattice = lattice_of(inputs)
    expected = [np.exp(8 / t) / (np.exp(8 / t) + 5) for t in (1, 4)]
    found = [computed(inputs, predictor, lattice)[0].max(0) for predictor in (sharp, soft)]
    for scores, value in zip(found, expected, strict=True):
        assert np.allclose(scores, value, atol=1e-5)


def test_a_missing_image_is_nan_and_an_empty_slot_is_missing():
    inputs = noise(32, 80)
    inputs._sensors_HW[:, 60:] = 2
    predictor = KnownPredictor()
    computed(inputs, predictor, lattice_of(inputs))  # three windows in batches of four
    (batch,) = predictor.batches
    assert batch.shape == (4, 3, 32, 32) and batch[3].isnan().all()
    assert not batch[1].isnan().any() and batch[2, :, :, 60 - 48 :].isnan().all()


def test_windows_without_a_class_are_not_computed():
    inputs = noise(96, 96)
    inputs._sensors_HW[:] = 0
    predictor = KnownPredictor()
    scores, sensors, *pairs = computed(inputs, predictor, lattice_of(inputs))
    assert predictor.batches == [] and not sensors.any() and pairs == [0, 0] and scores.shape == (6, 96, 96)
    inputs._sensors_HW[95, 95] = 1
    computed(inputs, predictor, lattice_of(inputs))
    assert len(predictor.batches) == 1


def test_strips_give_the_same_bits_as_the_whole(toy):
    inputs = noise(50, 200)
    lattice = lattice_of(inputs)
    found = [computed(inputs, toy, lattice, None, strip)[0] for strip in strips(lattice, slice(0, 200), 70)]
    assert len(found) > 2
    assert np.array_equal(np.concatenate(found, 2), computed(inputs, toy, lattice)[0])


def test_a_logit_that_is_not_finite_is_an_error():
    class Broken(KnownPredictor):
        def __call__(self, image_BCHW, dsm_B1HW):
            maps = super().__call__(image_BCHW, dsm_B1HW)
            maps.logits_BKHW[0, 2, 5, 5] = torch.inf
            return maps

    inputs = noise(45, 67)
    with pytest.raises(NonFiniteError, match=r"logits that are NaN or infinite in rows 0 to 24 of the raster"):
        computed(inputs, Broken(), lattice_of(inputs))


def test_an_error_of_the_reader_is_raised_once_and_leaves_no_thread():
    class Unreadable(ArrayInputs):
        def read(self, rows, columns):
            if rows.start > 0:
                raise OSError("disk error")
            return super().read(rows, columns)

    inputs = noise(300, 300)
    broken = Unreadable(inputs._image_HWC)
    bands = blended(broken, KnownPredictor(), lattice_of(broken), slice(0, 300), slice(0, 300), Meter(1))
    with pytest.raises(OSError, match="disk error"):
        list(bands)
    assert not [thread for thread in threading.enumerate() if thread.name == "predict-reader"]


def test_closing_early_stops_the_reader():
    inputs = noise(300, 300)
    bands = blended(inputs, KnownPredictor(), lattice_of(inputs), slice(0, 300), slice(0, 300), Meter(1))
    next(bands)
    assert [thread for thread in threading.enumerate() if thread.name == "predict-reader"]
    bands.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "predict-reader"]
