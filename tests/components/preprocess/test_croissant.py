"""components/preprocess/croissant.py: the description of a store is valid, true, and free of machine and time."""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import replace

import mlcroissant
import pytest

from components.common.data.store import CROISSANT, read_manifest
from components.common.files import digest
from components.preprocess.croissant import describe, write_croissant
from tests.conftest import write_toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_toy_store(tmp_path_factory.mktemp("croissant") / "store", side_px=16)
    write_croissant(folder, read_manifest(folder), workers=2)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def described(manifest):
    names = [entry.file for entry in manifest.tiles]
    return describe(manifest, dict.fromkeys(names, "0" * 64), dict.fromkeys(names, 1))


def records(data, name):
    rows = list(data.records(name))
    return [
        {key.partition("/")[2]: v.decode() if isinstance(v, bytes) else v for key, v in row.items()} for row in rows
    ]


def test_mlcroissant_finds_no_error_and_reads_the_tables(store, offline) -> None:
    manifest, data = read_manifest(store), mlcroissant.Dataset(store / CROISSANT)
    assert not data.metadata.ctx.issues.errors
    tiles = records(data, "tiles")
    assert [(row["id"], row["split"]) for row in tiles] == [(entry.id, entry.subset) for entry in manifest.tiles]
    assert all(row["image"] and row["dsm"] and row["width_px"] == 16 for row in tiles)
    classes = records(data, "classes")
    assert [row["name"] for row in classes] == list(manifest.classes)
    assert classes[4]["colour"] == "#ffff00" and not classes[5]["in_means"]
    assert [row["name"] for row in records(data, "splits")] == ["train", "val", "test"]


def test_only_the_date_of_publication_which_nobody_knows_is_missed(store, offline, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        data = mlcroissant.Dataset(store / CROISSANT)
    assert len(data.metadata.ctx.issues.warnings) == 1 and "datePublished" in str(data.metadata.ctx.issues.warnings)


def test_every_file_is_listed_with_its_size_and_checksum(store) -> None:
    listed = json.loads((store / CROISSANT).read_text())["distribution"]
    files = {file["contentUrl"]: file for file in listed if file["@type"] == "cr:FileObject"}
    assert files.keys() == {path.name for path in store.iterdir()} - {CROISSANT}
    for name, file in files.items():
        assert file["sha256"] == digest(store / name)
        assert file["contentSize"] == f"{(store / name).stat().st_size} B"


def test_the_facts_are_those_of_the_manifest(store) -> None:
    manifest, found = read_manifest(store), json.loads((store / CROISSANT).read_text())
    assert found["version"] == f"3.0.0+{manifest.data_md5}"
    assert found["license"]["text"] == found["citeAs"] == manifest.acknowledgement
    assert found["geocr:bandConfiguration"]["geocr:bandNameList"] == ["red", "green", "blue"]
    assert found["geocr:spatialResolution"] == {"@type": "QuantitativeValue", "value": 0.05, "unitText": "m"}
    assert found["geocr:coordinateReferenceSystem"] == manifest.tiles[0].crs
    assert "6 train, 2 val, 2 test" in found["description"]


def test_the_extent_is_that_of_all_tiles_in_degrees(store) -> None:
    manifest = read_manifest(store)
    first, second = (
        replace(entry, crs="EPSG:32633", transform=(0.05, 0.0, east, 0.0, -0.05, 5_800_000.0), width_px=2000)
        for entry, east in zip(manifest.tiles, (500_000.0, 500_100.0), strict=False)
    )
    box = described(replace(manifest, tiles=(first, second)))["spatialCoverage"]["geo"]["box"]
    south, west, north, east = map(float, box.split())
    # the middle of zone 33 is 15 degrees east; there 5800 km are 52.3503 degrees, and 200 m to the east 0.00293
    assert west == pytest.approx(15.0, abs=1e-6) and east - west == pytest.approx(0.002933, abs=2e-5)
    assert north == pytest.approx(52.3503, abs=1e-4) and 0 < north - south < 1e-4


def test_what_is_not_known_is_left_out(store) -> None:
    manifest = read_manifest(store)
    placeless = replace(manifest, tiles=tuple(replace(entry, crs="") for entry in manifest.tiles))
    found = described(placeless)
    assert "spatialCoverage" not in found and "geocr:coordinateReferenceSystem" not in found
    terms = described(replace(manifest, acknowledgement=""))
    assert "license" not in terms and "citeAs" not in terms
    mixed = (replace(manifest.tiles[0], crs="EPSG:25832"), *manifest.tiles[1:])
    assert "geocr:coordinateReferenceSystem" not in described(replace(manifest, tiles=mixed))


LOCAL = 'ENGCRS["x",EDATUM["y"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "east_m"),
    [(LOCAL, 0.0), ("EPSG:999999", 0.0), ("EPSG:32633", 1e15), ("EPSG:32660", 833_978.0)],
    ids=["local", "unknown", "nowhere", "180th meridian"],
)
def test_a_tile_without_a_place_on_earth_has_no_box(store, crs, east_m) -> None:
    manifest = read_manifest(store)
    entry = replace(manifest.tiles[0], crs=crs, transform=(5000.0, 0.0, east_m, 0.0, -5000.0, 0.0))
    found = described(replace(manifest, tiles=(entry,)))
    assert "spatialCoverage" not in found and found["recordSet"][2]["data"][0]["tiles/box"] == ""
    json.dumps(found, allow_nan=False)


def test_a_tile_that_lacks_a_sensor_says_so(store) -> None:
    manifest = read_manifest(store)
    tiles = (replace(manifest.tiles[0], sensors=("rgb",)), replace(manifest.tiles[1], sensors=("dsm",)))
    rows = described(replace(manifest, tiles=tiles))["recordSet"][2]["data"]
    assert [(row["tiles/image"], row["tiles/dsm"]) for row in rows] == [(True, False), (False, True)]


def test_the_same_store_elsewhere_has_the_same_description(store, tmp_path) -> None:
    other = write_toy_store(tmp_path / "elsewhere", side_px=16)
    write_croissant(other, read_manifest(other), workers=0)
    assert (other / CROISSANT).read_bytes() == (store / CROISSANT).read_bytes()
    assert read_manifest(other).data_md5 == read_manifest(store).data_md5
