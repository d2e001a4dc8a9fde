"""Data of one's own: any bands, pixel types and classes, labels by value, one DSM for all tiles, eroded labels made."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rasterio import Affine

from components.common.data import datasets
from components.common.data.datasets import IGNORE, ClassInfo, Dataset, DsmInfo, ImageInfo, LabelInfo
from components.common.data.store import Store
from components.common.errors import DataError
from components.preprocess.labelling import eroded
from components.preprocess.step import run
from tests.components.preprocess.conftest import write_tiff

SIDE = 60
GSD_M = 0.5
BANDS = ("red", "green", "blue", "near infrared")
VILLAGE = Dataset(
    name="village",
    gsd_m=GSD_M,
    crs=None,
    acknowledgement="ours",
    labels="values",
    classes=(
        ClassInfo(name="ground", rgb=(10, 120, 40), in_means=True, value=2),
        ClassInfo(name="roof", rgb=(200, 30, 30), in_means=True, value=7),
        ClassInfo(name="water", rgb=(30, 30, 200), in_means=True, value=0),
    ),
    class_shares=None,
    image=ImageInfo(files="images/{tile}.tif", bands=BANDS, range=(0, 4000), mean=(0.5,) * 4, std=(0.2,) * 4),
    dsm=DsmInfo(files="heights.tif", unit_m=0.01, relative_to="datum"),
    label=LabelInfo(files="labels/{tile}.png"),
    eroded=None,
)
SPLIT = {"train": "[north, south]", "val": "[east]", "test": "[west]"}
TILES = ("north", "south", "east", "west")


def place_of(tile):
    index = TILES.index(tile)
    return Affine(GSD_M, 0, 366000 + 40 * index, 0, -GSD_M, 5807000)


def label_of(tile):
    """Values 2, 7 and 0 in blocks."""
    rng = np.random.default_rng(TILES.index(tile))
    return np.kron(rng.choice(np.array([2, 7, 0], np.uint8), (6, 6)), np.ones((10, 10), np.uint8))


@pytest.fixture
def village(tmp_path, monkeypatch, raw_tree):
    """The raw folder of a data set of one's own: images of 16 bits, labels as PNG, one DSM in centimetres."""
    folder = tmp_path / "datasets" / "village"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("".join(f"{subset}: {tiles}\n" for subset, tiles in SPLIT.items()))
    monkeypatch.setattr(datasets, "FOLDER", tmp_path / "datasets")
    raw = tmp_path / "raw"
    for index, tile in enumerate(TILES):
        image_BHW = np.full((4, SIDE, SIDE), 1000 * (index + 1), np.uint16)
        image_BHW[:, :3, :5] = 0
        write_tiff(raw / f"images/{tile}.tif", image_BHW, crs="EPSG:32633", transform=place_of(tile), nodata=0)
        (raw / "labels").mkdir(exist_ok=True)
        Image.fromarray(label_of(tile)).save(raw / f"labels/{tile}.png")
    heights_HW = np.full((100, 240), 4000, np.int32)  # 100 x 240 m of 1 m
    heights_HW[:, 55:] = 5000
    mosaic = Affine(1, 0, 365980, 0, -1, 5807030)
    write_tiff(raw / "heights.tif", heights_HW[None], crs="EPSG:32633", transform=mosaic, nodata=-9999)

    def make(**changes):
        raw_tree(raw, replace(VILLAGE, **changes), TILES, "folder")
        return raw

    return make


@pytest.fixture
def store_of(config, tmp_path):
    def store_of(raw, **changes):
        run(config(**({"method": "training-range"} | changes)), "mine", raw, tmp_path / "store")
        return Store(tmp_path / "store")

    return store_of


def test_the_manifest_speaks_of_the_users_classes_bands_and_range(village, store_of):
    manifest = store_of(village()).manifest
    assert (manifest.dataset, manifest.source, manifest.bands) == ("village", "folder", BANDS)
    assert (manifest.classes, manifest.palette[1]) == (("ground", "roof", "water"), (200, 30, 30))
    assert (manifest.image_range, manifest.image_std) == ((0, 4000), (0.2,) * 4)
    assert manifest.tiles[0].crs == "EPSG:32633"


def test_images_of_16_bits_and_labels_by_value_are_stored_as_bytes_and_classes(village, store_of):
    store = store_of(village())
    for index, entry in enumerate(store.manifest.tiles):
        tile = store[entry]
        assert tile.image_HWC.shape == (SIDE, SIDE, 4)
        assert (tile.image_HWC[10, 10] == [64, 128, 191, 255][index]).all()
        expected_HW = np.array([2, 9, 0, 9, 9, 9, 9, 1], np.uint8)[label_of(entry.id)]
        expected_HW[:3, :5] = IGNORE
        np.testing.assert_array_equal(tile.label_HW, expected_HW)
        np.testing.assert_array_equal(tile.eroded_HW, eroded(expected_HW))
        assert entry.ignored_px == 15
        assert f"images/{entry.id}.tif: 15 px (0.417 %) hold no image; their labels are ignored" in entry.notes


def test_one_dsm_for_all_tiles_is_warped_to_each_with_a_note(village, store_of):
    store = store_of(village())
    heights = store.manifest.heights
    assert (heights.offset_m, heights.scale_m) == pytest.approx((40, 10), abs=0.02)
    for entry in store.manifest.tiles:
        x_W = place_of(entry.id).c + (np.arange(SIDE) + 0.5) * GSD_M
        dsm_HW = store[entry].dsm_HW
        clear = np.abs(x_W - 366035) > 1
        np.testing.assert_allclose(dsm_HW[:, clear], np.broadcast_to(x_W > 366035, dsm_HW.shape)[:, clear], atol=0.01)
        assert any(note.startswith("heights.tif: ") and "warped" in note for note in entry.notes)


def test_training_range_reads_a_mosaic_only_under_the_training_tiles(village, store_of, rewrite, tmp_path):
    raw = village()
    before = store_of(raw).manifest.heights
    first_column = 366075 - 365980  # the training tiles end at 366070 m

    def raised(pixels_BHW):
        pixels_BHW[:, :, first_column:] = 70000
        pixels_BHW[:, 65:] = 70000  # 65 m below the upper edge; the tiles end at 60 m
        return pixels_BHW

    rewrite(raw / "heights.tif", raised)
    store = store_of(raw)
    assert store.manifest.heights == before
    (test,) = store.manifest.subset("test")
    assert (store[test].dsm_HW == 2.0).all()


def test_the_erosion_does_not_depend_on_the_bands_that_a_tile_goes_through_in(village, store_of, monkeypatch):
    from components.common.readers import layers

    monkeypatch.setattr(layers, "BAND_ROWS", 7)
    monkeypatch.setattr(layers, "BAND_PX", 1)
    store = store_of(village())
    for entry in store.manifest.tiles:
        np.testing.assert_array_equal(store[entry].eroded_HW, eroded(store[entry].label_HW))


def test_a_normalised_dsm_of_8_bits_is_taken_as_metres_above_the_ground(village, store_of, tmp_path, raw_tree):
    village()
    for tile in TILES:
        Image.fromarray(np.full((SIDE, SIDE), 30, np.uint8)).save(tmp_path / f"raw/labels/{tile}.jpg", quality=100)
    dsm = DsmInfo(files="labels/{tile}.jpg", unit_m=0.1, relative_to="ground")
    store = store_of(village(dsm=dsm), method="above-ground")
    assert (store.manifest.heights.relative_to, store.manifest.heights.ground_radius_m) == ("ground", None)
    np.testing.assert_allclose(store[store.manifest.tiles[0]].dsm_HW, 0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": replace(VILLAGE.image, bands=BANDS[:3], mean=(0.5,) * 3, std=(0.2,) * 3)}, "4 bands, expected 3"),
        ({"image": replace(VILLAGE.image, bands=(*BANDS, "x"), mean=(0.5,) * 5, std=(0.2,) * 5)}, "expected 5"),
        ({"labels": "colours"}, "north.png: has 1 band, expected 3"),
        ({"classes": VILLAGE.classes[:2]}, "have a value of no class, for example 0 at row"),
    ],
)
def test_files_that_are_not_as_the_data_set_says_are_refused(village, store_of, changes, sentence):
    with pytest.raises(DataError) as caught:
        store_of(village(**changes))
    assert sentence in str(caught.value)
