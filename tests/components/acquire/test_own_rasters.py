"""Rasters of a user's folder with everything that belongs to them: formats, sidecar files, VRTs, Unicode names."""

from __future__ import annotations

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from components.acquire.own_files import collect_own
from components.common.data import datasets
from components.common.data.layerinfo import LabelInfo
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.errors import DataError
from components.common.rasterfiles.formats import FORMATS, format_of, vrt_sources
from tests.every_format import write
from tests.isprs_package import raster, world_file

SAMPLE = datasets.dataset("sample")
HERE = Affine(0.5, 0, 400_000, 0, -0.5, 5_700_000)
HEIGHTS = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
NFC, NFD = (unicodedata.normalize(form, "Köln Süd") for form in ("NFC", "NFD"))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A user's folder with a complete tile `a`."""
    for path, content in {
        "images/a.tif": raster(np.full((3, 8, 8), 9, np.uint8)),
        "dsm/a.tif": raster(HEIGHTS, transform=HERE, crs="EPSG:25832"),
        "labels/a.tif": raster(np.zeros((1, 8, 8), np.uint8)),
    }.items():
        put(tmp_path / "given" / path, content)
    return tmp_path / "given"


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def brought(given: Path, dsm: str = "dsm/{tile}.tif", image: str = "images/{tile}.tif") -> RawTree:
    dataset = replace(
        SAMPLE, name="mine", image=replace(SAMPLE.image, files=image), dsm=replace(SAMPLE.dsm, files=dsm),
        label=LabelInfo(files="labels/{tile}.tif"), eroded=None,
    )  # fmt: skip
    tree = collect_own(given, dataset, given.parent / "raw")
    assert tree == read_raw_tree(given.parent / "raw")
    return tree


def names(tree: RawTree, folder: str) -> set[str]:
    return {path.name for path in (tree.folder / folder).iterdir()}


def vrt(source: str, size: int = 8, relative: bool = True) -> str:
    rect = 'xOff="0" yOff="0" xSize="8" ySize="8"'
    return (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><VRTRasterBand dataType="Float32" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative:d}">{source}</SourceFilename>'
        f"<SourceBand>1</SourceBand><SrcRect {rect}/><DstRect {rect}/></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path, driver=format_of(path).driver) as file:
        return file.read()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_arrives_with_the_files_that_it_needs(given, suffix) -> None:
    name = "N45E007" if suffix == ".hgt" else "a"
    shutil.rmtree(given / "dsm")
    _, pixels_BHW, transform = write(given / "dsm", suffix, name)
    tree = brought(given, f"dsm/{name}{suffix}")
    shutil.rmtree(given)
    dsm = tree.file("a", "dsm")
    np.testing.assert_array_equal(pixels(dsm)[:, : pixels_BHW.shape[1]], pixels_BHW)
    with rasterio.open(dsm, driver=format_of(dsm).driver) as file:
        assert file.res == pytest.approx((transform.a, -transform.e))


def test_a_format_that_is_not_supported_is_one_sentence_with_a_command(given) -> None:
    (given / "dsm/a.tif").rename(given / "dsm/a.ecw")
    for pattern in ("dsm/{tile}.ecw", "dsm/{tile}.*"):
        with pytest.raises(DataError, match=r"given: dsm/a\.ecw: \.ecw files are not supported; convert it with"):
            brought(given, pattern)
        assert not (given.parent / "raw").exists()


def test_a_pattern_for_any_suffix_finds_the_raster_among_its_sidecars(given) -> None:
    put(given / "dsm/a.tfw", world_file(HERE))
    put(given / "dsm/a.tif.aux.xml", "<PAMDataset/>")
    put(given / "dsm/a.txt", "notes")
    tree = brought(given, "dsm/{tile}.*")
    assert tree.tiles["a"]["dsm"] == "dsm/a.tif"
    assert names(tree, "dsm") == {"a.tif", "a.tfw", "a.tif.aux.xml"}


@pytest.mark.parametrize(
    ("suffix", "sidecar"), [(".bil", ".hdr"), (".dat", ".hdr"), (".sdat", ".sgrd"), (".rst", ".rdc")]
)
def test_a_raster_without_its_header_file_is_left_out_and_the_header_named(given, caplog, suffix, sidecar) -> None:
    path, _, _ = write(given / "dsm", suffix)
    path.with_suffix(sidecar).unlink()
    assert brought(given, f"dsm/{{tile}}{suffix}").tiles["a"].keys() == {"image", "label"}
    assert f"left out: given/dsm/a{suffix}: not a readable " in caplog.text
    assert f"; copy it again together with its {sidecar} file" in caplog.text


def test_an_external_mask_arrives_and_hides_the_same_pixels(given) -> None:
    mask_HW = np.zeros((8, 8), np.uint8)
    mask_HW[2:6, 2:6] = 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(given / "images/a.tif", "r+") as file:
        file.write_mask(mask_HW)
    assert (given / "images/a.tif.msk").exists()
    tree = brought(given)
    with rasterio.open(tree.file("a", "image")) as file:
        np.testing.assert_array_equal(file.dataset_mask(), mask_HW)


def test_a_mask_that_is_no_tiff_leaves_its_raster_out(given, caplog) -> None:
    put(given / "dsm/a.tif.msk", vrt("/etc/a.tif", relative=False))
    assert brought(given).tiles["a"].keys() == {"image", "label"}
    assert "left out: given/dsm/a.tif.msk: not a readable TIFF" in caplog.text


def test_sidecars_get_the_exact_name_of_their_raster(given) -> None:
    put(given / "dsm/A.TFW", world_file(HERE))
    put(given / "dsm/a.PRJ", "PROJCS[]")
    put(given / "dsm/b.tfw", world_file(HERE))
    tree = brought(given)
    assert names(tree, "dsm") == {"a.tif", "a.tfw", "a.prj"}
    assert (tree.folder / "dsm/a.tfw").read_bytes() == world_file(HERE)


def test_sidecars_that_change_or_go_do_so_in_the_raw_folder(given) -> None:
    world = put(given / "dsm/a.tfw", world_file(HERE))
    put(given / "dsm/a.tif.aux.xml", "<PAMDataset/>")
    tree = brought(given)
    world.unlink()
    put(world, world_file(HERE @ Affine.translation(1, 1)))
    (given / "dsm/a.tif.aux.xml").unlink()
    tree = brought(given)
    assert names(tree, "dsm") == {"a.tif", "a.tfw"}
    assert (tree.folder / "dsm/a.tfw").read_bytes() == world.read_bytes()
    before = {path: path.stat().st_ino for path in tree.folder.rglob("*.t*")}
    (tree.folder / "dsm/a.tfw").unlink()
    assert {path: path.stat().st_ino for path in brought(given).folder.rglob("*.t*")} == before


def test_a_sidecar_of_two_rasters_stays_as_long_as_one_of_them_needs_it(given) -> None:
    put(given / "images/a.prj", "PROJCS[]")
    put(given / "images/a.img", (given / "dsm/a.tif").read_bytes())
    shutil.rmtree(given / "dsm")
    write(given / "images", ".img", "a")
    assert "a.prj" in names(brought(given, "images/{tile}.img"), "images")
    (given / "images/a.tif").unlink()
    put(given / "images/a.tif", raster(np.full((3, 8, 8), 8, np.uint8)))
    assert "a.prj" in names(brought(given, "images/{tile}.img"), "images")


def test_a_vrt_brings_its_sources_and_theirs_with_all_sidecars(given) -> None:
    (given / "parts").mkdir()
    (given / "dsm/a.tif").rename(given / "parts/a.tif")
    put(given / "parts/a.tfw", world_file(HERE))
    put(given / "parts/unused.tif", raster(HEIGHTS))
    put(given / "inner/all.vrt", vrt("../parts/a.tif"))
    put(given / "dsm/all.vrt", vrt("../inner/all.vrt"))
    tree = brought(given, "dsm/all.vrt")
    shutil.rmtree(given)
    assert tree.tiles["a"]["dsm"] == "dsm/all.vrt"
    assert names(tree, "parts") == {"a.tif", "a.tfw"}
    np.testing.assert_array_equal(pixels(tree.file("a", "dsm")), HEIGHTS)
    assert vrt_sources(tree.file("a", "dsm"), tree.folder) == [
        tree.folder / "inner/all.vrt",
        tree.folder / "parts/a.tif",
    ]


def test_an_absolute_source_inside_the_folder_becomes_relative(given) -> None:
    text = put(given / "dsm/all.vrt", vrt(str(given / "dsm/a.tif"), relative=False)).read_text()
    tree = brought(given, "dsm/all.vrt")
    assert (given / "dsm/all.vrt").read_text() == text
    shutil.rmtree(given)
    assert '<SourceFilename relativeToVRT="1">a.tif</SourceFilename>' in tree.file("a", "dsm").read_text()
    np.testing.assert_array_equal(pixels(tree.file("a", "dsm")), HEIGHTS)


def test_a_linked_vrt_reads_its_sources_from_where_the_link_leads_as_in_gdal(given) -> None:
    put(given / "mosaics/all.vrt", vrt("../dsm/a.tif"))
    (given / "heights.vrt").symlink_to(given / "mosaics/all.vrt")
    tree = brought(given, "heights.vrt")
    shutil.rmtree(given)
    np.testing.assert_array_equal(pixels(tree.file("a", "dsm")), HEIGHTS)


@pytest.mark.parametrize("source", ["../../outside.tif", "/vsicurl/http://example.org/a.tif", "NETCDF:a.tif"])
def test_a_vrt_that_reaches_outside_stops_the_import_before_anything_is_written(given, source) -> None:
    put(given.parent / "outside.tif", raster(HEIGHTS))
    put(given / "dsm/all.vrt", vrt(source))
    with pytest.raises(DataError, match=r"dsm/all\.vrt: its source .* rebuild it with gdalbuildvrt"):
        brought(given, "dsm/all.vrt")
    assert not (given.parent / "raw").exists()


def test_a_vrt_that_claims_more_pixels_than_its_sources_can_hold_is_left_out(given, caplog) -> None:
    put(given / "dsm/all.vrt", vrt("a.tif", size=99_999))
    assert brought(given, "dsm/all.vrt").tiles["a"].keys() == {"image", "label"}
    assert "claims 99999 x 99999 pixels" in caplog.text


@pytest.mark.parametrize(("in_files", "in_pattern"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_names_are_found_in_either_unicode_form_and_written_in_nfc(given, in_files, in_pattern) -> None:
    shutil.rmtree(given / "dsm")
    put(given / f"{in_files}/a {in_files}.tif", raster(HEIGHTS))
    put(given / f"{in_files}/a {in_files}.tfw", world_file(HERE))
    tree = brought(given, f"{in_pattern}/{{tile}} {in_pattern}.tif")
    assert tree.tiles["a"]["dsm"] == f"{NFC}/a {NFC}.tif"
    assert names(tree, NFC) == {f"a {NFC}.tif", f"a {NFC}.tfw"}


def test_tiles_with_names_in_different_unicode_forms_are_one_tile(given) -> None:
    for kind, form in (("images", NFC), ("dsm", NFD), ("labels", NFC)):
        (given / kind / "a.tif").rename(given / kind / f"{form}.tif")
    tree = brought(given)
    assert tree.tiles == {NFC: {"image": f"images/{NFC}.tif", "dsm": f"dsm/{NFC}.tif", "label": f"labels/{NFC}.tif"}}
    assert brought(given) == tree


def test_a_vrt_finds_sources_whose_names_become_nfc(given) -> None:
    put(given / f"{NFD}/x.tif", raster(HEIGHTS))
    put(given / "dsm/all.vrt", vrt(f"../{NFD}/x.tif"))
    tree = brought(given, "dsm/all.vrt")
    assert f">../{NFC}/x.tif<" in tree.file("a", "dsm").read_text()
    np.testing.assert_array_equal(pixels(tree.file("a", "dsm")), HEIGHTS)


def test_two_files_with_one_name_in_two_unicode_forms_are_an_error(given) -> None:
    for form in (NFC, NFD):
        put(given / f"dsm/{form}.tif", raster(HEIGHTS))
    with pytest.raises(DataError, match=f"two files are called dsm/{NFC}.tif, in two Unicode forms; remove one"):
        brought(given)


def test_a_sparse_label_arrives_unchanged(given) -> None:
    label_HW = np.zeros((64, 64), np.uint8)
    label_HW[:16, :16] = 1
    sparse = raster(label_HW[None], tiled=True, blockxsize=16, blockysize=16, compress="deflate", SPARSE_OK="TRUE")
    put(given / "labels/a.tif", sparse)
    np.testing.assert_array_equal(pixels(brought(given).file("a", "label"))[0], label_HW)
