"""components/serve/pyfunc_model.py: what MLflow loads takes arrays, lists, data frames and files."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc.scoring_server import _parse_json_data, predictions_to_json

from components.common.errors import DataError, ParamsError, WeightsError
from components.common.predictors.models import open_model
from components.predict.arrays import predict_arrays
from components.predict.config import PredictConfig
from components.serve.pyfunc_model import _load_pyfunc
from components.serve.samples import samples_of
from tests.components.predict.rasters import image_of, write
from tests.components.serve.toy_model import write_logged_model

CONFIG = PredictConfig(
    tiles=None, window_px=None, overlap=0.16, batch_size=8, block_px=4096, min_agreement=None, precision="auto"
)
IMAGE = image_of(40, 50)
DSM = np.random.default_rng(1).uniform(30, 40, (40, 50)).astype(np.float32)
DSM[:7, :20] = np.nan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_logged_model(tmp_path_factory.mktemp("logged") / "model")


@pytest.fixture(scope="module")
def loaded(folder):
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def expected(folder):
    """The map of arrays, by the function behind `mobanet predict`."""
    with open_model(str(folder), torch.device("cpu"), None, "auto") as predictor:
        yield lambda image, dsm, config=CONFIG: predict_arrays(predictor, config, image, dsm)


def assert_map(found, expected):
    assert found["classes"].dtype == found["confidence"].dtype == np.uint8
    assert np.array_equal(found["classes"], expected.classes_HW)
    assert np.array_equal(found["confidence"], expected.confidence_HW)


SINGLE = {
    "arrays": {"image": IMAGE, "dsm": DSM},
    "heights as float64": {"image": IMAGE, "dsm": DSM.astype("f8")},
    "nested lists": {"image": IMAGE.tolist(), "dsm": DSM.tolist()},
    "null for a missing height": {"image": IMAGE.tolist(), "dsm": np.where(np.isnan(DSM), None, DSM).tolist()},
}


@pytest.mark.parametrize("form", SINGLE)
@pytest.mark.parametrize("direct", [True, False], ids=["without MLflow", "through MLflow"])
def test_one_raster_in_any_form_gives_its_map(folder, loaded, expected, form, direct):
    model = _load_pyfunc(str(folder)) if direct else loaded
    assert_map(model.predict(SINGLE[form]), expected(IMAGE, DSM))


def test_either_sensor_can_be_left_out_or_be_none(loaded, expected):
    for given in ({"image": IMAGE}, {"image": IMAGE, "dsm": None}, {"image": IMAGE, "dsm": np.full_like(DSM, np.nan)}):
        assert_map(loaded.predict(given), expected(IMAGE, None))
    for given in ({"dsm": DSM}, {"dsm": DSM, "image": None}):
        assert_map(loaded.predict(given), expected(None, DSM))


def test_a_batch_gives_a_batch_in_its_order(loaded, expected):
    images, dsms = np.stack([IMAGE, IMAGE[::-1]]), np.stack([DSM, DSM + 5])
    found = loaded.predict({"image": images, "dsm": dsms})
    assert found["classes"].shape == (2, 40, 50)
    for i in range(2):
        assert_map({name: maps[i] for name, maps in found.items()}, expected(images[i], dsms[i]))
    assert loaded.predict({"image": IMAGE[None]})["classes"].shape == (1, 40, 50)


@pytest.mark.parametrize("frame", [pd.DataFrame, list], ids=["data frame", "list of mappings"])
def test_rows_may_lack_a_sensor_and_differ_in_size(loaded, expected, frame):
    rows = [{"image": IMAGE, "dsm": None}, {"image": IMAGE[:30], "dsm": DSM[:30]}, {"image": IMAGE, "dsm": DSM}]
    found = loaded.predict(frame(rows))
    assert [found_map.shape for found_map in found["classes"]] == [(40, 50), (30, 50), (40, 50)]
    for i, row in enumerate(rows):
        assert_map({name: maps[i] for name, maps in found.items()}, expected(row["image"], row["dsm"]))


def test_files_give_one_entry_per_row(loaded, expected, tmp_path):
    image, dsm = write(tmp_path / "image.tif", IMAGE), write(tmp_path / "dsm.tif", DSM)
    one, alone = expected(IMAGE, DSM), expected(IMAGE, None)
    for given, maps in (
        ({"image": image, "dsm": dsm}, [one]),
        ({"image": [image, image], "dsm": [dsm, None]}, [one, alone]),
        (pd.DataFrame({"image": [image, image], "dsm": [None, dsm]}), [alone, one]),
        ([{"image": image, "dsm": dsm}], [one]),
        (pd.DataFrame({"image": [image]}), [alone]),
    ):
        found = loaded.predict(given)
        assert len(found["classes"]) == len(maps)
        for i, expected_map in enumerate(maps):
            assert_map({name: entries[i] for name, entries in found.items()}, expected_map)


def test_settings_replace_the_defaults_of_the_signature(folder, loaded, expected):
    config = replace(CONFIG, overlap=0.5, batch_size=3)
    found = loaded.predict({"image": IMAGE, "dsm": DSM}, params={"overlap": 0.5, "batch_size": 3})
    assert_map(found, expected(IMAGE, DSM, config))
    assert not np.array_equal(found["confidence"], expected(IMAGE, DSM).confidence_HW)
    with open_model(str(folder), torch.device("cpu"), 64, "float32") as predictor:
        larger = predict_arrays(predictor, CONFIG, IMAGE, None)
    assert_map(loaded.predict({"image": IMAGE}, params={"window_px": 64, "precision": "float32"}), larger)


def test_a_check_can_be_allowed(loaded):
    with pytest.raises(DataError, match="to predict anyway, allow ground-size"):
        loaded.predict({"image": IMAGE}, params={"gsd_m": 5.0})
    found = loaded.predict({"image": IMAGE}, params={"gsd_m": 5.0, "allow": "ground-size, value-range"})
    assert found["classes"].shape == (40, 50)


def test_a_setting_that_cannot_be_used_is_one_sentence(loaded):
    with pytest.raises(ParamsError, match=r"params\.overlap is 2.0"):
        loaded.predict({"image": IMAGE}, params={"overlap": 2.0})


REQUESTS = {
    "inputs": {"inputs": {"image": IMAGE.tolist(), "dsm": np.where(np.isnan(DSM), None, DSM.astype("f8")).tolist()}},
    "dataframe_split": {"dataframe_split": {"columns": ["image", "dsm"], "data": [[IMAGE.tolist(), DSM.tolist()]]}},
    "dataframe_records": {"dataframe_records": [{"image": IMAGE.tolist(), "dsm": DSM.tolist()}]},
}


@pytest.mark.parametrize("form", REQUESTS)
def test_a_json_request_of_mlflows_server_gives_the_same_map(loaded, expected, form):
    text = json.dumps(REQUESTS[form])
    request = _parse_json_data(text, loaded.metadata, loaded.metadata.get_input_schema())
    answer = json.loads(predictions_of(loaded.predict(request.data, request.params)))["predictions"]
    one = expected(IMAGE, DSM)
    found = {name: np.array(value, np.uint8).reshape(40, 50) for name, value in answer.items()}
    assert_map(found, one)


def predictions_of(result):
    from io import StringIO

    out = StringIO()
    predictions_to_json(result, out)
    return out.getvalue()


def test_the_example_of_the_input_can_be_predicted(loaded):
    assert loaded.predict(loaded.input_example)["classes"].shape == (8, 8)


def test_the_signature_names_inputs_outputs_and_settings_with_the_defaults_of_the_params_file(loaded):
    from components.common.params import section
    from tests.repo.pages import ROOT

    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == ["image", "dsm"] and signature.inputs.required_input_names() == []
    assert [(spec.name, spec.shape, spec.type) for spec in signature.outputs.inputs] == [
        (name, (-1, -1, -1), np.dtype(np.uint8)) for name in ("classes", "confidence")
    ]
    predict = section(ROOT / "params.yaml", "predict", PredictConfig)
    assert {param.name: param.default for param in signature.params.params} == {
        "overlap": predict.overlap,
        "batch_size": predict.batch_size,
        "precision": predict.precision,
        "window_px": 32,
        "gsd_m": 0.05,
        "allow": "",
    }


def test_the_precision_of_the_model_does_not_reach_the_callers_thread(folder):
    _load_pyfunc(str(folder)).predict({"image": IMAGE}, params={"precision": "bf16"})
    assert not torch.is_autocast_enabled("cpu")


def test_calls_from_several_threads_give_the_same_map(loaded, expected):
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(loaded.predict, [{"image": IMAGE, "dsm": DSM}] * 8))
    for answer in answers:
        assert_map(answer, expected(IMAGE, DSM))


def test_the_model_loads_and_predicts_without_any_network(folder, monkeypatch):
    def refused(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert mlflow.pyfunc.load_model(str(folder)).predict({"image": IMAGE})["classes"].shape == (40, 50)


def rewritten(folder, target, old, new):
    import shutil

    shutil.copytree(folder, target)
    path = target / "MLmodel"
    path.write_text(path.read_text().replace(old, new))
    return target


def test_a_model_of_a_newer_format_names_the_release_to_install(folder, tmp_path):
    newer = rewritten(folder, tmp_path / "newer", "mobanet_format: 2", "mobanet_format: 3")
    with pytest.raises(WeightsError, match=r"of format 3, and this release reads up to 2; install mobanet-pipeline "):
        mlflow.pyfunc.load_model(str(newer))


def test_a_model_without_a_format_is_refused(folder, tmp_path):
    other = rewritten(folder, tmp_path / "other", "mobanet_format: 2", "other: 2")
    with pytest.raises(WeightsError, match="states no format of a logged model"):
        mlflow.pyfunc.load_model(str(other))


REFUSED = {
    "nothing": ({}, "neither an image nor a DSM"),
    "other columns": ({"picture": IMAGE}, "neither an image nor a DSM"),
    "an array": (IMAGE, "the input is of type ndarray"),
    "other counts": ({"image": IMAGE[None], "dsm": np.stack([DSM, DSM])}, "1 images and 2 DSMs"),
    "array and file": ({"image": "image.tif", "dsm": DSM}, "an array and a file for one raster"),
    "rows of different lengths": ({"image": [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]}, "image is not an array of numbers"),
    "text among heights": ({"dsm": [[1.0, "high"]]}, "dsm is not an array of numbers"),
    "colours above 255": ({"image": [[[1, 2, 300]]]}, "the image has values of type int64; give uint8 values"),
    "colours as shares": ({"image": [[[0.1, 0.2, 0.3]]]}, "the image has values of type float64; give uint8 values"),
    "infinite heights": ({"dsm": [[1.0, float("inf")]]}, "the DSM has infinite heights"),
    "one band": ({"image": IMAGE[..., :1]}, r"the image has the shape \[40, 50, 1\]; expected \[height, width, 3\]"),
    "five dimensions": ({"image": IMAGE[None, None]}, r"the image has the shape \[1, 1, 40, 50, 3\]"),
    "a number among paths": ({"image": ["image.tif", 5]}, "image has paths next to other values"),
    "a missing file": ({"image": "/no/such/image.tif"}, "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_input_that_cannot_be_used_is_one_sentence(folder, name):
    given, sentence = REFUSED[name]
    with pytest.raises(DataError, match=sentence) as error:
        _load_pyfunc(str(folder)).predict(given)
    assert "\n" not in str(error.value)


def test_arrays_are_not_copied_without_need():
    (sample,) = samples_of({"image": IMAGE, "dsm": DSM}).samples
    assert sample.image is IMAGE and sample.dsm is DSM
