from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from components.common.errors import DataError
from components.common.rasterfiles.formats import (
    FORMATS,
    SETTINGS,
    WORLD_SUFFIXES,
    format_of,
    sidecar_name,
    sidecars_of,
    vrt_sources,
)
from components.common.rasterfiles.position import position_of
from components.common.rasterfiles.rasters import open_raster
from tests.every_format import write
from tests.isprs_package import raster

TIFF = raster(np.ones((1, 8, 8), np.uint8))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_exactly_with_its_own_driver(tmp_path, suffix) -> None:
    path, pixels_BHW, transform = write(tmp_path, suffix, "N45E007" if suffix == ".hgt" else "a")
    with rasterio.Env(**SETTINGS), rasterio.open(path, driver=format_of(path).driver) as file:
        rows, columns = pixels_BHW.shape[1:]
        np.testing.assert_array_equal(file.read()[:, :rows, :columns], pixels_BHW)  # .dem: GDAL adds an empty row
        assert file.res == pytest.approx((transform.a, -transform.e))
        assert file.transform.c == pytest.approx(transform.c, abs=abs(transform.a) / 1000)


@pytest.mark.parametrize("suffix", [".bil", ".bip", ".bsq", ".img", ".dat"])
def test_a_raw_raster_with_an_envi_header_is_envi(tmp_path, suffix) -> None:
    pixels = np.arange(48, dtype=np.uint16).reshape(2, 4, 6)
    path = tmp_path / f"a{suffix}"
    with rasterio.open(path, "w", "ENVI", width=6, height=4, count=2, dtype="uint16") as file:
        file.write(pixels)
    assert format_of(path).driver == "ENVI"
    with rasterio.open(path, driver=format_of(path).driver) as file:
        np.testing.assert_array_equal(file.read(), pixels)


@pytest.mark.parametrize(
    ("name", "what"), [("a.ecw", r"\.ecw files are not supported"), ("a", "a raster needs a suffix")]
)
def test_another_format_is_refused_with_the_supported_ones_and_a_command(name, what) -> None:
    with pytest.raises(
        DataError, match=rf"^x/{name}: {what}; convert it with gdal_translate to \.tif \(supported: \.tif, "
    ):
        format_of(Path("x") / name)


def test_no_format_that_opens_other_data_sets_by_name_is_listed() -> None:
    """A .pix may link to files on servers; catalogues and containers name other files. A VRT is checked instead."""
    linking = {"PCIDSK", "WMS", "WMTS", "WCS", "GTI", "STACIT", "STACTA", "MRF", "KMLSUPEROVERLAY", "netCDF", "Zarr"}
    assert linking.isdisjoint(found.driver for found in FORMATS.values())


@pytest.mark.parametrize("name", ["a.TIF", "a.Jp2", "a.VRT"])
def test_the_case_of_a_suffix_does_not_matter(name) -> None:
    assert format_of(Path(name)) == FORMATS[Path(name).suffix.lower()]


def test_world_files_belong_to_the_format_of_their_raster() -> None:
    assert FORMATS[".tif"].world == (".tfw", ".tifw", ".wld")
    assert FORMATS[".jpeg"].world == (".jgw", ".jpegw", ".wld")
    assert FORMATS[".jp2"].world == (".j2w", ".jp2w", ".wld")
    assert {".tfw", ".jgw", ".pgw", ".bpw", ".wld"} < set(WORLD_SUFFIXES)
    names = ["a.tif", "a.jpg", "a.tfw", "a.jgw", "a.wld"]
    assert sidecars_of("a.tif", names) == ["a.tfw", "a.wld"]
    assert sidecars_of("a.jpg", names) == ["a.jgw", "a.wld"]


def test_the_world_file_of_a_tiff_says_nothing_about_a_jpeg_of_the_same_name(root) -> None:
    (root / "parts/a.jpg").write_bytes(raster(np.ones((1, 8, 8), np.uint8), "JPEG"))
    (root / "parts/a.tfw").write_text("2\n0\n0\n-2\n101\n199\n")
    for name, transform in (("a.tif", rasterio.Affine(2, 0, 100, 0, -2, 200)), ("a.jpg", None)):
        with open_raster(root / "parts" / name, root) as file:
            assert position_of(file, None).transform == transform


def test_sidecars_have_the_name_or_the_stem_of_their_raster() -> None:
    belong = ["x/a.tif.msk", "x/a.tif.aux.xml", "x/a.prj", "x/a.tfw", "x/a.tab", "x/a.aux"]
    others = ["x/a.tif", "x/a.txt", "x/ab.tfw", "y/a.tfw", "x/a.hdr", "x/a.tif.ovr"]
    assert sidecars_of("x/a.tif", belong + others) == belong
    assert sidecars_of("a.bil", ["a.hdr", "a.bil.hdr", "b.hdr"]) == ["a.hdr", "a.bil.hdr"]
    assert sidecars_of("a.img", ["a.ige", "a.rrd"]) == ["a.ige", "a.rrd"]


def test_case_and_unicode_form_of_sidecars_do_not_matter() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Köln") for form in ("NFC", "NFD"))
    names = [f"{decomposed}.TFW", f"{composed.upper()}.tif.msk"]
    assert sidecars_of(f"{composed}.tif", names) == names
    assert sidecars_of(f"{decomposed}.TIF", names) == names


@pytest.mark.parametrize(
    ("name", "given", "sidecar", "renamed"),
    [
        ("a_1.tif", "A_01.TIF", "A_01.TFW", "a_1.tfw"),
        ("a_1.tif", "A_01.TIFF", "a_01.tiff.MSK", "a_1.tif.msk"),
        ("d/a.b.tif", "s/a.b.tif", "s/a.b.prj", "d/a.b.prj"),
        ("a.tif", "a.tif", "a.tif.aux.xml", "a.tif.aux.xml"),
    ],
)
def test_a_sidecar_follows_a_renamed_raster(name, given, sidecar, renamed) -> None:
    assert sidecar_name(name, given, sidecar) == renamed


def vrt(*sources: str, relative: bool = True, more: str = "") -> str:
    elements = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="{relative:d}">{name}</SourceFilename></SimpleSource>'
        for name in sources
    )
    return (
        f'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">{elements}'
        f"</VRTRasterBand>{more}</VRTDataset>"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a TIFF in `parts`, and another TIFF outside."""
    (tmp_path / "root" / "parts").mkdir(parents=True)
    (tmp_path / "root" / "parts" / "a.tif").write_bytes(TIFF)
    (tmp_path / "outside.tif").write_bytes(TIFF)
    return tmp_path / "root"


def put(root: Path, text: str, name: str = "m.vrt") -> Path:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_sources_inside_the_folder_are_listed_relative_or_absolute(root) -> None:
    source = root / "parts/a.tif"
    assert vrt_sources(put(root, vrt("parts/a.tif", "parts/../parts/a.tif")), root) == [source]
    assert vrt_sources(put(root, vrt("../parts/a.tif"), "sub/m.vrt"), root) == [source]
    assert vrt_sources(put(root, vrt(str(source), relative=False), "n.vrt"), root) == [source]


def test_sources_of_nested_vrts_are_listed_too(root) -> None:
    put(root, vrt("../parts/a.tif"), "sub/inner.vrt")
    path = put(root, vrt("sub/inner.vrt"))
    assert vrt_sources(path, root) == [root / "sub/inner.vrt", root / "parts/a.tif"]
    put(root, vrt("../../outside.tif"), "sub/inner.vrt")
    path = put(root, vrt("sub/inner.vrt"), "again.vrt")
    with pytest.raises(DataError, match=r"sub/inner\.vrt: its source '\.\./\.\./outside\.tif' lies outside "):
        vrt_sources(path, root)


def test_a_changed_vrt_is_read_again(root) -> None:
    path = put(root, vrt("parts/a.tif"))
    assert vrt_sources(path, root)
    put(root, vrt("../outside.tif"))
    with pytest.raises(DataError, match="outside"):
        vrt_sources(path, root)


def test_links_in_the_folder_are_followed(root) -> None:
    (root / "linked.tif").symlink_to(root.parent / "outside.tif")
    assert vrt_sources(put(root, vrt("linked.tif")), root) == [root / "linked.tif"]
    (root.parent / "entry").symlink_to(root)
    assert vrt_sources(root.parent / "entry/m.vrt", root.parent / "entry") == [root.parent / "entry/linked.tif"]


def test_a_mosaic_that_gdal_makes_and_a_warped_one_are_accepted(root) -> None:
    rasterio.shutil.copy(root / "parts/a.tif", root / "plain.vrt", driver="VRT")
    assert vrt_sources(root / "plain.vrt", root) == [root / "parts/a.tif"]
    with rasterio.open(root / "parts/b.tif", "w", "GTiff", width=8, height=8, count=1, dtype="uint8",
                       crs="EPSG:25832", transform=rasterio.Affine(1, 0, 4e5, 0, -1, 5e6)) as file:  # fmt: skip
        file.write(np.ones((1, 8, 8), np.uint8))
    with rasterio.open(root / "parts/b.tif") as file, rasterio.vrt.WarpedVRT(file, crs="EPSG:25833") as warped:
        rasterio.shutil.copy(warped, root / "warped.vrt", driver="VRT")
    assert vrt_sources(root / "warped.vrt", root) == [root / "parts/b.tif"]


OPTIONS = '<OpenOptions><OOI key="X">1</OOI></OpenOptions>'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (vrt("../outside.tif"), r"its source '\.\./outside\.tif' lies outside "),
        (vrt("/etc/a.tif", relative=False), "its source '/etc/a.tif' lies outside "),
        (vrt("/etc/a.tif"), "its source '/etc/a.tif' lies outside "),
        (vrt("parts/a.tif", relative=False), 'its source \'parts/a.tif\' lacks relativeToVRT="1"'),
        (vrt("parts/b.tif"), "its source 'parts/b.tif' does not exist; copy it there, or rebuild it"),
        (vrt("parts"), "its source 'parts' does not exist"),
        (vrt("notes.txt"), r"its source 'notes\.txt': \.txt files are not supported"),
        (vrt(""), "its source '' does not exist"),
        (vrt("/vsicurl/http://example.org/a.tif", relative=False), "its source '/vsicurl.*' is not a plain file"),
        (vrt("/vsizip/parts/a.zip/a.tif"), "its source '/vsizip.*' is not a plain file"),
        (vrt("https://example.org/a.tif"), "its source 'https://.*' is not a plain file"),
        (vrt("GTIFF_DIR:1:parts/a.tif"), "its source 'GTIFF_DIR:.*' is not a plain file"),
        (vrt('NETCDF:"parts/a.tif":x'), "its source 'NETCDF:.*' is not a plain file"),
        (vrt("vrt://parts/a.tif?bands=1"), "its source 'vrt://.*' is not a plain file"),
        (vrt("&lt;VRTDataset&gt;&lt;/VRTDataset&gt;"), "its source '<VRTDataset>.*' is not a plain file"),
        (vrt("parts/a.tif", more="<PixelFunctionCode>import os</PixelFunctionCode>"), "this VRT runs code"),
        (vrt("parts/a.tif", more="<pixelfunctionlanguage>Python</pixelfunctionlanguage>"), "this VRT runs code"),
        (vrt("parts/a.tif", more='<X PixelFunctionCode="import os"/>'), "this VRT runs code"),
        (vrt("parts/a.tif", more='<SimpleSource SourceFilename="/etc/a.tif"/>'), "this kind of VRT is not supported"),
        (vrt("parts/a.tif", more=OPTIONS), r"this VRT passes options to a driver \(<openoptions>\), which"),
        (vrt("parts/a.tif").replace("<VRTDataset", '<VRTDataset subClass="VRTProcessedDataset"'), "this kind of VRT"),
        ("<VRTDataset>", r"not a readable VRT \(no element found"),
        ("<GDAL_WMS><Service/></GDAL_WMS>", r"not a readable VRT \(it starts with <GDAL_WMS>\)"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + vrt("parts/a.tif"), r"not a readable VRT \(it has a DOCTYPE"),
        (vrt("../x<!-- -->/../parts/a.tif"), r"not a readable VRT \(it has a DOCTYPE, or a comment in a file name\)"),
        (vrt("parts/<![CDATA[a.tif]]>"), r"not a readable VRT \(it has a DOCTYPE, or a comment in a file name\)"),
        (vrt("../outside.tif").replace("<SimpleSource>", '<SimpleSource xmlns="x">'), "its source .* lies outside "),
        ("II*\0", "not a readable VRT"),
    ],
)  # fmt: skip
def test_a_vrt_that_reaches_beyond_plain_files_in_the_folder_is_refused_in_one_sentence(root, text, sentence) -> None:
    (root / "notes.txt").write_text("1")
    path = put(root, text)
    with pytest.raises(DataError, match=rf"^{path}: {sentence}") as caught:
        vrt_sources(path, root)
    assert "\n" not in str(caught.value)
    assert "gdalbuildvrt from files inside the folder" in str(caught.value) or "gdal_translate" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        vrt("/etc/a.tif", relative=False),
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://example.org</ServerUrl></Service></GDAL_WMS>',
        '{"type": "FeatureCollection"}',
        "not a raster",
    ],
)
def test_a_source_with_the_content_of_another_format_is_refused(root, content) -> None:
    for name in ("parts/a.tif", "parts/a.asc"):
        (root / name).write_text(content)
        path = put(root, vrt(name), f"{name[-3:]}.vrt")
        with pytest.raises(DataError, match=r"its source .*parts/a\.(tif|asc) is not a readable raster"):
            vrt_sources(path, root)


def test_a_vrt_inside_the_text_of_a_grid_is_refused(root) -> None:
    header = "ncols 1\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n1\n"
    (root / "parts/a.asc").write_text(header)
    assert vrt_sources(put(root, vrt("parts/a.asc")), root) == [root / "parts/a.asc"]
    (root / "parts/a.asc").write_text(header + vrt("/etc/a.tif", relative=False))
    os.utime(put(root, vrt("parts/a.asc"), "n.vrt"))
    with pytest.raises(DataError, match="is not a readable raster"):
        vrt_sources(root / "n.vrt", root)


def test_vrts_that_read_each_other_are_refused(root) -> None:
    put(root, vrt("b.vrt"), "a.vrt")
    put(root, vrt("a.vrt"), "b.vrt")
    with pytest.raises(DataError, match=r"b\.vrt: this VRT reads itself"):
        vrt_sources(root / "a.vrt", root)
