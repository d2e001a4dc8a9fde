from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from components.predict.outputs.map_layers import LAYERS
from components.predict.outputs.qml import style
from tests.components.predict.drawn_maps import CLASSES, PALETTE


def renderer(layer):
    root = ET.fromstring(style(layer, CLASSES, PALETTE))
    assert root.tag == "qgis"
    found = root.find("pipe/rasterrenderer")
    assert found is not None and found.get("band") == "1"
    return found


def test_the_class_map_is_paletted_with_names_and_colours():
    found = renderer("classes")
    assert found.get("type") == "paletted"
    entries = [(e.get("value"), e.get("color"), e.get("label")) for e in found.findall("colorPalette/paletteEntry")]
    assert entries == [("0", "#0000ff", CLASSES[0]), ("1", "#00ffff", CLASSES[1]), ("2", "#ffffff", CLASSES[2])]


@pytest.mark.parametrize("layer", [name for name, layer in LAYERS.items() if layer.percent])
def test_percent_has_a_colour_ramp_from_0_to_100(layer):
    found = renderer(layer)
    assert found.get("type") == "singlebandpseudocolor"
    items = found.findall("rastershader/colorrampshader/item")
    assert [float(item.get("value")) for item in items] == [0, 25, 50, 75, 100]


def test_sensors_have_a_colour_for_every_value():
    entries = renderer("sensors").findall("colorPalette/paletteEntry")
    assert [(e.get("value"), e.get("label")) for e in entries] == [("1", "image"), ("2", "DSM"), ("3", "image and DSM")]
