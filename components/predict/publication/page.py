"""A map as one self-contained HTML page: the map next to its image, areas, sensor coverage, seams, origin and files.

In: a class map, its summary, and the rasters that it shows. Out: the page, rendered from `map_page.html.j2`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from components.common.scoring.inline_pictures import data_uri
from components.common.templates import templates
from components.predict.publication import map_pictures

SIDE_PX = 1200
"""Longest side of a picture; two pictures of this size are about 1 MB."""

SENSOR_TITLES = {"image and DSM": "Image and DSM", "image": "Image only", "DSM": "DSM only", "none": "Neither"}
"""Keys of the sensor coverage in a summary -> their titles, in the order of display."""


@dataclass(frozen=True, slots=True)
class ClassArea:
    """A row of the table of classes."""

    title: str
    rgb: tuple[int, int, int]
    share: float | None  # of the pixels with a class, 0..1
    area: str  # with its unit; empty: the map has no position


def write_page(path: Path, output: Path, summary: Path, image: Sequence[str], dsm: Sequence[str]) -> None:
    """Write the page of a map.

    Args:
        path: the page.
        output: the class map; the files next to it with its name are listed.
        summary: its summary.
        image: files of the image; empty: there is none.
        dsm: files of the DSM; shown if there is no image.

    Raises:
        MobanetError: a raster cannot be read.
    """
    content = json.loads(summary.read_text())
    colours = map_pictures.classes_of(output)
    source = map_pictures.photograph(image, SIDE_PX) if image else map_pictures.heights(dsm, SIDE_PX)
    map_hw3 = map_pictures.classes_picture(output, list(colours.values()), SIDE_PX)
    pictures = {"Image" if image else "Heights": source, "Map": map_hw3}
    files = [found for found in sorted(output.parent.glob(f"{output.stem}*")) if found.is_file() and found != path]
    path.write_text(
        _template().render(
            name=output.stem,
            pictures={title: data_uri(picture, SIDE_PX) for title, picture in pictures.items()},
            classes=_classes(content, colours),
            sensors={title: content["sensors"][key] for key, title in SENSOR_TITLES.items()},
            seams=content["seams"],
            summary=content,
            files={found.name: found.stat().st_size for found in files},
        )
    )


def _classes(content: dict[str, Any], colours: dict[str, tuple[int, int, int]]) -> list[ClassArea]:
    """Classes, the largest first."""
    rows = [
        ClassArea(
            title=row["name"].replace("_", " ").capitalize(),
            rgb=colours[row["name"]],
            share=row["share"],
            area="" if row["area_m2"] is None else _area(row["area_m2"]),
        )
        for row in content["classes"]
    ]
    return sorted(rows, key=lambda row: -(row.share or 0))


def _area(square_metres: float) -> str:
    for size, unit in ((1e6, "km²"), (1e4, "ha")):
        if square_metres >= size:
            return f"{square_metres / size:,.2f} {unit}"
    return f"{square_metres:,.0f} m²"


def _bytes(size: int) -> str:
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} bytes"


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _template() -> jinja2.Template:
    environment = templates(Path(__file__).parent)
    environment.filters |= {"percent": _percent, "bytes": _bytes}
    return environment.get_template("map_page.html.j2")
