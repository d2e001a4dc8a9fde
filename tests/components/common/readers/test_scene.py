from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pyproj
import pytest
from rasterio import Affine
from rasterio.enums import ColorInterp

from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.errors import DataError
from components.common.rasterfiles.rasters import Rejected
from components.common.readers.scene import SceneFiles, open_scene
from tests.components.common.readers.conftest import write

RGB = ImageInfo(files="", bands=("r", "g", "b"), range=(0, 255), mean=(0.5,) * 3, std=(0.2,) * 3)
GREY = replace(RGB, bands=("grey",), mean=(0.5,), std=(0.2,))
HEIGHTS = DsmInfo(files="", relative_to="datum")
HERE = Affine(0.5, 0, 450_000, 0, -0.5, 5_410_000)
PLACED = {"crs": "EPSG:32631", "transform": HERE}
HEIGHT, WIDTH = 60, 80
ALL = slice(0, HEIGHT), slice(0, WIDTH)
RECTANGLES = [ALL, (slice(0, 1), slice(79, 80)), (slice(13, 47), slice(5, 71)), (slice(59, 60), slice(0, 80))]
PIXELS = np.random.default_rng(0).integers(1, 255, (3, HEIGHT, WIDTH), dtype=np.uint8)


@contextmanager
def scene(folder, image_BHW=None, dsm_HW=None, *, info=RGB, heights=HEIGHTS, image=None, dsm=None):
    """An open scene of the files that are given; `image` and `dsm` are facts of these files."""
    names = {"image": (), "dsm": ()}
    for kind, pixels, facts in (("image", image_BHW, image), ("dsm", dsm_HW, dsm)):
        if pixels is not None:
            path = folder / f"{kind}.tif"
            path.unlink(missing_ok=True)
            names[kind] = (str(write(path, pixels.reshape(-1, *pixels.shape[-2:]), **(PLACED | (facts or {})))),)
    with ExitStack() as stack:
        yield open_scene(SceneFiles(**names, image_info=info, dsm_info=heights, crs=None), stack)


def codes(opened):
    return [(kind, note.code) for kind, note in opened.notes]


def surface(crs, transform, height, width):
    """Heights at the centres of pixels by their UTM coordinates: 0.1 m per metre east, -0.05 m per metre north."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = transform @ (columns, rows)
    east, north = pyproj.Transformer.from_crs(crs, "EPSG:32631", always_xy=True).transform(x, y)
    return 60 + 0.1 * (east - 450_000) - 0.05 * (north - 5_410_000)


def test_an_image_comes_as_it_is_in_any_rectangle(tmp_path):
    with scene(tmp_path, PIXELS) as opened:
        for rows, columns in RECTANGLES:
            image_hwC, missing_hw = opened.image_rows(rows, columns)
            np.testing.assert_array_equal(image_hwC, np.moveaxis(PIXELS, 0, -1)[rows, columns])
            assert (missing_hw.shape, missing_hw.any()) == (image_hwC.shape[:2], False)
            assert np.isnan(opened.metres(rows, columns)).all()
        assert (opened.dsm, codes(opened), opened.grid.crs) == (None, [], "EPSG:32631")


def test_a_dsm_without_an_image_defines_the_grid(tmp_path):
    dsm_HW = surface("EPSG:32631", HERE, HEIGHT, WIDTH).astype(np.float32)
    with scene(tmp_path, dsm_HW=dsm_HW) as opened:
        assert (opened.image, opened.grid.height_px, opened.grid.width_px) == (None, HEIGHT, WIDTH)
        assert (opened.grid.transform, opened.grid.crs) == (HERE, "EPSG:32631")
        for rows, columns in RECTANGLES:
            np.testing.assert_array_equal(opened.metres(rows, columns), dsm_HW[rows, columns])
            image_hwC, missing_hw = opened.image_rows(rows, columns)
            assert (image_hwC.shape[-1], image_hwC.any(), missing_hw.all()) == (3, False, True)


def test_a_scene_of_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="neither an image nor a DSM"), scene(tmp_path):
        pass


def nodata(tmp_path, hidden_HW):
    return scene(tmp_path, np.where(hidden_HW, 0, PIXELS).astype(np.uint8), image={"nodata": 0})


def mask(tmp_path, hidden_HW):
    return scene(tmp_path, PIXELS, image={"hidden_HW": hidden_HW})


def alpha(tmp_path, hidden_HW):
    opaque_HW = np.where(hidden_HW, 0, 255).astype(np.uint8)
    return scene(tmp_path, np.concatenate([PIXELS, opaque_HW[None]]), image={"photometric": "rgb", "alpha": "yes"})


def not_a_number(tmp_path, hidden_HW):
    return scene(tmp_path, np.where(hidden_HW, np.nan, PIXELS).astype(np.float32))


def transparent_colour(tmp_path, hidden_HW):
    palette = {n: (n, 255 - n, n // 2, 255) for n in range(1, 256)} | {0: (9, 9, 9, 0)}
    return scene(
        tmp_path, np.where(hidden_HW, 0, PIXELS[:1]).astype(np.uint8), image={"palette": palette, "driver": "PNG"}
    )


@pytest.mark.parametrize("marked", [nodata, mask, alpha, not_a_number, transparent_colour])
@pytest.mark.parametrize(("rows", "columns"), RECTANGLES)
def test_what_a_file_marks_is_no_image_in_any_rectangle(tmp_path, marked, rows, columns):
    hidden_HW = np.zeros((HEIGHT, WIDTH), bool)
    hidden_HW[10:30, 60:] = hidden_HW[50:, :9] = True
    with marked(tmp_path, hidden_HW) as opened:
        image_hwC, missing_hw = opened.image_rows(rows, columns)
        np.testing.assert_array_equal(missing_hw, hidden_HW[rows, columns])
        if marked is not transparent_colour:
            expected_hwC = np.moveaxis(PIXELS, 0, -1)[rows, columns]
            np.testing.assert_array_equal(image_hwC[~missing_hw], expected_hwC[~missing_hw])


def test_colours_of_a_palette_are_three_bands(tmp_path):
    palette = {n: (n, 255 - n, n // 2, 255) for n in range(256)}
    with scene(tmp_path, PIXELS[:1], image={"palette": palette}) as opened:
        image_hwC, _ = opened.image_rows(slice(3, 9), slice(4, 70))
    index_hw = PIXELS[0, 3:9, 4:70].astype(int)
    np.testing.assert_array_equal(image_hwC, np.stack([index_hw, 255 - index_hw, index_hw // 2], axis=-1))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_values_of_the_range_become_0_to_255_whatever_their_type(tmp_path, dtype):
    info = replace(RGB, range=(0, 2550), band_numbers=(3, 1, 2))
    with scene(tmp_path, (PIXELS.astype(int) * 10).astype(dtype), info=info) as opened:
        image_hwC, _ = opened.image_rows(slice(5, 50), slice(8, 33))
    np.testing.assert_array_equal(image_hwC, np.moveaxis(PIXELS[[2, 0, 1]], 0, -1)[5:50, 8:33])


def test_wrong_bands_name_the_option_that_picks_them(tmp_path):
    four_BHW = np.concatenate([PIXELS, PIXELS[:1]])
    undefined = {"colours": [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]}
    for pixels_BHW, info, sentence in (
        (four_BHW, RGB, "has 4 bands, expected 3; .*, or pick its bands, for example --bands 1,2,3$"),
        (PIXELS[:2], RGB, "has 2 bands, expected 3; .*, or use a model of its bands$"),
        (PIXELS, replace(RGB, band_numbers=(1, 2, 4)), "has 3 bands, but --bands asks for band 4; correct it$"),
    ):
        facts = undefined if len(pixels_BHW) == 4 else {}
        with pytest.raises(Rejected, match=sentence), scene(tmp_path, pixels_BHW, info=info, image=facts):
            pass
    with pytest.raises(Rejected, match="has 2 bands, expected 1; .*, for example gdal_translate -b 1$"):
        scene(tmp_path, PIXELS, PIXELS[:2].astype(np.float32)).__enter__()


@pytest.mark.parametrize(("relative_to", "fits"), [("ground", True), ("datum", False)])
def test_heights_of_8_bits_are_heights_above_the_ground(tmp_path, relative_to, fits):
    heights = replace(HEIGHTS, relative_to=relative_to)
    if fits:
        with scene(tmp_path, PIXELS, PIXELS[0], heights=heights) as opened:
            np.testing.assert_array_equal(opened.metres(*RECTANGLES[2]), PIXELS[0][RECTANGLES[2]].astype(np.float32))
        return
    with pytest.raises(Rejected, match="its pixels are uint8"), scene(tmp_path, PIXELS, PIXELS[0], heights=heights):
        pass


def test_two_files_without_a_position_share_a_grid_if_they_have_one_size(tmp_path):
    nowhere = {"crs": None, "transform": None}
    dsm_HW = surface("EPSG:32631", HERE, HEIGHT, WIDTH).astype(np.float32)
    with scene(tmp_path, PIXELS, dsm_HW, image=nowhere, dsm=nowhere) as opened:
        np.testing.assert_array_equal(opened.metres(*RECTANGLES[2]), dsm_HW[RECTANGLES[2]])
        assert (opened.grid.transform, codes(opened)) == (None, [])
    with (
        pytest.raises(Rejected, match="is 79 x 60 px, the image 80 x 60 px"),
        scene(tmp_path, PIXELS, dsm_HW[:, :79], image=nowhere, dsm=nowhere),
    ):
        pass


def test_a_position_without_a_reference_system_is_noted(tmp_path):
    with scene(tmp_path, PIXELS, image={"crs": None}) as opened:
        assert (codes(opened), opened.grid.transform) == ([("image", "crs-missing")], HERE)


@pytest.mark.parametrize(
    ("shift", "covered"), [(Affine.translation(30, 20), 40 * 50), (Affine.translation(9000, 0), 0)]
)
@pytest.mark.parametrize("turn", [Affine.identity(), Affine.rotation(1e-3)], ids=["same grid", "warped"])
def test_what_a_dsm_does_not_cover_is_not_measured(tmp_path, shift, covered, turn):
    place = HERE @ shift @ turn
    dsm_HW = surface("EPSG:32631", place, HEIGHT, WIDTH).astype(np.float32)
    with scene(tmp_path, PIXELS, dsm_HW, dsm={"transform": place}) as opened:
        metres_HW = opened.metres(*ALL)
        measured_HW = ~np.isnan(metres_HW)
        assert measured_HW.sum() == covered
        expected_HW = surface("EPSG:32631", HERE, HEIGHT, WIDTH)
        np.testing.assert_allclose(metres_HW[measured_HW], expected_HW[measured_HW], atol=0.03)
        assert ("dsm", "low-coverage") in codes(opened)


def test_holes_are_never_mixed_into_heights_that_are_warped(tmp_path):
    place = HERE @ Affine.translation(-10.5, -10.5)
    dsm_HW = surface("EPSG:32631", place, 90, 110).astype(np.float32)
    dsm_HW[40:44, 50:54] = -9999  # by rows 29.5 to 33.5 and columns 39.5 to 43.5 of the image
    with scene(tmp_path, PIXELS, dsm_HW, dsm={"transform": place, "nodata": -9999}) as opened:
        metres_HW = opened.metres(*ALL)
    missing_HW = np.isnan(metres_HW)
    assert missing_HW[30:33, 40:43].all()
    assert missing_HW.sum() <= 25
    expected_HW = surface("EPSG:32631", HERE, HEIGHT, WIDTH)
    np.testing.assert_allclose(metres_HW[~missing_HW], expected_HW[~missing_HW], atol=0.06)


def test_a_nodata_value_that_the_file_does_not_name_is_found_and_noted(tmp_path):
    dsm_HW = surface("EPSG:32631", HERE, HEIGHT, WIDTH).astype(np.float32) + 200
    dsm_HW[20:30, 30:42] = 0
    with scene(tmp_path, PIXELS, dsm_HW) as opened:
        while opened.metres(*ALL).size and opened.dsm.learned():
            pass
        np.testing.assert_array_equal(np.isnan(opened.metres(*ALL)), dsm_HW == 0)
        ((kind, note),) = opened.notes
    assert (kind, note.code) == ("dsm", "dsm-nodata-found")
    assert note.sentence.startswith("the value 0 repeats far from all other heights; read as not measured: state it in")


LON, LAT = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(450_000, 5_410_000)
DEGREE = 0.5 / 111_000
SYSTEMS = {  # where an image of about 0.5 m per pixel starts, within a few metres of (450000, 5410000) in UTM zone 31
    "utm": ("EPSG:32631", HERE),
    "compound": ("EPSG:32631+5773", HERE),
    "geographic": ("EPSG:4326", Affine(DEGREE * 1.5, 0, LON, 0, -DEGREE, LAT)),
    "national": ("EPSG:2154", None),
    "web-mercator": ("EPSG:3857", None),
    "rotated": ("EPSG:32631", HERE @ Affine.rotation(33)),
    "south-up": ("EPSG:32631", Affine(0.5, 0, 450_000, 0, 0.5, 5_410_000)),
}


def placed(name):
    """The CRS and the transform of a raster."""
    crs, transform = SYSTEMS[name]
    if transform is None:
        x, y = pyproj.Transformer.from_crs("EPSG:32631", crs, always_xy=True).transform(450_000, 5_410_000)
        transform = Affine(0.5, 0, x, 0, -0.5, y)
    return crs, transform


@pytest.mark.parametrize("dsm", ["utm", "geographic", "national", "rotated"])
@pytest.mark.parametrize("image", SYSTEMS)
def test_a_height_lies_where_its_pixel_lies_on_the_ground_in_every_reference_system(tmp_path, image, dsm):
    crs, transform = placed(image)
    dsm_crs, around = placed(dsm)
    around = around @ Affine.scale(1.3) @ Affine.translation(-190, -190)  # coarser, and larger on all sides
    dsm_HW = surface(dsm_crs, around, 380, 380).astype(np.float32)
    facts = {"crs": crs, "transform": transform}
    with scene(tmp_path, PIXELS, dsm_HW, image=facts, dsm={"crs": dsm_crs, "transform": around}) as opened:
        expected_HW = surface(crs, transform, HEIGHT, WIDTH)
        for rows, columns in RECTANGLES:
            metres_hw = opened.metres(rows, columns)
            np.testing.assert_allclose(metres_hw, expected_HW[rows, columns], atol=1e-3)  # 1 cm on the ground
        assert codes(opened) == [("dsm", "warped")]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.77, 1.0, 2.2])
@pytest.mark.parametrize("image", ["utm", "web-mercator", "rotated"])
def test_the_filter_of_a_finer_dsm_does_not_depend_on_the_rectangle(tmp_path, image, ratio):
    crs, transform = placed(image)
    _, around = placed("national")
    side = int(190 / ratio)
    around = around @ Affine.scale(ratio) @ Affine.translation(-side / 2, -side / 2)
    dsm_HW = np.random.default_rng(0).normal(60, 5, (side, side)).astype(np.float32)
    dsm = {"crs": "EPSG:2154", "transform": around}
    with scene(tmp_path, PIXELS, dsm_HW, image={"crs": crs, "transform": transform}, dsm=dsm) as opened:
        all_HW = opened.metres(*ALL)
        again_HW = opened.metres(*ALL)
        for rows, columns in RECTANGLES:
            np.testing.assert_allclose(opened.metres(rows, columns), all_HW[rows, columns], atol=2e-2)
    np.testing.assert_array_equal(again_HW, all_HW)
