"""pipeline/prediction_graph.py: the compiled graph that maps scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.common.yaml_files import parse_yaml
from pipeline.graph import compiled
from pipeline.graphs import GRAPHS
from pipeline.resources import PREDICTION_RESOURCES

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example.org/mobanet@sha256:" + "a" * 64


def build(resources=PREDICTION_RESOURCES, **options):
    built = GRAPHS["predict"].build(ROOT / "params.yaml", IMAGE, resources, *options.values())
    return list(yaml.safe_load_all(compiled(built)))


@pytest.fixture(scope="module")
def documents():
    return build()


@pytest.fixture(scope="module")
def groups(documents):
    """Name of a group -> its tasks."""
    spec = documents[0]
    named = {name: component["dag"]["tasks"] for name, component in spec["components"].items() if "dag" in component}
    return {"root": spec["root"]["dag"]["tasks"]} | named


def loops(documents):
    dags = [component["dag"] for component in documents[0]["components"].values() if "dag" in component]
    return [task for dag in dags for task in dag["tasks"].values() if "parameterIterator" in task]


def test_it_compiles_to_the_same_bytes_twice_and_is_small(documents):
    assert build() == documents
    assert len(yaml.safe_dump_all(documents)) < 100_000


def test_parts_are_mapped_at_the_same_time_then_gathered_then_scenes_are_published(documents, groups):
    assert {"plan", "finish"} < groups["root"].keys()
    mapped, published = sorted(loops(documents), key=lambda loop: "gather" in loop.get("dependentTasks", []))
    assert published["dependentTasks"] == ["gather"]
    assert all(loop["iteratorPolicy"] == {"parallelismLimit": 8} for loop in (mapped, published))
    tasks = {name for tasks in groups.values() for name in tasks}
    assert PREDICTION_RESOURCES.keys() <= tasks
    assert not [task for name in groups if name.startswith("comp-for") for task in groups[name] if "for-" in task]


def test_every_parameter_has_a_description_and_a_default(documents):
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    for name, given in inputs.items():
        assert given["description"].endswith("."), name
        assert "defaultValue" in given, name
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert parse_yaml(inputs["params"]["defaultValue"], "params") == params["predict"]


def test_every_task_runs_in_the_one_image_unprivileged_with_limits_timeout_and_retries(documents):
    spec, platform = documents
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in spec["deploymentSpec"]["executors"].items():
        assert executor["container"]["image"] == IMAGE
        assert executor["container"]["resources"].keys() >= {"resourceCpuLimit", "resourceMemoryLimit"}, name
        assert int(pods[name]["activeDeadlineSeconds"]) > 0 and pods[name]["securityContext"]["runAsNonRoot"], name


def test_only_the_tasks_that_predict_ask_for_gpus_and_the_memory_of_the_form(documents):
    executors = documents[0]["deploymentSpec"]["executors"]
    using = {name for name, executor in executors.items() if "accelerator" in executor["container"]["resources"]}
    assert using == {"exec-predict-part"}
    asked = executors["exec-predict-part"]["container"]["resources"]
    assert asked["accelerator"]["resourceCount"].endswith("gpus']}}")
    assert asked["resourceMemoryLimit"].endswith("memory']}}")


def test_nothing_is_cached_because_results_are_on_the_workspace(documents, groups):
    assert not [task for tasks in groups.values() for task in tasks.values() if "enableCache" in str(task)]


def test_a_volume_with_files_is_mounted_where_rasters_or_models_are_read_or_maps_are_written():
    pods = build(claim="city")[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounted = {name for name, pod in pods.items() if "pvcMount" in pod}
    assert mounted == {"exec-plan", "exec-predict-part", "exec-publish"}


def test_on_one_machine_one_task_runs_at_a_time_and_asks_for_nothing():
    found = build(resources={})
    assert all(loop["iteratorPolicy"] == {"parallelismLimit": 1} for loop in loops(found))
    assert not any("resources" in one["container"] for one in found[0]["deploymentSpec"]["executors"].values())
