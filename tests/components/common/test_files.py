import hashlib
import json
import math
import os

import pytest

from components.common.files import (
    UMASK,
    digest,
    replacing,
    replacing_folder,
    resuming_folder,
    with_nan,
    without_nan,
    write_json,
)


def test_a_file_takes_its_place_whole(tmp_path):
    target = tmp_path / "deep" / "scores.json"
    with replacing(target) as draft:
        draft.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["scores.json"]


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def folder(path, **files):
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_a_write_does_not_change_the_permissions_of_files_that_other_threads_create(tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr(os, "umask", lambda mask: changed.append(mask) or 0o022)
    with replacing(tmp_path / "a") as draft:
        draft.touch(mode=0o600)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~UMASK
    assert changed == []


def test_a_folder_replaces_the_old_one_with_all_that_was_in_it(tmp_path):
    target = folder(tmp_path / "store", a="old", b="old")
    with replacing_folder(target) as draft:
        (draft / "a").write_text("new")
        assert (target / "b").read_text() == "old"
    assert [(p.name, p.read_text()) for p in target.iterdir()] == [("a", "new")]
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_folder_leaves_the_old_one_and_no_draft(tmp_path, error):
    target = folder(tmp_path / "store", a="old")
    with pytest.raises(error), replacing_folder(target) as draft:
        (draft / "a").write_text("half")
        raise error
    assert (target / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["store"]


def test_the_leftovers_of_a_killed_run_are_cleared(tmp_path):
    folder(tmp_path / ".store.part", half="a")
    with replacing_folder(tmp_path / "store") as draft:
        (draft / "b").write_text("new")
    assert os.listdir(tmp_path) == ["store"]
    assert os.listdir(tmp_path / "store") == ["b"]


def test_a_run_killed_between_the_renames_gives_the_old_folder_back(tmp_path):
    folder(tmp_path / ".store.old", a="old")
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "store"):
        raise RuntimeError
    assert (tmp_path / "store" / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_resuming_folder_keeps_what_a_failed_try_has_made(tmp_path, error):
    target = folder(tmp_path / "store", a="old")
    with pytest.raises(error), resuming_folder(target) as draft:
        (draft / "a").write_text("new")
        raise error
    assert (target / "a").read_text() == "old"
    with resuming_folder(target) as draft:
        assert (draft / "a").read_text() == "new"
        (draft / "b").write_text("new")
    assert sorted((p.name, p.read_text()) for p in target.iterdir()) == [("a", "new"), ("b", "new")]
    assert os.listdir(tmp_path) == ["store"]


def test_killed_between_the_renames_a_resuming_folder_gives_the_old_one_back_and_keeps_the_new(tmp_path):
    folder(tmp_path / ".store.old", a="old")
    folder(tmp_path / ".store.part", a="new")
    with resuming_folder(tmp_path / "store") as draft:
        assert (tmp_path / "store" / "a").read_text() == "old"
        assert (draft / "a").read_text() == "new"
    assert (tmp_path / "store" / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["store"]


def test_json_keeps_the_order_of_its_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    text = (tmp_path / "a.json").read_text()
    assert list(json.loads(text)) == ["b", "a"]
    assert text.endswith("\n")


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_digest_is_that_of_the_whole_file(tmp_path, algorithm):
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert digest(tmp_path / "x", algorithm) == hashlib.new(algorithm, content).hexdigest()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_not_written(tmp_path, number):
    write_json(tmp_path / "a.json", [1.0])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"miou": number})
    assert json.loads((tmp_path / "a.json").read_text()) == [1.0]


def test_a_nan_becomes_null_and_back():
    content = {"rows": [{"miou": math.nan, "step": 3}, {"miou": -math.inf}], "pair": (1.5, math.inf), "name": "nan"}
    expected = {"rows": [{"miou": None, "step": 3}, {"miou": None}], "pair": [1.5, None], "name": "nan"}
    assert without_nan(content) == expected
    assert math.isnan(with_nan({"miou": None})["miou"]) and with_nan({"miou": 80.5}) == {"miou": 80.5}
