"""components/common/tracking/provenance.py: the environment comes first, then git; the commit is never wrong."""

import subprocess

import pytest

from components.common.tracking import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one committed file that replaces the project's repository."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    (tmp_path / "code.py").write_text("1")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "code.py"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_repository_gives_its_commit(repository) -> None:
    (repository / "untracked.txt").write_text("does not matter")
    commit = provenance.git_commit()
    shown = subprocess.run(["git", "show", "-s", "--format=%s", commit], cwd=repository, capture_output=True, text=True)
    assert (len(commit), shown.stdout.strip()) == (40, "first")


def test_a_changed_file_makes_the_commit_dirty(repository) -> None:
    clean = provenance.git_commit()
    (repository / "code.py").write_text("2")
    assert provenance.git_commit() == f"{clean}-dirty"


def test_the_environment_comes_first(repository, monkeypatch) -> None:
    monkeypatch.setenv("GIT_COMMIT", "abc123")
    assert provenance.git_commit() == "abc123"


def test_without_repository_or_git_the_commit_is_unknown(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    assert provenance.git_commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() == "unknown"


def test_a_project_that_is_not_installed_has_no_version(monkeypatch) -> None:
    monkeypatch.setattr(provenance, "DISTRIBUTION", "no-such-distribution")
    assert provenance.tool_version() == "unknown"
    monkeypatch.setattr(provenance, "DISTRIBUTION", "pytest")
    assert provenance.tool_version() == pytest.__version__
