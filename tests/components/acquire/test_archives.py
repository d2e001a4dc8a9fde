from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from components.acquire.archives import MAX_DEPTH, link_or_copy, walk
from components.common.errors import DataError


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def contents(source: Path, room: Path) -> dict[str, bytes]:
    found = {}
    for number, file in enumerate(walk(source, room)):
        file.save(room / str(number))
        found[file.name] = (room / str(number)).read_bytes()
    return found


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "given.zip"
    path.write_bytes(content)
    return path


def test_a_zip_of_zips_gives_every_file_and_leaves_no_inner_zip_behind(tmp_path, room) -> None:
    given = put(tmp_path, zipped({"P/1_DSM.zip": zipped({"1_DSM/a.tif": b"heights"}), "P/readme.txt": b"hello"}))
    assert contents(given, room) == {
        "given.zip/P/1_DSM.zip/1_DSM/a.tif": b"heights",
        "given.zip/P/readme.txt": b"hello",
    }
    assert {path.name for path in room.iterdir()} == {"0", "1"}


def test_zips_inside_a_folder_are_opened(tmp_path, room) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.zip").write_bytes(zipped({"b.tif": b"b"}))
    (tmp_path / "sub" / "a.tif").write_bytes(b"a")
    assert contents(tmp_path / "sub", room) == {"a.tif": b"a", "x.zip/b.tif": b"b"}


@pytest.mark.parametrize("name", ["../evil.tif", "a/../../evil.tif", "/etc/evil.tif", "..\\evil.tif", "C:\\evil.tif"])
def test_a_member_that_leaves_its_folder_is_refused(tmp_path, room, name: str) -> None:
    with pytest.raises(DataError, match=r"given\.zip: .*evil.*outside"):
        contents(put(tmp_path, zipped({name: b"x"})), room)
    assert not list(tmp_path.rglob("evil*"))


def test_a_hostile_member_of_an_inner_zip_is_refused(tmp_path, room) -> None:
    with pytest.raises(DataError, match=r"given\.zip/in\.zip: .*outside"):
        contents(put(tmp_path, zipped({"in.zip": zipped({"../evil.tif": b"x"})})), room)


def test_an_absurd_ratio_is_refused_before_anything_is_unpacked(tmp_path, room) -> None:
    content = zipped({"a.tif": b"\0" * 20_000_000})
    with pytest.raises(DataError, match="grows from"):
        contents(put(tmp_path, content), room)
    assert not list(room.iterdir())


def test_an_encrypted_member_is_refused(tmp_path, room) -> None:
    content = bytearray(zipped({"a.tif": b"secret"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the archive's directory
    with pytest.raises(DataError, match="encrypted"):
        contents(put(tmp_path, bytes(content)), room)


def test_a_damaged_member_is_one_sentence(tmp_path, room) -> None:
    content = bytearray(zipped({"a.tif": bytes(range(256)) * 40}))
    content[60:70] = bytes(10)
    with pytest.raises(DataError, match=r"a\.tif: not a readable zip .*download it again"):
        contents(put(tmp_path, bytes(content)), room)


@pytest.mark.parametrize("content", [b"no zip at all", zipped({"a.tif": b"1"})[:-30]])
def test_a_file_that_is_no_whole_zip_is_one_sentence(tmp_path, room, content: bytes) -> None:
    with pytest.raises(DataError, match=r"given\.zip: not a readable zip"):
        contents(put(tmp_path, content), room)


def test_archives_are_opened_to_a_limited_depth(tmp_path, room) -> None:
    content = zipped({"a.tif": b"1"})
    for _ in range(MAX_DEPTH):
        content = zipped({"in.zip": content})
    with pytest.raises(DataError, match="nested"):
        contents(put(tmp_path, content), room)


def test_nothing_there_is_one_sentence(tmp_path, room) -> None:
    with pytest.raises(DataError, match=r"no such folder or \.zip; set data\.path"):
        contents(tmp_path / "missing", room)


def test_a_file_of_a_folder_is_linked_not_copied(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")


def test_where_links_are_impossible_it_is_copied(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_bytes(b"1")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"1"
    assert not (tmp_path / "b").samefile(tmp_path / "a")
