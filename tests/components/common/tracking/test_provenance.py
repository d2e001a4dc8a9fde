"""components/common/tracking/provenance.py: the environment comes first, then git; the commit is never wrong."""

import os
import subprocess

import pytest

from components.common.tracking import provenance


def git(folder, *arguments):
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(folder):
    """A repository with one committed module."""
    (folder / "model").mkdir(parents=True)
    (folder / "model/code.py").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture(autouse=True)
def first_call(monkeypatch):
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    provenance._commit_of.cache_clear()
    yield
    provenance._commit_of.cache_clear()
    provenance._checked.cache_clear()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository that replaces the project's repository."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "project")
    return committed(tmp_path / "project")


def asked(caplog):
    """The commit, as the first and the second call give it, and all warnings."""
    caplog.clear()
    provenance._commit_of.cache_clear()
    provenance._checked.cache_clear()
    commit = provenance.git_commit()
    assert provenance.git_commit() == commit
    return commit, caplog.messages


def test_a_clean_repository_gives_its_commit(repository, caplog) -> None:
    (repository / "untracked.txt").write_text("does not matter")
    (repository / "notes.py").write_text("is not imported")
    assert asked(caplog) == (git(repository, "rev-parse", "HEAD"), [])


def test_a_changed_file_makes_the_commit_dirty(repository, caplog) -> None:
    clean, _ = asked(caplog)
    (repository / "model/code.py").write_text("2")
    assert asked(caplog) == (f"{clean}-dirty", [])


@pytest.mark.parametrize("name", ["model/new.py", "components/train/new.py", "pipeline/new.py", "params.yaml"])
@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_module_makes_the_commit_dirty_with_one_warning(repository, caplog, name, ignored) -> None:
    clean, _ = asked(caplog)
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("3")
    if ignored:
        (repository / ".git/info/exclude").write_text(f"{name}\n")
    assert asked(caplog) == (f"{clean}-dirty", [f"the code's commit is recorded as dirty ({name} is not in git)"])


def test_a_submodule_at_another_commit_makes_the_commit_dirty(repository, tmp_path, caplog) -> None:
    other = committed(tmp_path / "other")
    git(repository, "submodule", "add", "-q", str(other), "part")
    git(repository, "config", "-f", ".gitmodules", "submodule.part.ignore", "all")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "with a submodule")
    clean, _ = asked(caplog)
    git(repository / "part", "commit", "-q", "--allow-empty", "-m", "second")
    assert clean == git(repository, "rev-parse", "HEAD")
    assert asked(caplog) == (f"{clean}-dirty", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner of a folder")
def test_a_repository_of_another_owner_gives_unknown_with_one_warning(repository, monkeypatch, caplog) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    commit, (warning,) = asked(caplog)
    assert commit == "unknown"
    assert warning.startswith("the code's commit is recorded as unknown (fatal: detected dubious ownership in")


def failing(monkeypatch, tmp_path, command, action):
    """Put a git first in PATH of which one command does something else."""
    real = subprocess.run(["which", "git"], capture_output=True, text=True).stdout.strip()
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/git"
    script.write_text(f'#!/bin/sh\n[ "$1" = {command} ] && {{ {action}; }}\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


def test_a_status_that_takes_too_long_makes_the_commit_dirty(repository, monkeypatch, tmp_path, caplog) -> None:
    clean, _ = asked(caplog)
    monkeypatch.setattr(provenance, "TIMEOUT_S", 0.5)
    failing(monkeypatch, tmp_path, "status", "exec sleep 20")
    assert asked(caplog) == (
        f"{clean}-dirty",
        ["the code's commit is recorded as dirty (git status took longer than 0.5 s)"],
    )


def test_a_status_that_fails_makes_the_commit_dirty(repository, monkeypatch, tmp_path, caplog) -> None:
    clean, _ = asked(caplog)
    failing(monkeypatch, tmp_path, "status", "echo fatal: index file corrupt >&2; exit 128")
    assert asked(caplog) == (
        f"{clean}-dirty",
        ["the code's commit is recorded as dirty (fatal: index file corrupt)"],
    )


def test_the_environment_comes_first(repository, monkeypatch, caplog) -> None:
    for commit in ("ab" * 20, f"{'ab' * 20}-dirty", "unknown"):
        monkeypatch.setenv("GIT_COMMIT", commit)
        assert asked(caplog) == (commit, [])


@pytest.mark.parametrize("given", ["hello", "abc123", "g" * 40, f"{'a' * 40} main"])
def test_an_environment_without_a_commit_id_gives_unknown_with_one_warning(
    repository, monkeypatch, caplog, given
) -> None:
    monkeypatch.setenv("GIT_COMMIT", given)
    assert asked(caplog) == (
        "unknown",
        [f"the code's commit is recorded as unknown (GIT_COMMIT is '{given}', expected 40 hexadecimal digits)"],
    )


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_an_edit_that_git_was_told_to_ignore_makes_the_commit_dirty(repository, caplog, mark) -> None:
    clean, _ = asked(caplog)
    git(repository, "update-index", mark, "model/code.py")
    (repository / "model/code.py").write_text("2")
    assert git(repository, "status", "--porcelain") == ""
    why = "git does not check model/code.py, which is marked assume-unchanged or skip-worktree"
    assert asked(caplog) == (f"{clean}-dirty", [f"the code's commit is recorded as dirty ({why})"])


@pytest.mark.parametrize("name", ["timm/__init__.py", "timm.py", "random.py", "torch.so", "components/zz.so"])
def test_an_untracked_module_that_replaces_an_installed_one_makes_the_commit_dirty(repository, caplog, name) -> None:
    clean, _ = asked(caplog)
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("")
    assert asked(caplog) == (f"{clean}-dirty", [f"the code's commit is recorded as dirty ({name} is not in git)"])
    git(repository, "add", "-f", name)
    git(repository, "commit", "-q", "-m", "track it")
    assert asked(caplog) == (git(repository, "rev-parse", "HEAD"), [])


def test_a_hook_of_another_repository_does_not_give_its_commit(repository, tmp_path, monkeypatch, caplog) -> None:
    other = committed(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    commit, _ = asked(caplog)
    monkeypatch.delenv("GIT_DIR")
    assert commit == git(repository, "rev-parse", "HEAD")


def test_code_installed_inside_of_another_repository_does_not_get_its_commit(tmp_path, monkeypatch, caplog) -> None:
    other = committed(tmp_path / "other")
    (other / ".gitignore").write_text(".venv")
    installed = other / ".venv/site-packages"
    (installed / "model").mkdir(parents=True)
    (installed / "model/code.py").write_text("")
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert asked(caplog) == (
        "unknown",
        [f"the code's commit is recorded as unknown ({installed} is not in a git repository)"],
    )


def test_without_repository_or_git_the_commit_is_unknown(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    commit, (warning,) = asked(caplog)
    assert commit == "unknown" and "not a git repository" in warning
    monkeypatch.setenv("PATH", str(tmp_path))
    commit, (warning,) = asked(caplog)
    assert commit == "unknown" and "git cannot be run" in warning


def test_a_project_that_is_not_installed_has_no_version(monkeypatch) -> None:
    monkeypatch.setattr(provenance, "DISTRIBUTION", "no-such-distribution")
    assert provenance.tool_version() == "unknown"
    monkeypatch.setattr(provenance, "DISTRIBUTION", "pytest")
    assert provenance.tool_version() == pytest.__version__
