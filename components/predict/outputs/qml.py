"""Styles of map layers for QGIS, which loads `NAME.qml` together with `NAME.tif`."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from components.predict.outputs.map_layers import CLASSES, LAYERS, SENSORS

RAMP = ((0, "#440154"), (25, "#3b528b"), (50, "#21918c"), (75, "#5ec962"), (100, "#fde725"))
"""Colours of percent, dark to light: matplotlib's viridis."""

SENSOR_COLOURS = ("#1b9e77", "#d95f02", "#7570b3")
"""Of image, DSM, and both."""

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("components.predict.outputs", "."),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def style(layer: str, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]) -> str:
    """The style of a layer, as the text of a .qml file.

    Args:
        layer: name of the layer.
        classes: names of the classes.
        palette: their colours.
    """
    if layer == CLASSES:
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette]
        entries = list(zip(range(len(classes)), colours, classes, strict=True))
    elif LAYERS[layer].percent:
        entries = [(value, colour, f"{value} %") for value, colour in RAMP]
    else:
        entries = list(zip(range(1, len(SENSORS)), SENSOR_COLOURS, SENSORS[1:], strict=True))
    return TEMPLATES.get_template("style.qml.j2").render(percent=LAYERS[layer].percent, entries=entries) + "\n"
