from __future__ import annotations

import numpy as np
import pytest
import torch

from components.common.data.store import Tile
from components.common.inference.windows import Windows, parts, sliding

CPU = torch.device("cpu")


def tile(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    dsm = rng.normal(size=(height, width)).astype(np.float32)
    label = np.zeros((height, width), np.uint8)
    return Tile(image, dsm, label, label)


def windows(window, stride, patch=8, batch=3):
    return Windows(window, stride, batch, patch, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def both(rgb, dsm):
    return torch.cat([rgb, dsm], dim=1)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (200, 130), (20, 90), (16, 16)])
@pytest.mark.parametrize(("window", "stride"), [(32, 32), (32, 20), (32, 7), (48, 48)])
def test_bands_cover_the_tile_once_and_keep_every_pixel_in_place(height, width, window, stride):
    pixels = tile(height, width)
    bands = list(sliding(pixels, both, windows(window, stride), CPU))
    rows = [row for row, _ in bands]
    assert rows == [0, *np.cumsum([maps.shape[1] for _, maps in bands])[:-1]]
    whole = np.concatenate([maps.numpy() for _, maps in bands], axis=1)
    assert whole.shape == (4, height, width)
    np.testing.assert_allclose(whole[:3], pixels.image_HWC.transpose(2, 0, 1) / 255, atol=1e-5)
    np.testing.assert_allclose(whole[3], pixels.dsm_HW, atol=1e-5)


def test_overlapping_windows_are_averaged():
    counter = iter(range(10))

    def one_number_per_window(rgb, dsm):
        return torch.stack([torch.full((1, *rgb.shape[2:]), float(next(counter))) for _ in rgb])

    ((_, maps),) = sliding(tile(32, 48), one_number_per_window, windows(32, 16), CPU)
    assert [maps[0, 0, column] for column in (0, 20, 40)] == [0.0, 0.5, 1.0]


def test_a_tile_smaller_than_a_window_is_padded_to_whole_patches_and_cropped_again():
    seen = []

    def watch(rgb, dsm):
        seen.append(tuple(rgb.shape[2:]))
        return rgb

    ((_, maps),) = sliding(tile(30, 30), watch, windows(56, 30, patch=14), CPU)
    assert set(seen) == {(42, 42)}
    assert maps.shape == (3, 30, 30)


def test_a_missing_height_reaches_the_network_as_nan():
    pixels = tile(32, 32)
    pixels.dsm_HW[4, 5] = np.nan
    ((_, maps),) = sliding(pixels, lambda rgb, dsm: dsm, windows(32, 32), CPU)
    assert maps.isnan().nonzero().tolist() == [[0, 4, 5]]


def test_an_image_may_have_missing_values_too():
    pixels = tile(32, 32)
    image = pixels.image_HWC.astype(np.float32)
    image[4, 5, 1] = np.nan
    given = Tile(image, pixels.dsm_HW, pixels.label_HW, pixels.eroded_HW)
    ((_, maps),) = sliding(given, lambda rgb, dsm: rgb, windows(32, 32), CPU)
    assert maps.isnan().nonzero().tolist() == [[1, 4, 5]]


@pytest.mark.parametrize(("height", "stride"), [(160, 16), (400, 16), (401, 32), (30, 16)])
def test_the_parts_of_a_tile_are_the_bands_of_the_tile(height, stride):
    pixels, cut = tile(height, 40), windows(32, stride)
    whole = {row: maps for row, maps in sliding(pixels, both, cut, CPU)}
    divided = [found for part in parts(height, cut) for found in sliding(pixels, both, cut, CPU, part)]
    assert [row for row, _ in divided] == list(whole)
    for row, maps in divided:
        torch.testing.assert_close(maps, whole[row])
    assert len(parts(400, windows(32, 16))) == 3


def test_a_batch_continues_in_the_next_row_of_windows():
    sizes = []

    def watch(rgb, dsm):
        sizes.append(len(rgb))
        return rgb

    list(sliding(tile(96, 96), watch, windows(32, 32, batch=4), CPU))
    assert sizes == [4, 4, 1]


def test_the_threads_of_a_cpu_compute_batches_side_by_side_and_in_order():
    pixels, cut, threads = tile(100, 130), windows(32, 20), torch.get_num_threads()
    alone = list(sliding(pixels, both, cut, CPU))
    torch.set_num_threads(3)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            states = []

            def watch(rgb, dsm):
                states.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), torch.get_num_threads()))
                return both(rgb, dsm)

            together = list(sliding(pixels, watch, cut, CPU))
        assert set(states) == {(True, False, 1)}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert [row for row, _ in together] == [row for row, _ in alone]
    assert all(torch.equal(maps, other) for (_, maps), (_, other) in zip(together, alone, strict=True))


def test_an_error_in_a_thread_ends_the_pass():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            list(sliding(tile(100, 130), lambda rgb, dsm: 1 / 0, windows(32, 20), CPU))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_memory_is_a_band_not_the_tile():
    held = []
    for _, maps in sliding(tile(640, 64), both, windows(32, 32), CPU):
        held.append(maps.shape[1])
    assert max(held) == 32 and sum(held) == 640


class PatchesOf14:
    patch_size = 14


def test_a_window_is_rounded_up_to_whole_patches_of_image_not_of_zeros():
    seen = []

    def watch(rgb, dsm):
        seen.append(rgb)
        return rgb

    made = Windows.of(
        PatchesOf14(), 30, stride_px=30, batch_size=4, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)
    )
    assert made.window_px == 42
    pixels = tile(84, 84)
    list(sliding(pixels, watch, made, CPU))
    corner = torch.from_numpy(pixels.image_HWC[:42, :42]).permute(2, 0, 1) / 255
    torch.testing.assert_close(seen[0][0], corner)


def test_a_window_of_a_part_of_a_patch_is_an_error():
    with pytest.raises(ValueError, match="window_px is 30; expected a multiple of 14"):
        windows(30, 30, patch=14)


def test_any_number_of_maps_can_follow_the_logits():
    ((_, maps),) = sliding(tile(32, 32), lambda rgb, dsm: torch.cat([rgb, dsm, dsm], dim=1), windows(32, 32), CPU)
    assert maps.shape == (5, 32, 32)
    assert torch.equal(maps[3], maps[4])
