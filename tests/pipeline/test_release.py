"""pipeline/release.py: what a release contains, and that nothing but the tagged commit decides about its bytes."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from components.common.files import digest
from pipeline.release import ReleaseError, changes_of, find_release, normalised

ROOT = Path(__file__).parents[2]
TIME_S = 1_700_000_000
WHO = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | WHO
    return subprocess.run(["git", *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path):
    """A repository with one commit and one file."""
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("a")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "-m", "first", "--date", "2020-01-01T00:00:00")
    return folder


@pytest.mark.parametrize(("tag", "version"), [("v1.2.3", "1.2.3"), ("v0.10.0rc1", "0.10.0rc1")])
def test_the_version_is_that_of_the_tag(clone, tag, version):
    git(clone, "tag", tag)
    git(clone, "tag", "latest")
    (clone / "new").touch()  # a file that git does not track is not built
    release = find_release(clone)
    assert release.version == version
    assert release.commit == git(clone, "rev-parse", "HEAD").strip()
    assert release.time_s == int(git(clone, "log", "-1", "--format=%ct"))


@pytest.mark.parametrize("tags", [(), ("1.2.3",), ("v1.2",), ("v1.2.3-dirty",)])
def test_a_commit_without_a_release_tag_is_refused(clone, tags):
    for tag in tags:
        git(clone, "tag", tag)
    with pytest.raises(ReleaseError, match=r"has no tag such as v1\.2\.3; check out a tagged commit"):
        find_release(clone)


def test_a_commit_with_two_versions_is_refused(clone):
    git(clone, "tag", "v1.2.3")
    git(clone, "tag", "v1.2.4")
    with pytest.raises(ReleaseError, match=r"several release tags \(v1\.2\.3, v1\.2\.4\)"):
        find_release(clone)


def test_changed_files_are_refused(clone):
    git(clone, "tag", "v1.2.3")
    (clone / "file").write_text("b")
    with pytest.raises(ReleaseError, match="file and 0 further files differ from the commit; commit and tag them"):
        find_release(clone)


CHANGELOG = "# Changelog\n\n## Unreleased\n- new\n\n## 1.2.3 (2026-01-01)\n\n### Part\n- one\n\n## 1.2.30\n- no\n"


@pytest.mark.parametrize(
    ("version", "section"), [("1.2.3", "## 1.2.3 (2026-01-01)\n\n### Part\n- one\n"), ("1.2.30", "## 1.2.30\n\n- no\n")]
)
def test_the_changes_are_the_section_of_the_version(tmp_path, version, section):
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    assert changes_of(tmp_path / "CHANGELOG.md", version) == section


@pytest.mark.parametrize("version", ["1.2", "1.2.4", "2.3"])
def test_a_version_without_changes_is_refused(tmp_path, version):
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    with pytest.raises(ReleaseError, match=f"has no section '## {version}' with text; rename '## Unreleased' to it"):
        changes_of(tmp_path / "CHANGELOG.md", version)


def packed(*members: tuple[str, int], owner: int, mtime: int) -> bytes:
    """A .tar.gz of files with their permissions, each with its name as content."""
    made = io.BytesIO()
    with gzip.GzipFile("some/name.tar", "wb", fileobj=made, mtime=mtime) as file, tarfile.open(None, "w", file) as tar:
        for name, mode in members:
            member = tarfile.TarInfo(name)
            member.mode, member.uid, member.uname, member.mtime, member.size = mode, owner, "me", mtime, len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return made.getvalue()


def test_order_times_owners_and_umask_do_not_change_an_sdist():
    one = normalised(packed(("b", 0o600), ("a", 0o700), owner=1, mtime=5), TIME_S)
    other = normalised(packed(("a", 0o775), ("b", 0o664), owner=0, mtime=9), TIME_S)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        found = [(m.name, oct(m.mode), m.mtime, m.uid, m.uname, tar.extractfile(m).read()) for m in tar]
    assert found == [("a", "0o755", TIME_S, 0, "", b"a"), ("b", "0o644", TIME_S, 0, "", b"b")]


def release(folder: Path, umask: str, *command: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    words = " ".join(command)
    return subprocess.run(
        ["bash", "-euc", f"umask {umask}; {words}"], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.system
def test_two_releases_in_two_clones_are_byte_equal(tmp_path):
    first, second = tmp_path / "a", tmp_path / "another/place/of/the clone"
    git(tmp_path, "clone", "--quiet", str(ROOT), str(first))
    shutil.copyfile(ROOT / "pipeline/release.py", first / "pipeline/release.py")
    shutil.copyfile(ROOT / "Makefile", first / "Makefile")
    changelog = first / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("# Changelog\n", "# Changelog\n\n## 9.8.7\n- all of it\n", 1))
    git(first, "commit", "--quiet", "-am", "Release 9.8.7")
    done = release(first, "077", sys.executable, "-m", "pipeline.release")
    assert (done.returncode, "has no tag such as v1.2.3" in done.stderr) == (2, True), done.stderr
    git(first, "tag", "v9.8.7")
    git(tmp_path, "clone", "--quiet", str(first), str(second))
    (second / "components/not_committed.py").touch()

    made = release(first, "077", "make", "-o", ".venv/installed", "release", f"BIN={Path(sys.executable).parent}")
    assert made.returncode == 0, made.stderr
    again = release(second, "002", sys.executable, "-m", "pipeline.release")
    assert again.returncode == 0, again.stderr
    files = {path.name: path.read_bytes() for path in (first / "dist").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (second / "dist").iterdir()}
    wheel, sdist = "mobanet_pipeline-9.8.7-py3-none-any.whl", "mobanet_pipeline-9.8.7.tar.gz"
    assert files.keys() == {wheel, sdist, "mobanet_pipeline-9.8.7.cdx.json", "CHANGES-9.8.7.md", "SHA256SUMS"}
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {name: digest(first / "dist" / name) for name in files if name != "SHA256SUMS"}
    assert files["CHANGES-9.8.7.md"] == b"## 9.8.7\n\n- all of it\n"
    assert not git(first, "status", "--porcelain")

    with tarfile.open(fileobj=io.BytesIO(files[sdist])) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
        version = tar.extractfile("mobanet_pipeline-9.8.7/pipeline/__init__.py").read().decode()
    assert '__version__ = "9.8.7"' in version
    assert set(git(first, "ls-files").splitlines()) <= names and "components/not_committed.py" not in names
    with zipfile.ZipFile(io.BytesIO(files[wheel])) as archive:
        assert "Version: 9.8.7\n" in archive.read("mobanet_pipeline-9.8.7.dist-info/METADATA").decode()
        assert {"model/mobanet.py", "components/export/descriptions/card.md.j2", "pipeline/cli.py"} <= set(
            archive.namelist()
        )
