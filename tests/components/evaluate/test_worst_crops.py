"""components/evaluate/worst_crops.py: the crops with the most errors, and what was taken for what."""

from dataclasses import replace

import numpy as np

from components.common.data.store import Tile
from components.evaluate.worst_crops import Mistake, WorstCrop, worst_crops, worst_of

CLASSES = ("road", "building", "tree")


def tile_of(label_HW: np.ndarray, eroded_HW: np.ndarray | None = None) -> Tile:
    shape = label_HW.shape
    image_HWC = np.arange(np.prod(shape) * 4, dtype=np.uint32).reshape(*shape, 4).astype(np.uint8)
    return Tile(image_HWC, np.ones(shape, np.float32), label_HW, label_HW if eroded_HW is None else eroded_HW)


def test_the_worst_crop_comes_first_with_its_confusions_and_pixels() -> None:
    label = np.zeros((8, 12), np.uint8)
    label[4:, 4:8] = 2
    predicted = label.copy()
    predicted[4:6, 4:8] = 1  # 8 of 16 pixels of one crop: tree taken for building
    predicted[6, 4:8] = 0  # 4 of 16: tree taken for road
    predicted[0, 0] = 1  # 1 of 16 of another crop
    tile = tile_of(label)
    first, second = worst_crops("5_10", "rgb+dsm", tile, predicted, 4)
    assert first.entry(CLASSES) == WorstCrop(
        "5_10", "rgb+dsm", 4, 4, 4, 75.0, (Mistake("tree", "building", 50.0), Mistake("tree", "road", 25.0))
    )
    assert (second.row, second.column, second.error) == (0, 0, 100 / 16)
    np.testing.assert_array_equal(first.image_hw3, tile.image_HWC[4:8, 4:8, :3])
    np.testing.assert_array_equal(first.predicted_hw, predicted[4:8, 4:8])
    assert first.label_hw.base is None and first.dsm_hw.shape == (4, 4)  # copies: the tile can be closed


def test_only_the_protocols_ground_truth_counts() -> None:
    label = np.zeros((4, 8), np.uint8)
    eroded = label.copy()
    eroded[:, :2] = 255  # half of the first crop
    eroded[:, 4:] = 255
    eroded[0, 4] = 0  # one pixel of the second crop: too few to compete
    predicted = np.ones_like(label)
    predicted[:, 2] = 0
    (crop,) = worst_crops("a", "rgb+dsm", tile_of(label, eroded), predicted, 4)
    assert (crop.column, crop.error) == (0, 50.0)


def test_crops_at_the_edge_are_complete_and_do_not_overlap() -> None:
    label = np.zeros((6, 6), np.uint8)
    crops = worst_crops("a", "rgb+dsm", tile_of(label), np.ones_like(label), 4)
    assert [(c.row, c.column) for c in crops] == [(0, 0)]  # the others would overlap it
    (whole,) = worst_crops("a", "rgb+dsm", tile_of(label), np.ones_like(label), 16)
    assert whole.label_hw.shape == (6, 6)


def test_a_perfect_tile_has_no_worst_crop() -> None:
    label = np.zeros((8, 8), np.uint8)
    assert worst_crops("a", "rgb+dsm", tile_of(label), label, 4) == ()


def test_the_worst_of_all_tiles_are_kept() -> None:
    label = np.zeros((4, 4), np.uint8)
    per_tile = []
    for number in range(5):
        predicted = label.copy()
        predicted.ravel()[: number + 1] = 1
        per_tile.append(worst_crops(f"t{number}", "rgb+dsm", tile_of(label), predicted, 4))
    assert [crop.tile for crop in worst_of(per_tile, 2)] == ["t4", "t3"]


def test_tiles_without_a_sensor_compete_only_among_themselves() -> None:
    label = np.zeros((4, 4), np.uint8)
    predicted = label.copy()
    predicted[0, 0] = 1
    both = worst_crops("both", "rgb+dsm", tile_of(label), predicted, 4)
    no_dsm = worst_crops("no_dsm", "rgb", replace(tile_of(label), sensors=("rgb",)), np.ones_like(label), 4)
    assert [crop.tile for crop in worst_of([both, no_dsm])] == ["both"]
    (alone,) = worst_of([no_dsm])
    assert alone.tile == "no_dsm" and alone.dsm_hw is None and alone.image_hw3 is not None
