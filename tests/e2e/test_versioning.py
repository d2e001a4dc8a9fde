"""Data versions on S3: a real server (rclone), wrong credentials, a network that breaks. Nothing is lost or damaged."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from components.common.data.store import Store
from tests.e2e.conftest import BIN, Project, copy_project, s3_server
from tests.e2e.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.system

DATA = ("data/raw", "data/store")
BUCKET = "mobanet"


def tree(root):
    """Checksum of every file of the raw tree and the store."""
    files = (p for name in DATA for p in (root / name).rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


class Clone(Project):
    """A working copy whose DVC remote is on a server of this machine."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        settings = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_ENDPOINT_URL": url,
            "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}.site"),
            "MOBANET_REMOTE": f"s3://{BUCKET}/pipeline",
        }
        self.env |= settings | {
            f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    def dvc(self, *command: str, **env: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            ["dvc", *command, *DATA], cwd=self.root, env=self.env | env, capture_output=True, text=True, timeout=170
        )
        assert "Traceback" not in done.stderr
        return done

    def done(self, *command: str, **env: str) -> None:
        done = self.dvc(*command, **env)
        assert done.returncode == 0, done.stderr

    def git(self, *command: str) -> None:
        self.call("git", *command, check=True)

    def name_remote(self, remote: str | None = None) -> None:
        if remote:
            self.env["MOBANET_REMOTE"] = f"s3://{BUCKET}/{remote}"
        done = self.call("make", "remote", f"BIN={BIN}")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Folder and port of an S3 server that knows one key."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / BUCKET).mkdir()
    with s3_server(folder, "key", "secret") as port:
        yield folder, port


@pytest.fixture(scope="module")
def origin(server, tmp_path_factory):
    """A project that has pushed two versions of the data; `versions` has their files."""
    folder = tmp_path_factory.mktemp("origin") / "project"
    copy_project(folder)
    project = Clone(folder, f"http://127.0.0.1:{server[1]}")
    project.name_remote()
    project.versions = {}
    for version, seed in (("v1", 7), ("v2", 8)):
        project.change_params({"sample": {"side_px": 256, "seed": seed}, "preprocess": {"workers": 2}})
        done = project.call("dvc", "repro", "preprocess")
        assert done.returncode == 0, done.stderr
        project.git("add", "-A")
        project.git("commit", "-qm", version)
        project.git("tag", version)
        project.done("push")
        project.versions[version] = tree(folder)
    assert project.versions["v1"] != project.versions["v2"]
    return project


@pytest.fixture
def clone(origin, tmp_path):
    """A fresh clone without data."""
    origin.git("clone", "-q", str(origin.root), str(tmp_path / "clone"))
    clone = Clone(tmp_path / "clone", origin.env["AWS_ENDPOINT_URL"])
    clone.name_remote()
    assert tree(clone.root) == {}
    return clone


def damaged(folder):
    """Objects on the server that are not what their names, md5 sums, say."""
    objects = (p for p in folder.glob(f"{BUCKET}/*/files/md5/*/*"))
    return [p for p in objects if hashlib.md5(p.read_bytes()).hexdigest() != p.parent.name + p.name.split(".")[0]]


def test_a_version_pulled_into_a_clone_is_the_same_byte_for_byte_and_an_older_one_too(origin, clone):
    clone.done("pull")
    assert tree(clone.root) == origin.versions["v2"]
    assert Store(clone.root / "data/store").data_md5 == Store(origin.root / "data/store").data_md5
    clone.git("checkout", "-q", "v1")
    clone.done("pull")
    assert tree(clone.root) == origin.versions["v1"]
    clone.git("checkout", "-q", "v2")
    clone.done("checkout", AWS_ENDPOINT_URL="http://127.0.0.1:1")  # in the cache by now: no server is asked
    assert tree(clone.root) == origin.versions["v2"]


def test_nothing_about_the_server_is_committed(origin):
    config = (origin.root / ".dvc/config.local").read_text()
    assert f"s3://{BUCKET}/pipeline" in config
    assert "secret" not in config and "127.0.0.1" not in config
    shown = origin.call("git", "grep", "-l", f"s3://{BUCKET}/pipeline", "v2").stdout
    assert shown == ""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "403"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "403"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect to the endpoint URL"),
    ],
)
def test_wrong_credentials_or_no_server_is_an_error_and_nothing_is_lost(origin, clone, server, wrong, words):
    before = sorted(server[0].rglob("*"))
    for project, command in ((origin, "push"), (clone, "pull")):
        project.name_remote("elsewhere" if command == "push" else "pipeline")
        failed = project.dvc(command, **wrong, AWS_MAX_ATTEMPTS="1")
        assert failed.returncode != 0
        assert "ERROR" in failed.stderr and words in failed.stderr
    assert sorted(server[0].rglob("*")) == before
    assert tree(origin.root) == origin.versions["v2"] and tree(clone.root) == {}


@pytest.mark.parametrize(("share", "healthy"), [(0.2, 0), (1.0, 40)], ids=["now and then", "gone half-way"])
def test_a_broken_push_is_completed_by_the_same_command(origin, clone, server, share, healthy):
    remote = f"push-{share}"
    origin.name_remote(remote)
    with FaultyProxy(server[1], share=share, healthy=healthy, seed=3) as proxy:
        first = origin.dvc("push", AWS_ENDPOINT_URL=proxy.url, AWS_MAX_ATTEMPTS="4" if share < 1 else "1")
    assert proxy.done.total() > 5
    assert first.returncode == 0 or "ERROR" in first.stderr
    assert first.returncode != 0 or share < 1
    assert damaged(server[0]) == []
    origin.done("push")
    assert damaged(server[0]) == []
    clone.name_remote(remote)
    clone.done("pull")
    assert tree(clone.root) == origin.versions["v2"]


@pytest.mark.parametrize(("share", "healthy"), [(0.2, 0), (1.0, 40)], ids=["now and then", "gone half-way"])
def test_a_broken_pull_is_completed_by_the_same_command(origin, clone, server, share, healthy):
    with FaultyProxy(server[1], share=share, healthy=healthy, seed=4) as proxy:
        first = clone.dvc("pull", AWS_ENDPOINT_URL=proxy.url, AWS_MAX_ATTEMPTS="4" if share < 1 else "1")
    assert proxy.done.total() > 5
    assert first.returncode == 0 or "ERROR" in first.stderr
    assert first.returncode != 0 or share < 1
    assert tree(clone.root).items() <= origin.versions["v2"].items()
    clone.done("pull")
    assert tree(clone.root) == origin.versions["v2"]


def test_half_a_file_sent_as_if_it_were_whole_never_lands_in_the_working_tree(origin, clone, server):
    with FaultyProxy(server[1], share=0.3, kinds=("lie",), seed=5) as proxy:
        first = clone.dvc("pull", AWS_ENDPOINT_URL=proxy.url)
    assert proxy.done["lie"] > 5
    assert first.returncode != 0 and "ERROR" in first.stderr
    assert tree(clone.root).items() <= origin.versions["v2"].items()
    clone.done("pull")
    assert tree(clone.root) == origin.versions["v2"]
