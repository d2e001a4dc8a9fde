"""Tasks as containers on this machine, through the API of Docker, which podman speaks as well.

A container runs as the calling user, or as the image's if that is root, on a read-only root file system, without
capabilities and, unless a network is named, with none but loopback. It sees the artifacts, the workspace and the files
that the parameters name. Its current folder is that of the artifacts, so MLflow keeps its store there.
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
from pipeline.resources import ENVIRONMENT

HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": "exec,mode=1777"},  # exec: compiled kernels
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "shm_size": "2g",  # a limit, for loader processes; taken when it is used
    "entrypoint": "env",  # the command of a task is a whole one, and not for `mobanet`
}
"""Arguments of every container."""

HANDED_ON = (*ENVIRONMENT, "MLFLOW_RUN_ID", "OMP_NUM_THREADS")
"""Variables of this process that containers get, where they are set."""

LABEL = "mobanet.artifacts"
"""Of every container: where its run puts its artifacts."""

NO_NETWORK = "none"


class ContainerError(MobanetError):
    """There is no engine or no image, or a container could not do what is asked for."""


@dataclass(frozen=True, slots=True)
class Containers:
    """What tasks run in."""

    image: str  # of every task; it is there already, and not pulled
    network: str = NO_NETWORK  # none, host, or a network of the engine

    def runner(self, artifacts: Path, workspace: Path, files: Iterable[Path] = ()) -> local.DockerRunner:
        """A runner for kfp.

        Args:
            artifacts: folder, absolute; kfp mounts it under this path.
            workspace: folder, which kfp mounts as well.
            files: files and folders that tasks read.

        Raises:
            ContainerError: there is no engine or no image, or MLflow's store would be out of reach.
        """
        _check_store(self.network)
        user = _user(self.image)
        if os.getuid() == 0:
            for folder in (artifacts, workspace):
                os.chown(folder, *map(int, user.split(":")))
        docker_task_handler.run_docker_container = self._run
        return local.DockerRunner(
            **HARDENED,
            user=user,
            network_mode=self.network,
            working_dir=str(artifacts),
            labels={LABEL: str(artifacts)},
            environment={name: os.environ[name] for name in HANDED_ON if name in os.environ},
            mounts=[Mount(str(path), str(path), type="bind", read_only=True) for path in files],
        )

    def _run(self, client: Any, image: str, command: list[str], volumes: Mapping[str, Any], **given: Any) -> int:
        """Run a task; returns its exit code.

        Stands in for kfp's own function, which pulls an image that podman lists under `localhost/`, takes a container
        that is gone before it looked for a success, and leaves one running on Ctrl-C.
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
            print(f"error: the container could not be run ({error.explanation or error})")
            return 125


def _check_store(network: str) -> None:
    """MLflow's store must be where containers can reach it: found now, not after hours."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and not urlsplit(address).hostname:
        raise ContainerError(
            "MLFLOW_TRACKING_URI names a file, which containers do not see; unset it, and runs are kept beside the "
            "artifacts, or name a server"
        )
    if address and network == NO_NETWORK:
        raise ContainerError(
            "MLFLOW_TRACKING_URI names a server, but containers have no network; add `--network host`, or unset it, "
            "and runs are kept beside the artifacts"
        )


def _user(image: str) -> str:
    """UID:GID for the containers.

    Raises:
        ContainerError: no engine answers, the image is not there, or it would have to run as root.
    """
    try:
        client = docker.from_env()
        user = client.images.get(image).attrs["Config"].get("User") or "root"
    except ImageNotFound:
        raise ContainerError(
            f"no image {image} on this machine; run `make image`, or name yours with --image"
        ) from None
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "the usual socket")
        raise ContainerError(
            f"no container engine answers at {where} ({_root(error)}); start Docker, or `podman system service`, whose "
            "socket DOCKER_HOST must name"
        ) from None
    if os.getuid():
        return f"{os.getuid()}:{os.getgid()}"
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or int(uid) == 0:
        raise ContainerError(f"image {image} runs as {user}; build it with the number of a user, as `make image` does")
    return f"{uid}:{gid or uid}"


def _root(error: BaseException) -> BaseException:
    """The first error of a chain: `permission denied` rather than what three libraries made of it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
