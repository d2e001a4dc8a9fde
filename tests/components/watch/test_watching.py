"""components/watch: shifted scenes are found and named, others are not; every mistake is one sentence."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from components.common.errors import DataError, ParamsError
from components.watch import watching
from components.watch.config import WatchRequest
from components.watch.watching import DriftError, observe, require_none
from tests.components.watch.conftest import CONFIG, land

SEASON = np.array([[0.2, 1.2, 0.0], [0.9, 0.2, 0.0], [0.0, 0.3, 0.5]])
SHIFTS = {
    "brightness": (lambda image, metres: ((image * 1.5).clip(0, 255).astype(np.uint8), metres), "Band green"),
    "feet": (lambda image, metres: (image, metres * np.float32(3.2808)), "Height"),
    "season": (lambda image, metres: ((image @ SEASON).clip(0, 255).astype(np.uint8), metres), "Band red"),
    "holes": (lambda image, metres: (image, np.where(land(99)[1] > 34, np.nan, metres)), "Sensor coverage"),
}


def watch(package, scenes, tmp_path, config=CONFIG, **names):
    image, dsm = scenes
    request = WatchRequest(**{"model": str(package), "image": image, "dsm": dsm, "reports": tmp_path / "out"} | names)
    return observe(config, request, "none", "mobanet")


def test_scenes_like_validation_give_no_alarm_and_a_complete_report(watched, scenes, tmp_path):
    content = watch(watched, scenes(), tmp_path)
    require_none(content, tmp_path / "drift.html")
    assert json.loads((tmp_path / "out/drift.json").read_text()) == content
    assert (content["windows"], content["areas"], content["scenes"]) == (24, 8, ["10", "11"])
    assert content["reference"] == {"windows": 48, "areas": 16}
    assert [row["name"] for row in content["statistics"] if row["measure"] == "psi"] == [
        *("classes", "confidence", "entropy", "band_red", "band_green", "band_blue", "height", "sensors"),
    ]
    page = (tmp_path / "out/drift.html").read_text()
    assert "No drift found" in page and "Sensor coverage" in page and "http" not in page and "<script" not in page


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_found_and_named(name, watched, scenes, tmp_path):
    change, title = SHIFTS[name]
    content = watch(watched, scenes(change), tmp_path)
    assert title in {row["title"] for row in content["statistics"] if row["drifted"]}
    with pytest.raises(DriftError, match=rf"drift in .*{title}.*; see .*drift\.html") as error:
        require_none(content, tmp_path / "drift.html")
    assert error.value.exit_code == 1
    assert "Production differs from validation" in (tmp_path / "out/drift.html").read_text()


def test_scenes_without_heights_drift_in_sensor_coverage_and_have_no_distance_of_heights(watched, scenes, tmp_path):
    content = watch(watched, (scenes()[0], ""), tmp_path)
    found = {row["name"]: row for row in content["statistics"]}
    assert found["sensors"]["drifted"] and found["height"]["distance"] is None and not found["height"]["drifted"]


def test_the_seed_draws_the_windows(watched, scenes, tmp_path):
    folders = scenes()
    config = type(CONFIG)(windows=8, max_psi=0.25, max_ks=0.1, level=0.01, seed=2)
    first, again = (watch(watched, folders, tmp_path, config)["statistics"] for _ in range(2))
    assert first == again != watch(watched, folders, tmp_path, type(CONFIG)(
        windows=8, max_psi=0.25, max_ks=0.1, level=0.01, seed=3))["statistics"]  # fmt: skip


def test_of_a_registered_model_the_reference_and_the_network_are_those_of_one_version(
    watched, scenes, tmp_path, monkeypatch
):
    asked = []

    def fetch(uri, file, folder, setting):
        asked.append((uri, file, setting))
        return watched / file, str(watched)

    monkeypatch.setattr(watching, "fetch", fetch)
    watch(watched, scenes(), tmp_path, model="models:/mobanet@champion")
    assert asked == [("models:/mobanet@champion", "reference.json", "--model")]


@pytest.mark.system
def test_an_mlflow_run_has_figures_verdict_and_reports(watched, scenes, mlflow_folder, tmp_path):
    import mlflow

    image, dsm = scenes(SHIFTS["season"][0])
    request = WatchRequest(model=str(watched), image=image, dsm=dsm, reports=tmp_path / "out")
    content = observe(CONFIG, request, "mlflow", "production")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("production").experiment_id])
    red = next(row for row in content["statistics"] if (row["name"], row["measure"]) == ("band_red", "psi"))
    assert run.data.metrics["drift/psi/band_red"] == red["distance"] and run.data.metrics["drift/found"] == 1
    assert "Band red" in run.data.tags["drift"] and run.data.tags["model_sha256"] == content["model"]["sha256"]
    assert run.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"drift.html", "drift.json"}


def changed(package, folder, change):
    copy = folder / "copy"
    shutil.copytree(package, copy)
    change(copy)
    return copy


def without_reference(folder):
    record = json.loads((folder / "export.json").read_text())
    del record["sha256"]["reference.json"]
    (folder / "export.json").write_text(json.dumps(record))
    (folder / "reference.json").unlink()


def of_format_1(folder):
    record = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(record | {"format": 1}))


def edited(folder):
    (folder / "reference.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_reference, "the package has no reference.json; run the export step again, then register it"),
        (of_format_1, "a package of format 1, but this version needs 2 or 3; run the export step again"),
        (edited, "reference.json: not the file that export.json lists; run the export step again"),
    ],
)
def test_a_package_that_cannot_be_compared_with_is_one_sentence(change, sentence, watched, scenes, tmp_path):
    with pytest.raises(DataError, match=sentence):
        watch(changed(watched, tmp_path, change), scenes(), tmp_path)


@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [
        ({"model": "models:/mobanet"}, ParamsError, "--model is models:/mobanet; expected models:/NAME@ALIAS"),
        ({"model": "best.safetensors"}, ParamsError, "--model is best.safetensors; expected .* or a package folder"),
        ({"image": "", "dsm": ""}, ParamsError, "image and dsm are empty"),
    ],
)
def test_a_wrong_request_is_one_sentence(names, error, sentence, watched, tmp_path):
    with pytest.raises(error, match=sentence):
        watch(watched, ("none", ""), tmp_path, **names)


def test_scenes_without_any_pixel_are_refused(watched, scenes, tmp_path):
    dsm = scenes(lambda image, metres: (image, np.full_like(metres, np.nan)))[1]
    with pytest.raises(DataError, match="no window of 32 px has pixels that get a class"):
        watch(watched, ("", dsm), tmp_path)
