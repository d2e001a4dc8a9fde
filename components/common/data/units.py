"""Units of heights: the names that files use for them, and what a vertical reference system states."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import pyproj
from pyproj.exceptions import CRSError

METRE, FOOT, FOOT_US = 1.0, 0.3048, 1200 / 3937

UNITS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys("m metre metres meter meters masl metresabovesealevel metersabovesealevel".split(), METRE),
        **dict.fromkeys(
            "ft foot feet intft internationalfoot internationalfeet footintl footinternational".split(), FOOT
        ),
        **dict.fromkeys("ftus usft sft usfoot usfeet footus feetus ussurveyft".split(), FOOT_US),
        **dict.fromkeys(
            "ussurveyfoot ussurveyfeet surveyfoot surveyfeet footussurvey ussurveyfootftus".split(), FOOT_US
        ),
        **dict.fromkeys("dm decimetre decimetres decimeter decimeters".split(), 0.1),
        **dict.fromkeys("cm centimetre centimetres centimeter centimeters".split(), 0.01),
        **dict.fromkeys("mm millimetre millimetres millimeter millimeters".split(), 0.001),
    }
)
"""Metres per unit, by the letters of its name in lower case."""


def unit_metres(name: str) -> float | None:
    """Metres per unit of a name such as "US survey foot"; None: the name is not known."""
    return UNITS.get(re.sub("[^a-z]", "", name.lower()))


def vertical_unit(wkt: str) -> float | None:
    """Metres per unit of the vertical part of a reference system, below 0 if it counts depths; None: it has none."""
    try:
        system = pyproj.CRS.from_wkt(wkt)
    except CRSError:
        return None
    parts = [part for part in (system, *system.sub_crs_list) if part.is_vertical and not part.is_compound]
    if not parts:
        return None
    axis = parts[0].axis_info[0]
    return float(axis.unit_conversion_factor) * (-1 if axis.direction == "down" else 1)
