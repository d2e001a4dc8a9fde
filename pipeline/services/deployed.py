"""MLflow's command line and environment as `pipeline/deploy/base/mlflow.yaml` defines them for a cluster.

The local server uses the same definition, so that both stay equal. Host, port and the values of secrets are local.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

MANIFEST = Path(__file__).parents[1] / "deploy/base/mlflow.yaml"
PORT = "5000"
AUTH_CONFIG, AUTH_VARIABLE = "basic_auth.ini", "MLFLOW_AUTH_CONFIG_PATH"


def documents(path: Path = MANIFEST) -> dict[str, dict[str, Any]]:
    """Kind -> document of a file of manifests."""
    return {document["kind"]: document for document in YAML(typ="safe").load_all(path)}


def container(kind: str = "containers") -> dict[str, Any]:
    """MLflow's container; for `initContainers` the one that upgrades the database."""
    (only,) = documents()["Deployment"]["spec"]["template"]["spec"][kind]
    return only


def command(port: int) -> list[str]:
    """Command line of the server on a port of this machine."""
    arguments = [text.replace("0.0.0.0", "127.0.0.1").replace(PORT, str(port)) for text in container()["args"]]
    return [*container()["command"], *arguments]


def upgrade_command() -> list[str]:
    """Command line that creates MLflow's tables, or migrates those of an older MLflow."""
    first = container("initContainers")
    return [*first["command"], *first["args"]]


def auth_config() -> str:
    """Content of MLflow's file about accounts."""
    return str(documents()["ConfigMap"]["data"][AUTH_CONFIG])


def environment(secrets: Mapping[str, Mapping[str, str]], auth_file: Path) -> dict[str, str]:
    """Environment variables of the server.

    Args:
        secrets: name -> content of the cluster's secrets.
        auth_file: file with the content of `auth_config`.
    """
    found: dict[str, str] = {}
    for source in container()["envFrom"]:
        found |= secrets[source["secretRef"]["name"]]
    for variable in container()["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            wanted = variable["valueFrom"]["secretKeyRef"]
            if (value := secrets[wanted["name"]].get(wanted["key"])) is not None:
                found[variable["name"]] = value
    return found | {AUTH_VARIABLE: str(auth_file)}
