"""Runs the commands of README.md and docs/ as written there. tests/repo/test_docs.py checks that none is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import rasterio

from tests.e2e import browser
from tests.e2e.conftest import TINY, Project, copy_project, free_port, s3_server, wait_for
from tests.isprs_package import write_package
from tests.repo.pages import ROOT, RUN_AFTER_TRAINING, RUN_BY_PAGE, commands

UNMARKED = {command.text: command for command in commands() if not command.needs}  # on several pages: run once
IN_SECONDS = [command for command in UNMARKED.values() if command.text.startswith(RUN_BY_PAGE)]
REGISTRY, VERSIONS = "docs/registry.md", "docs/data_versions.md"
ELSEWHERE = (REGISTRY, VERSIONS, "docs/import.md")  # pages that another test follows word for word
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
    study = re.search(r"`mine.yaml`:\n\n```yaml\n(.*?)```", (ROOT / "docs/ablations.md").read_text(), re.S)
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
    for command in (c.text for c in UNMARKED.values() if c.page not in ELSEWHERE):
        if command.startswith(RUN_AFTER_TRAINING) and command not in done:
            stdout = run(trained, command)
            if command == "make baselines":
                assert "image-only" in stdout and "dsm-only" in stdout


@pytest.mark.system
def test_the_commands_of_the_registry_page_compare_promote_roll_back_reject_and_score_again(trained):
    trained.change_params({"export": {"opset": 19}, "register": {"promote": False, "on_tie": "promote"}})
    run(trained, "dvc repro register")  # the same network as another package
    for command in (c.text for c in commands() if c.page == REGISTRY and c.text != "mlflow ui"):
        run(trained, command)
    events = json.loads(run(trained, "mobanet registry history --json"))
    kinds = [event["kind"] for event in events]
    assert kinds == ["register", "promote", "register", "promote", "rollback", "reject", "rescore"]
    assert events[-1]["sets"]["champion"] == "3"


@contextmanager
def served(project: Project, command: str, port: int):
    """A server that a command of the pages starts."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(["bash", "-euc", command], cwd=project.root, env=project.env, **quiet) as server:
        try:
            wait_for(port, seconds=120)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)


@pytest.mark.system
@browser.NEEDED
def test_mlflow_ui_shows_run_pictures_model_aliases_and_tags(trained):
    port = free_port()
    trained.env["MLFLOW_PORT"] = str(port)
    run_id = json.loads((trained.root / "models/run.json").read_text())["mlflow_run_id"]
    with served(trained, "mlflow ui", port) as url, browser.browser_page(1280, 900) as (page, _):
        page.goto(f"{url}/#/models/mobanet")
        for text in ("Version 1", "champion"):
            page.get_by_text(text).first.wait_for()
        page.goto(f"{url}/#/models/mobanet/versions/1")
        for text in ("balance.expected_miou", "expected mIoU"):
            page.get_by_text(text).first.wait_for()
        browser.keep(page, "mlflow_model.png")
        page.goto(f"{url}/#/experiments/1/runs/{run_id}")
        page.get_by_text("train/loss").first.wait_for()
        page.goto(f"{url}/#/experiments/1/runs/{run_id}/artifacts")
        page.get_by_text("images").first.wait_for()


@pytest.mark.system
@browser.NEEDED
def test_the_page_of_the_service_maps_two_dropped_files_and_downloads_the_map_of_predict(trained):
    port = free_port()
    raw = trained.root / "data/raw"
    image, dsm = raw / "2_Ortho_RGB/top_potsdam_5_10_RGB.tif", raw / "1_DSM/dsm_potsdam_05_10.tif"
    run(trained, f"mobanet predict --image {image} --dsm {dsm} --output expected.tif")
    with served(trained, f"mobanet serve package --port {port}", port) as url, browser.browser_page() as (page, errors):
        page.goto(url)
        page.get_by_text("version").first.wait_for()
        browser.drop(page, "#drop-image", image)
        browser.drop(page, "#drop-dsm", dsm)
        page.get_by_role("button", name="Make the map").click()
        page.get_by_text("256 x 256 pixels").wait_for()
        for layer in ("Image", "Heights", "Confidence", "Fusion gates", "Sensors", "Classes"):
            page.get_by_label(layer, exact=True).check()
        assert page.locator("#legend tr").count() == 6
        assert drawn(page) > 1000
        browser.keep(page, "serve_page.png")
        with page.expect_download() as downloading:
            page.get_by_text("Download the map").click()
        downloaded = Path(downloading.value.path())
        with rasterio.open(downloaded) as ours, rasterio.open(trained.root / "expected.tif") as expected:
            assert (ours.read() == expected.read()).all() and ours.transform == expected.transform
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#map").focus()
        before = page.evaluate("view.scale")
        page.keyboard.press("+")
        assert page.evaluate("view.scale") > before
        assert errors == []


def drawn(page) -> int:
    """Number of pixels of the page's map that are not transparent."""
    return page.evaluate(
        "(() => { const map = document.getElementById('map');"
        "const pixels = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;"
        "let found = 0; for (let k = 3; k < pixels.length; k += 4) found += pixels[k] > 0; return found; })()"
    )


@pytest.mark.system
@browser.NEEDED
def test_the_page_says_in_one_sentence_what_is_wrong_with_a_file(trained):
    port = free_port()
    (trained.root / "text.tif").write_text("no raster")
    with served(trained, f"mobanet serve package --port {port}", port) as url, browser.browser_page() as (page, _):
        page.goto(url)
        browser.drop(page, "#drop-image", trained.root / "text.tif")
        page.get_by_role("button", name="Make the map").click()
        page.locator("#message.bad").wait_for()
        assert "image" in page.locator("#message").inner_text()


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
