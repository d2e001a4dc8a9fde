"""`mobanet pipeline run --runner docker` without an engine: what is rejected, and which options a container gets."""

from __future__ import annotations

import os
from types import SimpleNamespace

import docker
import pytest
from docker.errors import APIError, ImageNotFound
from kfp import local
from kfp.local import docker_task_handler
from kfp.local.status import Status

from pipeline.containers import ContainerError, Containers


class Engine:
    """Replaces Docker's client: one image, one container that prints a line and exits with `code`."""

    def __init__(self, user="10001:10001", code=0, refuses=None):
        self.user, self.code, self.refuses = user, code, refuses
        self.asked, self.removed = None, 0
        self.images = self.containers = self

    def get(self, name):
        if name != "mobanet:latest":
            raise ImageNotFound("no such image")
        return SimpleNamespace(attrs={"Config": {"User": self.user}})

    def create(self, image, command, **asked):
        if self.refuses:
            raise APIError("500", explanation=self.refuses)
        self.asked = {"image": image, "command": command} | asked
        return self

    def start(self):
        pass

    def logs(self, **_):
        yield b"a line\n"

    def wait(self):
        return {"StatusCode": self.code}

    def remove(self, force):
        self.removed += force

    def info(self):
        return {}

    def close(self):
        pass


@pytest.fixture
def engine(monkeypatch):
    def use(**changes):
        engine = Engine(**changes)
        monkeypatch.setattr(docker, "from_env", lambda: engine)
        return engine

    monkeypatch.setattr(docker_task_handler, "run_docker_container", None)  # restored afterwards
    monkeypatch.setattr(local.config.LocalExecutionConfig, "instance", None)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return use


@pytest.fixture
def folders(tmp_path):
    artifacts, workspace = tmp_path / "artifacts", tmp_path / "workspace"
    artifacts.mkdir()
    workspace.mkdir()
    return artifacts, workspace


def run_task(folders, containers=None, files=()):
    """Run one task with kfp's own handler."""
    runner = (containers or Containers("mobanet:latest")).runner(*folders, files)
    return docker_task_handler.DockerTaskHandler(
        image="of/the:component", full_command=["sh", "-c", "true"], pipeline_root=str(folders[0]), runner=runner
    ).run()


def test_a_container_has_no_right_that_a_task_does_not_need(engine, folders, monkeypatch):
    fake = engine()
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    assert run_task(folders) is Status.SUCCESS
    assert fake.asked["image"] == "mobanet:latest" and fake.asked["user"] == "1234:5678"
    assert fake.asked["read_only"] and fake.asked["cap_drop"] == ["ALL"]
    assert fake.asked["security_opt"] == ["no-new-privileges"] and fake.asked["network_mode"] == "none"


@pytest.mark.skipif(os.getuid() != 0, reason="gives folders to another user")
def test_root_hands_the_folders_to_the_user_of_the_image(engine, folders):
    fake = engine(user="4321")
    run_task(folders)
    assert fake.asked["user"] == "4321:4321"
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folders} == {(4321, 4321)}


def test_a_container_that_fails_fails_its_task_and_is_removed(engine, folders):
    fake = engine(code=2)
    assert run_task(folders) is Status.FAILURE and fake.removed == 1


def test_what_the_engine_refuses_is_said_and_fails_the_task(engine, folders, capsys):
    engine(refuses="no such network: nowhere")
    assert run_task(folders) is Status.FAILURE
    assert "error: cannot run the container (no such network: nowhere)" in capsys.readouterr().out


def test_ctrl_c_removes_the_container(engine, folders, monkeypatch):
    fake = engine()
    monkeypatch.setattr(fake, "wait", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_task(folders)
    assert fake.removed == 1


def test_tasks_read_the_files_that_parameters_name_and_get_the_addresses_of_the_environment(
    engine, folders, tmp_path, monkeypatch
):
    fake = engine()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_OF_SOMEBODY_ELSE", "x")
    run_task(folders, Containers("mobanet:latest", "host"), [tmp_path])
    (mount,) = fake.asked["mounts"]
    assert mount["Source"] == mount["Target"] == str(tmp_path) and mount["ReadOnly"]
    assert fake.asked["environment"]["MLFLOW_TRACKING_URI"] == "http://localhost:5000"
    assert fake.asked["environment"]["OMP_NUM_THREADS"] == "3"
    assert "SECRET_OF_SOMEBODY_ELSE" not in fake.asked["environment"]


def test_without_a_tracking_server_the_store_of_mlflow_lies_beside_the_artifacts(engine, folders):
    fake = engine()
    run_task(folders)
    assert fake.asked["working_dir"] == str(folders[0]) in fake.asked["volumes"]


@pytest.mark.parametrize(
    ("address", "network", "sentence"),
    [
        ("sqlite:///mlflow.db", "host", "names a file, which containers cannot see"),
        ("http://localhost:5000", "none", "names a server, but containers have no network; add `--network host`"),
    ],
)
def test_a_store_that_containers_cannot_reach_is_refused_before_anything_runs(
    engine, folders, monkeypatch, address, network, sentence
):
    engine()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ContainerError, match=sentence):
        Containers("mobanet:latest", network).runner(*folders)


def test_an_image_that_is_not_there_is_not_pulled(engine, folders):
    engine()
    with pytest.raises(ContainerError, match=r"no image other:1 on this machine; run `make image`"):
        Containers("other:1").runner(*folders)


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary caller's containers have the caller's number")
@pytest.mark.parametrize("user", ["", "root", "mobanet", "0:0"])
def test_no_container_runs_as_root_nor_as_a_name_that_may_be_root(engine, folders, user):
    engine(user=user)
    with pytest.raises(ContainerError, match="build it with a numeric user id"):
        Containers("mobanet:latest").runner(*folders)


def test_an_engine_that_does_not_answer_is_one_sentence(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ContainerError, match=r"no container engine answers at unix://.*nowhere\.sock"):
        Containers("mobanet:latest").runner(*folders)
