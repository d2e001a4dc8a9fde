import os

import numpy as np
import pytest

from components.common.data.store import Tile, map_tile, write_tile
from components.preprocess.tilefile import new_tile


def a_tile(height, width, bands):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (2, height, width), dtype=np.uint8)
    image_HWC = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Tile(image_HWC, rng.normal(size=(height, width)).astype(np.float32), *labels)


def write_in_bands(path, tile, rows):
    height, width, bands = tile.image_HWC.shape
    with new_tile(path, height, width, bands) as out:
        for first in reversed(range(0, height, rows)):
            band = slice(first, first + rows)
            for layer in ("image", "dsm", "label", "eroded"):
                pixels = getattr(tile, f"{layer}_HWC" if layer == "image" else f"{layer}_HW")
                out.write(layer, first, pixels[band])
        np.testing.assert_array_equal(out.labels(1, height - 1), tile.label_HW[1:])


@pytest.mark.parametrize(("height", "width", "bands"), [(2, 1, 3), (64, 64, 3), (7, 5, 1), (301, 300, 4)])
@pytest.mark.parametrize("rows", [1, 13, 1000])
def test_rows_in_any_order_make_the_very_bytes_of_a_tile_written_at_once(tmp_path, height, width, bands, rows):
    tile = a_tile(height, width, bands)
    write_tile(tmp_path / "at_once.arrow", tile)
    write_in_bands(tmp_path / "in_bands.arrow", tile, rows)
    assert (tmp_path / "in_bands.arrow").read_bytes() == (tmp_path / "at_once.arrow").read_bytes()
    np.testing.assert_array_equal(map_tile(tmp_path / "in_bands.arrow").dsm_HW, tile.dsm_HW)


def test_rows_in_another_memory_order_are_written_the_same_way(tmp_path):
    tile = a_tile(20, 30, 3)
    bands_first = np.moveaxis(np.ascontiguousarray(np.moveaxis(tile.image_HWC, -1, 0)), 0, -1)
    with new_tile(tmp_path / "t.arrow", 20, 30, 3) as out:
        out.write("image", 0, bands_first)
    np.testing.assert_array_equal(map_tile(tmp_path / "t.arrow").image_HWC, tile.image_HWC)


def test_a_tile_that_fails_half_way_leaves_the_old_file_and_no_draft(tmp_path):
    tile = a_tile(20, 30, 3)
    write_tile(tmp_path / "t.arrow", tile)
    with pytest.raises(RuntimeError), new_tile(tmp_path / "t.arrow", 20, 30, 3) as out:
        out.write("label", 0, 1 + tile.label_HW)
        raise RuntimeError
    assert os.listdir(tmp_path) == ["t.arrow"]
    np.testing.assert_array_equal(map_tile(tmp_path / "t.arrow").label_HW, tile.label_HW)
