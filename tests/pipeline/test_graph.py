"""The compiled graph: valid for Kubeflow, and consistent with dvc.yaml and params.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.common.yaml_files import parse_yaml
from pipeline.form import FORM, LIMIT, SECTIONS, defaults
from pipeline.graph import build, compiled
from pipeline.resources import RESOURCES

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example.org/mobanet@sha256:" + "a" * 64
LIMITS = {f"resource{what}{which}" for what in ("Cpu", "Memory") for which in ("Limit", "Request")}
NO_STAGE = {"begin", "preprocess-shard", "promote", "finish"}
STEPS = {"acquire", "check", "preprocess", "train", "evaluate", "export", "register", "predict"}


@pytest.fixture(scope="module")
def text():
    return compiled(build(defaults(ROOT / "params.yaml"), IMAGE, RESOURCES))


@pytest.fixture(scope="module")
def documents(text):
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def tasks(documents):
    """Name -> entry of every task in the graph, without the groups around them."""
    spec, _ = documents
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    found = [task for dag in dags for task in dag["tasks"].values()]
    components = {name for name, component in spec["components"].items() if "executorLabel" in component}
    return {task["taskInfo"]["name"]: task for task in found if task["componentRef"]["name"] in components}


@pytest.fixture(scope="module")
def executors(documents):
    return documents[0]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def on_kubernetes(documents):
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_it_compiles_to_the_same_bytes_twice_and_is_small(text):
    assert compiled(build(defaults(ROOT / "params.yaml"), IMAGE, RESOURCES)) == text
    assert len(text.encode()) < 256_000


def test_stages_and_tasks_are_the_same_words(tasks):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tasks.keys() - NO_STAGE == stages.keys() - {"weights"} == STEPS
    assert tasks.keys() == RESOURCES.keys()


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_stage_and_its_task_read_the_same_sections(step, tasks):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][step]
    of_stage = {key.split(".")[0] for key in stage["params"]}
    of_stage |= {"data"} if any("${data." in dep for dep in stage["deps"]) else set()
    of_task = tasks[step]["inputs"]["parameters"].keys() & SECTIONS.keys()
    assert of_task - {"runtime"} == of_stage  # `runtime` is not a DVC parameter: docs/architecture.md


def test_every_parameter_has_a_description_and_the_default_of_the_params_file(documents):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    for name, given in inputs.items():
        assert given["description"].endswith("."), name
        assert "defaultValue" in given, name
    for name, key in FORM.items():
        section, field = key.split(".")
        default = params[section][field]
        assert inputs[name]["defaultValue"] == ("" if default is None else default)
        del params[section][field]
    assert parse_yaml(inputs["params"]["defaultValue"], "params") == params
    assert len(inputs["params"]["defaultValue"]) < LIMIT


def test_every_task_runs_in_the_one_image_unprivileged_with_limits_timeout_and_retries(tasks, executors, on_kubernetes):
    for name, task in tasks.items():
        label = task["componentRef"]["name"].replace("comp-", "exec-", 1)
        container, pod = executors[label]["container"], on_kubernetes[label]
        assert container["image"] == IMAGE
        assert container["resources"].keys() >= LIMITS, name
        assert int(pod["activeDeadlineSeconds"]) > 0 and pod["securityContext"]["runAsNonRoot"], name
        assert task["retryPolicy"]["maxRetryCount"] >= 1 and task["retryPolicy"]["backoffDuration"] == "60s", name


def test_every_task_that_can_use_a_gpu_has_shared_memory(executors, on_kubernetes):
    using = {name for name, executor in executors.items() if "accelerator" in executor["container"]["resources"]}
    assert using == {"exec-train", "exec-evaluate", "exec-predict"}
    for name in using:
        (shm,) = on_kubernetes[name]["emptyDirMounts"]
        assert (shm["mountPath"], shm["medium"]) == ("/dev/shm", "Memory") and shm["sizeLimit"]


def test_the_pod_of_train_asks_for_the_gpus_that_the_first_task_says_and_its_nodes_for_those_of_the_form(
    tasks, executors
):
    given = tasks["train"]["inputs"]["parameters"]
    asked = executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"]
    assert asked == "{{$.inputs.parameters['pipelinechannel--begin-pod_gpus']}}"
    assert given["nodes"]["componentInputParameter"].endswith("train_nodes")
    assert given["gpus"]["componentInputParameter"].endswith("train_gpus")


def test_every_task_gets_the_address_of_mlflow_and_no_secret_is_in_the_graph(executors, on_kubernetes):
    for name, pod in on_kubernetes.items():
        variables = {pair["envVar"] for secret in pod["secretAsEnv"] for pair in secret["keyToEnv"]}
        assert {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_AUTH", "AWS_SECRET_ACCESS_KEY"} <= variables, name
        assert ("MOBANET_SIGNING_KEY" in variables) == (name == "exec-export")
    environments = {
        name: {pair["name"]: pair["value"] for pair in executor["container"]["env"]}
        for name, executor in executors.items()
    }
    assert all(found.keys() == {"OMP_NUM_THREADS", "MOBANET_IMAGE"} for found in environments.values())
    assert {found["MOBANET_IMAGE"] for found in environments.values()} == {IMAGE}


def test_a_volume_with_files_is_mounted_where_they_are_read_and_nowhere_else():
    graph = build(defaults(ROOT / "params.yaml"), IMAGE, RESOURCES, claim="potsdam")
    _, platform = yaml.safe_load_all(compiled(graph))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounted = {name: pod["pvcMount"] for name, pod in pods.items() if "pvcMount" in pod}
    assert mounted.keys() == {"exec-acquire"}
    (mount,) = mounted["exec-acquire"]
    assert (mount["mountPath"], mount["constant"]) == ("/data", "potsdam")


@pytest.mark.parametrize(("asked", "named"), [(None, {}), ("files", {"storageClassName": "files"})])
def test_the_workspace_is_a_volume_that_every_node_can_mount(asked, named):
    graph = build(defaults(ROOT / "params.yaml"), IMAGE, RESOURCES, storage_class=asked)
    _, platform = yaml.safe_load_all(compiled(graph))
    workspace = platform["platforms"]["kubernetes"]["pipelineConfig"]["workspace"]
    assert workspace == {"size": "100Gi", "kubernetes": {"pvcSpecPatch": {"accessModes": ["ReadWriteMany"]} | named}}


def test_only_what_lies_in_artifacts_alone_is_cached(tasks):
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"train", "evaluate", "export"}


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("train", {"data_md5"}),
        ("evaluate", {"data_md5", "model_sha256"}),
        ("export", {"data_md5", "model_sha256", "evaluation_sha256"}),
    ],
)
def test_a_cached_task_has_the_checksums_of_its_inputs_and_the_commit_as_parameters(task, keys, tasks):
    given = tasks[task]["inputs"]["parameters"]
    assert all("taskOutputParameter" in given[key] for key in keys)
    assert given["commit"]["componentInputParameter"].endswith("commit")


def test_nothing_is_cached_of_an_image_that_can_change_under_its_name():
    assert "enableCache" in compiled(build(defaults(ROOT / "params.yaml"), IMAGE, RESOURCES))
    assert "enableCache" not in compiled(build(defaults(ROOT / "params.yaml"), "mobanet:latest", RESOURCES))


def test_nothing_that_differs_from_run_to_run_is_a_parameter_of_a_cached_task(tasks):
    for name, need in RESOURCES.items():
        if need.cached:
            assert "{{$.pipeline_job" not in str(tasks[name]["inputs"]["parameters"])


def test_the_body_of_every_component_is_a_door():
    for path in ROOT.glob("components/*/component.py"):
        for body in re.split(r"\) -> (?:str|bool|None|list\[str\]):\n", path.read_text())[1:]:
            lines = body.split("\n@dsl")[0].split('"""')[2].splitlines()
            assert len([line for line in lines if line.strip()]) <= 17, path


def test_without_resources_the_graph_asks_a_machine_for_nothing():
    spec, platform = yaml.safe_load_all(compiled(build(defaults(ROOT / "params.yaml"), IMAGE, {})))
    assert platform["platforms"]["kubernetes"].keys() == {"pipelineConfig"}
    assert not any("resources" in executor["container"] for executor in spec["deploymentSpec"]["executors"].values())


def test_shards_of_tiles_are_preprocessed_beside_each_other_before_the_store_is_made(documents, tasks):
    (loop,) = [t for c in dags(documents) for t in c["tasks"].values() if "parameterIterator" in t]
    assert "check" in loop["dependentTasks"]
    assert tasks["preprocess"]["inputs"]["parameters"]["shards"]["taskOutputParameter"]["producerTask"].startswith(
        "for"
    )


def test_promotion_stands_under_a_condition_and_registering_promotes_nothing(documents, tasks):
    (branch,) = [t for c in dags(documents) for t in c["tasks"].values() if "condition" in t.get("triggerPolicy", {})]
    assert branch["triggerPolicy"]["condition"] == "inputs.parameter_values['pipelinechannel--register-Output'] == true"
    asked = {name: tasks[name]["inputs"]["parameters"]["promote"] for name in ("register", "promote")}
    assert asked == {name: {"runtimeValue": {"constant": name == "promote"}} for name in asked}


def dags(documents):
    """All groups of tasks."""
    return [component["dag"] for component in documents[0]["components"].values() if "dag" in component]
