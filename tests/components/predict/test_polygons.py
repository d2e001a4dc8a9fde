"""Polygons cover a map's pixels exactly, whatever its shapes, its transform and the blocks in which it is read."""

from functools import partial

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.features import rasterize
from scipy import ndimage

from components.common.errors import DataError, ParamsError
from components.common.rasterfiles.grids import Grid
from components.common.readers.footprints import pixel_size_m
from components.predict.areas.outlines import outlines
from components.predict.areas.polygons import write_polygons
from components.predict.config import Polygons

NAMES = ("road", "roof", "tree", "car")
PLAIN = Affine(2, 0, 0, 0, -2, 0)  # 4 m2 per pixel
TRANSFORMS = {
    "north-up": Affine(0.05, 0, 300_000, 0, -0.05, 5_800_000),
    "south-up": Affine(0.05, 0, 300_000, 0, 0.05, 5_800_000),
    "rotated": Affine.translation(300_000, 5_800_000) @ Affine.rotation(30) @ Affine.scale(0.2, -0.2),
}
NOISE = np.random.default_rng(7)
RINGS = np.full((11, 11), 1, np.uint8)  # rings within rings, the innermost pixel is nodata
RINGS[1:10, 1:10], RINGS[2:9, 2:9], RINGS[3:8, 3:8], RINGS[5, 5] = 0, 1, 0, 255
TOUCHING = np.zeros((6, 6), np.uint8)  # holes that touch each other and the outline at corners
TOUCHING[1, 1], TOUCHING[2, 2], TOUCHING[3, 1], TOUCHING[0, 3], TOUCHING[1, 4] = 1, 2, 1, 1, 1
MAPS = {
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.array([[0, 0, 1, 255, 2, 2]], np.uint8),
    "one column": np.array([[3], [3], [255], [3]], np.uint8),
    "checkerboard": (np.indices((9, 8)).sum(0) % 2).astype(np.uint8),
    "checkerboard with nodata": np.where(np.indices((9, 8)).sum(0) % 2, 0, 255).astype(np.uint8),
    "rings": RINGS,
    "touching holes": TOUCHING,
    "noise": NOISE.integers(0, 3, (13, 21)).astype(np.uint8),
    "noise with nodata": np.where(NOISE.random((21, 13)) < 0.3, 255, NOISE.integers(0, 2, (21, 13))).astype(np.uint8),
}


@pytest.fixture
def raster(tmp_path):
    def write(pixels, transform=PLAIN, crs="EPSG:32633", name="map.tif"):
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255, "crs": crs, "transform": transform}
        height, width = pixels.shape
        with rasterio.open(tmp_path / name, "w", height=height, width=width, **profile) as file:
            file.write(pixels, 1)
        return tmp_path / name

    return write


def polygons_of(path, confidence=None, heights=None, *, suffix=".parquet", block_px=2048, names=NAMES, **options):
    """The polygons of a map, as a table."""
    request = Polygons(path=path.with_suffix(suffix), **options)
    count = write_polygons(path, names, confidence, heights, request, block_px=block_px)
    table = (geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file)(request.path)
    assert len(table) == count
    return table


def areas_in(pixels):
    """Number of connected areas, counted by another algorithm."""
    return sum(ndimage.label(pixels == value)[1] for value in range(255))


def smooth(side=60, classes=4):
    noise = np.random.default_rng(1).standard_normal((classes, side, side))
    return np.stack([ndimage.gaussian_filter(layer, 2) for layer in noise]).argmax(0).astype(np.uint8)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("pixels", MAPS.values(), ids=MAPS)
def test_polygons_are_valid_do_not_overlap_and_are_the_pixels_of_the_map(raster, pixels, transform):
    table = polygons_of(raster(pixels, transform))
    assert len(table) == areas_in(pixels)
    assert table.is_valid.all() and shapely.coverage_is_valid(table.geometry.values)
    drawn = rasterize(zip(table.geometry, table["value"], strict=True), pixels.shape, 255, transform=transform)
    assert (drawn == pixels).all()
    assert table.area.sum() == pytest.approx((pixels != 255).sum() * abs(transform.determinant), rel=1e-6)


@pytest.mark.parametrize("pixels", MAPS.values(), ids=MAPS)
def test_the_union_of_all_polygons_is_exactly_the_union_of_the_pixels_with_a_class(raster, pixels):
    table = polygons_of(raster(pixels))
    rows, columns = np.nonzero(pixels != 255)
    squares = shapely.box(2 * columns, -2 * rows, 2 * columns + 2, -2 * rows - 2)
    assert shapely.union_all(table.geometry.values).symmetric_difference(shapely.union_all(squares)).area == 0
    assert table.area.sum() == shapely.area(squares).sum()


@pytest.mark.parametrize("block_px", [3, 8])
@pytest.mark.parametrize("name", ["rings", "touching holes", "noise", "noise with nodata"])
def test_the_block_size_changes_nothing(raster, name, block_px):
    pixels = MAPS[name]
    path, percent = raster(pixels), raster(NOISE.integers(0, 101, pixels.shape).astype(np.uint8), name="percent.tif")
    metres = NOISE.normal(10, 5, pixels.shape).astype(np.float32)
    options = {"confidence": percent, "heights": lambda rows, columns: metres[rows, columns], "min_area_m2": 8.0}
    complete, blocks = (polygons_of(path, **options, block_px=size) for size in (2048, block_px))
    assert complete.equals(blocks)
    assert complete.to_wkb().equals(blocks.to_wkb())


@pytest.mark.parametrize("name", ["rings", "touching holes", "noise with nodata"])
def test_areas_traced_one_by_one_have_the_same_polygons(raster, monkeypatch, name):
    path = raster(MAPS[name])
    at_once = polygons_of(path)
    monkeypatch.setattr("components.predict.areas.polygons.outlines", partial(outlines, lines_at_once=1))
    assert polygons_of(path).to_wkb().equals(at_once.to_wkb())


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
def test_every_format_has_the_same_columns_and_reference_system(raster, suffix):
    path = raster(np.array([[0, 2, 2]], np.uint8))
    percent = raster(np.array([[255, 80, 61]], np.uint8), name="percent.tif")
    table = polygons_of(path, percent, lambda rows, columns: np.array([[np.nan, 3.0, 5.04]]), suffix=suffix)
    assert table.crs == "EPSG:32633"
    assert list(table.columns) == ["class", "value", "area_m2", "confidence", "height_m", "geometry"]
    table = table.sort_values("value")
    assert table["class"].tolist() == ["road", "tree"]
    assert table["confidence"].tolist()[1] == 70.5 and table["confidence"].isna().tolist() == [True, False]
    assert table["height_m"].tolist()[1] == 4.0 and table["height_m"].isna().tolist() == [True, False]
    assert table.area.tolist() == [4, 8]


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
def test_a_map_without_classes_is_an_empty_layer_with_all_columns(raster, suffix):
    table = polygons_of(raster(np.full((5, 4), 255, np.uint8)), suffix=suffix)
    assert len(table) == 0 and table.crs == "EPSG:32633"
    assert {"class", "value", "area_m2", "confidence", "height_m"} <= set(table.columns)


def test_a_geopackage_has_one_layer_of_polygons_and_its_bytes_depend_on_the_map_only(raster):
    path = raster(MAPS["noise"])
    polygons_of(path, suffix=".gpkg")
    once = path.with_suffix(".gpkg").read_bytes()
    assert pyogrio.list_layers(path.with_suffix(".gpkg")).tolist() == [["classes", "Polygon"]]
    polygons_of(path, suffix=".gpkg")
    assert path.with_suffix(".gpkg").read_bytes() == once
    assert sorted(one.name for one in path.parent.iterdir()) == ["map.gpkg", "map.tif"]


def test_a_map_without_a_position_has_polygons_in_pixels(raster):
    table = polygons_of(raster(np.array([[0, 1, 1]], np.uint8), Affine(1, 0, 9, 0, -1, 0), None), suffix=".gpkg")
    assert table["area_m2"].tolist() == [1, 2]


def test_the_median_height_is_exact_to_half_a_step_for_negative_and_high_values(raster):
    metres = np.array([[-12.34, -3.0, 8848.86, 1.0], [np.nan, np.nan, 0.31, 0.72]], np.float32)
    pixels = np.array([[0, 0, 0, 1], [0, 2, 3, 3]], np.uint8)
    for block_px in (1, 3, 2048):
        table = polygons_of(raster(pixels), None, lambda rows, columns: metres[rows, columns], block_px=block_px)
        found = table.set_index("class")["height_m"]
        assert found["road"] == pytest.approx(-3.0) and found["roof"] == 1.0 and np.isnan(found["tree"])
        assert found["car"] == pytest.approx((0.31 + 0.72) / 2, abs=0.05)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(1, 0, 1_113_194, 0, -1, 8_399_737)),  # 60 degrees north: four times too large
        ("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60)),
        ("EPSG:32632", Affine(1, 0, 555_000, 0, -1, 6_651_000)),
        ("EPSG:2263", Affine(3, 0, 984_000, 0, -3, 209_000)),  # feet
    ],
    ids=["Web Mercator", "geographic", "UTM", "feet"],
)
def test_areas_are_measured_on_the_ground(raster, crs, transform):
    pixels = np.zeros((40, 30), np.uint8)
    pixels[:, 10:] = 1
    table = polygons_of(raster(pixels, transform, crs))
    wide_m, high_m = pixel_size_m(Grid(40, 30, transform, rasterio.CRS.from_string(crs)))
    assert table["area_m2"].tolist() == pytest.approx([400 * wide_m * high_m, 800 * wide_m * high_m], rel=1e-4)
    geod = pyproj.Geod(ellps="WGS84")
    assert table["area_m2"].sum() == pytest.approx(
        sum(abs(geod.geometry_area_perimeter(shape)[0]) for shape in table.geometry.to_crs(4326)), rel=1e-4
    )


def test_areas_follow_the_latitude_on_a_tall_raster(raster):
    pixels = np.repeat(np.array([[0], [1], [2], [3]], np.uint8), 50, axis=0).repeat(10, axis=1)
    table = polygons_of(raster(pixels, Affine(0.02, 0, 10, 0, -0.02, 64), "EPSG:4326"))
    geod = pyproj.Geod(ellps="WGS84")
    expected = [abs(geod.geometry_area_perimeter(shape.segmentize(0.02))[0]) for shape in table.geometry]
    assert table["area_m2"].tolist() == pytest.approx(expected, rel=2e-4)
    assert expected[3] > 1.05 * expected[0]


def test_a_small_area_joins_the_neighbour_with_the_longest_border(raster):
    pixels = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 2, 2, 1, 1], [3, 3, 3, 3, 3, 3]], np.uint8)
    table = polygons_of(raster(pixels), min_area_m2=10.0)  # tree: 8 m2; borders: road 2 + 2, roof 2 + 2, car 4
    assert dict(zip(table["class"], table["area_m2"].round(), strict=True)) == {"road": 20, "roof": 20, "car": 32}
    assert table.area.sum() == pixels.size * 4 and shapely.coverage_is_valid(table.geometry.values)


def test_the_longest_border_is_measured_in_metres_not_in_pixels(raster):
    pixels = np.array([[0, 0, 2], [0, 0, 2], [0, 0, 2], [1, 1, 1], [1, 1, 1]], np.uint8)
    maps = [raster(pixels, Affine(1, 0, 500_000, 0, -high, 0), None, f"{high}.tif") for high in (1.0, 0.1)]
    square, flat = (polygons_of(path, min_area_m2=4 * high) for path, high in zip(maps, (1.0, 0.1), strict=True))
    assert square["area_m2"].round(1).tolist() == [9, 6]  # the tree touches road over three sides, 3 m, roof over 1 m
    assert flat["area_m2"].round(1).tolist() == [0.6, 0.9]  # road over three sides, 0.3 m, roof over 1 m


def test_areas_of_one_class_become_one_when_a_small_area_between_them_joins_it(raster):
    pixels = np.array([[0, 0, 1, 0, 0, 0]], np.uint8)
    table = polygons_of(raster(pixels), min_area_m2=5.0)
    assert table["class"].tolist() == ["road"] and table.geometry[0].equals(shapely.box(0, -2, 12, 0))


def test_a_small_area_in_a_small_area_goes_first(raster):
    pixels = np.zeros((9, 9), np.uint8)
    pixels[3:6, 3:6], pixels[4, 4] = 1, 2  # a roof of 8 pixels with one pixel of tree in it
    table = polygons_of(raster(pixels), min_area_m2=9 * 4 * 0.99)
    assert table.set_index("class")["value"].to_dict() == {"road": 0, "roof": 1}
    assert len(polygons_of(raster(pixels), min_area_m2=9 * 4 * 1.01)) == 1


def test_a_small_area_among_nodata_is_dropped_and_logged(raster, caplog):
    pixels = np.full((6, 6), 255, np.uint8)
    pixels[0, 0], pixels[2:, 2:] = 1, 0
    with caplog.at_level("INFO"):
        table = polygons_of(raster(pixels), min_area_m2=5.0)
    assert table["class"].tolist() == ["road"] and table.area.sum() == 64
    assert "0 polygons below 5 m2 joined a neighbour; 1 without a neighbour are dropped" in caplog.text


def test_no_polygon_is_below_the_limit_and_the_same_ground_is_covered(raster):
    pixels = np.random.default_rng(3).integers(0, 4, (50, 40)).astype(np.uint8)
    table = polygons_of(raster(pixels), min_area_m2=60.0)
    assert table["area_m2"].min() >= 60 and 1 < len(table) < 150
    assert table.area.sum() == pixels.size * 4
    assert table.is_valid.all() and shapely.coverage_is_valid(table.geometry.values)


def test_statistics_of_joined_areas_are_those_of_all_their_pixels(raster):
    path = raster(np.array([[0, 0, 0, 1]], np.uint8))
    percent = raster(np.array([[90, 90, 90, 50]], np.uint8), name="percent.tif")
    table = polygons_of(path, percent, lambda *_: np.array([[1.0, 2.0, 3.0, 4.0]]), min_area_m2=5.0)
    assert table[["value", "confidence", "height_m"]].values.tolist() == [[0, 80, 2.5]]


@pytest.mark.parametrize(
    ("crs", "transform"), [("EPSG:32633", TRANSFORMS["rotated"]), ("EPSG:4326", Affine(4e-6, 0, 10, 0, -2e-6, 60))]
)
def test_simplified_neighbours_share_their_border_and_the_outline_stays(raster, crs, transform):
    pixels = smooth()
    pixels[20:30, :15] = 255
    path = raster(pixels, transform, crs)
    exact, simple = polygons_of(path), polygons_of(path, simplify_m=0.4)
    assert simple.is_valid.all() and shapely.coverage_is_valid(simple.geometry.values)
    assert shapely.get_num_coordinates(simple.geometry).sum() < 0.6 * shapely.get_num_coordinates(exact.geometry).sum()
    outline, before = (shapely.union_all(table.geometry.values) for table in (simple, exact))
    assert outline.symmetric_difference(before).area < 1e-9 * before.area
    assert simple[["class", "area_m2"]].equals(exact[["class", "area_m2"]])


def test_the_tolerance_is_in_metres_in_every_reference_system(raster):
    pixels = smooth()
    metric = polygons_of(raster(pixels, Affine(0.223, 0, 555_000, 0, -0.223, 6_651_000), "EPSG:32632"), simplify_m=0.5)
    degrees = polygons_of(raster(pixels, Affine(4e-6, 0, 10, 0, -2e-6, 60), "EPSG:4326"), simplify_m=0.5)
    counts = [shapely.get_num_coordinates(table.geometry).sum() for table in (metric, degrees)]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


def test_other_suffixes_are_rejected_with_a_list_of_the_known_ones(raster):
    with pytest.raises(ParamsError, match=r"map.shp: polygons are written as .gpkg, .fgb, .parquet"):
        polygons_of(raster(MAPS["one pixel"]), suffix=".shp")


def test_a_class_that_has_no_name_is_an_error(raster):
    with pytest.raises(DataError, match="has class 2, but the model has 2 classes"):
        polygons_of(raster(np.array([[0, 2]], np.uint8)), names=("road", "roof"))


def test_a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(raster, monkeypatch):
    def full(*_, **__):
        raise pyogrio.errors.DataSourceError("No space left on device")

    path = raster(MAPS["rings"])
    monkeypatch.setattr("pyogrio.write_dataframe", full)
    with pytest.raises(DataError, match=r"map.gpkg: cannot be written \(No space left on device\)"):
        polygons_of(path, suffix=".gpkg")
    assert [one.name for one in path.parent.iterdir()] == ["map.tif"]
