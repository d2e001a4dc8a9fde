from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.errors import RasterioIOError
from rio_cogeo.cogeo import cog_validate

from components.common.entrypoints.failures import DISK, find
from components.common.errors import MobanetError
from components.predict.outputs import maps
from components.predict.outputs.map_layers import LAYERS, layer_path, layers_of
from tests.components.predict import drawn_maps as known

TRANSFORMS = {
    "north-up": Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000),
    "south-up": Affine(0.5, 0, 400_000, 0, 0.5, 5_000_000),
    "rotated": Affine.translation(400_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    facts, output = known.facts(known.grid(1200, 700)), tmp_path_factory.mktemp("map") / "city.tif"
    draft, summary = known.write_map(output, facts, width_px=256, step=300)
    return output, facts, draft, summary


def test_every_layer_is_a_valid_cog_with_the_pixels_of_the_band(written):
    output, facts, *_ = written
    expected = layers_of(known.drawn(facts.region.rows, facts.region.columns), facts.layers)
    for name in LAYERS:
        path = layer_path(output, name)
        assert cog_validate(path, strict=True, quiet=True)[:2] == (True, []), name
        with rasterio.open(path) as file:
            assert np.array_equal(file.read(), expected[name]), name
            assert file.overviews(1) == [2, 4]
            assert set(file.nodatavals) == {0.0 if name == "sensors" else 255.0}
            assert file.transform == facts.grid.transform and file.crs == facts.grid.crs
            assert file.dtypes[0] == "uint8"


def test_the_class_map_has_colours_names_and_mode_overviews(written):
    output, facts, *_ = written
    with rasterio.open(output) as file:
        table, overview = file.colormap(1), file.read(1, out_shape=(600, 350))
        full = file.read(1)
    assert [table[i][:3] for i in range(3)] == list(known.PALETTE)
    assert set(np.unique(overview)) <= {0, 1, 2, 255}  # no averages
    names = ET.parse(output.with_name("city.tif.aux.xml")).findall(".//Category")
    assert [name.text for name in names] == list(known.CLASSES)
    blocks = full.reshape(600, 2, 350, 2).transpose(0, 2, 1, 3).reshape(600, 350, 4)
    counts = (blocks[..., None] == np.array([0, 1, 2])).sum(2)
    clear = (counts == 4).any(2)
    assert np.array_equal(overview[clear], counts.argmax(2)[clear])


def test_probabilities_have_one_band_per_class_in_percent(written):
    with rasterio.open(layer_path(written[0], "probabilities")) as file:
        assert file.descriptions == tuple(f"probability of {name}" for name in known.CLASSES)
        assert file.units == ("percent",) * 3
        totals = file.read()[:, 10:].astype(int).sum(0)
    assert 98 <= totals.min() and totals.max() <= 102


def test_tags_state_model_data_settings_and_seams(written):
    output, facts, draft, _ = written
    for name in LAYERS:
        with rasterio.open(layer_path(output, name)) as file:
            tags = file.tags()
        assert tags["MOBANET_MODEL"] == "models:/mobanet/3" and tags["MOBANET_MODEL_VERSION"] == "3"
        assert tags["MOBANET_MODEL_SHA256"] == "a" * 64 and tags["MOBANET_DATA_MD5"] == "d" * 32
        assert json.loads(tags["MOBANET_SETTINGS"]) == facts.settings
        assert json.loads(tags["MOBANET_CLASSES"]) == {
            name: list(colour) for name, colour in zip(known.CLASSES, known.PALETTE, strict=True)
        }
        assert tags["MOBANET_INPUTS"] == "f" * 64 and tags["MOBANET_SENSORS"] == "image dsm"
        assert tags["TIFFTAG_SOFTWARE"].startswith("mobanet-pipeline ")
        assert float(tags["MOBANET_AGREEMENT"]) == pytest.approx(draft.seams.agreement, abs=1e-6)
        assert {"MOBANET_CHANGES_ON_LINES", "MOBANET_CHANGES_ELSEWHERE"} <= tags.keys()
        assert not {"MOBANET_PART", "MOBANET_GRID", "MOBANET_COUNTS"} & tags.keys()


def test_nothing_is_left_but_the_files_of_the_map(written):
    output = written[0]
    names = {layer_path(output, name).name for name in LAYERS}
    styles = {name.replace(".tif", ".qml") for name in names}
    assert {path.name for path in output.parent.iterdir()} == names | styles | {"city.tif.aux.xml"}


def test_bytes_do_not_depend_on_blocks_folder_or_name(tmp_path):
    facts = known.facts()
    for i, (name, width_px, step) in enumerate((("a.tif", 20, 9), ("b.tif", 53, 70), ("c.tif", 7, 31))):
        known.write_map(tmp_path / str(i) / name, facts, width_px, step)
    one, *others = ([*known.contents(tmp_path / str(i)).values()] for i in range(3))
    assert others == [one, one]


@pytest.mark.parametrize("size", [(70, 53), (1, 40), (40, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("position", [*TRANSFORMS, "none", "no-crs"])
def test_any_grid_keeps_its_position(tmp_path, size, position):
    raster = known.grid(*size, TRANSFORMS.get(position), None if position in ("none", "no-crs") else "EPSG:25832")
    if position == "none":
        raster = known.Grid(*size, None, None)
    facts = known.facts(raster, layers=("classes", "confidence"))
    known.write_map(tmp_path / "map.tif", facts)
    expected = layers_of(known.drawn(facts.region.rows, facts.region.columns), facts.layers)
    for name in facts.layers:
        with rasterio.open(layer_path(tmp_path / "map.tif", name)) as file:
            assert np.array_equal(file.read(), expected[name])
            assert file.transform.almost_equals(raster.transform or Affine.identity(), 1e-9)
            assert file.crs == raster.crs
        assert cog_validate(layer_path(tmp_path / "map.tif", name), strict=True, quiet=True)[0]


def test_an_older_map_of_the_same_name_leaves_no_sidecar(tmp_path):
    stale = tmp_path / "map_confidence.tif.aux.xml"
    stale.write_text("<PAMDataset/>")
    known.write_map(tmp_path / "map.tif", known.facts())
    assert not stale.exists()


def test_the_class_map_gets_its_name_last(tmp_path, monkeypatch):
    renamed = []
    rename = maps._rename
    monkeypatch.setattr(maps, "_rename", lambda draft, target: (renamed.append(target.name), rename(draft, target)))
    known.write_map(tmp_path / "map.tif", known.facts())
    assert renamed[-1] == "map.tif" and len(renamed) == 2 * len(LAYERS) + 1


def test_a_full_disk_is_recognised_and_any_other_failure_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RasterioIOError("Write error at scanline 0")

    monkeypatch.setattr(rasterio.shutil, "copy", fail)
    with pytest.raises(MobanetError, match=r"map.tif: GDAL cannot write this file \(Write error at scanline 0\)"):
        known.write_map(tmp_path / "map.tif", known.facts())
    monkeypatch.setattr(maps, "LEAST_FREE_BYTES", 2**80)
    with pytest.raises(OSError, match="No space left on device") as caught:
        known.write_map(tmp_path / "map.tif", known.facts())
    assert find(caught.value) is DISK
    monkeypatch.undo()
    known.write_map(tmp_path / "map.tif", known.facts())  # the same command continues


def test_a_part_of_the_raster_lies_at_its_place(tmp_path):
    region = known.Region(slice(11, 40), slice(5, 50))
    known.write_map(tmp_path / "map.tif", known.facts(region=region, layers=("classes",)))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.transform @ (0, 0) == (400_002.5, 4_999_994.5)
        expected = layers_of(known.drawn(region.rows, region.columns), ("classes",))["classes"]
        assert np.array_equal(file.read(), expected)
