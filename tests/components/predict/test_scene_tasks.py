"""Tasks of the prediction graph (components/predict/publication/scene_tasks.py, publishing.py), without a network."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from botocore.exceptions import ClientError

from components.common.errors import DataError, ParamsError, WeightsError
from components.predict import step
from components.predict.publication import buckets, publishing, scene_tasks
from components.predict.publication.scene_tasks import acquired_at, finished, map_part, order_of, plan, scene_of
from tests.components.predict.small_map import write_map, write_raster

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture
def form(tmp_path):
    """A form that names two images and a model."""
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        write_raster(tmp_path / "images" / f"{name}.tif", np.zeros((3, 40, 60), np.uint8))
    (tmp_path / "model.safetensors").touch()
    return {
        "model": str(tmp_path / "model.safetensors"),
        "image": str(tmp_path / "images"),
        "dsm": "",
        "output": str(tmp_path / "maps"),
        "parts": 2,
        "extras": "sensors, polygons",
        "allow": "ground-size",
        "acquired": "2024-06-30",
        "params": yaml.safe_dump(yaml.safe_load(PARAMS.read_text())["predict"] | {"min_agreement": 90.0}),
        "trust": "{require_signature: false, public_key: null}",
        "commit": "c",
    }


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def test_a_plan_lists_the_parts_of_all_scenes_and_is_read_again(form, workspace):
    order = order_of(form)
    assert plan(order, workspace) == ["a 1/2", "a 2/2", "b 1/2", "b 2/2"]
    found, scene = scene_of("b", workspace)
    assert found == order
    assert (scene.name, scene.image, scene.dsm) == ("b", (f"{form['image']}/b.tif",), ())
    assert acquired_at(found) == datetime(2024, 6, 30, tzinfo=UTC)


def test_a_part_is_mapped_as_the_command_would_and_the_limit_of_agreement_waits_for_the_map(
    form, workspace, monkeypatch
):
    plan(order_of(form), workspace)
    called = []
    monkeypatch.setattr(step, "run", lambda config, request, trust: called.append((config, request)))
    map_part("b 2/2", workspace)
    ((config, request),) = called
    assert config.min_agreement is None
    assert (request.part, request.image, request.dsm) == ("2/2", (f"{form['image']}/b.tif",), ())
    assert request.extras == {"sensors", "confidence"}, "polygons state the confidence"
    assert request.allow == {"ground-size"} and request.output == workspace / "parts/b/2of2.tif"


def test_a_missing_part_is_named(workspace):
    (workspace / "parts/a").mkdir(parents=True)
    (workspace / "parts/a/1of2.tif").touch()
    assert finished(["a 1/2"], workspace) == ["a"]
    with pytest.raises(DataError, match="the part 2/2 of the scene a is missing"):
        finished(["a 1/2", "a 2/2"], workspace)


def test_an_alias_becomes_a_version_so_that_all_parts_use_one_model(form, workspace, monkeypatch):
    monkeypatch.setattr(scene_tasks, "fetch", lambda uri, file, folder: (folder / file, "models:/city/7"))
    plan(order_of(form | {"model": "models:/city@champion"}), workspace)
    assert scene_of("a", workspace)[0].model == "models:/city/7"


@pytest.mark.parametrize(
    ("model", "files"),
    [
        ("s3://city/m.onnx", ["m.onnx"]),
        ("s3://city/package/", ["export.json", "model.safetensors"]),
    ],
)
def test_a_model_on_s3_is_downloaded_once(model, files, form, workspace, monkeypatch):
    monkeypatch.setattr(buckets, "objects", lambda uri: [f"{uri}{name}" for name in files])
    monkeypatch.setattr(buckets, "download", lambda uri, target: (target.parent.mkdir(exist_ok=True), target.touch()))
    plan(order_of(form | {"model": model}), workspace)
    place = Path(scene_of("a", workspace)[0].model)
    assert place == workspace / "model" / (files[0] if len(files) == 1 else "")
    assert sorted(path.name for path in (workspace / "model").iterdir()) == files


def test_the_signature_next_to_a_file_on_s3_comes_along_if_a_key_is_trusted(form, workspace, monkeypatch):
    asked = []

    def download(uri, target):
        asked.append(uri)
        if uri.endswith(".sig"):
            raise buckets.MissingObjectError(f"{uri}: no such object")
        target.parent.mkdir(exist_ok=True)
        target.touch()

    monkeypatch.setattr(buckets, "download", download)
    trust = "{require_signature: true, public_key: owner.pub.pem}"
    plan(order_of(form | {"model": "s3://city/package/model.onnx", "trust": trust}), workspace)
    assert asked == ["s3://city/package/model.onnx", "s3://city/package/model.sig"]
    assert scene_of("a", workspace)[0].trust.require_signature


def test_a_signature_that_cannot_be_read_is_no_missing_one(form, workspace, monkeypatch):
    def download(uri, target):
        if uri.endswith(".sig"):
            raise DataError(f"{uri}: access failed")

    monkeypatch.setattr(buckets, "download", download)
    trust = "{require_signature: false, public_key: owner.pub.pem}"
    with pytest.raises(DataError, match=r"^s3://city/package/model\.sig: access failed"):
        plan(order_of(form | {"model": "s3://city/package/model.onnx", "trust": trust}), workspace)


@pytest.mark.parametrize(("code", "missing"), [("404", True), ("NoSuchKey", True), ("403", False), ("501", False)])
def test_only_the_answer_that_there_is_no_object_makes_it_a_missing_one(code, missing, tmp_path, monkeypatch):
    class Client:
        def download_file(self, bucket, key, target):
            raise ClientError({"Error": {"Code": code, "Message": "m"}}, "HeadObject")

    monkeypatch.setattr(buckets, "_client", Client)
    with pytest.raises(DataError, match=r"^s3://city/model\.sig: access failed") as caught:
        buckets.download("s3://city/model.sig", tmp_path / "model.sig")
    assert isinstance(caught.value, buckets.MissingObjectError) == missing


@pytest.mark.parametrize("name", ["../../x", "a/../../x", "/tmp/x", ".."])
def test_an_object_on_s3_that_leads_out_of_the_folder_is_refused_before_a_download(name, form, workspace, monkeypatch):
    monkeypatch.setattr(buckets, "objects", lambda uri: [f"{uri}/export.json", f"{uri}/{name}"])
    monkeypatch.setattr(buckets, "download", lambda uri, target: pytest.fail(uri))
    with pytest.raises(DataError, match=rf"^s3://city/package/{re.escape(name)}: leads out of its folder; delete"):
        plan(order_of(form | {"model": "s3://city/package"}), workspace)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"model": "nowhere"}, WeightsError, "nowhere: no such model"),
        ({"image": "nowhere.tif"}, DataError, "nowhere.tif"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(change, error, sentence, form, workspace):
    with pytest.raises(error, match=sentence):
        plan(order_of(form | change), workspace)


def test_a_wrong_section_of_the_parameters_is_one_sentence(form):
    params = re.sub(r"overlap: [0-9.]+", "overlap: 2", form["params"])
    with pytest.raises(ParamsError, match=r"predict\.overlap"):
        order_of(form | {"params": params})


@pytest.fixture
def combined(workspace, monkeypatch):
    """Replaces the combination of parts by a small map."""

    def combine(config, parts, output, polygons, summary):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_map(output.parent, output.stem)
        assert [path.name for path in parts] == ["1of2.tif", "2of2.tif"] and polygons.path.name == "a.gpkg"
        if config.min_agreement == 90.0:
            raise step.AgreementError("windows agree on 50 %")

    monkeypatch.setattr(step, "run_combine", combine)


def test_a_scene_is_published_with_the_map_last(form, workspace, combined, monkeypatch):
    form["params"] = form["params"].replace("min_agreement: 90.0", "min_agreement: null")
    plan(order_of(form), workspace)
    uploaded = []
    monkeypatch.setattr(publishing.buckets, "upload", lambda file, uri, kind: uploaded.append((uri, kind)))
    monkeypatch.setattr(publishing.buckets, "require_bucket", lambda uri: None)
    plan(order_of(form | {"output": "s3://city/maps/"}), workspace)
    published = publishing.publish_scene("a", workspace)
    assert published.place == "s3://city/maps/a/a.tif"
    assert dict(uploaded) == {
        "s3://city/maps/a/a.html": "text/html",
        "s3://city/maps/a/a.json": "application/json",
        "s3://city/maps/a/a.tif": "image/tiff",
        "s3://city/maps/a/a_summary.json": "application/json",
    }
    assert uploaded[-1][0] == published.place
    item = json.loads((published.folder / published.item).read_text())
    assert item["properties"]["datetime"] == "2024-06-30T00:00:00Z"


def test_a_map_with_seams_is_published_and_the_task_fails(form, workspace, combined, tmp_path):
    plan(order_of(form), workspace)
    with pytest.raises(step.AgreementError, match="windows agree on 50 %"):
        publishing.publish_scene("a", workspace)
    assert (tmp_path / "maps/a/a.tif").is_file() and (tmp_path / "maps/a/a.html").is_file()
