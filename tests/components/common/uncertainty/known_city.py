"""Synthetic tiles with known scores: classes and errors are smooth random fields, so neighbouring pixels are alike.

Every pixel has the same distribution, a Gaussian vector. So the true scores follow from independent pixels without any
map, and share no code with the intervals. Letters: N blocks, K classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

K = 5
CONDITIONS = {"rgb+dsm": 0.6, "rgb": 1.0, "dsm": 1.3}
"""Condition -> size of its errors."""

FREQUENT = np.array([1.0, 0.6, 0.3, 0.0, -0.9])
"""What makes classes frequent; the last one is rare."""

SHARED = 0.5**0.5
"""Share of an error that all conditions have in common."""

Field = npt.NDArray[np.floating]


def _classes(scene: Field, shared: Field, own: dict[str, Field], difficulty: Field) -> dict[str, npt.NDArray[np.intp]]:
    """True classes and the prediction of every condition, from fields `[K, ...]`."""
    evidence = scene + FREQUENT.reshape(-1, *[1] * (scene.ndim - 1))
    found = {"truth": evidence.argmax(axis=0)}
    for name, size in CONDITIONS.items():
        error = SHARED * shared + (1 - SHARED**2) ** 0.5 * own[name]
        found[name] = (evidence + size * np.exp(0.5 * difficulty) * error).argmax(axis=0)
    return found


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], side_px: int, length_px: float) -> Field:
    """Gaussian random fields of mean 0 and variance 1; `length_px`: standard deviation of the smoothing kernel."""
    across, down = np.fft.rfftfreq(side_px), np.fft.fftfreq(side_px)[:, None]
    kernel = np.exp(-2 * (np.pi * length_px) ** 2 * (across**2 + down**2))
    everywhere = np.exp(-2 * (np.pi * length_px) ** 2 * (np.fft.fftfreq(side_px) ** 2 + down**2))
    noise = rng.standard_normal((*shape, side_px, side_px), dtype=np.float32)
    return np.fft.irfft2(np.fft.rfft2(noise) * kernel, s=(side_px, side_px)) / np.sqrt((everywhere**2).mean())


def blocks(
    seed: int, *, tiles: int = 2, side_px: int = 128, block_px: int = 32, length_px: float = 2.0
) -> tuple[dict[str, npt.NDArray[np.int64]], list[tuple[int, int]]]:
    """Confusion counts of the blocks of some tiles by condition, each `[N, K, K]`, and the grid of every tile."""
    rng = np.random.default_rng(seed)
    across = side_px // block_px
    place = np.arange(side_px) // block_px
    block_HW = place[:, None] * across + place
    counts: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in CONDITIONS}
    for _ in range(tiles):
        scene, shared = (_smooth(rng, (K,), side_px, length_px) for _ in range(2))
        own = {name: _smooth(rng, (K,), side_px, length_px) for name in CONDITIONS}
        found = _classes(scene, shared, own, _smooth(rng, (), side_px, length_px))
        for name in CONDITIONS:
            cell = (block_HW * K + found["truth"]) * K + found[name]
            counts[name].append(np.bincount(cell.ravel(), minlength=across**2 * K * K).reshape(-1, K, K))
    return {name: np.concatenate(parts) for name, parts in counts.items()}, [(across, across)] * tiles


def true_scores(failure_probability: float, pixels: int) -> dict[str, float]:
    """The scores of an endless tile, by the names of the intervals, from independent pixels."""
    rng = np.random.default_rng(99)
    matrices = {name: np.zeros((K, K)) for name in CONDITIONS}
    for _ in range(pixels // 250_000):
        scene, shared, *own = rng.standard_normal((2 + len(CONDITIONS), K, 250_000))
        named = dict(zip(CONDITIONS, own, strict=True))
        found = _classes(scene, shared, named, rng.standard_normal(250_000))
        for name, matrix_KK in matrices.items():
            matrix_KK += np.bincount(found["truth"] * K + found[name], minlength=K * K).reshape(K, K)
    scores: dict[str, float] = {}
    for name, matrix_KK in matrices.items():
        correct, either = (
            [matrix_KK[k, k] for k in range(K)],
            [matrix_KK[k].sum() + matrix_KK[:, k].sum() for k in range(K)],
        )
        iou = [100 * c / (e - c) for c, e in zip(correct, either, strict=True)]
        scores |= {f"iou/{name}/{k}": iou[k] for k in range(K)}
        scores[f"miou/{name}"] = sum(iou[:4]) / 4  # the last class does not count in means
        scores[f"mf1/{name}"] = sum(200 * c / e for c, e in zip(correct[:4], either[:4], strict=True)) / 4
        scores[f"oa/{name}"] = 100 * sum(correct) / matrix_KK.sum()
    both, rgb, dsm = (scores[f"miou/{name}"] for name in CONDITIONS)
    p = failure_probability
    chances = {both: (1 - p) ** 2, rgb: p * (1 - p), dsm: p * (1 - p)}
    scores["expected_miou"] = sum(v * chance for v, chance in chances.items()) / sum(chances.values())
    return scores | {"rgb+dsm - rgb": both - rgb, "rgb+dsm - dsm": both - dsm, "rgb - dsm": rgb - dsm}
