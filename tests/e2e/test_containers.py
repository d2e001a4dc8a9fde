"""The image, and the whole graph in real containers: no root, no network, and the figures of `dvc repro`.

Wants an engine behind DOCKER_HOST, the image `mobanet:latest` on it, and in the environment what `make image` needs:
`.ci/containers COMMAND` makes all of that.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import mlflow
import numpy as np
import pytest
import rasterio
import yaml
from docker.errors import APIError
from safetensors.torch import load_file

import pipeline
from components.predict.tile_request import request_for
from pipeline.containers import LABEL, Containers
from tests.e2e.conftest import ROOT, TINY, Project, copy_project, merged

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif("DOCKER_HOST" not in os.environ, reason="no container engine; see .ci/containers"),
]

IMAGE = "mobanet:latest"
RUN = ("python", "-m", "pipeline", "pipeline", "run", "--runner", "docker")
SMALL = merged(TINY, {"train": {"steps": 60, "batch_size": 4, "warmup_steps": 5, "validation": {"every_steps": 30}}})
OF_THE_RUN = {"git_commit", "mlflow_run_id", "sha256"}
"""Keys of the evaluation that differ from run to run; sha256 is of the model's file, which holds the other two."""

PROBE = """
import json, os, pathlib, socket
def refused(action):
    try:
        action()
    except OSError as error:
        return error.strerror
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "uid": os.getuid(),
    "root": refused(lambda: pathlib.Path("/new").touch()),
    "code": refused(lambda: pathlib.Path("/app/new").touch()),
    "files": refused(lambda: pathlib.Path(os.environ["GIVEN"], "new").touch()),
    "tmp": refused(lambda: pathlib.Path("/tmp/new").touch()),
    "outside": refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=5)),
    "links": [name for _, name in socket.if_nameindex()],
    "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": status["NoNewPrivs"],
}))
"""


@pytest.fixture(scope="module")
def engine():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("containers"))
    project.change_params(SMALL)
    project.env |= {"OMP_NUM_THREADS": "1"}
    return project


@pytest.fixture(scope="module")
def ran(project, engine):
    """The graph in containers, and `dvc repro` for comparison; the engine's description of every running container."""
    seen = {}
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(project.call, *command) for command in (RUN, ("dvc", "repro"))]
        while not runs[0].done():
            seen.update({one.id: one.attrs for one in containers(engine, project.root / "reports/kubeflow")})
            time.sleep(0.3)
    for run in runs:
        assert run.result().returncode == 0, run.result().stderr[-6000:]
    return list(seen.values())


def containers(engine, out):
    """Of a run, in whatever state; not one that goes while it is looked at, of which podman says 500 instead of 404."""
    found = []
    for one in engine.containers.list(all=True, filters={"label": f"{LABEL}={out}"}, sparse=True):
        with contextlib.suppress(APIError):
            one.reload()
            found.append(one)
    return found


def artifact(project, task, name):
    (found,) = project.root.glob(f"reports/kubeflow/mobanet-*/{task}/{name}")
    return found


def without(document, keys):
    if isinstance(document, dict):
        return {key: without(value, keys) for key, value in document.items() if key not in keys}
    return [without(value, keys) for value in document] if isinstance(document, list) else document


def test_the_figures_are_those_of_dvc_repro(project, ran):
    evaluation = json.loads(artifact(project, "evaluate", "evaluation").read_text())
    expected = json.loads((project.root / "reports/evaluation.json").read_text())
    assert without(evaluation, OF_THE_RUN) == without(expected, OF_THE_RUN)
    assert expected["scores"]["eroded"]["rgb+dsm"]["miou"] > 15, "they mean something: an untrained network has 6"


def test_so_are_the_weights_to_the_last_bit(project, ran):
    trained, expected = (
        load_file(artifact(project, "train", "weights")),
        load_file(project.root / "models/best.safetensors"),
    )
    assert trained.keys() == expected.keys()
    assert all(trained[name].equal(expected[name]) for name in expected)


def test_so_is_the_map_of_the_test_tiles(project, ran):
    maps = [artifact(project, "predict", "map"), project.root / "maps/sample.tif"]
    found, expected = (rasterio.open(path).read() for path in maps)
    np.testing.assert_array_equal(found, expected)  # the tags differ in the checksum of the model, see OF_THE_RUN


def test_the_prediction_graph_gives_the_map_of_dvc_repro_to_the_last_byte(project, ran):
    root = project.root
    request = request_for(root / "data/raw", "sample", None, root / "package", root / "maps")
    rasters = {"image": request.image, "dsm": request.dsm}
    scenes = [f"{name}={json.dumps({'sample': files})}" for name, files in rasters.items()]
    values = ["model=package", "output=mapped", "parts=2", *scenes]
    done = project.call(*RUN[:5], "predict", *RUN[5:], *[word for value in values for word in ("--set", value)])
    assert done.returncode == 0, done.stderr[-6000:]
    for name in ("sample.tif", "sample_confidence.tif", "sample_sensors.tif"):
        assert (root / "mapped/sample" / name).read_bytes() == (root / "maps" / name).read_bytes(), name
    assert not containers(docker.from_env(), root / "reports/kubeflow")


def test_every_container_ran_without_root_on_a_read_only_root_without_network(ran):
    assert len(ran) > 5
    for attrs in ran:
        host = attrs["HostConfig"]
        assert attrs["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert host["ReadonlyRootfs"] and host["NetworkMode"] == "none" and not host["Privileged"]


def test_the_run_leaves_artifacts_and_mlflows_store_and_no_container(project, ran, engine):
    out = project.root / "reports/kubeflow"
    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.status == "FINISHED" and run.data.tags["kubeflow_run"]
    assert Path(run.info.artifact_uri).is_relative_to(out)
    assert artifact(project, "export", "package/model.onnx").stat().st_uid != 0
    assert not containers(engine, out)


def test_a_failing_step_is_named_and_the_exit_handler_runs(project, engine, tmp_path):
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    data = {"source": "folder", "dataset": "potsdam", "split": "official", "path": "/nowhere"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"data": params["data"] | data}))
    done = project.call(*RUN, "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "error: /nowhere" in done.stderr, "the step's own sentence"
    assert "the pipeline run ended: FAILED" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the step acquire failed, see its log above")
    assert not containers(engine, tmp_path / "out")


@pytest.fixture
def probed(engine, tmp_path, capsys):
    """What a process finds that runs where tasks run."""
    folders = [tmp_path / name for name in ("artifacts", "workspace", "given")]
    for folder in folders:
        folder.mkdir()
    folders[2].chmod(0o777)
    given = Containers(IMAGE).runner(*folders[:2], folders[2:]).container_run_args
    given["environment"] = {"GIVEN": str(folders[2])}
    given["working_dir"] = "/"
    code = Containers(IMAGE)._run(engine, IMAGE, ["python3", "-c", PROBE], {}, **given)
    out = capsys.readouterr().out
    assert code == 0, out
    return json.loads(out)


def test_a_task_cannot_write_but_to_tmp_and_cannot_reach_anybody(probed):
    assert probed["uid"] == (os.getuid() or 10001) and probed["capabilities"] == 0
    assert probed["no_new_privileges"].strip() == "1"
    assert {probed[place] for place in ("root", "code", "files")} == {"Read-only file system"}
    assert probed["tmp"] is None
    assert probed["outside"] == "Network is unreachable" and probed["links"] == ["lo"]


def test_the_image_says_what_it_is(engine, project):
    config = engine.images.get(IMAGE).attrs["Config"]
    head = project.call("git", "-C", str(ROOT), "rev-parse", "HEAD").stdout.strip()
    label = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert label["version"] == pipeline.__version__ and label["licenses"] == "Apache-2.0" and label["title"]
    assert label["revision"].removesuffix("-dirty") == head
    assert f"GIT_COMMIT={label['revision']}" in config["Env"]
    assert config["User"] == "10001:10001" and config["Entrypoint"] == ["mobanet"]


@pytest.mark.parametrize("command", ["model info", "pipeline compile -o /tmp/graph.yaml"])
def test_the_image_runs_the_command_line_and_needs_nothing_for_it(engine, command):
    output = engine.containers.run(IMAGE, command, read_only=True, network_mode="none", remove=True, stderr=True)
    assert output and not any(word in output for word in (b"Traceback", b"error", b"Warning"))


def test_nothing_of_the_build_stays_in_the_image(engine):
    places = "/mnt /run/secrets /source /etc/pip.conf /etc/xdg/pip /root/.cache /root/.config"
    find = f"find {places} -type f 2>/dev/null; find /opt/venv /app -name '*.whl'"
    output = engine.containers.run(IMAGE, ["-c", find], entrypoint="sh", user="0", network_mode="none", remove=True)
    assert output == b""


def test_a_change_of_the_code_makes_one_small_layer_anew(engine, tmp_path):
    project = copy_project(tmp_path)
    step = project.root / "components/check/step.py"
    step.write_text(step.read_text() + "\n# A change.\n")
    name = "mobanet:changed"
    done = project.call("make", "image", f"IMAGE={name}", timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = (engine.images.get(one).attrs for one in (IMAGE, name))
    engine.images.remove(name)
    layers = [attrs["RootFS"]["Layers"] for attrs in (before, after)]
    assert layers[0][:-1] == layers[1][:-1] and layers[0][-1] != layers[1][-1]
