"""pipeline/watch_graph.py: the compiled graph that compares production with validation."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.common.errors import ParamsError
from components.common.yaml_files import parse_yaml
from pipeline.graph import compiled
from pipeline.graphs import GRAPHS, graph
from pipeline.resources import WATCH_RESOURCES
from pipeline.submission.submission import Schedule, plan

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example.org/mobanet@sha256:" + "a" * 64
WATCH = {"windows": 64, "max_psi": 0.25, "max_ks": 0.1, "level": 0.01, "seed": 1}


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((ROOT / "params.yaml").read_text()) | {"watch": WATCH}))
    return path


@pytest.fixture(scope="module")
def text(params):
    return compiled(GRAPHS["watch"].build(params, IMAGE, WATCH_RESOURCES))


@pytest.fixture(scope="module")
def documents(text):
    return list(yaml.safe_load_all(text))


def test_one_task_without_workspace_cache_or_retry_runs_unprivileged_with_limits(documents):
    (spec, platform) = documents
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == IMAGE
    assert executor["container"]["resources"]["resourceMemoryLimit"].endswith("memory']}}")
    assert executor["container"]["resources"]["accelerator"]["resourceCount"].endswith("gpus']}}")
    (task,) = spec["root"]["dag"]["tasks"].values()
    assert not task.get("cachingOptions") and not task["retryPolicy"].get("maxRetryCount")
    (pod,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert int(pod["activeDeadlineSeconds"]) > 0 and pod["securityContext"]["runAsNonRoot"] and "pvcMount" not in pod


def test_every_parameter_has_a_description_and_a_default_and_params_is_the_section_watch(documents):
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    for name, given in inputs.items():
        assert given["description"].endswith(".") and "defaultValue" in given, name
    assert parse_yaml(inputs["params"]["defaultValue"], "params") == WATCH


def test_a_recurring_run_has_its_schedule_and_every_parameter(text):
    made = plan(graph("watch"), text, ["image=s3://flights/week"], experiment="production", cron="0 0 6 * * *")
    assert made.pipeline == "mobanet-watch" and made.schedule == Schedule(cron="0 0 6 * * *")
    assert (made.values["model"], made.values["image"]) == ("models:/mobanet@champion", "s3://flights/week")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([], "image and dsm are empty; set at least one of them"),
        (["image=a.tif", "model="], "model is empty; set it"),
        (["image=a.tif", "params={}"], "watch.windows is missing"),
        (["image=a.tif", "memory=16 GB"], "memory is .16 GB.; expected a Kubernetes quantity"),
    ],
)
def test_a_wrong_parameter_is_one_sentence_before_anything_is_sent(changes, sentence, text):
    with pytest.raises(ParamsError, match=sentence):
        plan(graph("watch"), text, changes, experiment="production")


def test_a_volume_with_files_is_mounted(params):
    built = list(yaml.safe_load_all(compiled(GRAPHS["watch"].build(params, IMAGE, WATCH_RESOURCES, "city"))))
    (pod,) = built[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert pod["pvcMount"][0]["mountPath"] == "/data"


def test_files_of_this_machine_are_found_by_their_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    places = GRAPHS["watch"].places({"model": "models:/mobanet@champion", "image": "images", "dsm": ""})
    assert places.values == {"image": str(tmp_path / "images"), "dsm": "", "model": "models:/mobanet@champion"}
    assert places.read == (tmp_path / "images",) and not places.written
