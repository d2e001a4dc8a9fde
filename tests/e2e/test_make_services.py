"""`make services` and `make services-stop`, as the page on servers describes them."""

from __future__ import annotations

import re

import pytest
import requests

from tests.e2e.conftest import copy_project
from tests.e2e.test_docs_commands import run, with_environment
from tests.servers import NEEDED

pytestmark = [pytest.mark.system, NEEDED]


def test_make_services_starts_mlflow_with_an_account_once_and_make_services_stop_ends_it(tmp_path):
    project = with_environment(copy_project(tmp_path / "project"))
    try:
        variables = dict(re.findall(r"^export (\w+)='?(.*?)'?$", run(project, "make -s services"), re.M))
        assert variables == dict(re.findall(r"^export (\w+)='?(.*?)'?$", run(project, "make -s services"), re.M))
        address = f"{variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        account = variables["MLFLOW_TRACKING_USERNAME"], variables["MLFLOW_TRACKING_PASSWORD"]
        assert requests.get(address, auth=account, timeout=60).json()["experiment"]["name"] == "Default"
        assert requests.get(address, timeout=60).status_code == 401
    finally:
        run(project, "make -s services-stop")
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=60)
