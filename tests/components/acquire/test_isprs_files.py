from __future__ import annotations

import numpy as np
import pytest
import rasterio

from components.common.data import datasets
from components.common.data.rawtree import RECORD, read_raw_tree
from components.common.errors import DataError
from tests.components.acquire.importing import KINDS, POTSDAM, VAIHINGEN, changes, files, importing, pixels
from tests.isprs_package import place, raster, scene, world_file, write_package, zipped


@pytest.mark.parametrize("form", ["zip", "zips", "folder"])
@pytest.mark.parametrize(
    "traps",
    [
        {},
        {"plain_dsm_ids": True, "padded_ids": True, "capitals": True},
        {"renamed_folders": True, "deflated_outside": True, "georeference": "apart"},
        {"georeference": "world"},
        {"no_crs": True, "twice": ("2_10",)},
    ],
)
def test_any_arrangement_gives_one_tree_with_georeference(tmp_path, form, traps) -> None:
    sources = write_package(tmp_path / "given", "potsdam", ["2_10", "3_11"], side_px=32, form=form, **traps)
    before = files(tmp_path / "given")
    out = tmp_path / "out"
    tree = importing(sources, out)
    assert tree == read_raw_tree(out)
    assert {(tile, kind) for tile, places in tree.tiles.items() for kind in places} == {
        (tile, kind) for tile in ("2_10", "3_11") for kind in KINDS
    }
    rasters = {POTSDAM.path(k, t) for k in KINDS for t in ("2_10", "3_11")}
    worlds = {path.replace(".tif", ".tfw") for path in rasters} if "georeference" in traps else set()
    assert files(out).keys() == rasters | worlds | {RECORD}
    for tile in tree.tiles:
        for kind, layer in zip(KINDS, ("rgb", "absolute", "label", "eroded"), strict=True):
            with rasterio.open(tree.file(tile, kind)) as file:
                assert np.array_equal(file.read(), scene("potsdam", tile, 32)[layer])
                assert file.transform.almost_equals(place("potsdam", tile, 32))
                assert (file.crs is None) == bool(worlds or "no_crs" in traps)
    assert files(tmp_path / "given") == before


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("renamed", [False, True])
def test_an_image_and_its_label_of_one_name_come_to_their_places(tmp_path, caplog, form, renamed) -> None:
    sources = write_package(
        tmp_path, "vaihingen", ["1", "38"], form=form, renamed_folders=renamed, georeference="apart"
    )
    importing(sources, tmp_path / "out", VAIHINGEN)
    for tile in ("1", "38"):
        for kind, layer in (("image", "irrg"), ("label", "label"), ("eroded", "eroded")):
            assert np.array_equal(pixels(tmp_path / "out", kind, tile, VAIHINGEN), scene("vaihingen", tile, 64)[layer])
            with rasterio.open(tmp_path / "out" / VAIHINGEN.path(kind, tile)) as file:
                assert file.transform.almost_equals(place("vaihingen", tile, 64))
    assert "its pixels do" not in caplog.text


def test_pixels_overrule_the_name_of_a_folder_and_it_is_said(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "vaihingen", ["1"], form="folder", swapped=["1"])
    importing(sources, tmp_path / "out", VAIHINGEN)
    assert np.array_equal(pixels(tmp_path / "out", "label", "1", VAIHINGEN), scene("vaihingen", "1", 64)["label"])
    assert "its folders do not suggest a label but its pixels do; used as the label" in caplog.text


def test_where_neither_folder_nor_pixels_tell_nothing_is_guessed(tmp_path, caplog) -> None:
    (tmp_path / "a").mkdir()
    half = np.where(np.arange(32) % 3 < 2, 255, 140).astype(np.uint8)
    content = raster(np.broadcast_to(half, (3, 32, 32)))
    (tmp_path / "a" / "top_mosaic_09cm_area1.tif").write_bytes(content)
    with pytest.raises(DataError, match="none of the files of vaihingen could be read"):
        importing([tmp_path / "a"], tmp_path / "out", VAIHINGEN)
    assert "can be an image or a label" in caplog.text
    (tmp_path / "a").rename(tmp_path / "label")
    assert importing([tmp_path / "label"], tmp_path / "out", VAIHINGEN).tiles["1"].keys() == {"label"}


def test_world_files_get_the_suffix_that_belongs_to_the_format_of_their_raster(tmp_path) -> None:
    dataset = datasets.dataset("potsdam", "rgbir", "lastools")
    layers = ("rgb", "rgbir", "lastools", "absolute", "label")
    sources = write_package(tmp_path / "p", "potsdam", ["2_10"], layers=layers, georeference="apart")
    tree = importing(sources, tmp_path / "out", dataset)
    names = {path.rpartition("/")[2] for path in files(tmp_path / "out")}
    jpeg = "dsm_potsdam_02_10_normalized_lastools"
    rgbir, label = "top_potsdam_2_10_RGBIR", "top_potsdam_2_10_label"
    assert names == {
        f"{jpeg}.jpg",
        f"{jpeg}.jgw",
        *(f"{n}{s}" for n in (rgbir, label) for s in (".tif", ".tfw")),
        RECORD,
    }
    assert tree.tiles["2_10"].keys() == {"image", "dsm", "label"}
    with rasterio.open(tree.file("2_10", "dsm")) as file:
        assert file.transform.almost_equals(place("potsdam", "2_10", 64))


@pytest.mark.parametrize("georeference", ["tiff", "world", "apart", "none"])
def test_rasters_are_linked_and_never_changed(tmp_path, georeference) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], form="folder", georeference=georeference)
    importing(sources, tmp_path / "out")
    for name in ("top_potsdam_2_10_RGB.tif", "dsm_potsdam_02_10.tif", "top_potsdam_2_10_label.tif"):
        given = next(path for source in sources for path in source.rglob(name))
        assert next((tmp_path / "out").rglob(name)).samefile(given)


def test_pixel_is_point_keys_and_a_world_file_together_are_brought(tmp_path) -> None:
    """The world file already names the centre of the pixel, so the key must not shift it (case c45)."""
    here, layers = place("vaihingen", "1", 64), scene("vaihingen", "1", 64)
    folder = tmp_path / "given" / "dsm"
    folder.mkdir(parents=True)
    (folder / "dsm_09cm_matching_area1.tif").write_bytes(
        raster(layers["absolute"], crs="EPSG:32632", tags={"AREA_OR_POINT": "Point"})
    )
    (folder / "dsm_09cm_matching_area1.tfw").write_bytes(world_file(here))
    tree = importing([tmp_path / "given"], tmp_path / "out", VAIHINGEN)
    assert tree.tiles == {"1": {"dsm": VAIHINGEN.path("dsm", "1")}}
    dsm = tree.file("1", "dsm")
    assert dsm.read_bytes() == (folder / "dsm_09cm_matching_area1.tif").read_bytes()
    assert dsm.with_suffix(".tfw").read_bytes() == world_file(here)
    with rasterio.open(dsm) as file:
        assert file.transform.almost_equals(here) and file.crs.to_epsg() == 32632


def test_other_sidecars_come_under_the_name_of_their_raster(tmp_path) -> None:
    layers = scene("potsdam", "2_10", 16)
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "TOP_POTSDAM_02_10_RGB.TIFF").write_bytes(raster(layers["rgb"]))
    (folder / "TOP_POTSDAM_02_10_RGB.TIFF.msk").write_bytes(raster(np.full((1, 16, 16), 255, np.uint8)))
    (folder / "Top_Potsdam_02_10_rgb.PRJ").write_text("PROJCS[]")
    tree = importing([folder], tmp_path / "out")
    image = tree.file("2_10", "image")
    assert {path.name for path in image.parent.iterdir()} == {image.name, f"{image.name}.msk", f"{image.stem}.prj"}


def test_further_sources_add_to_the_tree(tmp_path) -> None:
    first = write_package(tmp_path / "1", "potsdam", ["2_10"], layers=("rgb", "label"))
    second = write_package(tmp_path / "2", "potsdam", ["2_10", "2_11"], layers=("absolute",))
    importing(first, tmp_path / "out")
    tree = importing(second, tmp_path / "out")
    assert {tile: set(kinds) for tile, kinds in tree.tiles.items()} == {
        "2_10": {"image", "label", "dsm"},
        "2_11": {"dsm"},
    }


def test_a_damaged_file_is_named_and_the_others_come(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], truncated=[("2_10", "dsm")])
    tree = importing(sources, tmp_path / "out")
    assert "left out: Potsdam.zip/Potsdam/1_DSM.zip/1_DSM/dsm_potsdam_02_10.tif: not a readable TIFF" in caplog.text
    assert set(tree.tiles["2_10"]) == {"image", "label", "eroded"} and set(tree.tiles["2_11"]) == set(KINDS)


def test_world_files_that_come_later_are_brought_to_the_rasters_that_are_there(tmp_path) -> None:
    data, worlds = write_package(tmp_path, "vaihingen", ["1"], georeference="apart")
    importing([data], tmp_path / "out", VAIHINGEN)
    tree = importing([worlds], tmp_path / "out", VAIHINGEN)
    for kind in KINDS:
        with rasterio.open(tree.file("1", kind)) as file:
            assert file.transform.almost_equals(place("vaihingen", "1", 64))
    before = changes(tmp_path / "out")
    importing([data], tmp_path / "out", VAIHINGEN)
    assert changes(tmp_path / "out") == before


def test_world_files_that_fit_nothing_leave_the_tree_as_it_was(tmp_path) -> None:
    importing(write_package(tmp_path / "p", "potsdam", ["2_10"]), tmp_path / "out")
    before = files(tmp_path / "out")
    _, worlds = write_package(tmp_path / "q", "potsdam", ["2_11"], georeference="apart")
    with pytest.raises(DataError, match="holds no file of potsdam"):
        importing([worlds], tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_another_data_set_is_not_mixed_in(tmp_path) -> None:
    importing(write_package(tmp_path / "p", "potsdam", ["2_10"]), tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match="holds the data set potsdam; choose another folder"):
        importing(write_package(tmp_path / "v", "vaihingen", ["1"]), tmp_path / "out", VAIHINGEN)
    assert files(tmp_path / "out") == before


def test_a_source_without_any_file_of_the_data_set_says_what_it_looked_for(tmp_path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "holiday.tif").write_bytes(b"1")
    (tmp_path / "given" / "dsm_potsdam_02_10.tfw").write_bytes(b"1")
    with pytest.raises(DataError, match=r"holds no file of potsdam; .*top_potsdam_2_10_RGB\.tif, dsm_potsdam_02_10"):
        importing([tmp_path / "given"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hostile_source_stops_the_import_before_anything_is_written(tmp_path) -> None:
    sources = write_package(tmp_path / "p", "potsdam", ["2_10"])
    (tmp_path / "evil.zip").write_bytes(zipped({"in.zip": zipped({"../../top_potsdam_2_11_RGB.tif": b"1"})}))
    with pytest.raises(DataError, match="outside"):
        importing([*sources, tmp_path / "evil.zip"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.tif"))
