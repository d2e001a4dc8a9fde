"""Band-limited noise: the grain, mottle and stains from which every surface of the sample is made.

In: a random number generator. Out: periodic square fields `[N, N]` float32, mean 0 and standard deviation 1. A window
of any size can be cut out of them by wrapping around.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from components.acquire.sample.canvas import GSD_M, Patch, Plane

FIELD_PX = 768
"""Side of a periodic field, pixels: 38 m, longer than anything that is textured in one piece."""


def field(
    rng: np.random.Generator, finest_m: float, coarsest_m: float, slope: float = 1.0, stretch: float = 1.0
) -> Plane:
    """One field of noise.

    Args:
        rng: source of randomness.
        finest_m: wavelength below which nothing is left, metres.
        coarsest_m: wavelength above which nothing is left, metres.
        slope: amplitude falls with frequency to this power; 0 is white within the band.
        stretch: above 1, features are this much longer along the columns than along the rows.
    """
    rows = fft.fftfreq(FIELD_PX, GSD_M)[:, None]
    cols = fft.rfftfreq(FIELD_PX, GSD_M)[None, :] * stretch
    frequency = np.hypot(rows, cols).astype(np.float32)
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope
    amplitude *= np.exp(-((frequency * finest_m) ** 4) - (1.0 / (frequency * coarsest_m)) ** 4)
    amplitude[0, 0] = 0.0
    parts = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    wave = fft.irfft2(amplitude * (parts[0] + 1j * parts[1]), s=(FIELD_PX, FIELD_PX))
    return ((wave - wave.mean()) / wave.std()).astype(np.float32)


class Textures:
    """The noise fields of one tile; every object gets its own random cut."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Generate the fields, which is the only expensive part of texturing."""
        self._rng = rng
        self._fields = {
            "grain": field(rng, 0.05, 0.3, slope=0.3),  # single stones and leaves
            "mottle": field(rng, 0.1, 1.5),  # tufts, worn places
            "stain": field(rng, 0.5, 14.0, slope=1.4),  # damp, dry and dirty areas
            "streak": field(rng, 0.1, 20.0, stretch=8.0),  # wheel tracks, mowing, run-off
        }

    def cut(self, name: str, patch: Patch) -> Plane:
        """A random piece of one field, `[H, W]` of the patch's shape."""
        down, right = self._rng.integers(FIELD_PX, size=2)
        rows = (np.arange(patch.rows.start, patch.rows.stop) + down) % FIELD_PX
        cols = (np.arange(patch.cols.start, patch.cols.stop) + right) % FIELD_PX
        piece: Plane = self._fields[name][np.ix_(rows, cols)]
        return piece

    def along(self, name: str, patch: Patch) -> Plane:
        """As `cut`, but laid along the patch's own axes: stretched fields run along `u`."""
        down, right = self._rng.integers(FIELD_PX, size=2)
        rows = (np.floor(patch.v_HW / GSD_M).astype(np.intp) + down) % FIELD_PX
        cols = (np.floor(patch.u_HW / GSD_M).astype(np.intp) + right) % FIELD_PX
        piece: Plane = self._fields[name][rows, cols]
        return piece
