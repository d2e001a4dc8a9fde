"""components/acquire/remote.py: a DVC repository at a revision, and an S3 prefix on a server."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.acquire.remote import on_this_machine
from components.acquire.step import SampleConfig, run
from components.common.data.config import DataConfig
from components.common.errors import DataError
from tests.isprs_package import write_package

BIN = Path(sys.executable).parent
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def data(path: str, repo: Path | str | None = None, rev: str | None = None) -> DataConfig:
    absent = dict.fromkeys(("image", "dsm", "crs"))
    where = {"path": path, "repo": None if repo is None else str(repo), "rev": rev}
    return DataConfig(source="folder", dataset="potsdam", split="official", **absent, **where)


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """Tiles under DVC in two versions, the first with the tag v1; the cache holds neither, the remote both."""
    folder = tmp_path_factory.mktemp("dvc") / "tiles of a client"
    (folder / "raw/top").mkdir(parents=True)

    def call(*command: str) -> None:
        environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    call("git", "init", "-q")
    call("dvc", "init", "-q")
    call("dvc", "remote", "add", "-d", "storage", "../remote")
    for version in ("1", "2"):
        (folder / "raw/top/a.tif").write_text(f"image {version}")
        (folder / "raw/b.tif").write_text("heights")
        call("dvc", "add", "-q", "raw")
        call("git", "add", "-A")
        call(*GIT, "commit", "-qm", version)
        call("git", "tag", f"v{version}")
        call("dvc", "push", "-q")
    call("rm", "-r", ".dvc/cache")
    return folder


@pytest.mark.parametrize(("rev", "version"), [("v1", "1"), ("v2", "2"), (None, "2")])
def test_a_folder_under_dvc_comes_at_the_revision_that_is_asked_for(repository, tmp_path, rev, version):
    with on_this_machine(data("raw", repository, rev), tmp_path / "download") as path:
        assert contents(path) == {"top/a.tif": f"image {version}", "b.tif": "heights"}
    assert not (tmp_path / "download").exists(), "the copy is removed once the raw tiles are whole"


def test_a_single_file_under_dvc_is_given_as_a_file(repository, tmp_path):
    with on_this_machine(data("raw/b.tif", repository, "v1"), tmp_path / "download") as path:
        assert path.name == "b.tif" and path.read_text() == "heights"


def test_after_a_failure_only_what_is_missing_is_brought_and_another_version_starts_anew(repository, tmp_path, caplog):
    caplog.set_level("INFO")
    one = data("raw", repository, "v1")
    with pytest.raises(RuntimeError), on_this_machine(one, tmp_path / "download") as path:
        (path / "b.tif").unlink()  # as if it had not come yet
        raise RuntimeError
    with pytest.raises(RuntimeError), on_this_machine(one, tmp_path / "download") as path:
        assert contents(path) == {"top/a.tif": "image 1", "b.tif": "heights"}
        raise RuntimeError
    assert "2 files, 1 of them downloaded now" in caplog.text
    with on_this_machine(data("raw", repository, "v2"), tmp_path / "download") as path:
        assert contents(path)["top/a.tif"] == "image 2" and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("path", "rev", "reason"),
    [("raw", "v9", "unknown Git revision 'v9'"), ("elsewhere", "v1", "no such folder or file")],
)
def test_what_the_repository_does_not_have_is_one_sentence(repository, tmp_path, path, rev, reason):
    with (
        pytest.raises(DataError, match=reason) as error,
        on_this_machine(data(path, repository, rev), tmp_path / "download"),
    ):
        pass
    assert str(repository) in str(error.value) and "data.rev" in str(error.value)


def test_no_repository_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be read"), on_this_machine(data("raw", tmp_path), tmp_path / "d"):
        pass


def test_a_file_that_is_missing_in_the_remote_is_one_sentence_and_what_came_stays(repository, tmp_path):
    lost = next(
        path for path in (repository.parent / "remote").rglob("*") if path.is_file() and path.read_text() == "image 1"
    )
    lost.rename(tmp_path / "lost")
    try:
        with (
            pytest.raises(DataError, match="cannot be read"),
            on_this_machine(data("raw", repository, "v1"), tmp_path / "download"),
        ):
            pass
        assert [path.name for path in (tmp_path / "download").rglob("*.tif")] == ["b.tif"]
    finally:
        (tmp_path / "lost").rename(lost)


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="tiles")
    for key, body in {"p/top/a.tif": "image", "p/b.tif": "heights", "p/": "", "other/c.tif": "no"}.items():
        client.put_object(Bucket="tiles", Key=key, Body=body.encode())
    return client


def test_a_prefix_in_s3_comes_whole_and_nothing_beside_it(bucket, tmp_path):
    with on_this_machine(data("s3://tiles/p/"), tmp_path / "download") as path:
        assert contents(path) == {"top/a.tif": "image", "b.tif": "heights"}


def test_an_object_that_has_changed_is_brought_again(bucket, tmp_path):
    with pytest.raises(RuntimeError), on_this_machine(data("s3://tiles/p"), tmp_path / "download"):
        raise RuntimeError
    bucket.put_object(Bucket="tiles", Key="p/b.tif", Body=b"lengths")  # as many bytes
    with on_this_machine(data("s3://tiles/p"), tmp_path / "download") as path:
        assert contents(path)["b.tif"] == "lengths"


@pytest.mark.parametrize("path", ["s3://tiles/nothing", "s3://nowhere/p"])
def test_a_prefix_that_holds_nothing_is_one_sentence(bucket, tmp_path, path):
    with pytest.raises(DataError, match=path), on_this_machine(data(path), tmp_path / "download"):
        pass


def test_a_server_that_is_away_is_one_sentence(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DataError, match="cannot be read"), on_this_machine(data("s3://tiles/p"), tmp_path / "download"):
        pass


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "/data/raw", "repo": "."}, "a path inside the repository"),
        ({"path": "s3://tiles/p", "repo": "."}, "a path inside the repository"),
        ({"path": "raw", "rev": "v1"}, "null without data.repo"),
    ],
)
def test_a_repository_and_what_goes_with_it_is_checked_at_once(changes, reason):
    with pytest.raises(ValueError, match=reason):
        data(**changes)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_raw_tiles_from_s3_are_those_of_the_same_files_on_this_machine_and_outlive_the_copy(bucket, tmp_path, form):
    (given,) = write_package(tmp_path / "given", "potsdam", ["2_10"], form=form)
    for path in [given] if given.is_file() else filter(Path.is_file, given.rglob("*")):
        bucket.upload_file(str(path), "tiles", f"potsdam/{path.relative_to(given.parent).as_posix()}")
    sample = SampleConfig(seed=7, side_px=256)
    trees = {}
    for name, source in {"here": str(given), "there": "s3://tiles/potsdam"}.items():
        config = DataConfig(**dataclasses.asdict(data(source)) | {"source": "isprs"})
        trees[name] = run(config, sample, tmp_path / name / "raw")
    assert trees["here"].tiles == trees["there"].tiles and list(trees["there"].tiles) == ["2_10"]
    for kind in trees["there"].tiles["2_10"]:
        assert trees["here"].file("2_10", kind).read_bytes() == trees["there"].file("2_10", kind).read_bytes()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["raw"]
    for entry in bucket.list_objects_v2(Bucket="tiles", Prefix="potsdam/")["Contents"]:
        bucket.delete_object(Bucket="tiles", Key=entry["Key"])
