"""components/serve/preview.py and the page: pictures, legend and map of a request."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import rasterio
from PIL import Image

from components.predict.publication.map_pictures import class_picture
from tests.components.predict.rasters import heights_of, image_of, write
from tests.components.serve.test_app import post_files

SIZE = (40, 56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("preview")
    write(place / "image.tif", image_of(*SIZE))
    write(place / "dsm.tif", heights_of(*SIZE))
    return place


@pytest.fixture(scope="module")
def answer(client, folder):
    return post_files(client, folder, to="/preview")


@pytest.fixture(scope="module")
def shown(answer):
    return answer.json()


@pytest.fixture(scope="module")
def classes_HW(shown):
    with rasterio.MemoryFile(base64.b64decode(shown["map"])) as file, file.open() as opened:
        return opened.read(1)


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB"))


def test_the_map_of_a_preview_is_that_of_predict(client, folder, shown):
    assert base64.b64decode(shown["map"]) == post_files(client, folder).content


def test_a_preview_names_the_model_as_its_headers_do(answer, shown):
    assert shown["model"]["version"] == answer.headers["x-model-version"]
    assert shown["model"]["sha256"] == answer.headers["x-model-sha256"]


def test_a_preview_states_the_place_of_its_pixels(shown):
    with rasterio.MemoryFile(base64.b64decode(shown["map"])) as file, file.open() as opened:
        assert (shown["height"], shown["width"]) == opened.shape == SIZE
        assert shown["transform"] == list(opened.transform)[:6] and shown["crs"] == opened.crs.to_string()


def test_the_legend_has_the_share_of_every_class(shown, classes_HW):
    known = classes_HW[classes_HW != 255]
    assert [entry["share"] for entry in shown["legend"]] == [np.mean(known == k) for k in range(len(shown["legend"]))]


def test_every_layer_is_a_picture_of_the_size_of_the_map(shown):
    assert list(shown["layers"]) == ["image", "dsm", "classes", "confidence", "gates", "sensors"]
    for name, uri in shown["layers"].items():
        assert picture(uri).shape == (*SIZE, 3), name


def test_classes_and_sensors_have_the_colours_of_their_legends(shown, classes_HW):
    expected = class_picture(classes_HW, [entry["rgb"] for entry in shown["legend"]])
    assert np.array_equal(picture(shown["layers"]["classes"]), expected)
    colours = {tuple(entry["rgb"]) for entry in shown["sensors"]}
    assert {tuple(rgb) for rgb in picture(shown["layers"]["sensors"]).reshape(-1, 3).tolist()} <= colours
    assert [entry["name"] for entry in shown["sensors"]] == ["none", "image", "DSM", "image and DSM"]


def test_a_preview_of_heights_alone_has_no_picture_of_an_image(client, folder, tmp_path):
    (tmp_path / "dsm.tif").write_bytes((folder / "dsm.tif").read_bytes())
    layers = post_files(client, tmp_path, to="/preview").json()["layers"]
    assert "image" not in layers and {"dsm", "classes"} <= layers.keys()


def test_a_preview_of_no_raster_is_refused_with_a_sentence(client):
    refused = client.post("/preview", json={})
    assert (refused.status_code, refused.json().keys()) == (400, {"error"})


def test_the_page_needs_no_other_file_or_server(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8" and "x-model-version" in page.headers
    assert not re.findall(r"https?://|@import|url\(", page.text)
    assert re.findall(r'(?:src|href)="([^"]*)"', page.text) == ["data:,"]


def test_the_page_asks_routes_that_the_service_has(client):
    asked = re.findall(r'fetch\("(\w+)"', client.get("/").text)
    assert asked == ["health", "preview"]
    assert {f"/{name}" for name in asked} <= client.get("/openapi.json").json()["paths"].keys()


def test_the_page_can_show_every_layer_of_a_preview(client, shown):
    titles = re.search(r"const TITLES = \{(.*?)\}", client.get("/").text)[1]
    assert re.findall(r"(\w+):", titles) == list(shown["layers"])
