"""components/predict/publication/stac.py: the STAC item of a map, checked by pystac without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation import JsonSchemaSTACValidator
from rasterio import Affine

from components.common.files import digest
from components.predict.publication.stac import Acquisition, acquisition, write_item
from tests.components.predict.small_map import write_map, write_raster

EXTENSIONS = (ClassificationExtension, FileExtension, ProjectionExtension, RasterExtension)
TAKEN = Acquisition(datetime(2024, 6, 30, 10, tzinfo=UTC), "form")


class Offline(JsonSchemaSTACValidator):
    """Checks the item by the core schema, which pystac contains; schemas of extensions are only on the web."""

    def validate_extension(self, stac_dict, stac_object_type, stac_version, extension_id, href=None):
        """An extension must be one that pystac implements, in the version that pystac implements."""
        assert extension_id in {extension.get_schema_uri() for extension in EXTENSIONS}
        return extension_id


@pytest.fixture
def item(tmp_path):
    """The item of a map with all files that can lie next to it, read by pystac."""
    output, _ = write_map(tmp_path)
    write_raster(tmp_path / "city_confidence.tif", np.zeros((1, 40, 60), np.uint8), 255)
    write_raster(tmp_path / "city_probabilities.tif", np.zeros((2, 40, 60), np.uint8), 255)
    for ending in (".qml", ".gpkg", ".html"):
        (tmp_path / f"city{ending}").write_text("x")
    write_item(tmp_path / "city.json", output, TAKEN)
    return pystac.Item.from_file(tmp_path / "city.json")


def test_the_item_is_valid_and_its_extensions_are_those_that_pystac_implements(item):
    found = item.validate(Offline())
    assert len(found) == 1 + len(EXTENSIONS)
    assert item.to_dict()["stac_version"] == "1.1.0"


def test_the_check_finds_an_item_that_is_not_valid(item):
    item.bbox = [1, 2]
    with pytest.raises(pystac.STACValidationError):
        item.validate(Offline())


def test_position_and_size_are_those_of_the_map(item):
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32633", [40, 60])
    assert projection.transform == [3.2, 0, 391_000, 0, -3.2, 5_820_000]
    west, south, east, north = item.bbox
    assert (west, north) == pytest.approx((13.39, 52.52), abs=0.02)
    assert (east - west) * 111_320 * np.cos(np.radians(52.5)) == pytest.approx(60 * 3.2, rel=0.05)
    assert (north - south) * 111_320 == pytest.approx(40 * 3.2, rel=0.05)
    assert item.geometry["type"] == "Polygon" and len(item.geometry["coordinates"][0]) == 5


def test_classes_have_values_names_and_colours(item):
    classes = [one.to_dict() for one in ClassificationExtension.ext(item.assets["classes"]).classes]
    assert classes == [
        {"value": 0, "name": "building", "title": "building", "color_hint": "0000FF"},
        {"value": 1, "name": "paved_road", "title": "paved_road", "color_hint": "FFFFFF"},
        {"value": 255, "name": "no_class", "title": "No class", "nodata": True},
    ]


def test_a_class_of_any_name_gets_a_name_that_the_extension_accepts(tmp_path):
    output, _ = write_map(tmp_path)
    with rasterio.open(output, "r+") as file:
        file.update_tags(MOBANET_CLASSES=json.dumps({"Straße & Weg": [1, 2, 3]}))
    write_item(tmp_path / "city.json", output, TAKEN)
    found = ClassificationExtension.ext(pystac.Item.from_file(tmp_path / "city.json").assets["classes"]).classes[0]
    assert (found.name, found.title, found.color_hint) == ("Stra_e_Weg", "Straße & Weg", "010203")


def test_bands_have_type_nodata_and_resolution(item):
    (band,) = RasterExtension.ext(item.assets["classes"]).bands
    assert (band.data_type, band.nodata, band.spatial_resolution) == ("uint8", 255, pytest.approx(3.2, rel=0.01))
    assert len(RasterExtension.ext(item.assets["probabilities"]).bands) == 2


def test_every_file_is_an_asset_with_its_size_and_checksum(item, tmp_path):
    assert item.assets.keys() == {
        *("classes", "confidence", "probabilities", "style", "polygons", "page", "summary"),
    }
    for asset in item.assets.values():
        path = tmp_path / asset.href
        found = FileExtension.ext(asset)
        assert (found.size, found.checksum) == (path.stat().st_size, "1220" + digest(path))
    assert item.assets["classes"].media_type == pystac.MediaType.COG


def test_model_and_data_version_are_properties(item):
    stated = {key: value for key, value in item.properties.items() if key.startswith("mobanet:")}
    assert stated == {
        "mobanet:model": "models:/mobanet/3",
        "mobanet:model_version": "3",
        "mobanet:model_sha256": "abc123",
        "mobanet:data_md5": "def456",
        "mobanet:sensors": "image dsm",
        "mobanet:agreement": "0.975000",
        "mobanet:datetime_from": "form",
    }
    assert item.datetime == TAKEN.time


def test_a_map_without_a_position_has_no_geometry_and_is_valid(tmp_path):
    output, _ = write_map(tmp_path, crs=None, transform=Affine.identity())
    write_item(tmp_path / "city.json", output, TAKEN)
    item = pystac.Item.from_file(tmp_path / "city.json")
    item.validate(Offline())
    assert item.geometry is None and ProjectionExtension.ext(item).shape == [40, 60]


def test_a_reference_system_without_a_code_is_written_out(tmp_path):
    output, _ = write_map(tmp_path, crs="+proj=laea +lat_0=52 +lon_0=13", transform=Affine(3, 0, 0, 0, -3, 0))
    write_item(tmp_path / "city.json", output, TAKEN)
    projection = ProjectionExtension.ext(pystac.Item.from_file(tmp_path / "city.json"))
    assert projection.code is None and projection.wkt2.startswith("PROJCRS")


def test_the_time_is_given_or_that_of_the_image_or_now(tmp_path):
    pixels = np.zeros((1, 4, 4), np.uint8)
    dated = write_raster(tmp_path / "a.tif", pixels, tags={"TIFFTAG_DATETIME": "2023:05:04 03:02:01"})
    undated = write_raster(tmp_path / "b.tif", pixels)
    assert acquisition(TAKEN.time, (str(dated),)) == TAKEN
    assert acquisition(None, (str(dated),)) == Acquisition(datetime(2023, 5, 4, 3, 2, 1, tzinfo=UTC), "image")
    assert acquisition(None, (str(undated),)).source == "prediction"
    assert acquisition(None, ("s3://bucket/a.tif",)).source == "prediction"


def test_an_item_has_no_path_of_this_machine(item, tmp_path):
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "city.json").read_text()))
