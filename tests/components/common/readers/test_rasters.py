import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.windows import Window

from components.common.errors import DataError
from components.common.rasterfiles.rasters import Rejected, equal_to, open_raster
from components.common.readers.layers import pick
from tests.components.common.readers.conftest import PLACED, write

HERE = Affine(0.05, 0, 366000, 0, -0.05, 5807000)
RGB = np.random.default_rng(0).integers(1, 255, (3, 150, 130), dtype=np.uint8)
HEIGHTS = np.random.default_rng(1).uniform(30, 60, (1, 150, 130)).astype(np.float32)


def read(path, bands=3, dtypes=("uint8",)):
    """All pixels of a file with the expected bands and pixel types, and its header."""
    with open_raster(path, path.parent) as file:
        picked = pick(file, None, bands, None, "image.bands: [1]", "name its bands")
        file.require_dtype(picked.numbers, dtypes)
        file.hidden(picked.numbers)
        return file.read(picked.numbers), file.header


def read_dsm(path):
    return read(path, 1, ("float32", "float64"))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_pixels_bands_and_position_come_back_exactly(tmp_path, interleave):
    path = write(tmp_path / "a.tif", RGB, crs="EPSG:32633", transform=HERE, interleave=interleave)
    pixels_BHW, header = read(path)
    np.testing.assert_array_equal(pixels_BHW, RGB)
    assert pixels_BHW.dtype == np.uint8
    assert (header.transform, header.crs, header.masks, header.alpha) == (HERE, "EPSG:32633", (None,) * 3, None)
    assert (header.bands, header.dtypes, header.nodata) == (3, ("uint8",) * 3, (None,) * 3)
    assert (header.scales, header.offsets, header.units) == ((1,) * 3, (0,) * 3, (None,) * 3)


@pytest.mark.filterwarnings("error")
def test_a_file_without_a_position_reports_none_and_does_not_warn(tmp_path):
    _, header = read_dsm(write(tmp_path / "a.tif", HEIGHTS))
    assert (header.transform, header.crs, header.gcps) == (None, None, ())


LAYOUTS = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "planes": {"interleave": "band"},
}


@pytest.mark.parametrize("cut", [1, 200, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "packbits"])
def test_a_truncated_file_is_an_error_wherever_it_is_cut(tmp_path, compress, layout, sparse, cut):
    path = write(tmp_path / "a.tif", RGB, compress=compress, transform=HERE, sparse_ok=sparse, **LAYOUTS[layout])
    size = path.stat().st_size
    os.truncate(path, size - (cut if cut >= 1 else int(cut * size)))
    with pytest.raises(Rejected, match=r"a.tif: not a readable TIFF \(.*\); copy or download it again") as caught:
        read(path)
    assert caught.value.code == "unreadable"


def half(pixels_BHW, **facts):
    """Facts of a file of 150 rows whose rows from 64 on were never written."""
    return {"window": Window(0, 0, 130, 64), "size": (pixels_BHW.shape[0], 150, 130), "sparse_ok": True, **facts}


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("layout", ["tiles", "planes"])
def test_blocks_that_were_never_written_are_read_as_zeros_and_noted(tmp_path, compress, layout):
    layout = LAYOUTS["tiles"] | LAYOUTS[layout]
    path = write(tmp_path / "a.tif", RGB[:, :64], compress=compress, transform=HERE, **half(RGB, **layout))
    with open_raster(path, tmp_path) as file:
        assert file.header.unwritten_share == pytest.approx(2 / 3)
        (note,) = file.notes()
        np.testing.assert_array_equal(file.read((1, 2, 3), slice(0, 64)), RGB[:, :64])
        assert not file.read((1, 2, 3), slice(64, None)).any()
    assert (note.code, note.sentence) == (
        "sparse",
        "66.7 % of its blocks were never written; they are read as 0: if they should hold data, write the file again "
        "with gdal_translate",
    )


def test_blocks_that_were_never_written_are_read_as_nodata_where_the_file_has_one(tmp_path):
    path = write(tmp_path / "a.tif", HEIGHTS[:, :64], nodata=-9999, **half(HEIGHTS, **LAYOUTS["tiles"]))
    with open_raster(path, tmp_path) as file:
        assert (file.read((1,), slice(64, None)) == -9999).all()
        assert "they are read as -9999" in file.notes()[0].sentence


def test_a_file_with_all_blocks_has_no_note(tmp_path):
    with open_raster(write(tmp_path / "a.tif", RGB, sparse_ok=True), tmp_path) as file:
        assert (file.header.unwritten_share, file.notes()) == (0, [])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Rejected, match="gone.tif: no such file; run the acquire step again"):
        read(tmp_path / "gone.tif")


@pytest.mark.parametrize("content", ["text", "empty", "png", "folder"])
def test_what_is_no_tiff_is_an_error(tmp_path, content):
    path = tmp_path / "a.tif"
    if content == "folder":
        path.mkdir()
    elif content == "png":
        Image.fromarray(np.moveaxis(RGB, 0, -1)).save(path, format="PNG")
    else:
        path.write_text("not a picture" if content == "text" else "")
    with pytest.raises(DataError, match="a.tif: (not a readable TIFF|no such file)") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_bands_names_both_and_the_key_that_picks_bands(tmp_path):
    path = write(tmp_path / "a.tif", np.concatenate([RGB, RGB[:1]]), colours=None, photometric="minisblack")
    with pytest.raises(Rejected, match=r"a.tif: has 4 bands, expected 3; .* for example image.bands: \[1\]") as caught:
        read(path)
    assert caught.value.code == "band-count"
    with pytest.raises(Rejected, match="has 1 band, expected 3; .*, or name its bands"):
        read(write(tmp_path / "b.tif", RGB[:1]))


def test_a_band_that_the_file_does_not_have_is_an_error_with_both_numbers(tmp_path):
    with (
        open_raster(write(tmp_path / "a.tif", RGB), tmp_path) as file,
        pytest.raises(Rejected, match="has 3 bands, but dataset.yaml asks for band 4; correct its `bands`") as caught,
    ):
        pick(file, (4,), 1, None, "", "")
    assert caught.value.code == "band-count"


def test_picked_bands_come_in_the_order_of_the_numbers(tmp_path):
    with open_raster(write(tmp_path / "a.tif", RGB), tmp_path) as file:
        bands = pick(file, (3, 1), 2, None, "", "")
        assert (bands.numbers, bands.nodata, bands.alpha) == ((3, 1), (), False)
        np.testing.assert_array_equal(file.read(bands.numbers), RGB[[2, 0]])


def test_an_alpha_band_is_a_mask_unless_it_is_picked(tmp_path):
    rgba = np.concatenate([RGB, RGB[:1]])
    path = write(tmp_path / "a.tif", rgba, photometric="rgb", alpha="yes")
    with open_raster(path, tmp_path) as file:
        masked = [
            pick(file, numbers, expected, None, "", "")
            for numbers, expected in ((None, 3), ((1, 2), 2), (None, 4), ((4,), 1))
        ]
    assert [(bands.numbers, bands.alpha) for bands in masked] == [
        ((1, 2, 3), True),
        ((1, 2), True),
        ((1, 2, 3, 4), False),
        ((4,), False),
    ]


def test_a_palette_stands_for_three_or_four_bands_and_for_one(tmp_path):
    path = write(tmp_path / "a.tif", RGB[:1], palette={0: (1, 2, 3, 255)})
    with open_raster(path, tmp_path) as file:
        assert file.header.palette[0] == (1, 2, 3, 255)
        assert {pick(file, None, expected, None, "", "").numbers for expected in (1, 3, 4)} == {(1,)}
        with pytest.raises(Rejected, match="has 1 band, expected 2"):
            pick(file, None, 2, None, "", "")


def test_nodata_values_of_dataset_yaml_replace_those_of_the_file(tmp_path):
    with open_raster(write(tmp_path / "a.tif", RGB, nodata=7), tmp_path) as file:
        found = [pick(file, None, 3, nodata, "", "").nodata for nodata in (None, (), (0, 255))]
    assert found == [((7, 7, 7),), (), ((0, 0, 0), (255, 255, 255))]


def test_a_wrong_pixel_type_names_both(tmp_path):
    with pytest.raises(Rejected, match="a.tif: its pixels are uint16, expected uint8; convert it") as caught:
        read(write(tmp_path / "a.tif", RGB.astype(np.uint16)))
    assert caught.value.code == "pixel-type"
    with pytest.raises(Rejected, match="a.tif: its pixels are uint8, expected float32 or float64"):
        read_dsm(write(tmp_path / "a.tif", RGB[:1]))


def test_complex_numbers_are_no_pixels(tmp_path):
    with pytest.raises(Rejected, match="its pixels are complex64, expected uint8; convert it: gdal_translate -ot"):
        read(write(tmp_path / "a.tif", RGB.astype(np.complex64)))


def test_any_damaged_byte_of_the_header_is_at_worst_a_data_error(tmp_path):
    good = write(tmp_path / "a.tif", RGB, compress="deflate", crs="EPSG:32633", transform=HERE).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(0, 400, 2):
        damaged = bytearray(good)
        damaged[place] = rng.integers(0, 256)
        (tmp_path / "b.tif").write_bytes(damaged)
        try:
            read(tmp_path / "b.tif")
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_gdal_prints_nothing(tmp_path):
    path = write(tmp_path / "a.tif", RGB, compress="deflate", transform=HERE)
    os.truncate(path, path.stat().st_size // 2)
    code = (
        "import logging, sys, pathlib; logging.basicConfig(level=logging.INFO)\n"
        "from components.common.rasterfiles.rasters import open_raster\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "try:\n"
        "    with open_raster(path, path.parent) as file: file.read((1, 2, 3))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("Rejected\n", "")


@pytest.mark.parametrize("compress", ["none", "lzw"])
def test_windows_are_cut_out_of_the_file(tmp_path, compress):
    path = write(tmp_path / "a.tif", RGB, crs="EPSG:32633", transform=HERE, compress=compress, nodata=0)
    with open_raster(path, tmp_path) as file:
        assert (file.header.height_px, file.header.width_px, file.header.nodata) == (150, 130, (0, 0, 0))
        np.testing.assert_array_equal(file.read((1, 2, 3), slice(10, 33)), RGB[:, 10:33])
        np.testing.assert_array_equal(file.read((1, 2, 3), slice(10, 33), slice(5, 6)), RGB[:, 10:33, 5:6])
        image_hWC = np.zeros((7, 130, 3), np.uint8)
        file.read((1, 2, 3), slice(0, 7), out=np.moveaxis(image_hWC, -1, 0))
        np.testing.assert_array_equal(image_hWC, np.moveaxis(RGB[:, :7], 0, -1))


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
def test_a_mask_hides_pixels_in_the_file_or_next_to_it(tmp_path, own_mask):
    hidden_HW = np.zeros((150, 130), bool)
    hidden_HW[10:20, 30:35] = True
    path = write(tmp_path / "a.tif", RGB, hidden_HW=hidden_HW, own_mask=own_mask)
    assert (tmp_path / "a.tif.msk").exists() == own_mask
    with open_raster(path, tmp_path) as file:
        assert file.header.masks == (1, 1, 1)
        np.testing.assert_array_equal(file.hidden((1,)), hidden_HW)
        np.testing.assert_array_equal(file.hidden((1,), slice(15, 25), slice(32, 50)), hidden_HW[15:25, 32:50])


@pytest.mark.parametrize("own_mask", [False, True], ids=["internal", "msk"])
def test_a_mask_hides_pixels_also_where_the_file_has_a_nodata_value(tmp_path, own_mask):
    hidden_HW = np.zeros((150, 130), bool)
    hidden_HW[10:20, 30:35] = True
    path = write(tmp_path / "a.tif", HEIGHTS, hidden_HW=hidden_HW, own_mask=own_mask, nodata=-9999)
    with open_raster(path, tmp_path) as file:
        assert (file.header.masks, file.header.nodata) == ((1,), (-9999,))
        np.testing.assert_array_equal(file.hidden((1,)), hidden_HW)


def test_alpha_of_zero_hides_pixels_unless_it_is_a_band(tmp_path):
    rgba = np.concatenate([RGB, np.full((1, 150, 130), 255, np.uint8)])
    rgba[3, 4, 5], rgba[3, 6, 7] = 0, 1
    with open_raster(write(tmp_path / "a.tif", rgba, photometric="rgb", alpha="yes"), tmp_path) as file:
        assert (file.header.alpha, file.header.masks) == (4, (None,) * 4)
        assert np.argwhere(file.hidden((1,))).tolist() == [[4, 5]]
        assert file.hidden((1,), alpha=False) is None


def vrt(path, *sources, extra=""):
    """A VRT with one band per source; `extra` is XML of its first band."""
    bands = []
    for number, source in enumerate(sources, 1):
        with rasterio.open(source) as file:
            kind = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[file.dtypes[0]]
        place = f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>1</SourceBand>'
        bands.append(
            f'<VRTRasterBand dataType="{kind}" band="{number}">{extra if number == 1 else ""}'
            f"<SimpleSource>{place}</SimpleSource></VRTRasterBand>"
        )
    path.write_text(f'<VRTDataset rasterXSize="130" rasterYSize="150">{"".join(bands)}</VRTDataset>')
    return path


def test_a_mask_of_a_band_hides_pixels_of_that_band(tmp_path):
    valid_HW = np.full((150, 130), 255, np.uint8)
    valid_HW[10:20, 30:35] = 0
    write(tmp_path / "valid.tif", valid_HW[None])
    source = write(tmp_path / "a.tif", HEIGHTS)
    mask = '<SimpleSource><SourceFilename relativeToVRT="1">valid.tif</SourceFilename></SimpleSource>'
    extra = f'<MaskBand><VRTRasterBand dataType="Byte">{mask}</VRTRasterBand></MaskBand>'
    with open_raster(vrt(tmp_path / "a.vrt", source, source, extra=extra), tmp_path) as file:
        assert file.header.masks == (1, None)
        for numbers in ((1,), (1, 2)):
            np.testing.assert_array_equal(file.hidden(numbers), valid_HW == 0)
        assert file.hidden((2,)) is None


def test_bands_of_different_types_are_refused_with_a_type_that_holds_both(tmp_path):
    sources = [write(tmp_path / f"{n}.tif", RGB[:1].astype(dtype)) for n, dtype in enumerate(("uint8", "uint16"))]
    with open_raster(vrt(tmp_path / "a.vrt", *sources), tmp_path) as file:
        file.require_dtype((1,), ("uint8", "uint16"))
        with pytest.raises(Rejected, match="different pixel types, uint16 and uint8; .* -ot UInt16 OLD.tif NEW.tif"):
            file.require_dtype((1, 2), ("uint8", "uint16"))


@pytest.mark.parametrize(
    ("dtype", "expected", "command"),
    [
        ("uint16", ("uint8",), "-ot Byte -scale 0 65535 0 255 OLD.tif NEW.tif"),
        ("float32", ("uint8",), "-ot Byte OLD.tif NEW.tif"),
        ("uint8", ("float32", "float64", "int16"), "-ot Float32 OLD.tif NEW.tif"),
    ],
)
def test_a_wrong_pixel_type_comes_with_a_complete_command(tmp_path, dtype, expected, command):
    with pytest.raises(Rejected, match=f"convert it: gdal_translate {command}$"):
        read(write(tmp_path / "a.tif", RGB[:1].astype(dtype)), 1, expected)


def test_a_colour_that_means_missing_is_the_nodata_value_of_each_band(tmp_path):
    path = write(tmp_path / "a.tif", RGB)
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="255 0 9")
    with open_raster(path, tmp_path) as file:
        assert (file.header.masks, pick(file, (3, 1), 2, None, "", "").nodata) == ((None,) * 3, ((9, 255),))
        assert pick(file, None, 3, (), "", "").nodata == ()


def test_bands_without_a_nodata_value_have_no_say(tmp_path):
    sources = [write(tmp_path / f"{n}.tif", RGB[n : n + 1]) for n in range(2)]
    path = vrt(tmp_path / "a.vrt", *sources, extra="<NoDataValue>7</NoDataValue>")
    with open_raster(path, tmp_path) as file:
        assert pick(file, None, 2, None, "", "").nodata == ((7, None),)
        assert pick(file, (2,), 1, None, "", "").nodata == ()


def test_an_alpha_band_and_a_palette_hide_pixels_unless_the_data_set_says_otherwise(tmp_path):
    rgba = write(tmp_path / "a.tif", np.concatenate([RGB, RGB[:1]]), photometric="rgb", alpha="yes")
    paletted = write(tmp_path / "b.tif", RGB[:1], palette={0: (1, 2, 3, 255)}, nodata=0)
    with open_raster(rgba, tmp_path) as file:
        assert [pick(file, None, 3, None, "", "", alpha=alpha).alpha for alpha in (True, False)] == [True, False]
    with open_raster(paletted, tmp_path) as file:
        found = [pick(file, None, 3, nodata, "", "").palette[0] for nodata in (None, (9,), ())]
    assert found == [(1, 2, 3, 0), (1, 2, 3, 255), (1, 2, 3, 255)]


def test_a_wrong_number_of_picked_bands_is_refused(tmp_path):
    with (
        open_raster(write(tmp_path / "a.tif", RGB), tmp_path) as file,
        pytest.raises(Rejected, match="dataset.yaml picks 1 of its 3 bands, expected 3; correct its `bands`"),
    ):
        pick(file, (1,), 3, None, "", "")


@pytest.mark.parametrize(("name", "error_px"), [("a.png", 0), ("a.jpg", 40), ("A.JPEG", 40)])
def test_pictures_of_other_formats_are_read(tmp_path, name, error_px):
    smooth = np.clip(np.add.outer(np.arange(150), np.arange(130)), 0, 255).astype(np.uint8)
    path = tmp_path / name
    Image.fromarray(smooth).save(path, **({} if name.endswith("png") else {"quality": 95}))
    pixels_BHW, _ = read(path, 1)
    assert np.abs(pixels_BHW[0].astype(int) - smooth).max() <= error_px


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("a.jpg", "JPEG")])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.98])
def test_a_truncated_picture_is_an_error(tmp_path, name, format, keep):
    path = tmp_path / name
    Image.fromarray(np.moveaxis(RGB, 0, -1)).save(path)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(DataError, match=f"{name}: not a readable {format} "):
        read(path)


def test_a_file_is_opened_as_what_its_name_says_and_as_nothing_else(tmp_path):
    write(tmp_path / "b.tif", RGB, transform=HERE)
    vrt = '<VRTDataset rasterXSize="1" rasterYSize="1"/>'
    for name in ("a.png", "a.jpg", "a.tif"):
        (tmp_path / name).write_text(vrt)
        with pytest.raises(DataError, match=f"{name}: not a readable"):
            read(tmp_path / name)
    (tmp_path / "a.gml").write_text(vrt)
    with pytest.raises(DataError, match=r"a.gml: .gml files are not supported; convert it with gdal_translate to .tif"):
        read(tmp_path / "a.gml")


def test_a_rejection_travels_between_processes_with_all_it_says(tmp_path):
    error = pickle.loads(pickle.dumps(Rejected("unreadable", "is broken", tmp_path / "a.tif")))
    assert (error.code, error.sentence, error.path) == ("unreadable", "is broken", tmp_path / "a.tif")
    assert str(error) == f"{tmp_path}/a.tif: is broken"


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("uint8", 7.0, [False, True, False]),
        ("uint8", -1.0, None),
        ("uint8", 256.0, None),
        ("uint8", 6.5, None),
        ("uint8", float("nan"), None),
        ("int16", -9999.0, [False, False, False]),
        ("uint16", -9999.0, None),
        ("uint16", 3.4e38, None),
        ("float32", float("nan"), [False, False, True]),
        ("float32", 0.1, [True, False, False]),
        ("float64", float("nan"), [False, False, True]),
    ],
)
def test_a_value_is_compared_in_the_type_of_the_pixels_or_not_at_all(dtype, value, expected):
    pixels = np.array([0.1, 7, np.nan if dtype.startswith("f") else 9]).astype(dtype)
    found = equal_to(pixels, value)
    assert found is None if expected is None else found.tolist() == expected


def test_the_lowest_float32_is_found_though_the_tag_holds_it_as_a_double():
    assert equal_to(np.array([np.finfo(np.float32).min], np.float32), -3.4028234663852886e38).tolist() == [True]
    assert equal_to(np.array([1, -np.inf], np.float32), -1.7976931348623157e308).tolist() == [False, True]


def test_a_vrt_that_leaves_the_folder_is_rejected(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "outside.tif", RGB, **PLACED)
    vrt = tmp_path / "data" / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="130" rasterYSize="150"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">../outside.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(Rejected, match=r"a.vrt: its source '../outside.tif' lies outside") as caught:
        read(vrt, 1)
    assert caught.value.code == "unreadable"
