from __future__ import annotations

import random
import shutil
from dataclasses import replace

import pytest
import rasterio
from rasterio import Affine

from components.common.errors import DataError
from components.predict.outputs import combine
from components.predict.outputs.combine import read_parts
from components.predict.outputs.map_layers import layer_path
from components.predict.outputs.maps import draft_maps
from components.predict.outputs.parts import Part
from tests.components.predict import drawn_maps as known

ROTATED = Affine.translation(400_000.1, 5_000_000.3) @ Affine.rotation(17) @ Affine.scale(0.1, -0.1)
GRIDS = {
    "odd": known.grid(71, 53),
    "wide": known.grid(53, 71),
    "rotated": known.grid(40, 60, ROTATED, "EPSG:2154"),
    "south-up": known.grid(70, 53, Affine(0.1, 0, 0.3, 0, 0.1, 0.7), "EPSG:4326"),
    "one row": known.grid(1, 60, crs="EPSG:3857"),
    "no position": known.Grid(60, 33, None, None),
    "compound": known.grid(60, 33, crs="EPSG:5555"),
    "own": known.grid(60, 33, crs="+proj=tmerc +lat_0=1 +lon_0=8 +k=0.9 +x_0=5 +ellps=bessel +units=m"),
}


def write_parts(folder, facts, count):
    paths = [folder / f"part{i}.tif" for i in range(1, count + 1)]
    for i, path in enumerate(paths, 1):
        known.write_map(path, replace(facts, part=Part(i, count)))
    return paths


def combined(paths, output, **options):
    with read_parts(paths, output, **options) as working:
        draft = draft_maps(working)
        summary = draft.summary()
        draft.place()
    return summary


@pytest.mark.parametrize("name", GRIDS)
def test_parts_in_any_order_combine_to_the_bytes_of_one_map(tmp_path, name):
    layers = {} if name == "odd" else {"layers": ("classes", "probabilities")}
    facts, folders = known.facts(GRIDS[name], **layers), [tmp_path / str(i) for i in range(3)]
    for folder in folders:
        folder.mkdir()
    _, summary = known.write_map(folders[0] / "map.tif", facts)
    paths = write_parts(folders[1], facts, 7 if name == "odd" else 3)
    random.Random(3).shuffle(paths)
    assert combined(paths, folders[2] / "map.tif") == summary
    assert known.contents(folders[2]) == known.contents(folders[0])


def test_parts_of_a_region_combine_to_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(combine, "WIDTH_PX", 16)
    monkeypatch.setattr(combine, "STEP_PX", 5)
    facts = known.facts(region=known.Region(slice(11, 64), slice(3, 50)), layers=("classes", "confidence"))
    for name in ("one", "parts", "all"):
        (tmp_path / name).mkdir()
    known.write_map(tmp_path / "one" / "map.tif", facts)
    combined(write_parts(tmp_path / "parts", facts, 4), tmp_path / "all" / "map.tif")
    assert known.contents(tmp_path / "all") == known.contents(tmp_path / "one")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return write_parts(folder, known.facts(layers=("classes", "sensors")), 3)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ([0, 2], "part 2/3 of the map is missing; give each of the 3 parts once"),
        ([1], "part 1/3, 3/3 of the map is missing"),
        ([0, 1, 1, 2], "part 2/3 of the map is given more than once"),
    ],
)
def test_missing_and_double_parts_are_named(parts, tmp_path, choice, sentence):
    with pytest.raises(DataError, match=sentence):
        combined([parts[i] for i in choice], tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_sha256": "b" * 64}, "model"),
        ({"inputs": "0" * 64}, "inputs"),
        ({"settings": {"window_px": 32, "stride_px": 16, "batch_size": 4}}, "settings"),
        ({"region": known.Region(slice(0, 70), slice(0, 52))}, "region"),
        ({"layers": ("classes",)}, "layers"),
    ],
)
def test_parts_of_different_maps_are_an_error_that_names_the_difference(parts, tmp_path, changes, named):
    other = replace(known.facts(layers=("classes", "sensors")), **changes, part=Part(2, 3))
    known.write_map(tmp_path / "other.tif", other)
    with pytest.raises(DataError, match=rf"other.tif: this part has other {named} than .*part1.tif"):
        combined([parts[0], tmp_path / "other.tif", parts[2]], tmp_path / "map.tif")


def test_parts_of_different_divisions_are_an_error(parts, tmp_path):
    known.write_map(tmp_path / "other.tif", known.facts(layers=("classes", "sensors"), part=Part(2, 2)))
    with pytest.raises(DataError, match="into 2 and 3 parts"):
        combined([parts[0], tmp_path / "other.tif"], tmp_path / "map.tif")


def test_a_complete_map_or_another_raster_is_not_a_part(parts, tmp_path):
    known.write_map(tmp_path / "whole.tif", known.facts(layers=("classes",)))
    with rasterio.open(tmp_path / "photo.tif", "w", driver="GTiff", width=5, height=5, count=1, dtype="uint8") as file:
        file.update_tags(MOBANET_PART="1/2")
    for name in ("whole", "photo"):
        with pytest.raises(DataError, match=f"{name}.tif: not a part of a map"):
            combined([tmp_path / f"{name}.tif"], tmp_path / "map.tif")
    (tmp_path / "text.tif").write_text("no raster")
    for name in ("text", "absent"):
        with pytest.raises(DataError, match=f"{name}.tif: cannot be opened"):
            combined([tmp_path / f"{name}.tif"], tmp_path / "map.tif")


def test_a_layer_of_another_part_or_without_a_file_is_an_error(parts, tmp_path):
    copied = [shutil.copy(path, tmp_path) for part in parts for path in (part, layer_path(part, "sensors"))]
    mine = [tmp_path / path.name for path in parts]
    assert len(copied) == 6
    shutil.copy(tmp_path / "part1_sensors.tif", tmp_path / "part2_sensors.tif")
    with pytest.raises(DataError, match=r"part2_sensors.tif: this file belongs to another map than part2.tif"):
        combined(mine, tmp_path / "map.tif")
    (tmp_path / "part2_sensors.tif").unlink()
    with pytest.raises(DataError, match=r"part2_sensors.tif: cannot be opened"):
        combined(mine, tmp_path / "map.tif")
