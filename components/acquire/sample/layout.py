"""The plan of a tile: gently bent streets, the blocks between them, and each block's lots.

In: random numbers and the reach of the canvas. Out: a street grid with the distance from every pixel to the next kerb,
and lots, each a frame (`u` along its street, `v` away from it) with a use. Distances in metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.acquire.sample.canvas import Frame, Patch, Plane

USES = {"house": 13, "block": 8, "works": 4, "parking": 1, "court": 2, "park": 4}
"""Uses of a lot, and how often each occurs."""


@dataclass(frozen=True, slots=True)
class Streets:
    """Two families of streets. Town axes: `p` along the main streets, `q` across them, following their bends."""

    town: Frame
    bend_m: float
    bend_length_m: float
    main_q: float  # centre of one main street; the others lie one period away
    main_period: float
    main_half: float  # half of the carriageway with its parking lane
    cross_p: float
    cross_period: float
    cross_half: float
    pavement: float  # width of the pavement

    def bend(self, p: Plane | float) -> Plane:
        """How far the main streets swerve at coordinates `p`, of any shape; the same shape."""
        return np.asarray(self.bend_m * np.sin(np.asarray(p) / self.bend_length_m), np.float32)

    def place(self, p: float, q: float, turn: float = 0.0) -> Frame:
        """The frame at a point in town axes, along the bent street."""
        slope = self.bend_m / self.bend_length_m * math.cos(p / self.bend_length_m)
        return self.town.at(p, q + float(self.bend(p)), math.atan(slope) + turn)

    def from_kerbs(self, patch: Patch) -> tuple[Plane, Plane]:
        """Distance to the kerb of the next main and of the next cross street; negative on the carriageway."""
        q = patch.v_HW - self.bend(patch.u_HW)
        main = np.abs((q - self.main_q + self.main_period / 2) % self.main_period - self.main_period / 2)
        cross = np.abs((patch.u_HW - self.cross_p + self.cross_period / 2) % self.cross_period - self.cross_period / 2)
        return main - self.main_half, cross - self.cross_half


@dataclass(frozen=True, slots=True)
class Lot:
    """A piece of land: `v` = -depth/2 is the street's side."""

    frame: Frame
    width: float  # along u
    depth: float  # along v
    use: str


def plan(rng: np.random.Generator, reach_m: float) -> tuple[Streets, list[Lot]]:
    """Streets and lots of a tile that reaches `reach_m` from its centre."""
    main_half, cross_half, pavement = rng.uniform(2.5, 3.1), rng.uniform(1.8, 2.3), rng.uniform(1.1, 1.6)
    main_period = 2 * (main_half + pavement) + rng.uniform(40, 48)
    cross_period = 2 * (cross_half + pavement) + rng.uniform(72, 100)
    streets = Streets(
        town=Frame(0.0, 0.0, rng.uniform(0, math.pi)),
        bend_m=rng.uniform(0, 3.0),
        bend_length_m=rng.uniform(18, 40),
        main_q=rng.uniform(-0.32, 0.32) * main_period,
        main_period=main_period,
        main_half=main_half,
        cross_p=rng.uniform(-0.5, 0.5) * cross_period,
        cross_period=cross_period,
        cross_half=cross_half,
        pavement=pavement,
    )
    return streets, list(_lots(rng, streets, reach_m))


def _lots(rng: np.random.Generator, streets: Streets, reach_m: float) -> list[Lot]:
    lots, deck = [], _deck(rng)
    depth = (streets.main_period - 2 * (streets.main_half + streets.pavement)) / 2
    far = 1.5 * reach_m
    for i in range(-3, 4):
        for side in (1, -1):  # both sides of main street i
            q = streets.main_q + i * streets.main_period + side * (streets.main_half + streets.pavement + depth / 2)
            for p, width in _cuts(rng, streets, far):
                frame = streets.place(p, q, 0.0 if side == 1 else math.pi)
                half = math.hypot(width, depth) / 2
                if max(abs(frame.x_m), abs(frame.y_m)) < reach_m + half:
                    lots.append(Lot(frame, width, depth, next(deck)))
    return lots


def _cuts(rng: np.random.Generator, streets: Streets, far: float) -> list[tuple[float, float]]:
    """Centres and widths of the lots of a row, block by block."""
    cuts = []
    free = streets.cross_period - 2 * (streets.cross_half + streets.pavement)
    first = math.floor((-far - streets.cross_p) / streets.cross_period)
    last = math.ceil((far - streets.cross_p) / streets.cross_period)
    for i in range(first, last + 1):
        start = streets.cross_p + i * streets.cross_period + streets.cross_half + streets.pavement
        shares = rng.uniform(0.8, 1.3, max(round(free / 18), 1))
        ends = start + free * np.cumsum(shares) / shares.sum()
        starts = np.concatenate(([start], ends[:-1]))
        cuts += [(float(a + b) / 2, float(b - a)) for a, b in zip(starts, ends, strict=True)]
    return cuts


def _deck(rng: np.random.Generator) -> Iterator[str]:
    """Uses drawn like cards, so that even the few lots of one tile vary."""
    cards = [use for use, count in USES.items() for _ in range(count)]
    while True:
        yield from (cards[i] for i in rng.permutation(len(cards)))
