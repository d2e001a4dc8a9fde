"""Runs the commands of README.md and docs/ as written there. tests/repo/test_docs.py checks that none is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY, Project, copy_project, free_port, s3_server, wait_for
from tests.isprs_package import write_package
from tests.repo.pages import ROOT, RUN_AFTER_TRAINING, RUN_BY_PAGE, commands

UNMARKED = {command.text: command for command in commands() if not command.needs}  # on several pages: run once
IN_SECONDS = [command for command in UNMARKED.values() if command.text.startswith(RUN_BY_PAGE)]
REGISTRY, VERSIONS = "docs/registry.md", "docs/data_versions.md"
FINDINGS = 1  # exit code of a check that found something


def with_environment(project: Project) -> Project:
    """The project with `.venv`, which stands for the environment that runs this test, as `make setup` leaves it."""
    (project.root / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "installed":
            (project.root / ".venv" / entry.name).symlink_to(entry)
    (project.root / ".venv/installed").touch()
    project.env |= {"PYTHONPATH": str(project.root), "MOBANET_IMAGE": "registry.example.org/mobanet@sha256:1"}
    project.env |= {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return project


def run(project: Project, command: str, allowed: tuple[int, ...] = (0,)) -> str:
    done = project.call("bash", "-euc", command, timeout=900)
    assert done.returncode in allowed, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tiny_project, tmp_path_factory) -> Project:
    """A project with raw tiles, a store, archives of ISPRS, and a study of the user's own."""
    project = Project(tmp_path_factory.mktemp("docs") / "project")
    shutil.copytree(tiny_project.root, project.root)
    write_package(project.root, "potsdam", ["2_10", "2_11"])
    _, world_files = write_package(project.root, "vaihingen", ["1", "3"], georeference="apart")
    world_files.rename(project.root / "world_files.zip")
    study = re.search(r"`mine.yaml`:\n\n```yaml\n(.*?)```", (ROOT / "docs/balance.md").read_text(), re.S)
    (project.root / "mine.yaml").write_text(study[1])
    return with_environment(project)


@pytest.mark.parametrize("page", sorted({c.page for c in IN_SECONDS}))
def test_the_quick_commands_of_a_page_do_what_it_says(page, folder):
    for command in (c.text for c in IN_SECONDS if c.page == page):
        stdout = run(folder, command, allowed=(0, FINDINGS) if " data check " in command else (0,))
        if "--json" in command:
            assert json.loads(stdout)
        for written in re.findall(r"(?:-o|--out) (\S+)", command):
            assert (folder.root / written).exists()


def test_the_site_has_every_page_and_loads_nothing_from_other_servers(folder):
    run(folder, "make docs")
    site = folder.root / "site"
    assert {str(p.relative_to(ROOT / "docs").with_suffix(".html")) for p in (ROOT / "docs").rglob("*.md")} <= {
        str(p.relative_to(site)) for p in site.rglob("*.html")
    }
    for page in site.rglob("*.html"):
        assert not re.findall(r'(?:<script[^>]*src|<img[^>]*src|<link[^>]*href)="?https?://', page.read_text()), page
    assert "MobanetError" in (site / "api/steps.html").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """A small project after `make repro`: a model is registered and champion."""
    project = with_environment(copy_project(tmp_path_factory.mktemp("trained") / "project"))
    project.change_params(TINY)
    run(project, "git commit -qam 'Make it small'")
    run(project, "make repro")
    return project


@pytest.mark.system
def test_the_commands_for_a_finished_project_work_in_one(trained):
    done = {"make repro", "mlflow ui"}  # above and below
    for command in (c.text for c in UNMARKED.values() if c.page not in (REGISTRY, VERSIONS)):
        if command.startswith(RUN_AFTER_TRAINING) and command not in done:
            stdout = run(trained, command)
            if command == "make baselines":
                assert "image-only" in stdout and "dsm-only" in stdout


@pytest.mark.system
def test_a_champion_is_scored_again_by_the_commands_of_the_registry_page(trained):
    for command in (c.text for c in commands() if c.page == REGISTRY and c.text != "mlflow ui"):
        run(trained, command)
    for path, run_is_known in (("champion/registration.json", False), ("reports/registration.json", True)):
        found = json.loads((trained.root / path).read_text())
        assert (found["version"], found["champion"], found["created"]) == ("1", "1", False)
        assert bool(found["run_id"]) == run_is_known


@pytest.mark.system
def test_mlflow_ui_serves_the_registered_model(trained):
    port = free_port()
    env = trained.env | {"MLFLOW_PORT": str(port)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(["bash", "-euc", "mlflow ui"], cwd=trained.root, env=env, **quiet) as server:
        try:
            wait_for(port, seconds=120)
            asked = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/get?name=mobanet"
            assert '"name": "mobanet"' in run(trained, f"curl --silent --fail '{asked}'")
        finally:
            os.killpg(server.pid, signal.SIGTERM)


@pytest.mark.system
def test_data_are_pushed_and_brought_back_by_the_commands_of_the_page(tmp_path):
    project = with_environment(copy_project(tmp_path / "project"))
    project.env |= {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}
    project.change_params(TINY)
    run(project, "git branch -M main && dvc repro preprocess")
    run(project, "git add params.yaml dvc.lock && git commit -qm 'Scale heights by 10 m' && git tag heights-10")
    (tmp_path / "s3/bucket").mkdir(parents=True)
    versions = []
    with s3_server(tmp_path / "s3", "key", "secret") as port:
        address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        project.env |= address | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        for command in (c.text for c in commands() if c.page == VERSIONS):
            if command.startswith("export "):
                continue  # other keys and another server: the ones above
            if command == "dvc repro preprocess":
                project.change_params({"preprocess": {"heights": {"scale_m": 8.0}}})
            run(project, command)
            versions.append(json.loads((project.root / "data/store/manifest.json").read_text())["heights"]["scale_m"])
    assert [v for k, v in enumerate(versions) if k == 0 or versions[k - 1] != v] == [10.0, 8.0, 10.0, 8.0]
    assert len(list((tmp_path / "s3/bucket").rglob("*"))) > 20
