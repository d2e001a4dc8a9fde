import json
import os
from dataclasses import replace

import numpy as np
import pytest

from components.common.data.store import (
    MANIFEST,
    Heights,
    Manifest,
    Store,
    Tile,
    TileEntry,
    map_tile,
    read_manifest,
    write_manifest,
    write_tile,
)
from components.common.errors import StoreError

ENTRY = TileEntry(
    id="2_10",
    subset="train",
    file="2_10.arrow",
    height_px=40,
    width_px=30,
    crs="EPSG:32633",
    transform=(0.05, 0.0, 366000.0, 0.0, -0.05, 5807000.0),
    class_px=(1100, 20, 30, 40, 5, 0),
    ignored_px=5,
    snapped_px=1,
    unknown_px=2,
    dsm_missing_share=0.25,
    notes=("dsm: padded",),
    sources={"a.tif": "00"},
)
MANIFEST_ = Manifest(
    dataset="potsdam",
    source="sample",
    split="sample",
    classes=("road", "roof"),
    in_means=(True, False),
    palette=((255, 255, 255), (0, 0, 255)),
    bands=("red", "green", "blue"),
    image_range=(0.0, 255.0),
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.2, 0.2, 0.2),
    gsd_m=0.05,
    heights=Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"),
    acknowledgement="none",
    tool_version="0.1.0",
    tiles=(ENTRY, replace(ENTRY, id="4_10", subset="val", file="4_10.arrow")),
)


def a_tile(height=40, width=30, seed=0):
    rng = np.random.default_rng(seed)
    dsm_HW = rng.normal(size=(height, width)).astype(np.float32)
    dsm_HW[3:5, 7] = np.nan
    return Tile(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        dsm_HW,
        rng.integers(0, 6, (height, width), dtype=np.uint8),
        np.full((height, width), 255, np.uint8),
    )


@pytest.fixture
def store(tmp_path):
    for seed, entry in enumerate(MANIFEST_.tiles):
        write_tile(tmp_path / entry.file, a_tile(seed=seed))
    write_manifest(tmp_path, MANIFEST_)
    return tmp_path


def layers(tile):
    return tile.image_HWC, tile.dsm_HW, tile.label_HW, tile.eroded_HW


def test_a_tile_comes_back_bit_for_bit(tmp_path):
    written = a_tile()
    write_tile(tmp_path / "t.arrow", written)
    for before, after in zip(layers(written), layers(map_tile(tmp_path / "t.arrow")), strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        np.testing.assert_array_equal(after, before)


def test_a_layer_in_another_memory_order_is_stored_the_same_way(tmp_path):
    tile = a_tile()
    bands_first = np.moveaxis(np.ascontiguousarray(np.moveaxis(tile.image_HWC, -1, 0)), 0, -1)
    write_tile(tmp_path / "a.arrow", tile)
    write_tile(tmp_path / "b.arrow", replace(tile, image_HWC=bands_first))
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def mapped_ranges(path):
    with open("/proc/self/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(str(path))]
    return [(int(start, 16), int(end, 16)) for start, end in spans]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux")
def test_layers_and_crops_are_views_onto_the_file(tmp_path):
    write_tile(tmp_path / "t.arrow", a_tile())
    tile = map_tile(tmp_path / "t.arrow")
    spans = mapped_ranges(tmp_path / "t.arrow")
    for layer in layers(tile):
        crop = layer[10:20, 5:15]
        assert np.shares_memory(crop, layer)
        assert any(start <= crop.ctypes.data < end for start, end in spans)


def private_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_reading_crops_of_a_large_tile_takes_no_memory_of_the_readers_own(tmp_path):
    side = 2000  # 4 Mpx: 36 MB in the store
    ones = np.ones((side, side), np.uint8)
    write_tile(tmp_path / "t.arrow", Tile(np.ones((side, side, 3), np.uint8), ones.astype(np.float32), ones, ones))
    map_tile(tmp_path / "t.arrow")
    before = private_bytes()
    tile = map_tile(tmp_path / "t.arrow")
    total = 0
    for row in range(0, side, 250):
        for column in range(0, side, 250):
            window = slice(row, row + 250), slice(column, column + 250)
            total += sum(int(layer[window].sum()) for layer in layers(tile))
    assert total == side * side * 6
    assert private_bytes() - before < 4e6


def test_a_store_cannot_be_written_through_its_views(store):
    with pytest.raises(ValueError, match="read-only"):
        Store(store)[ENTRY].label_HW[0, 0] = 1


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_tile_is_a_store_error(store, keep):
    path = store / ENTRY.file
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(StoreError, match="2_10.arrow: not a readable tile .*; run the preprocess step again"):
        Store(store)[ENTRY]


def test_a_tile_that_is_no_arrow_file_or_not_there_is_a_store_error(store):
    (store / ENTRY.file).write_bytes(b"\x00" * 5000)
    with pytest.raises(StoreError, match="not a readable tile"):
        Store(store)[ENTRY]
    (store / ENTRY.file).unlink()
    with pytest.raises(StoreError, match="no such tile"):
        Store(store)[ENTRY]


def test_a_tile_of_another_size_than_the_manifest_says_is_a_store_error(store):
    write_tile(store / ENTRY.file, a_tile(height=41))
    with pytest.raises(StoreError, match="not the size of the manifest"):
        Store(store)[ENTRY]


def test_layers_of_different_sizes_make_no_tile():
    tile = a_tile()
    with pytest.raises(StoreError, match="differ in size"):
        replace(tile, dsm_HW=tile.dsm_HW[:, :-1])


def test_the_manifest_comes_back_equal(store):
    assert read_manifest(store) == MANIFEST_
    assert [entry.id for entry in MANIFEST_.subset("val")] == ["4_10"]


def version_of(store, **changes):
    write_manifest(store, replace(MANIFEST_, **changes))
    return Store(store).data_md5


def tiles_with(**changes):
    return replace(ENTRY, **changes), *MANIFEST_.tiles[1:]


@pytest.mark.parametrize(
    "changes",
    [
        {"tool_version": "9.9.9"},
        {"acknowledgement": "other words"},
        {"tiles": tiles_with(notes=("other words",))},
    ],
    ids=["tool_version", "acknowledgement", "notes"],
)
def test_a_release_that_changes_its_version_or_words_keeps_the_data_version(store, changes):
    assert version_of(store, **changes) == MANIFEST_.data_md5


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "other"},
        {"heights": replace(MANIFEST_.heights, scale_m=8.0)},
        {"accepted": {"label-unknown": "all"}},
        {"reading": {"dsm": {"scale": 0.01}}},
        {"image_range": (0.0, 2047.0)},
        {"tiles": tiles_with(sources={"a.tif": "01"})},
        {"tiles": tiles_with(subset="test")},
    ],
    ids=str,
)
def test_another_source_or_setting_is_another_data_version(store, changes):
    assert version_of(store, **changes) != MANIFEST_.data_md5


def test_another_format_is_another_data_version(monkeypatch):
    before = MANIFEST_.data_md5
    monkeypatch.setattr("components.common.data.store.FORMAT", 99)
    assert MANIFEST_.data_md5 != before


@pytest.mark.parametrize(
    "changes",
    [
        {"heights": replace(MANIFEST_.heights, scale_m=8.0)},
        {"image_range": (0.0, 2047.0), "image_mean": (0.4, 0.4, 0.4), "image_std": (0.1, 0.1, 0.1)},
        {"reading": {"dsm": {"scale": 0.01}, "image": {"mean": (0.4, 0.4, 0.4)}}},
        {"tool_version": "9.9.9", "acknowledgement": "other words"},
        {"tiles": tiles_with(dsm_missing_share=0.5, notes=("other words",))},
    ],
    ids=["heights", "image", "reading of inputs", "release", "facts about heights"],
)
def test_another_scaling_of_the_inputs_keeps_the_raw_data_version(changes):
    assert replace(MANIFEST_, **changes).raw_md5 == MANIFEST_.raw_md5 != MANIFEST_.data_md5


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "vaihingen"},
        {"source": "isprs"},
        {"split": "other"},
        {"classes": ("road", "house")},
        {"in_means": (True, True)},
        {"palette": ((255, 255, 255), (0, 255, 0))},
        {"accepted": {"label-unknown": "all"}},
        {"reading": {"label": {"ignore": (0,)}}},
        {"reading": {"values": (1, 2)}},
        {"tiles": tiles_with(sources={"a.tif": "01"})},
        {"tiles": tiles_with(subset="test")},
        {"tiles": MANIFEST_.tiles[:1]},
    ],
    ids=str,
)
def test_other_raw_files_labels_or_another_split_are_another_raw_data_version(changes):
    assert replace(MANIFEST_, **changes).raw_md5 != MANIFEST_.raw_md5


def test_the_raw_data_version_survives_writing_and_reading(store):
    changed = replace(MANIFEST_, accepted={"label-unknown": ("2_10",)}, reading={"values": (1, 2)})
    write_manifest(store, changed)
    assert read_manifest(store).raw_md5 == changed.raw_md5


def test_a_store_of_an_earlier_version_is_readable(store):
    content = json.loads((store / MANIFEST).read_text())
    (store / MANIFEST).write_text(json.dumps({key: content[key] for key in content if key != "reading"}))
    assert read_manifest(store) == MANIFEST_


def test_a_store_in_which_all_tiles_have_both_sensors_keeps_its_versions_and_its_manifest(store):
    assert MANIFEST_.data_md5 == "6dfaa95cfbe8c22daccfd3bd14bc0621"  # as in releases that knew no other tiles
    assert MANIFEST_.raw_md5 == "3af5581606c66297afa7491b7eeb889c"
    assert "sensors" not in (store / MANIFEST).read_text()


def test_a_tile_without_a_sensor_says_so_and_is_another_data_version(store):
    assert version_of(store, tiles=tiles_with(sensors=("dsm",))) != MANIFEST_.data_md5
    alone, both = read_manifest(store).tiles
    assert (alone.sensors, both.sensors) == (("dsm",), ("rgb", "dsm"))
    assert Store(store)[alone].sensors == ("dsm",)
    assert Store(store)[both].sensors == ("rgb", "dsm")


def test_a_store_maps_each_tile_once(store):
    opened = Store(store)
    assert opened[ENTRY] is opened[ENTRY]


def damage(store, **changes):
    content = json.loads((store / MANIFEST).read_text()) | changes
    (store / MANIFEST).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 99}, "written by 0.1.0 in another format; run preprocess again"),
        ({"format": None}, "damaged .*; run the preprocess step again"),
        ({"heights": None}, "damaged .*; run the preprocess step again"),
        ({"classes": None}, "damaged .*; run the preprocess step again"),
        ({"surprise": 1}, "damaged .*; run the preprocess step again"),
        ({"tiles": [{"id": "2_10"}]}, "damaged .*; run the preprocess step again"),
    ],
)
def test_a_manifest_of_another_make_is_refused(store, changes, sentence):
    damage(store, **changes)
    with pytest.raises(StoreError, match=f"manifest.json: {sentence}"):
        Store(store)


def test_a_missing_or_cut_manifest_is_refused(store):
    text = (store / MANIFEST).read_text()
    (store / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(StoreError, match="damaged"):
        Store(store)
    (store / MANIFEST).unlink()
    with pytest.raises(StoreError, match="no such file; run the preprocess step first"):
        Store(store)
