"""A tile in any reference system, with any kind of position, lands where pyproj computes that it lies.

Heights and labels come in another reference system than the image and tell their place: in tile `east` they grow with
the first coordinate of their system, in tile `north` with the second, one metre per metre. pyproj alone computes which
height and which class belong to the centre of each pixel of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint

from tests.e2e.own_data import described, metres_of

SIDE, GSD_M = 64, 0.2
LIMIT_M = 0.1 * GSD_M
STRIPE_M = 2.0
LABEL_GSD_M = 0.1
AXES = {"east": 0, "north": 1}
LOCAL = (
    'PROJCS["Town grid",GEOGCS["ETRS89",DATUM["European_Terrestrial_Reference_System_1989",SPHEROID["GRS 1980",6378137,'
    '298.257222101]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",50],PARAMETER["central_meridian",10.3],PARAMETER["scale_factor",1],'
    'PARAMETER["false_easting",5000],PARAMETER["false_northing",7000],UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'
)


@dataclass(frozen=True)
class Place:
    """A tile somewhere: the system of its image, and that of its heights and labels."""

    crs: str
    lon_lat: tuple[float, float]
    other: str
    turn: float = 0.0  # degrees

    @property
    def transform(self) -> Affine:
        """Pixel of the image -> its system; pixels are 0.2 x 0.2 m on the ground."""
        (x, y), (dx, dy) = corner_and_units(self.crs, self.lon_lat)
        return Affine.translation(x, y) @ Affine.rotation(self.turn) @ Affine.scale(GSD_M / dx, -GSD_M / dy)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the image's pixels in the other system, as pyproj computes them."""
        rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
        x, y = self.transform @ (columns, rows)
        return pyproj.Transformer.from_crs(self.crs, self.other, always_xy=True).transform(x, y)


PLACES = {
    "UTM": Place("EPSG:25832", (10.2, 51.5), "EPSG:25833"),
    "UTM of WGS 84": Place("EPSG:32633", (13.4, 52.5), "EPSG:4326"),
    "compound": Place("EPSG:25832+7837", (9.1, 48.8), "EPSG:3035"),
    "degrees": Place("EPSG:4326", (8.5, 47.4), "EPSG:32632"),
    "Lambert-93": Place("EPSG:2154", (2.35, 48.85), "EPSG:25831"),
    "British grid": Place("EPSG:27700", (-1.5, 52.0), "EPSG:25830"),
    "Web Mercator": Place("EPSG:3857", (10.7, 59.9), "EPSG:32632"),
    "US feet": Place("EPSG:2263", (-74.0, 40.7), "EPSG:26918"),
    "heights on a grid in US feet": Place("EPSG:26918", (-74.0, 40.7), "EPSG:2263"),
    "turned": Place("EPSG:25832", (7.0, 50.9), "EPSG:25833", turn=23),
    "no code": Place(LOCAL, (10.4, 50.1), "EPSG:25832"),
    "polar": Place("EPSG:3413", (-40.0, 72.0), "EPSG:32623"),
}
CODED = [name for name, place in PLACES.items() if place.crs.startswith("EPSG:") and "+" not in place.crs]


def corner_and_units(crs: str, lon_lat: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A place in a system, and how many metres on the ground one unit of each axis is there."""
    lonlat = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    start = np.array(lonlat.transform(*lon_lat, direction="INVERSE"))
    step = 1e-4 if pyproj.CRS(crs).is_geographic else 10.0
    ends = [lonlat.transform(*(start + step * np.eye(2)[axis])) for axis in (0, 1)]
    ground = [pyproj.Geod(ellps="WGS84").inv(*lonlat.transform(*start), *end)[2] for end in ends]
    return start, np.array(ground) / step


def metres_along(place: Place, axis: int, coordinate: np.ndarray) -> np.ndarray:
    """Metres from the middle of the tile along an axis of the other system."""
    middle = place.centres()[axis].mean()
    return (coordinate - middle) * corner_and_units(place.other, place.lon_lat)[1][axis]


def stripes(metres: np.ndarray) -> np.ndarray:
    """Class of a place, `metres` from the middle."""
    return (np.floor(metres / STRIPE_M) % 3).astype(np.uint8)


def write(path, pixels_BHW, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels_BHW.shape
    size = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(pixels_BHW)


def write_other(place: Place, path, axis: int, gsd_m: float, side: int, values, dtype) -> None:
    """A layer in the other system, around the tile, whose values tell the place."""
    units = corner_and_units(place.other, place.lon_lat)[1]
    left, top = (axis.mean() for axis in place.centres())
    scale = gsd_m / units
    grid = Affine(scale[0], 0, left - side / 2 * scale[0], 0, -scale[1], top + side / 2 * scale[1])
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    pixels_HW = values(metres_along(place, axis, (grid @ (columns, rows))[axis])).astype(dtype)
    write(path, pixels_HW[None], crs=place.other, transform=grid)


def image_of(tile: str) -> np.ndarray:
    return np.random.default_rng(AXES[tile]).integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8)


def by_transform(place: Place, path, tile: str) -> None:
    write(path, image_of(tile), crs=place.crs, transform=place.transform)


def by_control_points(place: Place, path, tile: str, crs: str | None = None) -> None:
    to_crs = pyproj.Transformer.from_crs(place.crs, crs or place.crs, always_xy=True)
    corners = [(row, column) for row in (0, 21.5, SIDE) for column in (0, 40, SIDE)]
    points = [GroundControlPoint(r, c, *to_crs.transform(*(place.transform @ (c, r)))) for r, c in corners]
    write(path, image_of(tile), crs=crs or place.crs, gcps=points)


def by_control_points_in_degrees(place: Place, path, tile: str) -> None:
    by_control_points(place, path, tile, "EPSG:4326")


def by_world_file(place: Place, path, tile: str) -> None:
    write(path, image_of(tile))
    t = place.transform
    middle = t @ (0.5, 0.5)
    path.with_suffix(".tfw").write_text("".join(f"{n!r}\n" for n in (t.a, t.d, t.b, t.e, *middle)))


def by_world_file_and_prj(place: Place, path, tile: str) -> None:
    by_world_file(place, path, tile)
    path.with_suffix(".prj").write_text(pyproj.CRS(place.crs).to_wkt("WKT1_ESRI"))


def town(place: Place, folder, write_image, **facts):
    """Own data of two tiles on the same ground."""
    data = described(folder, gsd_m=GSD_M, **facts)
    data.split = {"train": list(AXES), "val": [], "test": []}
    for tile, axis in AXES.items():
        write_image(place, data.files / f"images/{tile}.tif", tile)
        write_other(place, data.files / f"dsm/{tile}.tif", axis, 0.4, 128, lambda metres: 100 + metres, np.float32)
        write_other(place, data.files / f"labels/{tile}.tif", axis, LABEL_GSD_M, 400, stripes, np.uint8)
    return data


def horizontal(crs: str) -> int | None:
    """Code of a system without its heights; None: it has none."""
    system = pyproj.CRS(crs)
    return (system.sub_crs_list[0] if system.is_compound else system).to_epsg()


def assert_in_place(place: Place, ended) -> None:
    """Grid, heights and labels of the store are those that pyproj computes, to a tenth of a pixel."""
    assert ended.store is not None and not ended.found(), ended.said()
    corners = np.array([(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]).T
    for entry in ended.store.manifest.tiles:
        axis, tile = AXES[entry.id], ended.store[entry]
        np.testing.assert_array_equal(tile.image_HWC, image_of(entry.id).transpose(1, 2, 0))
        to_place = pyproj.Transformer.from_crs(entry.crs, place.crs, always_xy=True)
        seen = ~place.transform @ to_place.transform(*(Affine(*entry.transform) @ tuple(corners)))
        np.testing.assert_allclose(seen, corners, atol=0.1)
        metres = metres_along(place, axis, place.centres()[axis])
        np.testing.assert_allclose(metres_of(ended.store, entry.id), 100 + metres, atol=LIMIT_M)
        edge = np.abs((metres + STRIPE_M / 2) % STRIPE_M - STRIPE_M / 2)
        clear = edge > LIMIT_M + LABEL_GSD_M  # the nearest pixel of the label lies on the same stripe
        assert clear.mean() > 0.6
        np.testing.assert_array_equal(tile.label_HW[clear], stripes(metres)[clear])


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("write_image", [by_transform, by_control_points, by_world_file_and_prj])
def test_a_tile_lands_where_its_own_files_say(tmp_path, name, write_image):
    ended = town(PLACES[name], tmp_path, write_image).run()
    assert_in_place(PLACES[name], ended)
    assert {horizontal(entry.crs) for entry in ended.store.manifest.tiles} == {horizontal(PLACES[name].crs)}


@pytest.mark.parametrize("name", PLACES)
def test_a_tile_with_control_points_in_degrees_lands_where_they_say(tmp_path, name):
    assert_in_place(PLACES[name], town(PLACES[name], tmp_path, by_control_points_in_degrees).run())


@pytest.mark.parametrize("name", CODED)
def test_a_tile_with_a_world_file_lies_in_the_system_of_the_data_set(tmp_path, name):
    assert_in_place(PLACES[name], town(PLACES[name], tmp_path, by_world_file, crs=PLACES[name].crs).run())


@pytest.mark.parametrize("name", CODED[:2])
def test_a_tile_with_a_world_file_lies_in_the_system_of_params(tmp_path, name):
    data = town(PLACES[name], tmp_path, by_world_file)
    data.params |= {"data": {"crs": PLACES[name].crs}}
    assert_in_place(PLACES[name], data.run())


def without_position(place: Place, folder, wider: int, write_image):
    """Own data whose heights and labels have no position, and are so many pixels wider than the image."""
    data = described(folder, gsd_m=GSD_M)
    data.split = {"train": list(AXES), "val": [], "test": []}
    for tile, axis in AXES.items():
        write_image(place, data.files / f"images/{tile}.tif", tile)
        ramp = np.broadcast_to(np.expand_dims(np.arange(SIDE + wider), axis), (SIDE + wider, SIDE + wider))
        write(data.files / f"dsm/{tile}.tif", (100 + ramp[:SIDE]).astype(np.float32)[None])
        write(data.files / f"labels/{tile}.tif", (ramp[:SIDE] // 7 % 3).astype(np.uint8)[None])
    return data


def by_nothing(place: Place, path, tile: str) -> None:
    write(path, image_of(tile))


def assert_pixel_by_pixel(ended) -> None:
    """Heights and labels of the store are those of the files, at the same rows and columns."""
    assert ended.store is not None and not ended.found(), ended.said()
    for entry in ended.store.manifest.tiles:
        ramp = np.broadcast_to(np.expand_dims(np.arange(SIDE), AXES[entry.id]), (SIDE, SIDE))
        np.testing.assert_allclose(metres_of(ended.store, entry.id), 100 + ramp, atol=1e-3)
        np.testing.assert_array_equal(ended.store[entry].label_HW, ramp // 7 % 3)


@pytest.mark.parametrize("name", PLACES)
def test_layers_without_position_that_have_the_size_of_the_image_lie_on_its_grid(tmp_path, name):
    ended = without_position(PLACES[name], tmp_path, 0, by_transform).run()
    assert_pixel_by_pixel(ended)
    for entry in ended.store.manifest.tiles:
        np.testing.assert_allclose(entry.transform, PLACES[name].transform[:6])


@pytest.mark.parametrize("name", CODED)
def test_tiles_without_any_position_are_used_pixel_by_pixel(tmp_path, name):
    data = without_position(PLACES[name], tmp_path, 0, by_nothing)
    data.facts["crs"] = PLACES[name].crs
    assert_pixel_by_pixel(data.run())


@pytest.mark.parametrize("write_image", [by_transform, by_nothing])
@pytest.mark.parametrize("wider", [1, -1, 20])
def test_a_layer_without_position_and_of_another_size_is_an_error_with_a_remedy(tmp_path, wider, write_image):
    ended = without_position(PLACES["UTM"], tmp_path, wider, write_image).run()
    assert ended.store is None
    for kind in ("dsm", "labels"):
        (one,) = [f for f in ended.found() if f["file"] == f"{kind}/east.tif"]
        assert f"{SIDE + wider}" in one["sentence"] and f"{SIDE}" in one["sentence"]
        assert "world file" in one["sentence"]
    assert any(one["sentence"] in ended.errors["preprocess"] for one in ended.found())
