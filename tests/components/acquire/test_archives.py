from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from pathlib import Path

import pytest

from components.acquire.archives import MAX_DEPTH, content, listed
from components.common.errors import DataError
from tests.isprs_package import zipped


def contents(source: Path) -> dict[str, bytes]:
    with listed([source], source.parent / "none") as listing:
        assert listing.problems == []
        return {found.name: b"".join(content(found)) for found in listing.files}


def put(tmp_path: Path, archive: bytes) -> Path:
    path = tmp_path / "given.zip"
    path.write_bytes(archive)
    return path


def refused(tmp_path: Path, archive: bytes) -> str:
    with pytest.raises(DataError) as caught:
        contents(put(tmp_path, archive))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_zips_gives_every_file_and_writes_none(tmp_path, packing) -> None:
    inner = zipped({"1_DSM/a.tif": b"heights", "1_DSM/b.tif": b"more"})
    given = put(tmp_path, zipped({"P/1_DSM.zip": inner, "P/readme.txt": b"hello"}, packing))
    assert contents(given) == {
        "given.zip/P/1_DSM.zip/1_DSM/a.tif": b"heights",
        "given.zip/P/1_DSM.zip/1_DSM/b.tif": b"more",
        "given.zip/P/readme.txt": b"hello",
    }
    assert list(tmp_path.iterdir()) == [given]


def test_zips_inside_a_folder_are_opened(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.ZIP").write_bytes(zipped({"b.tif": b"b"}))
    (tmp_path / "sub" / "a.tif").write_bytes(b"a")
    assert contents(tmp_path / "sub") == {"sub/a.tif": b"a", "sub/x.ZIP/b.tif": b"b"}


def test_links_of_a_folder_are_followed_and_loops_end(tmp_path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.tif").write_bytes(b"a")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "to").symlink_to(tmp_path / "far")
    (tmp_path / "sub" / "up").symlink_to(tmp_path / "sub")
    (tmp_path / "far" / "back").symlink_to(tmp_path)
    (tmp_path / "sub" / "nowhere.tif").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "sub" / "pipe.tif")
    assert contents(tmp_path / "sub") == {"sub/to/a.tif": b"a"}


def test_the_target_inside_a_source_is_no_source(tmp_path) -> None:
    (tmp_path / "sub" / "out").mkdir(parents=True)
    (tmp_path / "sub" / "out" / "a.tif").write_bytes(b"a")
    with listed([tmp_path / "sub"], tmp_path / "sub" / "out") as listing:
        assert listing.files == []
    with (
        pytest.raises(DataError, match="is the folder to write to"),
        listed([tmp_path / "sub"], tmp_path / "sub"),
    ):
        pass


def test_a_damaged_archive_is_a_problem_and_the_others_are_read(tmp_path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"a.tif": b"1" * 1000})[:-30])
    (tmp_path / "b.zip").write_bytes(zipped({"b.tif": b"b"}))
    (tmp_path / "c.zip").write_bytes(zipped({"inner.zip": b"no zip at all", "c.tif": b"c"}))
    with listed([tmp_path], tmp_path / "none") as listing:
        assert [found.name.rpartition("/")[2] for found in listing.files] == ["b.tif", "c.tif"]
    assert len(listing.problems) == 2
    assert "a.zip: cannot be read" in listing.problems[0] and "c.zip/inner.zip: cannot" in listing.problems[1]


@pytest.mark.parametrize("name", ["../evil.tif", "a/../../evil.tif", "/etc/evil.tif", "..\\evil.tif", "C:\\evil.tif"])
def test_a_member_that_leaves_its_folder_is_refused(tmp_path, name: str) -> None:
    message = refused(tmp_path, zipped({name: b"x"}))
    assert message.startswith("given.zip: ") and "outside" in message and "evil" in message


def test_a_hostile_member_of_an_inner_zip_is_refused(tmp_path) -> None:
    assert "given.zip/in.zip: " in refused(tmp_path, zipped({"in.zip": zipped({"../evil.tif": b"x"})}))


def test_a_link_is_refused(tmp_path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("a.tif")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "is a link" in refused(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("name", ["a.tif", "in.zip"])
def test_an_absurd_ratio_is_refused(tmp_path, name) -> None:
    assert "grows from" in refused(tmp_path, zipped({name: b"\0" * 20_000_000}))


def test_members_that_share_their_bytes_are_refused(tmp_path) -> None:
    archive = bytearray(zipped({"a.tif": b"1" * 500, "b.tif": b"2" * 500}, zipfile.ZIP_STORED))
    second = archive.rindex(b"PK\x01\x02")
    archive[second + 42 : second + 46] = struct.pack("<L", 0)  # where its content begins
    assert "overlaps another one" in refused(tmp_path, bytes(archive))


def test_a_list_of_members_that_would_fill_the_memory_is_refused(tmp_path) -> None:
    archive = bytearray(zipped({"a.tif": b"1"}))
    end = archive.rindex(b"PK\x05\x06")
    archive[end + 12 : end + 16] = struct.pack("<L", 1 << 30)
    assert "list of members" in refused(tmp_path, bytes(archive))


def test_an_encrypted_member_is_refused(tmp_path) -> None:
    archive = bytearray(zipped({"a.tif": b"secret"}))
    archive[archive.index(b"PK\x01\x02") + 8] |= 1  # the flag in the archive's directory
    assert "encrypted" in refused(tmp_path, bytes(archive))


def test_archives_are_opened_to_a_limited_depth(tmp_path) -> None:
    archive = zipped({"a.tif": b"1"})
    for _ in range(MAX_DEPTH - 1):
        archive = zipped({"in.zip": archive})
    assert list(contents(put(tmp_path, archive)).values()) == [b"1"]
    assert "nested" in refused(tmp_path, zipped({"in.zip": archive}))


def test_a_damaged_member_is_one_sentence(tmp_path) -> None:
    archive = bytearray(zipped({"a.tif": bytes(range(256)) * 40}))
    archive[60:70] = bytes(10)
    assert "given.zip/a.tif: cannot be read" in refused(tmp_path, bytes(archive))


@pytest.mark.parametrize("said", [100, 5000])
def test_a_declared_size_that_lies_is_one_sentence(tmp_path, said: int) -> None:
    archive = bytearray(zipped({"a.tif": bytes(range(256)) * 4}))
    at = archive.index(b"PK\x01\x02") + 24
    archive[at : at + 4] = struct.pack("<L", said)
    assert "given.zip/a.tif: cannot be read" in refused(tmp_path, bytes(archive))


def test_nothing_there_is_one_sentence(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no such folder or \.zip"):
        contents(tmp_path / "missing")


def test_letters_that_end_a_line_do_not_reach_a_message(tmp_path) -> None:
    assert list(contents(put(tmp_path, zipped({"a\nb.tif": b"1"})))) == ["given.zip/a?b.tif"]


def test_a_mutated_archive_is_read_or_refused_in_one_sentence(tmp_path) -> None:
    whole = zipped({"P/a.zip": zipped({"a.tif": bytes(range(200))}), "P/b.tif": b"2" * 300}, zipfile.ZIP_STORED)
    rng, outcomes = random.Random(5), set()
    for _ in range(400):
        archive = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            archive[rng.randrange(len(archive))] ^= 1 << rng.randrange(8)
        path = put(tmp_path, bytes(archive[: rng.choice((len(archive), rng.randrange(len(archive)))) or 1]))
        try:
            with listed([path], tmp_path / "none") as listing:
                for found in listing.files:
                    b"".join(content(found))
            outcomes.add("problem" if listing.problems else "read")
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"problem", "read", "refused"}
