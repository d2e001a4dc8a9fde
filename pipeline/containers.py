"""Run tasks as containers on this machine, through the Docker API, which podman also provides.

A container runs as the calling user, or as the image's user if the caller is root. It has a read-only root file system,
no capabilities and, unless you name a network, only loopback. It sees the artifacts, the workspace and the files and
folders that the parameters name. Its working directory is the artifacts folder, so MLflow creates its store there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import Mount
from kfp import local
from kfp.local import docker_task_handler

from components.common.errors import MobanetError
from components.common.trust.keys import VARIABLE
from pipeline.resources import ENVIRONMENT

HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": "exec,mode=1777"},  # exec: compiled kernels
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "shm_size": "2g",  # limit of /dev/shm for loader processes; memory is used only on demand
    "entrypoint": "env",  # a task brings a complete command, not arguments of `mobanet`
}
"""Arguments of every container."""

HANDED_ON = (*ENVIRONMENT, VARIABLE, "MLFLOW_RUN_ID", "OMP_NUM_THREADS")
"""Variables of this process that are passed to containers if they are set."""

LABEL = "mobanet.artifacts"
"""Label of every container: the artifacts folder of its run."""

NO_NETWORK = "none"


class ContainerError(MobanetError):
    """There is no container engine or no image, or a container cannot run as requested."""


@dataclass(frozen=True, slots=True)
class Containers:
    """Image and network of the containers."""

    image: str  # image of every task; it must exist on this machine, as it is never pulled
    network: str = NO_NETWORK  # none, host, or the name of a network of the engine

    def runner(
        self, artifacts: Path, workspace: Path, files: Iterable[Path] = (), outputs: Iterable[Path] = ()
    ) -> local.DockerRunner:
        """A runner for kfp.

        Args:
            artifacts: artifacts folder, absolute; kfp mounts it at the same path.
            workspace: workspace folder; kfp mounts it too.
            files: files and folders that tasks read; mounted read-only.
            outputs: existing folders that tasks write to.

        Raises:
            ContainerError: there is no engine or no image, or containers cannot reach the MLflow store.
        """
        _check_store(self.network)
        user = _user(self.image)
        outputs = tuple(outputs)
        if os.getuid() == 0:
            for folder in (artifacts, workspace, *outputs):
                os.chown(folder, *map(int, user.split(":")))
        docker_task_handler.run_docker_container = self._run
        return local.DockerRunner(
            **HARDENED,
            user=user,
            network_mode=self.network,
            working_dir=str(artifacts),
            labels={LABEL: str(artifacts)},
            environment={name: os.environ[name] for name in HANDED_ON if name in os.environ},
            mounts=[
                Mount(str(path), str(path), type="bind", read_only=path not in outputs) for path in (*files, *outputs)
            ],
        )

    def _run(self, client: Any, image: str, command: list[str], volumes: Mapping[str, Any], **given: Any) -> int:
        """Run a task in a container, and return its exit code.

        It replaces kfp's own function, which has three faults: it pulls images that podman lists under `localhost/`, it
        treats a container that has disappeared as a success, and it leaves the container running on Ctrl-C.
        """
        try:
            container = client.containers.create(self.image, command, volumes=volumes, **given)
            try:
                container.start()
                for piece in container.logs(stream=True, follow=True):
                    print(piece.decode(errors="replace"), end="")
                return int(container.wait()["StatusCode"])
            finally:
                container.remove(force=True)
        except APIError as error:
            print(f"error: cannot run the container ({error.explanation or error})")
            return 125


def _check_store(network: str) -> None:
    """Check that containers can reach the MLflow store, so that a run does not fail after hours.

    Raises:
        ContainerError: they cannot reach it.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and not urlsplit(address).hostname:
        raise ContainerError(
            "MLFLOW_TRACKING_URI names a file, which containers cannot see; unset it to store runs next to the "
            "artifacts, or set it to a server"
        )
    if address and network == NO_NETWORK:
        raise ContainerError(
            "MLFLOW_TRACKING_URI names a server, but containers have no network; add `--network host`, or unset the "
            "variable to store runs next to the artifacts"
        )


def _user(image: str) -> str:
    """`UID:GID` for the containers.

    Raises:
        ContainerError: no engine answers, the image does not exist, or it would run as root.
    """
    try:
        client = docker.from_env()
        user = client.images.get(image).attrs["Config"].get("User") or "root"
    except ImageNotFound:
        raise ContainerError(
            f"there is no image {image} on this machine; run `make image`, or name another image with --image"
        ) from None
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        raise ContainerError(
            f"no container engine answers at {where} ({_root(error)}); start Docker, or start `podman system service` "
            "and set DOCKER_HOST to its socket"
        ) from None
    if os.getuid():
        return f"{os.getuid()}:{os.getgid()}"
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or int(uid) == 0:
        raise ContainerError(f"image {image} runs as {user}; build it with a numeric user id, as `make image` does")
    return f"{uid}:{gid or uid}"


def _root(error: BaseException) -> BaseException:
    """The first error of a chain: `permission denied` instead of the errors that wrap it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
