from __future__ import annotations

import io
import os
import random
import zipfile

import pytest

from components.acquire import members
from components.acquire.members import seekable
from tests.isprs_package import zipped

CONTENT = os.urandom(300) + bytes(range(256)) * 20 + os.urandom(300)


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def member(request, monkeypatch):
    monkeypatch.setattr(members, "TAIL", 512)
    archive = zipfile.ZipFile(io.BytesIO(zipped({"before": b"1", "a": CONTENT, "after": b"2"}, request.param)))
    with archive, seekable(archive, archive.getinfo("a")) as file:
        yield file


def test_a_member_reads_like_a_file_at_any_offset(member) -> None:
    rng, plain = random.Random(3), io.BytesIO(CONTENT)
    for _ in range(200):
        offset, wanted = rng.randrange(len(CONTENT) + 50), rng.randrange(700)
        whence = rng.choice((io.SEEK_SET, io.SEEK_END))
        offset -= len(CONTENT) * (whence == io.SEEK_END) * (offset <= len(CONTENT))
        assert member.seek(offset, whence) == plain.seek(offset, whence)
        assert member.read(wanted) == plain.read(wanted)
        assert member.tell() == plain.tell()


def test_a_position_before_the_beginning_is_an_error(member) -> None:
    with pytest.raises(ValueError, match="before the beginning"):
        member.seek(-1)


def test_opening_and_reading_a_packed_inner_zip_unpacks_it_twice_however_many_members(monkeypatch) -> None:
    inner = zipped({f"{number}.tif": os.urandom(100_000) for number in range(30)}, zipfile.ZIP_STORED)
    monkeypatch.setattr(members, "TAIL", 1 << 16)
    read = 0
    plain = zipfile.ZipExtFile._read1  # counts what is unpacked

    def counting(self, n):
        nonlocal read
        piece = plain(self, n)
        read += len(piece)
        return piece

    archive = zipfile.ZipFile(io.BytesIO(zipped({"in.zip": inner})))
    info = archive.getinfo("in.zip")
    with zipfile.ZipFile(seekable(archive, info)) as inside:
        names = [member.filename for member in sorted(inside.infolist(), key=lambda member: member.header_offset)]
        monkeypatch.setattr(zipfile.ZipExtFile, "_read1", counting)
        for name in names:
            inside.read(name)
    assert read <= 2.2 * len(inner)  # once as the content of the inner zip, once as that of its members
