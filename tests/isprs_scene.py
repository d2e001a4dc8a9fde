"""Tiles of a made-up town in the look of ISPRS Potsdam or Vaihingen: layers without any trap, and where they lie."""

from __future__ import annotations

import zlib

import numpy as np
from rasterio import Affine
from scipy import ndimage

PALETTE = np.array([(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)], np.uint8)
COLOURS = np.array([(130, 126, 122), (150, 90, 80), (90, 130, 70), (50, 90, 50), (60, 70, 120), (120, 110, 90)])
HEIGHTS_M = np.array([0.0, 8.0, 0.2, 6.0, 1.5, 0.8])  # of the classes above the ground

GSD_M = {"potsdam": 0.05, "vaihingen": 0.09}
CRS = {"potsdam": "EPSG:32633", "vaihingen": "EPSG:32632"}
SHARES = {"potsdam": (29.6, 25.7, 22.6, 15.5, 1.8, 4.8), "vaihingen": (27.8, 26.0, 21.3, 22.9, 1.2, 0.8)}
GROUND_M = {"potsdam": 35.0, "vaihingen": 260.0}
ORIGIN_M = {"potsdam": (366000.0, 5808000.0), "vaihingen": (496500.0, 5420000.0)}


def scene(dataset: str, tile: str, side_px: int) -> dict[str, np.ndarray]:
    """Layers of a tile without any trap: images `[B, H, W]`, heights `[1, H, W]`, labels `[3, H, W]`.

    Classes are blocks of 8 pixels in the data set's known shares, so far as the number of blocks allows.
    """
    rng = np.random.default_rng(zlib.crc32(f"{dataset}{tile}".encode()))
    label = _classes(rng, SHARES[dataset], side_px)
    colours = COLOURS[label] + rng.normal(0, 9, (side_px, side_px, 1)) + rng.normal(0, 3, (side_px, side_px, 3))
    red, green, blue = np.moveaxis(colours.clip(0, 255).astype(np.uint8), -1, 0)
    infrared = (np.isin(label, (2, 3)) * 120 + 40 + rng.normal(0, 9, label.shape)).clip(0, 255).astype(np.uint8)
    above = HEIGHTS_M[label] + np.abs(rng.normal(0, 0.05, label.shape))
    ground = GROUND_M[dataset] + np.linspace(0, 2, side_px)[:, None]
    coloured = np.moveaxis(PALETTE[label], -1, 0)
    decimetres = (above * 10).clip(0, 255).astype(np.uint8)[None]
    return {
        "rgb": np.stack([red, green, blue]),
        "irrg": np.stack([infrared, red, green]),
        "rgbir": np.stack([red, green, blue, infrared]),
        "absolute": (ground + above).astype(np.float32)[None],
        "lastools": decimetres,
        "ownapproach": decimetres,
        "label": coloured,
        "eroded": coloured * ~_boundary(label),
    }


def place(dataset: str, tile: str, side_px: int) -> Affine:
    """Where a tile lies: pixel -> map. Tiles lie side by side, none on another."""
    gsd, (east, north) = GSD_M[dataset], ORIGIN_M[dataset]
    numbers = [int(part) for part in tile.split("_")]
    row, column = numbers if len(numbers) == 2 else divmod(numbers[0], 8)
    return Affine(gsd, 0, east + column * side_px * gsd, 0, -gsd, north - row * side_px * gsd)


def world_file(transform: Affine) -> bytes:
    """Content of a .tfw: the middle of the upper left pixel."""
    a, b, _, d, e, _ = transform[:6]
    x, y = transform @ (0.5, 0.5)
    return "".join(f"{value!r}\n" for value in (a, d, b, e, x, y)).encode()


def _classes(rng: np.random.Generator, shares: tuple[float, ...], side_px: int) -> np.ndarray:
    blocks = -(-side_px // 8)
    exact = np.array(shares) / sum(shares) * blocks**2
    counts = exact.astype(int)
    counts[np.argsort(counts - exact)[: blocks**2 - counts.sum()]] += 1
    drawn = rng.permutation(np.repeat(np.arange(len(shares)), counts)).reshape(blocks, blocks)
    return np.kron(drawn, np.ones((8, 8), np.uint8)).astype(np.uint8)[:side_px, :side_px]


def _boundary(label_HW: np.ndarray) -> np.ndarray:
    """Pixels with another class within a disc of 3 pixels."""
    y, x = np.ogrid[-3:4, -3:4]
    disc = x**2 + y**2 <= 9
    lowest = ndimage.minimum_filter(label_HW, footprint=disc)
    return lowest != ndimage.maximum_filter(label_HW, footprint=disc)
