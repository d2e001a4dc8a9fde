from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from components.acquire.isprs_files import collect
from components.common import isprs
from components.common.errors import DataError

POTSDAM = isprs.dataset("potsdam")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_come_to_their_places_from_any_arrangement_world_files_too(tmp_path) -> None:
    given = put(
        tmp_path / "given", "DSM/DSM_potsdam_2_10.TIF", "DSM/dsm_potsdam_02_10.tfw", "top_potsdam_2_10_RGB.tif", "x"
    )
    raw = tmp_path / "raw"
    raw.mkdir()
    assert collect(given, POTSDAM, raw) == ("2_10",)
    assert {path.relative_to(raw).as_posix(): path.read_text() for path in raw.rglob("*") if path.is_file()} == {
        "1_DSM/dsm_potsdam_02_10.tif": "DSM/DSM_potsdam_2_10.TIF",
        "1_DSM/dsm_potsdam_02_10.tfw": "DSM/dsm_potsdam_02_10.tfw",
        "2_Ortho_RGB/top_potsdam_2_10_RGB.tif": "top_potsdam_2_10_RGB.tif",
    }


def test_a_zip_of_zips_is_found_by_name(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "2_Ortho_RGB.zip", "w") as inner:
        inner.writestr("2_Ortho_RGB/top_potsdam_2_10_RGB.tif", "image")
        inner.writestr("2_Ortho_RGB/top_potsdam_2_11_RGB.tif", "another")
    with zipfile.ZipFile(tmp_path / "Potsdam.zip", "w") as outer:
        outer.write(tmp_path / "2_Ortho_RGB.zip", "Potsdam/2_Ortho_RGB.zip")
        outer.writestr("Potsdam/5_Labels_all/top_potsdam_2_10_label.tif", "label")
    raw = tmp_path / "raw"
    raw.mkdir()
    assert collect(tmp_path / "Potsdam.zip", POTSDAM, raw) == ("2_10", "2_11")
    assert (raw / POTSDAM.path("image", "2_11")).read_text() == "another"
    assert (raw / POTSDAM.path("label", "2_10")).read_text() == "label"
    assert not [path for path in raw.iterdir() if path.name.startswith(".")]


def test_a_source_without_any_tile_says_what_it_looked_for(tmp_path) -> None:
    given = put(tmp_path / "given", "holiday.tif", "dsm_potsdam_02_10.tfw")
    with pytest.raises(
        DataError, match=r"holds no file of potsdam; .*top_potsdam_2_10_RGB\.tif, dsm_potsdam_02_10\.tif"
    ):
        collect(given, POTSDAM, tmp_path)


def test_of_two_files_of_one_name_the_first_is_taken_and_the_other_named(tmp_path, caplog) -> None:
    given = put(tmp_path / "given", "a/top_potsdam_2_10_RGB.tif", "b/top_potsdam_2_10_RGB.tif")
    raw = tmp_path / "raw"
    raw.mkdir()
    collect(given, POTSDAM, raw)
    assert (raw / POTSDAM.path("image", "2_10")).read_text().startswith("a/")
    assert "b/top_potsdam_2_10_RGB.tif is left out" in caplog.text
