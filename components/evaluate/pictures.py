"""Thumbnails and confusion matrices -> files: a captioned strip per tile, the matrices, and rows for `dvc plots`.

In: `Thumbnails`, pixel counts. Out: uint8 pictures, PNG and CSV files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from components.common.scoring.metrics import percent
from components.common.scoring.panels import Picture, class_picture, gate_picture, height_picture, strip
from components.evaluate.interpretation import TITLES, spoken
from components.evaluate.tile_results import Thumbnails

CSV_ROWS = 10_000
"""Rows of confusion.csv. DVC's template counts rows and has no weights, so the matrix is scaled to this number."""

CAPTION_PX = 22
"""Height of a caption, pixels."""

LEAST_GATE_REACH = 0.05
"""Minimum distance from 0.5 that the gate's colours span, so that an untrained gate has a uniform colour."""


def gate_reach(thumbnails: Sequence[Thumbnails]) -> float:
    """Distance from 0.5 that gets the full colour: the 99th percentile over all tiles, so that tiles are comparable."""
    distances = [np.abs(t.gate_hw - 0.5).ravel() for t in thumbnails if t.gate_hw is not None]
    return max(LEAST_GATE_REACH, float(np.percentile(np.concatenate(distances), 99))) if distances else 0.5


def panels(thumbnails: Thumbnails, palette: Sequence[tuple[int, int, int]], reach: float) -> dict[str, Picture]:
    """The pictures of one tile by title, in display order; a layer that the tile does not have is left out.

    `reach` is the result of `gate_reach`.
    """
    found: dict[str, Picture | None] = {
        "Image": thumbnails.image_hw3,
        "DSM": None if thumbnails.dsm_hw is None else height_picture(thumbnails.dsm_hw),
        "Label": class_picture(thumbnails.label_hw, palette),
    }
    for name, map_hw in thumbnails.predicted_hw.items():
        found[_prediction_title(name)] = class_picture(map_hw, palette)
    if thumbnails.gate_hw is not None:
        found["Gate"] = gate_picture(thumbnails.gate_hw, reach)
    return {title: picture for title, picture in found.items() if picture is not None}


def _prediction_title(condition: str) -> str:
    return f"Predicted: {TITLES[condition].lower().replace('dsm', 'DSM')}"


def write_strip(path: Path, pictures: Mapping[str, Picture]) -> None:
    """Write the pictures of a tile next to each other, each under its title."""
    font = ImageFont.load_default(CAPTION_PX * 0.6)
    captioned = []
    for title, picture in pictures.items():
        canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + CAPTION_PX), "white")
        canvas.paste(Image.fromarray(picture), (0, CAPTION_PX))
        ImageDraw.Draw(canvas).text((1, 2), title, fill=(40, 40, 40), font=font)
        captioned.append(np.asarray(canvas))
    Image.fromarray(strip(captioned)).save(path, optimize=True)


def write_confusion_csv(path: Path, confusion_KK: npt.ArrayLike, classes: Sequence[str]) -> None:
    """Write `CSV_ROWS` rows `actual,predicted` for DVC's confusion template, in proportion to the pixel counts.

    Every row represents the same number of pixels. The rows of a cell are rounded by the largest-remainder method.
    """
    rows = ["actual,predicted"]
    for truth, predicted in zip(*np.divmod(_sample(np.asarray(confusion_KK)), len(classes)), strict=True):
        rows.append(f"{classes[truth]},{classes[predicted]}")
    path.write_text("\n".join(rows) + "\n")


def _sample(confusion_KK: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the flattened matrix cells, each repeated in proportion to its pixels; `CSV_ROWS` in total."""
    exact = confusion_KK.ravel() / confusion_KK.sum() * CSV_ROWS
    whole = np.floor(exact).astype(np.int64)
    missing = CSV_ROWS - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return np.repeat(np.arange(confusion_KK.size), whole)


def write_confusion_png(path: Path, matrices: Mapping[str, npt.ArrayLike], classes: Sequence[str]) -> None:
    """Draw the confusion matrices of all conditions next to each other; each row is 100 % of a true class."""
    names = [spoken(name) for name in classes]
    figure = Figure(figsize=(4.6 * len(matrices) + 0.8, 5.0), layout="constrained")
    axes = figure.subplots(1, len(matrices), sharey=True, squeeze=False)
    for axis, (condition, counts) in zip(axes[0], matrices.items(), strict=True):
        counts_KK = np.asarray(counts)
        share_KK = percent(counts_KK, np.broadcast_to(counts_KK.sum(axis=1, keepdims=True), counts_KK.shape))
        axis.imshow(share_KK, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(share_KK):
            text = "" if np.isnan(share) else f"{share:.0f}"
            axis.text(column, row, text, ha="center", va="center", color="white" if share > 55 else "#222222")
        axis.set_title(TITLES[condition])
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("predicted")
        axis.spines[:].set_visible(False)
    axes[0][0].set_ylabel("true class (each row is 100 %)")
    figure.savefig(path, dpi=110)
