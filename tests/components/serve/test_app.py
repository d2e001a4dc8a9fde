"""components/serve/app.py: routes, errors, and the classes of `mobanet predict`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from components.common.errors import DataError
from components.predict.config import PredictRequest
from components.predict.step import run
from components.serve.refusals import sentence_of
from components.serve.tensors import HEADER
from tests.components.predict.rasters import heights_of, image_of, write
from tests.components.serve.conftest import PREDICT, service

INFER = "/v2/models/mobanet/infer"


def post_files(client, folder, to="/predict", **query):
    files = {path.stem: (path.name, path.read_bytes(), "image/tiff") for path in sorted(folder.glob("[id]*.tif"))}
    return client.post(to, files=files, params=query)


def json_request(image, dsm):
    heights = [None if np.isnan(value) else float(value) for value in dsm.ravel()]
    tensors = {"image": ("UINT8", image, image.ravel().tolist()), "dsm": ("FP32", dsm, heights)}
    inputs = [{"name": n, "datatype": t, "shape": list(a.shape), "data": data} for n, (t, a, data) in tensors.items()]
    return {"inputs": inputs, "parameters": {"gsd_m": 0.05}}


def binary_request(image, dsm, **parameters):
    tensors = {"image": ("UINT8", image), "dsm": ("FP32", dsm)}
    inputs = [
        {"name": n, "datatype": t, "shape": list(a.shape), "parameters": {"binary_data_size": a.nbytes}}
        for n, (t, a) in tensors.items()
    ]
    content = {"id": "7", "inputs": inputs, "parameters": {"gsd_m": 0.05, "binary_data_output": True, **parameters}}
    head = json.dumps(content).encode()
    return head + image.tobytes() + dsm.tobytes(), {HEADER: str(len(head))}


def binary_outputs(answer):
    length = int(answer.headers[HEADER])
    content, rest = json.loads(answer.content[:length]), answer.content[length:]
    arrays = {}
    for output in content["outputs"]:
        size = output["parameters"]["binary_data_size"]
        arrays[output["name"]], rest = np.frombuffer(rest[:size], np.uint8).reshape(output["shape"]), rest[size:]
    assert not rest and content["id"] == "7"
    return arrays


@pytest.mark.parametrize("size", [(32, 32), (20, 17), (75, 131), (1, 40)], ids="{0[0]} x {0[1]}".format)
def test_files_json_and_binary_tensors_give_the_classes_of_mobanet_predict(tmp_path, client, package, size):
    image, dsm = image_of(*size), heights_of(*size)
    request = PredictRequest(
        output=tmp_path / "map.tif",
        model=str(package),
        image=(write(tmp_path / "image.tif", image),),
        dsm=(write(tmp_path / "dsm.tif", dsm),),
        extras=frozenset({"confidence"}),
        device="cpu",
    )
    run(PREDICT, request)
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(tmp_path / "map_confidence.tif") as confidence:
        classes_HW, confidence_HW = file.read(1), confidence.read(1)

    map_ = post_files(client, tmp_path)
    assert (map_.status_code, map_.headers["content-type"]) == (200, "image/tiff")
    assert map_.content == (tmp_path / "map.tif").read_bytes()
    found = client.post(INFER, json=json_request(image, dsm)).json()
    assert np.array_equal(np.reshape(found["outputs"][0]["data"], size), classes_HW)
    assert np.array_equal(np.reshape(found["outputs"][1]["data"], size), confidence_HW)
    body, headers = binary_request(image, dsm)
    binary = binary_outputs(client.post(INFER, content=body, headers=headers))
    assert np.array_equal(binary["classes"], classes_HW) and np.array_equal(binary["confidence"], confidence_HW)


def test_a_batch_of_rasters_gives_the_classes_of_each(client):
    images, dsms = np.stack([image_of(20, 24, seed) for seed in range(3)]), np.stack([heights_of(20, 24)] * 3)
    body, headers = binary_request(images, dsms)
    batch = binary_outputs(client.post(INFER, content=body, headers=headers))["classes"]
    for image, dsm, classes_HW in zip(images, dsms, batch, strict=True):
        body, headers = binary_request(image, dsm)
        alone = binary_outputs(client.post(INFER, content=body, headers=headers))["classes"]
        assert np.array_equal(alone, classes_HW)


def test_an_image_alone_and_heights_alone_are_classified(client, tmp_path):
    write(tmp_path / "image.tif", image_of(30, 40))
    assert post_files(client, tmp_path).status_code == 200
    (tmp_path / "image.tif").unlink()
    write(tmp_path / "dsm.tif", heights_of(30, 40))
    assert post_files(client, tmp_path).status_code == 200


def test_only_the_wanted_output_is_sent(client):
    request = json_request(image_of(9, 9), heights_of(9, 9)) | {"outputs": [{"name": "confidence"}]}
    assert [output["name"] for output in client.post(INFER, json=request).json()["outputs"]] == ["confidence"]


def test_bands_can_be_picked_as_with_mobanet_predict(client, tmp_path):
    image = image_of(30, 40)
    write(tmp_path / "image.tif", image)
    expected = post_files(client, tmp_path)
    write(tmp_path / "image.tif", image[..., ::-1])
    picked = post_files(client, tmp_path, bands="3,2,1", allow="bands")
    with rasterio.MemoryFile(expected.content) as one, rasterio.MemoryFile(picked.content) as other:
        assert np.array_equal(one.open().read(), other.open().read())


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/metrics", "/docs", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"]
)
def test_pages_about_the_service_name_the_model(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-model-name"] == "mobanet" and len(answer.headers["x-model-sha256"]) == 64


def test_the_documentation_lists_every_route_and_needs_no_other_server(client):
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_model_is_described_by_the_protocol(client):
    version = client.get("/health").json()["model"]["version"]
    found = client.get(f"/v2/models/mobanet/versions/{version}").json()
    assert found["versions"] == [version] and found["inputs"][0]["shape"] == [-1, -1, 3]
    assert client.get("/v2/models/mobanet/ready").json() == {"name": "mobanet", "ready": True}
    assert client.get("/v2/models/mobanet/versions/999").status_code == 404
    assert client.get("/v2/models/other/ready").json()["error"].startswith("the model 'other' is not served")


def test_the_metrics_count_requests_pixels_and_name_the_model(client, package):
    def value(text, name):
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)

    requests = 'mobanet_requests_total{route="/v2/models/{name}/infer",status="200"}'
    before = client.get("/metrics").text
    client.post(INFER, json=json_request(image_of(10, 12), heights_of(10, 12)))
    after = client.get("/metrics").text
    assert value(after, requests) == value(before, requests) + 1
    assert value(after, "mobanet_pixels_total") == value(before, "mobanet_pixels_total") + 120
    assert value(after, "mobanet_model_info{") == 1 and value(after, "mobanet_requests_in_flight") == 0
    assert "mobanet_model_swaps_total 0.0" in after and "mobanet_request_seconds_bucket" in after


def test_an_unknown_page_is_answered_with_a_sentence(client):
    answer = client.get("/etc/passwd")
    assert (answer.status_code, answer.json()) == (404, {"error": "GET /etc/passwd: Not Found; see /docs"})


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("image.tif: set data.crs to that of its position", "image.tif: set the query parameter crs to that of its"),
        ("pick three with --bands 1,2,3", "pick three with bands=1,2,3"),
        ("/tmp/x/image.tif is damaged; leave --dsm out", "image.tif is damaged; leave dsm out"),
    ],
)
def test_sentences_name_query_parameters_and_no_paths(sentence, expected):
    assert sentence_of(DataError(sentence), Path("/tmp/x")).startswith(expected)


def test_a_bug_is_logged_and_answered_without_a_traceback(package, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise KeyError("secret")

    monkeypatch.setattr("components.serve.map_requests.make_map", broken)
    write(tmp_path / "image.tif", image_of(9, 9))
    with service(package) as client:
        answer = post_files(client, tmp_path)
    assert answer.status_code == 500 and answer.json() == {"error": "the service failed; its log has the reason"}
    assert "secret" in caplog.text
