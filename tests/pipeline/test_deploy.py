"""pipeline/deploy: manifests that are valid, that match each other and the graph, and that contain no secret."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models
from kubernetes.utils.quantity import parse_quantity

from components.common.params import section
from components.serve.config import ServeConfig
from pipeline.commands.serve import GRACE_S
from pipeline.presets.preset import SHIPPED
from pipeline.resources import ENVIRONMENT, RESOURCES, SECRET, WORKSPACE_SIZE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "pipeline/deploy"
KUBERNETES = ("1.31", kubernetes_validate.latest_version())
"""The oldest version that docs/kubeflow.md names, and the newest version with a schema."""
BUILDS = ("inside", "outside", "data", "serve", "kserve")
KUSTOMIZATIONS = {path.parent.name: yaml.safe_load(path.read_text()) for path in DEPLOY.glob("*/kustomization.yaml")}
IN_THE_GRAPH = {"pipelines.kubeflow.org/v2_component": "true"}  # label that Kubeflow Pipelines adds to every task's pod
OBJECT_STORE = {"app": "seaweedfs"}
BY_KUBEFLOW = (IN_THE_GRAPH, OBJECT_STORE)
CUSTOM = ("ClusterTrainingRuntime", "InferenceService")  # kinds of Kubeflow and KServe
SCALING = {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "cpu", "scaleTarget": 80}


def read(path):
    return list(yaml.safe_load_all(path.read_text()))


def listed(folder):
    """Files that a kustomization lists."""
    made = KUSTOMIZATIONS[folder]
    return {DEPLOY / folder / name for name in made.get("resources", ()) if name.endswith(".yaml")}


def built_from(folder):
    """Files of a kustomization, including those of its bases."""
    return listed(folder) | (listed("base") if "../base" in KUSTOMIZATIONS[folder]["resources"] else set())


MANIFESTS = [
    document for folder in sorted(KUSTOMIZATIONS) for file in sorted(listed(folder)) for document in read(file)
]


def name_of(manifest):
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of_kind(kind):
    return [manifest for manifest in MANIFESTS if manifest["kind"] == kind]


def one(kind, name):
    (found,) = (manifest for manifest in of_kind(kind) if manifest["metadata"]["name"] == name)
    return found


RUNTIME = one("ClusterTrainingRuntime", "mobanet-torch")
(NODE,) = RUNTIME["spec"]["template"]["spec"]["replicatedJobs"]


def pods():
    """Name -> metadata and spec of every pod that the manifests create."""
    found = {name_of(m): m["spec"]["template"] for kind in ("Deployment", "StatefulSet") for m in of_kind(kind)}
    found |= {name_of(m): m for m in of_kind("Pod")}
    return {**found, name_of(RUNTIME): NODE["template"]["spec"]["template"]}


def containers():
    return [(name, container) for name, pod in pods().items() for container in all_of(pod["spec"])]


def all_of(pod):
    return [*pod.get("initContainers", ()), *pod["containers"]]


def chosen(selector):
    """Names of the pods that a selector matches."""
    wanted = selector["matchLabels"].items()
    return {name for name, pod in pods().items() if wanted <= pod["metadata"]["labels"].items()}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_a_cluster_takes_it(manifest):
    for version in KUBERNETES if manifest["kind"] not in CUSTOM else ():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_trainer_takes_the_runtime():
    read_by_sdk = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(RUNTIME)
    assert read_by_sdk.to_dict() == RUNTIME  # an unknown key would be missing
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": NODE["template"]["spec"]}
    for version in KUBERNETES:
        kubernetes_validate.validate(job, version, strict=True)


def test_every_file_is_in_one_kustomization():
    files = {path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix not in (".example", ".env")}
    assert files - set(DEPLOY.glob("*/kustomization.yaml")) == {
        file for name in KUSTOMIZATIONS for file in listed(name)
    }
    assert KUSTOMIZATIONS.keys() == {*BUILDS, "base", "image"}


def test_everything_stands_in_the_namespace_of_kubeflow_and_says_what_it_belongs_to():
    for manifest in MANIFESTS:
        metadata = manifest["metadata"]
        assert metadata.get("namespace") == (None if manifest is RUNTIME else "kubeflow")
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "mobanet"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed; it has kustomize inside")
@pytest.mark.parametrize("folder", BUILDS)
def test_kustomize_builds_what_the_files_say(folder):
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / folder], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(map(name_of, built)) == sorted(name_of(m) for file in built_from(folder) for m in read(file))
    assert "image: mobanet\n" not in done.stdout and "image: postgres\n" not in done.stdout
    assert done.stderr == ""


def test_images_are_named_in_one_place():
    assert {name for name, made in KUSTOMIZATIONS.items() if "images" in made} == {"image"}
    replaced = {image["name"]: image for image in KUSTOMIZATIONS["image"]["images"]}
    assert {container["image"] for _, container in containers()} == replaced.keys()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", replaced["mobanet"]["digest"])


def test_no_secret_is_committed():
    assert not of_kind("Secret") and not any("secretGenerator" in made for made in KUSTOMIZATIONS.values())
    for example in DEPLOY.glob("*.env.example"):
        for key, value in settings(example).items():
            assert value == "" or not re.search("PASSWORD|KEY", key), f"{example.name}: {key} has a value"
        ignored = subprocess.run(["git", "check-ignore", "-q", example.with_suffix("")], cwd=ROOT)
        assert ignored.returncode == 0, f"{example.with_suffix('').name} could be committed"


def settings(path):
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_the_two_secrets_have_the_keys_that_are_asked_for():
    of_tasks, of_mlflow = (settings(DEPLOY / f"{name}.env.example") for name in (SECRET, "mobanet-mlflow"))
    assert of_tasks.keys() <= ENVIRONMENT.keys()
    assert {key for key, optional in ENVIRONMENT.items() if not optional} <= of_tasks.keys()
    asked = {}
    for _, container in containers():
        for variable in container.get("env", ()):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                asked.setdefault(reference["name"], {})[reference["key"]] = reference.get("optional", False)
    assert asked.keys() == {SECRET, "mobanet-mlflow"}
    optional = {key for key, optional in ENVIRONMENT.items() if optional}
    account = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}  # a task can do without, this MLflow cannot
    assert {key for key, may_lack in asked[SECRET].items() if may_lack} == (asked[SECRET].keys() & optional) - account
    assert asked["mobanet-mlflow"].keys() <= of_mlflow.keys()
    assert of_mlflow["PGHOST"] == one("Service", "mobanet-postgres")["metadata"]["name"]


@pytest.mark.parametrize("name", pods())
def test_a_pod_is_unprivileged_and_has_no_token(name):
    pod = pods()[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"].get("runAsUser", 1) > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in all_of(pod):
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        resources = container["resources"]
        assert resources["requests"] == resources["limits"] and resources["limits"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("server", of_kind("Deployment") + of_kind("StatefulSet"), ids=name_of)
def test_a_server_is_found_by_its_service_and_says_how_it_is(server):
    pod = server["spec"]["template"]
    assert server["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    service = one("Service", server["metadata"]["name"])["spec"]
    assert chosen({"matchLabels": service["selector"]}) == {name_of(server)}
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_mlflow_answers_to_the_name_that_tasks_call_it_by():
    (container,) = one("Deployment", "mobanet-mlflow")["spec"]["template"]["spec"]["containers"]
    (hosts,) = (argument for argument in container["args"] if argument.startswith("--allowed-hosts="))
    uri = settings(DEPLOY / "mobanet.env.example")["MLFLOW_TRACKING_URI"]
    assert uri.removeprefix("http://") in hosts.split("=")[1].split(",")


def policies():
    return {m["metadata"]["name"]: m["spec"] for m in of_kind("NetworkPolicy")}


def doors():
    """Policy, direction, peer selectors (none: anyone) and ports (none: all) of every rule."""
    for name, policy in policies().items():
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy.get(direction, ()):
                selectors = [peer["podSelector"] for peer in rule.get(side, ())]
                yield name, direction, selectors, [port["port"] for port in rule.get("ports", ())]


def test_every_pod_of_ours_is_shut_and_no_other():
    shut = policies()["mobanet"]
    assert shut["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in shut
    assert chosen(shut["podSelector"]) == pods().keys()
    assert all(
        chosen(policy["podSelector"]) for policy in policies().values()
    )  # {} would also select Kubeflow's own pods


def test_doors_lead_to_pods_that_there_are_and_to_ports_that_they_have():
    open_ports = {name: {p["containerPort"] for c in p_["spec"]["containers"] for p in c.get("ports", ())}
                  for name, p_ in pods().items()}  # fmt: skip
    for policy, direction, selectors, ports in doors():
        for selector in selectors:
            assert chosen(selector) or selector["matchLabels"] in BY_KUBEFLOW, policy
        targets = [policies()[policy]["podSelector"]] if direction == "ingress" else selectors
        for name in {name for target in targets for name in chosen(target)}:
            assert set(ports) <= open_ports[name], f"{policy}: {name} does not listen on {ports}"


def test_nobody_but_mlflow_reaches_the_database_and_nobody_but_tasks_and_the_service_reaches_mlflow():
    into = {
        (policy, *sorted(str(s["matchLabels"]) for s in selectors))
        for policy, d, selectors, _ in doors()
        if d == "ingress"
    }
    names = ("mobanet-mlflow", "mobanet-train", "mobanet-serve")
    mlflow, train, serve = ({"app.kubernetes.io/name": name} for name in names)
    assert into == {
        ("mobanet-mlflow", *sorted(map(str, (IN_THE_GRAPH, train, serve)))),
        ("mobanet-postgres", str(mlflow)),
        ("mobanet-train", str(train)),
        ("mobanet-serve",),  # anyone
    }


def test_kserve_starts_the_pod_of_the_deployment():
    pod = one("Deployment", "mobanet-serve")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    expected = pod["spec"] | {"containers": [container | {"name": "kserve-container"}]}
    predictor = one("InferenceService", "mobanet-serve")["spec"]["predictor"]
    assert predictor == expected | SCALING | {"labels": pod["metadata"]["labels"]}


def test_the_service_can_finish_its_requests_and_has_a_cpu_for_every_thread():
    pod = one("Deployment", "mobanet-serve")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = section(SHIPPED, "serve", ServeConfig)
    _, wait_s = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > int(wait_s) + config.timeout_s + GRACE_S
    threads = next(int(variable["value"]) for variable in container["env"] if variable["name"] == "OMP_NUM_THREADS")
    assert threads * config.concurrency == int(container["resources"]["limits"]["cpu"])


def test_the_runtime_is_found_and_gives_a_node_what_the_table_gives_to_train():
    assert RUNTIME["metadata"]["labels"]["trainer.kubeflow.org/framework"] == "torch"
    assert NODE["name"] == "node"
    assert NODE["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod, train = NODE["template"]["spec"]["template"]["spec"], RESOURCES["train"]
    (container,) = pod["containers"]
    assert container["name"] == "node"
    assert container["resources"]["limits"] == {"cpu": train.cpu, "memory": train.memory}
    assert pod["activeDeadlineSeconds"] == train.timeout_s
    brought = {"dshm", "kfp-workspace"}  # added by the TrainJob, from the pod that launches it
    assert not brought & {thing["name"] for thing in (*pod["volumes"], *container["volumeMounts"])}


def test_the_quota_is_the_sum_that_it_says():
    tasks, rest = (one("ResourceQuota", f"mobanet-{n}")["spec"]["hard"] for n in ("tasks", "gpus-and-volumes"))
    times = {"train": 4, "preprocess-shard": 4}
    for key, unit in (("cpu", "requests.cpu"), ("memory", "requests.memory")):
        least = sum(times.get(name, 1) * parse_quantity(getattr(need, key)) for name, need in RESOURCES.items())
        assert least < parse_quantity(tasks[unit]) < least * 11 / 10, f"{unit}: the table comes to {least}"
    assert int(rest["requests.nvidia.com/gpu"]) == 4 * 8 + 2
    claims = [one("PersistentVolumeClaim", "mobanet-data")["spec"]]
    claims += [claim["spec"] for m in of_kind("StatefulSet") for claim in m["spec"]["volumeClaimTemplates"]]
    ours = 4 * parse_quantity(WORKSPACE_SIZE) + sum(
        parse_quantity(claim["resources"]["requests"]["storage"]) for claim in claims
    )
    assert ours + parse_quantity("80Gi") == parse_quantity(rest["requests.storage"])


def test_the_pipeline_may_launch_follow_and_remove_a_training_and_nothing_else():
    (role,), (binding,) = of_kind("Role"), of_kind("RoleBinding")
    allowed = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
    assert allowed == {"trainjobs": ["get", "create", "delete"], "pods": ["get", "list"], "pods/log": ["get"]}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}]


def test_the_image_does_not_hold_the_manifests_nor_a_secret_that_lies_beside_them():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index("pipeline/deploy") > lines.index("!pipeline")


def test_tasks_can_use_an_account_or_the_token_of_their_pod():
    account, token = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}, {"MLFLOW_TRACKING_AUTH"}
    assert all(ENVIRONMENT[key] for key in account | token)  # optional, so that a secret can have either


COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PLACES = {"PGHOST", "MLFLOW_ARTIFACTS_DESTINATION", "AWS_ENDPOINT_URL"}
"""Variables of MLflow with addresses, which differ between a cluster and Docker."""


def mlflow_container(kind):
    (only,) = one("Deployment", "mobanet-mlflow")["spec"]["template"]["spec"][kind]
    return only


@pytest.mark.parametrize(("service", "kind"), [("mlflow", "containers"), ("schema", "initContainers")])
def test_compose_starts_mlflow_with_the_command_of_the_manifests(service, kind):
    container = mlflow_container(kind)
    assert COMPOSE["services"][service]["entrypoint"] == container["command"]
    assert COMPOSE["services"][service]["command"] == container["args"]


def test_compose_gives_mlflow_the_variables_of_the_manifests():
    files = {name: settings(DEPLOY / f"{name}.env.example") for name in (SECRET, "mobanet-mlflow", "compose")}
    wanted = dict(files["mobanet-mlflow"])
    for variable in mlflow_container("containers")["env"]:
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            if reference["key"] in files[reference["name"]]:
                wanted[variable["name"]] = files[reference["name"]][reference["key"]]
        else:
            wanted[variable["name"]] = variable["value"]
    given = COMPOSE["services"]["mlflow"]["environment"]
    assert given.keys() == wanted.keys()
    for name in given.keys() - PLACES:
        assert given[name] == wanted[name] or (wanted[name] == "" and given[name].startswith("${")), name


def test_compose_asks_for_the_passwords_of_its_example_and_no_others():
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert named == settings(DEPLOY / "compose.env.example").keys()


def test_compose_and_the_manifests_have_one_configuration_of_accounts():
    of_compose = COMPOSE["configs"]["basic_auth"]["content"]
    assert of_compose == one("ConfigMap", "mobanet-mlflow")["data"]["basic_auth.ini"]
    (config,) = COMPOSE["services"]["mlflow"]["configs"]
    mounted = {mount["name"]: mount["mountPath"] for mount in mlflow_container("containers")["volumeMounts"]}
    path = COMPOSE["services"]["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    assert path == config["target"] == f"{mounted['config']}/basic_auth.ini"


def test_compose_has_the_images_of_the_manifests():
    images = {image["name"]: image for image in KUSTOMIZATIONS["image"]["images"]}
    postgres = f"{images['postgres']['newName']}:{images['postgres']['newTag']}"
    assert COMPOSE["services"]["postgres"]["image"] == postgres
    assert {COMPOSE["services"][name]["image"] for name in ("schema", "mlflow")} == {"mobanet:latest"}
