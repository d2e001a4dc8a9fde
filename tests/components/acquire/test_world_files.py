from __future__ import annotations

import pytest
from rasterio import Affine

from components.acquire.archives import Damaged, on_disk
from components.acquire.world_files import check_world_file, is_world_file, nearest
from tests.isprs_package import place, world_file

HERE = place("vaihingen", "3", 64)
TURNED = Affine(0.1, 0.02, 5, 0.03, -0.1, 7)


def check(tmp_path, content: bytes) -> None:
    (tmp_path / "x.tfw").write_bytes(content)
    check_world_file(on_disk(tmp_path / "x.tfw", "x.tfw"))


@pytest.mark.parametrize("content", [world_file(HERE), world_file(TURNED), world_file(TURNED).replace(b".", b",")])
def test_six_numbers_with_points_or_commas_are_a_world_file(tmp_path, content) -> None:
    check(tmp_path, content)


@pytest.mark.parametrize(
    "content", [b"", b"1\n2\n3", b"a\nb\nc\nd\ne\nf", b"0\n0\n0\n0\n1\n1", b"nan\n" * 6, b"1\n" * 9999]
)
def test_what_is_no_world_file_is_damaged(tmp_path, content) -> None:
    with pytest.raises(Damaged, match=r"^x\.tfw: .*six numbers"):
        check(tmp_path, content)


def test_world_files_are_known_by_their_suffix() -> None:
    names = ("a.TFW", "b.jgw", "b.j2w", "b.wld", "c.tif", "tfw", "c.tif.aux.xml")
    assert [is_world_file(name) for name in names] == [True, True, True, True, False, False, False]


def test_of_several_world_files_the_one_that_shares_most_folders_is_chosen(tmp_path) -> None:
    (tmp_path / "x").write_bytes(world_file(HERE))
    worlds = [on_disk(tmp_path / "x", name) for name in ("w/x.tfw", "p/top/x.tfw", "p/gts/x.tfw")]
    assert nearest(worlds, "p/gts/x.tif") is worlds[2]
    assert nearest(worlds[:1], "p/gts/x.tif") is worlds[0]
    assert nearest([], "x.tif") is None
