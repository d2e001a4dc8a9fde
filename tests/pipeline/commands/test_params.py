"""`mobanet params`: output, files and exit codes."""

from __future__ import annotations

import stat

import pytest

from pipeline.cli import main
from pipeline.presets.preset import SHIPPED, names, preset


@pytest.fixture
def params(monkeypatch, capsys, tmp_path):
    """Function that calls the command in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["mobanet", "params", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


def test_list_prints_every_name_with_its_needs(params):
    code, out, _ = params("list")
    assert code == 0
    for name in names():
        assert name in out
    assert "8 GB GPU" in out and "ISPRS Vaihingen" in out


def test_show_prints_the_file_that_use_writes(params, tmp_path):
    shown = params("show", "potsdam-vitl")
    assert shown == (0, preset("potsdam-vitl").text, "")
    params("use", "potsdam-vitl")
    assert (tmp_path / "params.yaml").read_text() == shown[1]


def test_use_keeps_every_previous_file_and_says_where(params, tmp_path):
    assert "previous" not in params("use", "sample")[2]
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    assert "the previous file is params.yaml.bak\n" in params("use", "vaihingen-vitl")[2]
    assert "the previous file is params.yaml.bak.1\n" in params("use", "sample")[2]
    assert "the previous file is params.yaml.bak.2\n" in params("use", "own-data")[2]
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        "params.yaml": preset("own-data").text,
        "params.yaml.bak": "mine: 1\n",
        "params.yaml.bak.1": preset("vaihingen-vitl").text,
        "params.yaml.bak.2": SHIPPED.read_text(),
    }


def test_use_lists_the_keys_that_the_user_must_edit(params):
    code, out, err = params("use", "own-data")
    assert (code, out) == (0, "")
    assert [line.split(":")[0] for line in err.splitlines()[1:]] == [
        "edit data.dataset",
        "edit data.split",
        "edit data.path",
    ]


@pytest.mark.parametrize("command", ["show", "use", "diff"])
def test_an_unknown_name_is_one_sentence_and_changes_nothing(command, params, tmp_path):
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    code, out, err = params(command, "potsdam")
    assert (code, out) == (2, "")
    assert err == f"error: there is no preset 'potsdam'; use one of {', '.join(names())}\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("params.yaml", "mine: 1\n")]


def test_use_rejects_a_folder_in_one_sentence(params, tmp_path):
    code, _, err = params("use", "sample", "--params", ".")
    assert (code, err) == (2, "error: . is a folder; pass the path of a file with --params\n")


def test_diff_compares_with_the_nearest_preset_as_a_table(params, tmp_path):
    params("use", "potsdam-vitl")
    assert params("diff") == (0, "params.yaml has the values of the preset potsdam-vitl\n", "")
    path = tmp_path / "params.yaml"
    path.write_text(
        path.read_text().replace("/data/Potsdam.zip", "/mnt/potsdam").replace("flips: true", "flips: false")
    )
    code, out, _ = params("diff")
    rows = [line.split() for line in out.splitlines() if line.strip()]
    assert (code, rows[0]) == (0, ["key", "yours", "preset", "potsdam-vitl"])
    assert rows[2:] == [["data.path", "/mnt/potsdam", "/data/Potsdam.zip"], ["train.flips", "false", "true"]]


def test_diff_with_a_name_compares_with_that_preset(params):
    params("use", "own-data")
    rows = [line.split() for line in params("diff", "potsdam-vitl")[1].splitlines() if line.strip()]
    assert ["train.steps", "20000", "50000"] in rows and ["data.source", "folder", "isprs"] in rows
    assert len(rows) == 2 + 13


def test_diff_without_a_params_file_names_it(params):
    code, _, err = params("diff")
    problem = "params.yaml is not a file; run the command in the project folder, or pass another file with --params"
    assert (code, err) == (2, f"error: {problem}\n")


@pytest.mark.parametrize("exists", [True, False])
def test_use_writes_to_the_file_that_a_link_points_to(params, tmp_path, exists):
    shared = tmp_path / "shared/mine.yaml"
    shared.parent.mkdir()
    if exists:
        shared.write_text("mine: 1\n")
    (tmp_path / "params.yaml").symlink_to("shared/mine.yaml")
    assert params("use", "sample")[0] == 0
    assert (tmp_path / "params.yaml").is_symlink() and shared.read_text() == preset("sample").text
    assert (tmp_path / "params.yaml.bak").exists() == exists
    assert not (tmp_path / "params.yaml.bak").is_symlink()


def test_use_keeps_the_permissions_of_the_file_and_gives_them_to_the_copy(params, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("mine: 1\n")
    path.chmod(0o600)
    params("use", "sample")
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in tmp_path.iterdir()}
    assert modes == {"params.yaml": 0o600, "params.yaml.bak": 0o600}
