"""Maps of real files with a network whose output is known at every pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from rasterio import Affine
from rasterio.warp import transform as to_crs

from components.common.errors import DataError, ParamsError
from components.common.files import digest
from components.predict.config import Polygons, PredictConfig, PredictRequest
from components.predict.step import AgreementError, make_map, run, run_combine
from tests.components.predict.known import FACTS, KnownPredictor, class_of
from tests.components.predict.rasters import NORTH_UP, image_of, write

CONFIG = PredictConfig(
    tiles=None, window_px=None, overlap=0.25, batch_size=4, block_px=256, min_agreement=None, precision="auto"
)


def read(path, band=1):
    with rasterio.open(path) as file:
        return file.read(band)


def tall_map(folder, name, config=CONFIG, predictor=None, **asked):
    output = folder / f"{name}.tif"
    make_map(config, PredictRequest(output=output, **asked), predictor or KnownPredictor())
    return output


def combined(folder, parts, **asked):
    """The map that parts give, combined in an order of their own."""
    files = [tall_map(folder, f"part{n}", part=f"{n}/{parts}", **asked) for n in range(1, parts + 1)]
    run_combine(CONFIG, files[1::2] + files[::2], folder / "combined.tif")
    return folder / "combined.tif"


ROTATED = Affine.translation(369_000, 5_806_500) @ Affine.rotation(30) @ Affine.scale(0.05, -0.05)
SOUTH_UP = Affine(0.05, 0, 369_000, 0, 0.05, 5_806_500)
RASTERS = {
    "odd": (75, 131, NORTH_UP),
    "rotated": (61, 50, ROTATED),
    "south up": (50, 61, SOUTH_UP),
    "smaller than a window": (20, 17, NORTH_UP),
    "one pixel high": (1, 97, NORTH_UP),
}


@pytest.mark.parametrize("name", RASTERS)
@pytest.mark.parametrize("parts", [2, 4, 7])
def test_parts_combined_in_any_order_are_byte_equal_to_one_map(tmp_path, name, parts):
    height, width, transform = RASTERS[name]
    dsm = np.random.default_rng(1).uniform(30, 50, (height, width)).astype(np.float32)
    dsm[: height // 2, : width // 3] = -9999
    asked = {
        "image": (write(tmp_path / "image.tif", image_of(height, width), transform),),
        "dsm": (write(tmp_path / "dsm.tif", dsm, transform, nodata=-9999),),
        "extras": frozenset({"confidence", "sensors"}),
    }
    whole = tall_map(tmp_path, "whole", **asked)
    together = combined(tmp_path, parts, **asked)
    for end in ("", "_confidence", "_sensors"):
        one, other = (path.with_name(f"{path.stem}{end}.tif") for path in (whole, together))
        assert digest(one) == digest(other), end
    assert np.array_equal(read(whole), class_of(image_of(height, width)))


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_of_a_real_network_are_byte_equal_with_any_number_of_threads(tmp_path, package, threads):
    from components.common.predictors.models import open_model

    asked = {"image": (write(tmp_path / "image.tif", image_of(70, 110)),), "extras": frozenset({"probabilities"})}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with open_model(str(package), torch.device("cpu")) as predictor:
            whole = tall_map(tmp_path, "whole", predictor=predictor, **asked)
            together = combined(tmp_path, 4, predictor=predictor, **asked)
    finally:
        torch.set_num_threads(before)
    assert digest(whole) == digest(together)
    assert digest(tmp_path / "whole_probabilities.tif") == digest(tmp_path / "combined_probabilities.tif")


def test_a_map_of_bounds_is_a_cut_of_the_complete_map(tmp_path, package):
    from components.common.predictors.models import open_model

    asked = {"image": (write(tmp_path / "image.tif", image_of(90, 150)),)}
    left, top = NORTH_UP @ (40, 20)
    right, bottom = NORTH_UP @ (101, 77)
    with open_model(str(package), torch.device("cpu")) as predictor:
        whole = read(tall_map(tmp_path, "whole", predictor=predictor, **asked))
        cut = tall_map(tmp_path, "cut", predictor=predictor, bounds=(left, bottom, right, top), **asked)
    assert np.array_equal(read(cut), whole[20:77, 40:101])
    with rasterio.open(cut) as file:
        assert file.transform.almost_equals(NORTH_UP @ Affine.translation(40, 20))


PLACES = {  # reference system, and the transform of a raster of about 60 x 48 m there
    "utm": ("EPSG:32633", Affine(0.5, 0, 369_000, 0, -0.5, 5_806_500)),
    "compound": ("EPSG:25833+7837", Affine(0.5, 0, 369_000, 0, -0.5, 5_806_500)),
    "geographic": ("EPSG:4326", Affine(7e-6, 0, 13.07, 0, -4.5e-6, 52.39)),
    "national": ("EPSG:2154", Affine(0.5, 0, 770_000, 0, -0.5, 6_280_000)),
    "web mercator": ("EPSG:3857", Affine(0.8, 0, 1_455_000, 0, -0.8, 6_871_000)),
    "rotated": ("EPSG:32633", Affine.translation(369_000, 5_806_500) @ Affine.rotation(25) @ Affine.scale(0.5, -0.5)),
}
STEP_M = 6.0


class ByHeight(KnownPredictor):
    """Class 1 where the scaled height is above 0, else class 0; reads nothing but the DSM."""

    def __call__(self, image_BCHW, dsm_B1HW):
        maps = super().__call__(image_BCHW, dsm_B1HW)
        high_B1HW = (dsm_B1HW.nan_to_num() > 0).float()
        maps.logits_BKHW.zero_()
        maps.logits_BKHW[:, :1], maps.logits_BKHW[:, 1:2] = 8 * (1 - high_B1HW), 8 * high_B1HW
        return maps


@pytest.mark.parametrize("place", PLACES)
def test_every_pixel_of_a_warped_mosaicked_split_map_is_in_its_place(tmp_path, place):
    """The DSM, on a finer grid in another CRS, is a chess board of heights on the ground; so must the map be."""
    crs, transform = PLACES[place]
    height, width, cut = 96, 120, 70
    pixels = image_of(height, width)
    images = (
        write(tmp_path / "left.tif", pixels[:, :cut], transform, crs),
        write(tmp_path / "right.tif", pixels[:, cut:], transform @ Affine.translation(cut, 0), crs),
    )
    other = "EPSG:3035"
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform @ (columns.ravel(), rows.ravel())
    east, north = (np.reshape(axis, columns.shape) for axis in to_crs(crs, other, x, y))

    def board(e, n):
        return ((e // STEP_M).astype(int) + (n // STEP_M).astype(int)) % 2

    def margin_m(e, n):
        """Distance to the nearest line of the board."""
        return np.minimum(*(np.minimum(v % STEP_M, STEP_M - v % STEP_M) for v in (e, n)))

    size = 0.1
    dsm_transform = Affine(size, 0, east.min() - 5, 0, -size, north.max() + 5)
    dsm_width, dsm_height = int((np.ptp(east) + 10) / size), int((np.ptp(north) + 10) / size)
    e, n = dsm_transform @ np.meshgrid(np.arange(dsm_width) + 0.5, np.arange(dsm_height) + 0.5)
    heights = np.where(board(e, n), 60.0, 40.0).astype(np.float32)
    dsm = write(tmp_path / "dsm.tif", heights, dsm_transform, other)
    facts = replace(
        FACTS,
        heights=replace(FACTS.heights, method="training-range", offset_m=50.0, scale_m=10.0, ground_radius_m=None),
    )
    predictor = ByHeight(facts=facts)
    asked = {"image": images, "dsm": (dsm,), "allow": frozenset({"ground-size"}), "predictor": predictor}
    together = combined(tmp_path, 4, **asked)
    assert digest(together) == digest(tall_map(tmp_path, "whole", **asked))
    sure = margin_m(east, north) > 0.8  # pixels that are not on a line of the board
    assert sure.mean() > 0.4
    assert np.array_equal(read(together)[sure], board(east, north)[sure])
    with rasterio.open(together) as file:
        assert file.transform.almost_equals(transform, 1e-9) and (file.width, file.height) == (width, height)


def test_a_sensor_that_is_missing_and_nodata_are_recorded_at_every_pixel(tmp_path):
    height, width = 80, 100
    pixels = image_of(height, width)
    alpha = np.full((height, width), 255, np.uint8)
    alpha[:, :9] = 0  # a collar
    alpha[30:40, 50:60] = 0  # nodata inside
    image = write(tmp_path / "image.tif", np.dstack([pixels, alpha]), photometric="RGB", alpha="YES")
    dsm = np.random.default_rng(2).uniform(30, 40, (height, width // 2)).astype(np.float32)
    dsm[60:70, 20:30] = -9999  # a hole; the right half of the image is not covered
    dsm = write(tmp_path / "dsm.tif", dsm, nodata=-9999)
    output = tall_map(tmp_path, "map", image=(image,), dsm=(dsm,), extras=frozenset({"sensors"}))
    sensors = np.full((height, width), 1, np.uint8)
    sensors[:, : width // 2] = 3
    sensors[60:70, 20:30] = 1
    sensors[alpha == 0] = 0
    assert np.array_equal(read(tmp_path / "map_sensors.tif"), sensors)
    assert np.array_equal(read(output), np.where(alpha == 0, 255, class_of(pixels)))


def test_without_an_image_the_map_has_the_grid_of_the_dsm_and_no_class_in_its_holes(tmp_path):
    dsm = np.random.default_rng(3).uniform(30, 40, (50, 60)).astype(np.float32)
    dsm[10:20, 10:20] = -9999
    output = tall_map(
        tmp_path, "map", dsm=(write(tmp_path / "dsm.tif", dsm, nodata=-9999),), extras=frozenset({"sensors"})
    )
    assert np.array_equal(read(tmp_path / "map_sensors.tif"), np.where(dsm == -9999, 0, 2))
    assert np.array_equal(read(output), np.where(dsm == -9999, 255, 0))


def test_a_map_below_the_least_agreement_is_written_and_is_an_error(tmp_path, package):
    from components.common.predictors.models import open_model

    asked = {"image": (write(tmp_path / "image.tif", image_of(90, 150)),)}
    with open_model(str(package), torch.device("cpu")) as predictor, pytest.raises(AgreementError, match="agree on"):
        tall_map(tmp_path, "map", replace(CONFIG, min_agreement=100.0), predictor, **asked)
    assert AgreementError.exit_code == 1 and (tmp_path / "map.tif").is_file()


def test_an_output_that_is_no_geotiff_is_refused_before_the_model_is_opened(tmp_path):
    request = PredictRequest(output=tmp_path / "map.png", model=str(tmp_path / "no model"), image=("image.tif",))
    with pytest.raises(ParamsError, match="ends in .tif"):
        run(CONFIG, request)


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "scene/image.tif"},
        {"output": "scene/../scene/image.tif"},
        {"output": "map.tif", "summary": "map.tif"},
        {"output": "scene/dsm.tif", "image": "scene/*.tif"},
        {"output": "scene/dsm.tif", "image": "**/*.tif"},
        {"output": "scene/image.tif", "image": "scene/image.vrt"},
        {"output": "scene/map[1].tif", "image": "scene/map[1].tif"},
        {"output": "scene/map.tif", "image": "scene/map_confidence.tif", "polygons": "map.gpkg"},
    ],
)
def test_an_output_never_replaces_an_input_or_another_output(tmp_path, changes):
    (tmp_path / "scene").mkdir()
    names = ("image.tif", "dsm.tif", "map[1].tif", "map1.tif", "map_confidence.tif")
    images = [write(tmp_path / "scene" / name, image_of(40, 40)) for name in names]
    rasterio.shutil.copy(images[0], tmp_path / "scene/image.vrt", driver="VRT")
    before = [digest(Path(image)) for image in images]
    paths = {name: tmp_path / value for name, value in changes.items()}
    if "polygons" in paths:
        paths["polygons"] = Polygons(path=paths["polygons"])
    asked = {"image": (str(paths.pop("image", images[0])),)} | paths
    with pytest.raises(ParamsError, match="an input or another output"):
        run(CONFIG, PredictRequest(model="no model", **asked))
    assert [digest(Path(image)) for image in images] == before


@pytest.mark.parametrize("name", ["output", "summary", "polygons"])
def test_a_folder_is_no_output(tmp_path, name):
    folder = tmp_path / {"output": "map.tif", "summary": "map.json", "polygons": "map.gpkg"}[name]
    folder.mkdir()
    asked = {"output": tmp_path / "other.tif", name: Polygons(path=folder) if name == "polygons" else folder}
    with pytest.raises(ParamsError, match="this is a folder"):
        run(CONFIG, PredictRequest(model="no model", image=("image.tif",), **asked))


def test_a_raster_without_any_pixel_gives_a_map_without_any_class(tmp_path, caplog):
    image = write(tmp_path / "image.tif", np.zeros((40, 50, 3), np.uint8), nodata=0)
    with caplog.at_level("INFO"):
        output = tall_map(tmp_path, "map", image=(image,), polygons=Polygons(path=tmp_path / "map.gpkg"))
    assert (read(output) == 255).all() and len(geopandas.read_file(tmp_path / "map.gpkg")) == 0
    assert "no pixel has a class" in caplog.text


def test_a_wrong_request_stops_before_anything_is_computed(tmp_path):
    image = write(tmp_path / "image.tif", image_of(40, 40))
    for asked, error, words in (
        ({"bands": (1, 2)}, ParamsError, "--bands names 2 bands"),
        ({"extras": frozenset({"gates"})}, ParamsError, "--gates"),
        ({"part": "3/2"}, ParamsError, "--part 3/2"),
        ({"image": (str(tmp_path / "none.tif"),)}, DataError, "none.tif"),
        ({"image": (), "dsm": ()}, DataError, "neither an image nor a DSM"),
        ({"allow": frozenset({"everything"})}, ParamsError, "everything"),
    ):
        request = PredictRequest(**{"output": tmp_path / "map.tif", "image": (image,)} | asked)
        predictor = KnownPredictor()
        with pytest.raises(error, match=words) as raised:
            make_map(CONFIG, request, predictor)
        assert "\n" not in str(raised.value) and not predictor.batches
    assert not (tmp_path / "map.tif").exists()


SCENE = Path(__file__).parents[4] / "shared/real/ign"


@pytest.mark.skipif(not SCENE.is_dir(), reason=f"{SCENE} is not there: the scene is not published")
def test_a_real_scene_with_lidar_heights_is_mapped_in_its_place(tmp_path):
    asked = {"image": (str(SCENE / "rgb.tif"),), "dsm": (str(SCENE / "dsm.tif"),), "crs": "EPSG:2154"}
    extras, allow = frozenset({"sensors"}), frozenset({"ground-size"})
    output = tall_map(
        tmp_path, "ign", extras=extras, allow=allow, polygons=Polygons(path=tmp_path / "ign.gpkg"), **asked
    )
    with rasterio.open(SCENE / "rgb.tif") as image, rasterio.open(output) as made:
        pixels = np.moveaxis(image.read(), 0, -1)
        white = (pixels == 255).all(-1)  # four pixels, which the file's nodata value marks as missing
        assert white.sum() == 4
        assert np.array_equal(made.read(1), np.where(white, 255, class_of(pixels)))
        assert made.transform == image.transform and made.crs.to_epsg() == 2154
    measured = read(SCENE / "dsm.tif") != -9999
    assert np.array_equal(read(tmp_path / "ign_sensors.tif"), np.where(white, 0, np.where(measured, 3, 1)))
    polygons = geopandas.read_file(tmp_path / "ign.gpkg")
    assert np.isclose(polygons.area.sum(), (252**2 - 4) * 0.2**2) and polygons.crs.to_epsg() == 2154
    assert 20 < polygons["height_m"].min() and polygons["height_m"].max() < 40
