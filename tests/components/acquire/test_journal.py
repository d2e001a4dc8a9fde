from __future__ import annotations

import os

import pytest

from components.acquire.journal import JOURNAL, Entry, Journal
from components.common.errors import DataError
from components.common.files import digest

IDENTITY = {"source": "isprs", "dataset": "potsdam"}


def entry(folder, place="a.tif", origin="Z.zip/a.tif", left=False):
    path = folder / place
    status = path.stat()
    facts = {"size": status.st_size, "changed_ns": status.st_mtime_ns, "sha256": digest(path)}
    return Entry(place, origin, "4 bytes", "", left, 16, True, **facts)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"1234")
    with Journal(tmp_path) as journal:
        journal.begin(IDENTITY)
        journal.add(entry(tmp_path))
        journal.add(entry(tmp_path, origin="worse.tif", left=True))
    return tmp_path


def test_what_was_written_is_read_again(folder) -> None:
    with Journal(folder) as journal:
        assert journal.identity == IDENTITY
        assert journal.taken == {"a.tif": entry(folder)}
        assert journal.left == {("worse.tif", "4 bytes", ""): "a.tif"}
        assert journal.holds("a.tif") == entry(folder)
        assert journal.holds("b.tif") is None


def test_a_file_that_was_touched_is_the_same_one_that_was_changed_is_not(folder) -> None:
    os.utime(folder / "a.tif", (1, 1))
    with Journal(folder) as journal:
        assert journal.holds("a.tif")
        (folder / "a.tif").write_bytes(b"1235")
        assert not journal.holds("a.tif")
        (folder / "a.tif").unlink()
        assert not journal.holds("a.tif")


def test_a_line_that_was_cut_is_passed_over_and_the_next_one_is_whole(folder) -> None:
    text = (folder / JOURNAL).read_text()
    (folder / JOURNAL).write_text(text[: len(text) - 20])
    with Journal(folder) as journal:
        assert journal.left == {}
        journal.add(entry(folder, origin="other.tif"))
    with Journal(folder) as journal:
        assert journal.taken["a.tif"].origin == "other.tif"


@pytest.mark.parametrize("text", ["\n", "null\n", "[]\n", '{"identity": 3}\n', '{"place": 1}\n', "\0\0\0"])
def test_rubbish_is_passed_over(folder, text) -> None:
    with (folder / JOURNAL).open("a") as file:
        file.write(text)
    with Journal(folder) as journal:
        assert journal.identity == IDENTITY and journal.holds("a.tif")


def test_what_is_taken_after_another_one_makes_that_one_left(folder) -> None:
    with Journal(folder) as journal:
        journal.add(entry(folder, origin="better.tif"))
        assert journal.taken["a.tif"].origin == "better.tif"
        assert journal.left[("Z.zip/a.tif", "4 bytes", "")] == "a.tif"


def test_beginning_forgets(folder) -> None:
    with Journal(folder) as journal:
        journal.begin(IDENTITY | {"dataset": "vaihingen"})
    with Journal(folder) as journal:
        assert (journal.identity["dataset"], journal.taken, journal.left) == ("vaihingen", {}, {})


def test_two_imports_do_not_write_one_folder(folder) -> None:
    with Journal(folder), pytest.raises(DataError, match="another import is writing to it"), Journal(folder):
        pass
    with Journal(folder):
        pass
