"""components/predict/arrays.py: the classes of arrays are those of files with the same pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from components.common.data.store import Heights
from components.common.errors import DataError, ParamsError
from components.common.inference.modelfile import save_model
from components.common.predictors.models import open_model
from components.predict.arrays import predict_arrays
from components.predict.config import PredictConfig, PredictRequest
from components.predict.step import make_map
from model import MoBaNet
from tests.components.predict.known import FACTS, KnownPredictor, class_of
from tests.components.predict.rasters import heights_of, image_of, write

CONFIG = PredictConfig(
    tiles=None, window_px=None, overlap=0.25, batch_size=4, block_px=256, min_agreement=None, precision="auto"
)
LAYERS = {"classes": "", "confidence": "_confidence", "sensors": "_sensors", "gates": "_gates"}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A network of random weights whose classes depend on image and heights."""
    path = tmp_path_factory.mktemp("arrays") / "model.safetensors"
    torch.manual_seed(0)
    save_model(path, MoBaNet(FACTS.network), FACTS)
    with open_model(str(path), torch.device("cpu")) as opened:
        yield opened


def assert_equal_to_the_map_of_files(folder, predictor, image, dsm):
    found = predict_arrays(predictor, CONFIG, image, dsm, gsd_m=0.05)
    output = folder / "map.tif"
    request = PredictRequest(
        output=output,
        image=() if image is None else (write(folder / "image.tif", image),),
        dsm=() if dsm is None else (write(folder / "dsm.tif", dsm),),
        extras=frozenset({"confidence", "sensors", "gates"}),
    )
    make_map(CONFIG, request, predictor)
    for name, suffix in LAYERS.items():
        with rasterio.open(folder / f"map{suffix}.tif") as file:
            assert np.array_equal(getattr(found, f"{name}_HW"), file.read(1)), name
    return found


@pytest.mark.parametrize("size", [(32, 32), (20, 17), (75, 131), (1, 97)], ids="{0[0]} x {0[1]}".format)
def test_all_layers_of_an_image_and_heights_are_those_of_files_with_the_same_pixels(tmp_path, predictor, size):
    found = assert_equal_to_the_map_of_files(tmp_path, predictor, image_of(*size), heights_of(*size))
    assert len(np.unique(found.classes_HW)) > 1 and 3 in found.sensors_HW


def test_all_layers_of_an_image_alone_are_those_of_the_file(tmp_path, predictor):
    found = assert_equal_to_the_map_of_files(tmp_path, predictor, image_of(50, 61), None)
    assert (found.sensors_HW == 1).all()


def test_all_layers_of_heights_alone_are_those_of_the_file(tmp_path, predictor):
    found = assert_equal_to_the_map_of_files(tmp_path, predictor, None, heights_of(50, 61))
    assert (found.classes_HW[:10, :20] == 255).all() and (found.classes_HW[25:40] < 6).all()


def test_a_raster_larger_than_the_blocks_in_which_it_is_read_gives_the_map_of_the_file(tmp_path):
    image, dsm = image_of(530, 1100), heights_of(530, 1100)
    found = assert_equal_to_the_map_of_files(tmp_path, KnownPredictor(128, has_gates=True), image, dsm)
    assert np.array_equal(found.classes_HW, class_of(image))


def test_heights_scaled_by_the_percentiles_of_the_raster_give_the_map_of_the_file(tmp_path, predictor):
    heights = Heights("tile-percentiles", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum")
    before, predictor.facts = predictor.facts, replace(predictor.facts, heights=heights)
    try:
        assert_equal_to_the_map_of_files(tmp_path, predictor, image_of(60, 40), heights_of(60, 40))
    finally:
        predictor.facts = before


def test_a_dsm_without_any_height_is_a_missing_dsm(predictor):
    image = image_of(40, 40)
    with_nan, without = (
        predict_arrays(predictor, CONFIG, image, dsm) for dsm in (np.full((40, 40), np.nan, np.float32), None)
    )
    assert np.array_equal(with_nan.classes_HW, without.classes_HW)
    assert np.array_equal(with_nan.confidence_HW, without.confidence_HW)


def test_heights_of_any_numeric_type_are_metres(predictor):
    image, dsm = image_of(40, 40), np.tile(np.arange(30, 34), (40, 10))
    maps = [predict_arrays(predictor, CONFIG, image, dsm.astype(t)).classes_HW for t in ("f2", "f4", "f8", "i8", "u1")]
    assert all(np.array_equal(one, maps[0]) for one in maps)


def test_the_callers_arrays_are_not_changed(predictor):
    image, dsm = image_of(40, 40), heights_of(40, 40)
    before = image.copy(), dsm.copy()
    predict_arrays(predictor, CONFIG, image, dsm)
    assert np.array_equal(image, before[0]) and np.array_equal(dsm, before[1], equal_nan=True)


IMAGE, DSM = image_of(8, 8), np.full((8, 8), 30, np.float32)
REFUSED = {
    "nothing": ((None, None), "neither an image nor a DSM"),
    "a DSM without heights alone": ((None, np.full((8, 8), np.nan, np.float32)), "neither an image nor a DSM"),
    "floats as image": ((IMAGE / 255, DSM), "the image has values of type float64; give uint8 values"),
    "two dimensions": ((IMAGE[..., 0], DSM), r"the image has the shape \[8, 8\]; expected \[height, width, 3\]"),
    "four bands": ((np.dstack([IMAGE, IMAGE[..., :1]]), DSM), r"shape \[8, 8, 4\]; expected \[height, width, 3\]"),
    "other sizes": ((IMAGE, DSM[:7]), r"the image is 8 x 8 px and the DSM 8 x 7 px \(width x height\)"),
    "heights with bands": ((IMAGE, DSM[..., None]), r"the DSM has the shape \[8, 8, 1\]; expected \[height, width\]"),
    "heights as text": ((IMAGE, DSM.astype(str)), "the DSM has values of type <U"),
    "infinite heights": ((IMAGE, np.where(np.eye(8), np.inf, DSM)), "the DSM has infinite heights; use NaN"),
    "heights beyond float32": ((IMAGE, DSM.astype("f8") * 1e300), "the DSM has infinite heights"),
    "an empty image": ((IMAGE[:0], None), "the image is empty, 8 x 0 px"),
    "too many pixels": ((image_of(11, 10), None), "the image is 10 x 11 px, 0.00011 megapixels, and the limit"),
    "an image that is almost black": ((IMAGE // 250, None), "to predict anyway, allow value-range"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_cannot_be_used_are_refused_in_one_sentence(name):
    (image, dsm), sentence = REFUSED[name]
    with pytest.raises(DataError, match=sentence) as error:
        predict_arrays(KnownPredictor(), CONFIG, image, dsm, most_px=100)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gsd_m", [0.0, -1.0, np.nan, np.inf])
def test_a_ground_size_that_is_no_size_is_refused(gsd_m):
    with pytest.raises(DataError, match="give the ground size of a pixel in metres"):
        predict_arrays(KnownPredictor(), CONFIG, IMAGE, None, gsd_m=gsd_m)


def test_a_ground_size_far_from_the_trainings_is_refused_unless_it_is_allowed():
    with pytest.raises(DataError, match="a pixel is 5 m wide on the ground.*allow ground-size"):
        predict_arrays(KnownPredictor(), CONFIG, IMAGE, None, gsd_m=5.0)
    assert predict_arrays(KnownPredictor(), CONFIG, IMAGE, None, gsd_m=5.0, allow={"ground-size"})


def test_an_unknown_check_is_refused():
    with pytest.raises(ParamsError, match="allow names 'shadow': no check has this name; expected some of no-sensor"):
        predict_arrays(KnownPredictor(), CONFIG, IMAGE, None, allow=["shadow"])


def test_a_model_of_one_sensor_refuses_the_other_sensor_alone():
    facts = replace(FACTS, network=replace(FACTS.network, modalities=("dsm",), dgfm=False))
    with pytest.raises(DataError, match="this model classifies a DSM only"):
        predict_arrays(KnownPredictor(facts=facts), CONFIG, IMAGE, None)


def test_a_model_opened_in_one_thread_computes_in_its_precision_in_another(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", MoBaNet(FACTS.network), FACTS)
    inputs = torch.rand(2, 3, 32, 32) * 255, torch.rand(2, 1, 32, 32)
    with open_model(str(tmp_path / "model.safetensors"), torch.device("cpu"), None, "bf16") as opened:
        here = opened(*inputs).logits_BKHW
        with ThreadPoolExecutor(1) as thread:
            there = thread.submit(opened, *inputs).result().logits_BKHW
    assert torch.equal(here, there)
