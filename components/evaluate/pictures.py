"""Thumbnails and matrices -> picture files: a captioned strip per tile, the confusion matrices, rows for `dvc plots`.

In: `Thumbnails`, pixel counts. Out: uint8 pictures, PNG and CSV files, and data URIs to put into a page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from components.common.scoring.metrics import percent
from components.common.scoring.panels import Picture, class_picture, gate_picture, height_picture, strip
from components.evaluate.scene import Thumbnails
from components.evaluate.words import TITLES, spoken

CSV_ROWS = 10_000
"""Rows of confusion.csv. DVC's template counts rows and knows no weights, so the matrix is scaled to this many."""

CAPTION_PX = 22

LEAST_GATE_REACH = 0.05
"""The gate's colours always span at least 0.5 plus and minus this, so that an untrained gate is drawn plain."""


def gate_reach(thumbnails: Sequence[Thumbnails]) -> float:
    """Distance from 0.5 that gets the full colour: the 99th percentile over all tiles, so that they compare."""
    distances = [np.abs(t.gate_hw - 0.5).ravel() for t in thumbnails if t.gate_hw is not None]
    return max(LEAST_GATE_REACH, float(np.percentile(np.concatenate(distances), 99))) if distances else 0.5


def panels(thumbnails: Thumbnails, palette: Sequence[tuple[int, int, int]], reach: float) -> dict[str, Picture]:
    """The pictures of one tile by title, in the order in which they are shown."""
    predictions = {
        _prediction_title(name): class_picture(map_hw, palette) for name, map_hw in thumbnails.predicted_hw.items()
    }
    gate = {} if thumbnails.gate_hw is None else {"Gate": gate_picture(thumbnails.gate_hw, reach)}
    return {
        "Image": thumbnails.image_hw3,
        "DSM": height_picture(thumbnails.dsm_hw),
        "Label": class_picture(thumbnails.label_hw, palette),
        **predictions,
        **gate,
    }


def _prediction_title(condition: str) -> str:
    return f"Predicted: {TITLES[condition].lower().replace('dsm', 'DSM')}"


def write_strip(path: Path, pictures: Mapping[str, Picture]) -> None:
    """Write the pictures of a tile side by side, each under its title."""
    font = ImageFont.load_default(CAPTION_PX * 0.6)
    captioned = []
    for title, picture in pictures.items():
        canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + CAPTION_PX), "white")
        canvas.paste(Image.fromarray(picture), (0, CAPTION_PX))
        ImageDraw.Draw(canvas).text((1, 2), title, fill=(40, 40, 40), font=font)
        captioned.append(np.asarray(canvas))
    Image.fromarray(strip(captioned)).save(path, optimize=True)


def data_uri(picture: Picture, side_px: int) -> str:
    """A picture inside a page: at most `side_px` wide and high; PNG if it has few colours (a class map), else JPEG."""
    image = Image.fromarray(picture)
    few_colours = image.getcolors(64) is not None
    image.thumbnail((side_px, side_px), Image.Resampling.NEAREST if few_colours else Image.Resampling.BOX)
    buffer = io.BytesIO()
    if few_colours:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    kind = "png" if few_colours else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_confusion_csv(path: Path, confusion_KK: npt.ArrayLike, classes: Sequence[str]) -> None:
    """Write `actual,predicted` rows for DVC's confusion template, as many as `CSV_ROWS`, in proportion to the pixels.

    Every row stands for the same number of pixels; a cell gets its share by largest remainders.
    """
    rows = ["actual,predicted"]
    for truth, predicted in zip(*np.divmod(_sample(np.asarray(confusion_KK)), len(classes)), strict=True):
        rows.append(f"{classes[truth]},{classes[predicted]}")
    path.write_text("\n".join(rows) + "\n")


def _sample(confusion_KK: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cell numbers, row by row, each as often as its share of `CSV_ROWS`."""
    exact = confusion_KK.ravel() / confusion_KK.sum() * CSV_ROWS
    whole = np.floor(exact).astype(np.int64)
    missing = CSV_ROWS - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return np.repeat(np.arange(confusion_KK.size), whole)


def write_confusion_png(path: Path, matrices: Mapping[str, npt.ArrayLike], classes: Sequence[str]) -> None:
    """Draw the confusion matrices of all conditions side by side; each row is 100 % of a true class."""
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
