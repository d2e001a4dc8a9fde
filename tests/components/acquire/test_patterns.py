from __future__ import annotations

import pytest

from components.acquire.patterns import compiled, plain_letters, tile_of


@pytest.mark.parametrize(
    ("pattern", "path", "tile"),
    [
        ("images/{tile}.tif", "images/a-1.tif", "a-1"),
        ("images/{tile}.tif", "images/sub/a.tif", None),
        ("images/{tile}.tif", "images/a.tiff", None),
        ("{tile}/{tile}_dsm.png", "7/7_dsm.png", "7"),
        ("{tile}/{tile}_dsm.png", "7/8_dsm.png", None),
        ("**/{tile}.jpg", "x/y/z.jpg", "z"),
        ("**/{tile}.jpg", "z.jpg", "z"),
        ("t*/{r}_{c:02}?.tif", "top/3_07x.tif", "3_7"),
        ("t*/{r}_{c:02}?.tif", "t/r/3_07x.tif", None),
        ("[ab]/{r}.tif", "b/12.tif", "12"),
        ("[!ab]/{r}.tif", "b/12.tif", None),
        ("a+(b)/{r}.tif", "a+(b)/1.tif", "1"),
        ("{r}.tif", "x1.tif", None),
    ],
)
def test_a_pattern_fits_whole_paths_and_gives_the_id(pattern, path, tile) -> None:
    match = compiled(pattern).fullmatch(path)
    assert (match and tile_of(match)) == tile


def test_a_pattern_without_a_field_has_no_id() -> None:
    assert tile_of(compiled("dsm/*.tif").fullmatch("dsm/all.tif")) is None


def test_the_more_letters_a_pattern_fixes_the_more_it_says() -> None:
    assert [plain_letters(p) for p in ("{tile}_label.tif", "**/{tile}.tif", "[ab]{tile}?tif")] == [10, 4, 3]
