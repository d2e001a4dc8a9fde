import hashlib
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from rasterio import Affine

from components.common.data.datasets import IGNORE, dataset
from components.common.data.height_scaling import scaled
from components.common.data.legend import decode, legend_of
from components.common.data.rawtree import read_raw_tree
from components.common.data.store import map_tile
from components.common.errors import DataError
from components.common.readers.scene import SceneFiles, open_scene
from components.predict.inputs.scene_inputs import Inputs
from components.preprocess.convert import TileJob, build_tile
from components.preprocess.height_settings import as_recorded
from model import MoBaNetConfig
from tests.components.conftest import toy_facts

DATASET = dataset("sample")
SIDE = 64
GREY = {"photometric": "minisblack"}  # a fourth band would be an alpha band otherwise


def classes(label_BHW):
    return decode(label_BHW, legend_of(DATASET, DATASET.label)).y_HW


@pytest.fixture
def build(tmp_path, config):
    def build(raw, **changes):
        """Build tile 2_10: its pixels in the store, its entry in the manifest, the notes."""
        given = config(**changes)
        (tmp_path / "store").mkdir(exist_ok=True)
        job = TileJob(
            raw=read_raw_tree(raw),
            store=tmp_path / "store",
            tile="2_10",
            subset="train",
            heights=as_recorded(given.heights, DATASET.dsm, None),
            settings=given.reader(),
        )
        entry = build_tile(job)
        return map_tile(tmp_path / "store" / entry.file), entry, entry.notes

    return build


def test_the_store_holds_exactly_the_pixels_of_the_files(potsdam, build, config, pixels_of):
    tile, entry, notes = build(potsdam())
    image_BHW, dsm_HW, label_BHW, eroded_BHW = pixels_of("2_10", SIDE)
    np.testing.assert_array_equal(tile.image_HWC, np.moveaxis(image_BHW, 0, -1))
    np.testing.assert_array_equal(tile.label_HW, classes(label_BHW))
    np.testing.assert_array_equal(tile.eroded_HW, classes(eroded_BHW))
    heights = as_recorded(config().heights, DATASET.dsm, None)
    np.testing.assert_array_equal(tile.dsm_HW, scaled(dsm_HW, heights, 0.05))
    assert notes == ()


def test_the_entry_says_what_the_tile_is(potsdam, build):
    raw = potsdam()
    tile, entry, _ = build(raw)
    assert (entry.id, entry.subset, entry.file) == ("2_10", "train", "2_10.arrow")
    assert (entry.height_px, entry.width_px, entry.crs) == (SIDE, SIDE, "EPSG:32633")
    assert entry.transform == (0.05, 0.0, 366032.0, 0.0, -0.05, 5806993.6)
    assert entry.class_px == tuple(int((tile.label_HW == c).sum()) for c in range(6))
    assert (sum(entry.class_px), entry.ignored_px, entry.snapped_px, entry.unknown_px) == (SIDE * SIDE, 0, 0, 0)
    assert (tile.eroded_HW == IGNORE).mean() == 1 - (6 / 8) ** 2
    assert entry.dsm_missing_share == 0.0
    names = [DATASET.path(kind, "2_10") for kind in ("image", "dsm", "label", "eroded")]
    names.append(DATASET.path("dsm", "2_10").replace(".tif", ".tfw"))  # it has no other position
    assert entry.sources == {name: hashlib.sha256((raw / name).read_bytes()).hexdigest() for name in names}


def test_cars_in_another_yellow_and_lossy_labels_decode_the_same_way_and_are_counted(potsdam, build, pixels_of):
    truth_HW = classes(pixels_of("2_10", SIDE)[2])
    tile, entry, _ = build(potsdam(car=(252, 255, 0)))
    np.testing.assert_array_equal(tile.label_HW, truth_HW)
    assert entry.snapped_px == (truth_HW == 4).sum() > 0
    tile, entry, _ = build(potsdam(lossy=True))
    np.testing.assert_array_equal(tile.label_HW, truth_HW)
    assert entry.snapped_px > 0.8 * SIDE * SIDE


def test_a_few_unknown_colours_are_ignored_counted_and_noted(potsdam, build):
    tile, entry, notes = build(potsdam(magenta_px=4))
    assert (tile.label_HW[0, :4] == IGNORE).all()
    assert (entry.unknown_px, entry.ignored_px) == (4, 4)
    (note,) = notes
    assert (
        "2_10_label.tif: 4 px (0.0977 %) have a colour of no class, for example RGB 200, 10, 200 at row 0, col" in note
    )


def test_many_unknown_colours_are_an_error(potsdam, build):
    with pytest.raises(
        DataError, match=r"2_10_label.tif: 5 px \(0.122 %\) .* RGB 200, 10, 200 at row 0, column 0; at most 0.1 %"
    ):
        build(potsdam(magenta_px=5))


def test_a_dsm_one_column_narrower_is_padded_by_repeating_its_edge(potsdam, build, config):
    tile, entry, notes = build(potsdam(dsm_short_by=1), heights=config("per-tile").heights)
    np.testing.assert_array_equal(tile.dsm_HW[:, -1], tile.dsm_HW[:, -2])
    assert np.ptp(tile.dsm_HW[:, -2]) > 0
    assert entry.width_px == SIDE
    assert "dsm_potsdam_02_10.tif: smaller than the image; padded 1 px at the right by repeating the edge" in notes[0]


def test_a_dsm_much_narrower_is_an_error_with_both_sizes(potsdam, build):
    with pytest.raises(
        DataError, match=r"dsm_potsdam_02_10.tif: is 55 x 64 px .*, the image is 64 x 64 px; up to 8 px"
    ):
        build(potsdam(dsm_short_by=9))


def test_a_label_one_row_shorter_is_ignored_there(potsdam, rewrite, build):
    raw = potsdam()
    rewrite(raw / DATASET.path("label", "2_10"), lambda pixels_BHW: pixels_BHW[:, :-1])
    tile, entry, notes = build(raw)
    assert (tile.label_HW[-1] == IGNORE).all()
    assert (tile.label_HW[:-1] != IGNORE).all()
    assert entry.ignored_px == SIDE
    assert "padded 1 px at the bottom with the label 255 (ignore)" in notes[0]


def test_nan_and_nodata_are_missing_and_their_share_is_kept(potsdam, build):
    tile, entry, _ = build(potsdam(hole_px=10))
    expected_HW = np.zeros((SIDE, SIDE), bool)
    expected_HW[20:30, 20:30] = True
    np.testing.assert_array_equal(np.isnan(tile.dsm_HW), expected_HW)
    assert entry.dsm_missing_share == 100 / SIDE**2
    assert np.nanmax(np.abs(tile.dsm_HW)) < 0.2


def test_a_dsm_without_a_single_height_is_an_error(potsdam, rewrite, build):
    raw = potsdam()
    rewrite(raw / DATASET.path("dsm", "2_10"), lambda pixels_BHW: np.full_like(pixels_BHW, -9999))
    with pytest.raises(DataError, match="dsm_potsdam_02_10.tif: holds no height: every pixel is marked as missing"):
        build(raw)


@pytest.mark.parametrize(
    ("kind", "change", "profile", "sentence"),
    [
        ("image", lambda p: np.concatenate([p, p[:1]]), GREY, "2_10_RGB.tif: has 4 bands, expected 3"),
        ("image", lambda p: p.astype(np.uint16), {}, "2_10_RGB.tif: its pixels are uint16, expected uint8"),
        ("label", lambda p: p[:1], {}, "2_10_label.tif: has 1 band, expected 3"),
        ("dsm", lambda p: p.astype(np.int16), {}, "02_10.tif: its pixels are int16, expected float32"),
        ("dsm", lambda p: p, {"crs": "EPSG:32632"}, "its reference system is EPSG:32632, the image's EPSG:32633"),
        ("label", lambda p: p, {"crs": "EPSG:25833"}, "2_10_label.tif: its reference system is EPSG:25833"),
        ("eroded", lambda p: p, {"transform": Affine(0.1, 0, 366032, 0, -0.1, 5806993.6)}, "another resolution"),
        ("dsm", lambda p: p, {"transform": Affine(0.05, 0, 366033, 0, -0.05, 5806993.6)}, "20 px right of"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_the_others_is_named(potsdam, rewrite, build, kind, change, profile, sentence):
    raw = potsdam()
    rewrite(raw / DATASET.path(kind, "2_10"), change, **profile)
    with pytest.raises(DataError) as caught:
        build(raw)
    assert sentence in str(caught.value)


def test_without_any_place_a_tile_starts_at_zero_in_steps_of_the_ground_size(potsdam, rewrite, build):
    raw = potsdam()
    for kind in ("image", "dsm", "label", "eroded"):
        rewrite(raw / DATASET.path(kind, "2_10"), crs=None, transform=None)
    _, entry, _ = build(raw)
    assert (entry.crs, entry.transform) == ("EPSG:32633", (0.05, 0.0, 0.0, 0.0, -0.05, 0.0))


def test_a_prediction_sees_exactly_the_pixels_of_the_store(potsdam, build, config):
    raw = potsdam(hole_px=10)
    tile, _, _ = build(raw)
    heights = as_recorded(config().heights, DATASET.dsm, None)
    facts = replace(toy_facts(MoBaNetConfig(backbone="test_vit")), heights=heights)
    names = {kind: (str(raw / DATASET.path(kind, "2_10")),) for kind in ("image", "dsm")}
    with ExitStack() as stack:
        scene = open_scene(SceneFiles(**names, image_info=DATASET.image, dsm_info=DATASET.dsm, crs="EPSG:32633"), stack)
        patch = Inputs(scene, facts).read(slice(0, SIDE), slice(0, SIDE))
    np.testing.assert_array_equal(patch.image_HWC, tile.image_HWC)
    np.testing.assert_array_equal(patch.dsm_HW, tile.dsm_HW)
    np.testing.assert_array_equal(patch.sensors_HW, np.where(np.isnan(tile.dsm_HW), 1, 3))
