"""Where a raster file lies: its transform (pixel -> map) and its reference system (CRS), resolved in one place.

Transform: the file's own, else from its ground control points, else its world file, else unknown.
CRS: the file's own, else that of a `.prj` next to it, else the configured one (`crs` in dataset.yaml, then `data.crs`).
Heights are no part of a position: a compound or three-dimensional CRS counts as its horizontal part.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyproj
from affine import TransformNotInvertibleError
from pyproj.exceptions import CRSError as UnknownCRS
from pyproj.exceptions import ProjError
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import from_gcps

from components.common.errors import DataError
from components.common.rasterfiles.formats import world_suffixes
from components.common.rasterfiles.headers import Header
from components.common.rasterfiles.rasters import Note, Place, RasterFile, Rejected

NO_CRS = CRS.from_epsg(3857)
"""Stands for a CRS that no file names: any will do when both sides have the same."""

MAX_GCP_RESIDUAL_PX = 0.5
"""Ground control points that lie further off the affine transform through them need rectification first."""

LEAST_GCPS = 3
"""Fewer ground control points leave the rotation open."""

NOTED_SHIFT_PX = 0.1
"""A smaller shift of a layer is not worth a note."""

AUTHORITIES = ("EPSG", "ESRI")
"""Where codes come from, the preferred one first."""

SAME_PLACE = 1e-8
"""Relative difference of coordinates up to which two projections are the same: 6 cm on 6,000 km."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the pixels of a file lie."""

    transform: Affine | None  # pixel -> map; None: unknown
    crs: CRS | None  # horizontal; None: unknown
    notes: tuple[Note, ...] = ()


def position_of(file: RasterFile, configured: CRS | None) -> Position:
    """Resolve the position of a file.

    Args:
        file: open for reading.
        configured: CRS of files that state none, or one that cannot be identified.

    Raises:
        Rejected: ground control points do not fit, a sidecar file is damaged, or the CRS is unusable.
    """
    header, notes = file.header, []
    transform = header.transform
    if transform is None and header.gcps:
        transform, residual_px = _from_points(file.path, header)
        if residual_px > NOTED_SHIFT_PX:
            off = f"its ground control points lie up to {residual_px:.2f} px off the grid through them"
            sentence = f"{off}; used: rectify it if needed"
            notes.append(Note("position-inexact", sentence))
    elif transform is None:
        transform = _from_world_file(file.path)
    crs, crs_notes = _resolved_crs(file.path, stated_crs(file), configured)
    return Position(transform, crs, (*notes, *crs_notes))


def stated_crs(file: RasterFile) -> CRS | None:
    """The CRS that a file or the `.prj` next to it states, with its vertical part; None: they state none.

    Raises:
        Rejected: the `.prj` is damaged.
    """
    header = file.header
    points = header.gcps_crs if header.transform is None else None
    return points or header.crs or _from_prj(file.path)


def parse_crs(text: str) -> CRS:
    """A reference system from its name, such as EPSG:32633.

    Raises:
        DataError: no reference system has this name.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise DataError(f"{text!r} is not a coordinate reference system; write data.crs like EPSG:32633") from None


def same_crs(one: CRS, other: CRS) -> bool:
    """Whether two reference systems are the same, however their files spell them; heights do not count."""
    return one == other or identified(one.to_wkt()) == identified(other.to_wkt())


def crs_name(crs: CRS) -> str:
    """A short name for messages."""
    text = str(crs.to_string())
    return text if len(text) < 40 else f"{pyproj.CRS.from_wkt(crs.to_wkt()).name!r} (without an EPSG code)"


@lru_cache(maxsize=256)
def identified(wkt: str) -> CRS | None:
    """The horizontal CRS of a definition, as the one with a code that it matches; None: nothing identifies it."""
    try:
        system = pyproj.CRS.from_wkt(wkt)
    except UnknownCRS:
        return None
    if system.is_compound:
        system = system.sub_crs_list[0]
    if system.is_bound and system.source_crs is not None:
        system = system.source_crs
    if len(system.axis_info) == 3 and not system.is_geocentric:
        system = system.to_2d()
    for code in _codes(system):
        candidate = _coded(code)
        if candidate is not None and _matches(system, pyproj.CRS.from_wkt(candidate.to_wkt())):
            return candidate
    if not (system.is_projected or system.is_geographic):
        return None
    return CRS.from_wkt(system.to_wkt("WKT1_GDAL" if _writes_wkt1(system) else "WKT2_2019"))


def _codes(system: pyproj.CRS) -> list[str]:
    """Codes that a CRS may have, the likeliest first."""
    found = [system.to_authority(authority, min_confidence=70) for authority in AUTHORITIES]
    codes = [":".join(code) for code in found if code]
    if named := re.fullmatch(r"\s*(EPSG|ESRI)\s*:+\s*(\d+)\s*", system.name, re.IGNORECASE):
        codes.append(f"{named[1].upper()}:{named[2]}")
    with suppress(UnknownCRS):
        named_so = pyproj.CRS.from_user_input(system.name)
        codes += [":".join(code) for authority in AUTHORITIES if (code := named_so.to_authority(authority))]
    return list(dict.fromkeys(codes))


@lru_cache(maxsize=256)
def _coded(code: str) -> CRS | None:
    try:
        return CRS.from_user_input(code)
    except CRSError:
        return None


def _matches(system: pyproj.CRS, candidate: pyproj.CRS) -> bool:
    """Whether a definition gives the coordinates of the coded CRS; a local one has no coordinates to compare."""
    if system.is_engineering or system.type_name == "Other Coordinate Reference System":
        return True
    if not _datums_agree(system, candidate) or system.is_geographic != candidate.is_geographic:
        return False
    if system.is_geographic:
        return bool(np.isclose(_semi_axes(system), _semi_axes(candidate), rtol=1e-6).all())
    area = candidate.area_of_use
    west, south, east, north = area.bounds if area else (-10.0, 30.0, 10.0, 60.0)
    shares = np.array([0.25, 0.5, 0.75])
    longitude, latitude = west + shares * (east - west), south + shares * (north - south)
    try:
        one, other = (np.array(pyproj.Proj(crs)(longitude, latitude)) for crs in (system, candidate))
    except (ProjError, UnknownCRS):
        return False
    units = [crs.axis_info[0].unit_conversion_factor for crs in (system, candidate)]
    return bool(np.isclose(one * units[0], other * units[1], rtol=SAME_PLACE, atol=0.1).all())


def _datums_agree(system: pyproj.CRS, candidate: pyproj.CRS) -> bool:
    """Whether the datums have one name, or the definition names none."""
    one, other = (crs.datum.name.lower() if crs.datum else "unknown" for crs in (system, candidate))
    plain = [re.sub(r"^d_|[^a-z0-9]", "", name) for name in (one, other)]
    return "unknown" in one or "unnamed" in one or plain[0] == plain[1] or system.geodetic_crs == candidate.geodetic_crs


def _semi_axes(system: pyproj.CRS) -> tuple[float, float]:
    assert system.ellipsoid is not None
    return system.ellipsoid.semi_major_metre, system.ellipsoid.semi_minor_metre


def _writes_wkt1(system: pyproj.CRS) -> bool:
    try:
        return bool(system.to_wkt("WKT1_GDAL"))
    except (UnknownCRS, ProjError):
        return False


def _resolved_crs(path: Place, stated: CRS | None, configured: CRS | None) -> tuple[CRS | None, tuple[Note, ...]]:
    if stated is None:
        return (identified(configured.to_wkt()) or configured if configured else None), ()
    crs = identified(stated.to_wkt())
    if crs is None and configured is None:
        sentence = f"its reference system {crs_name(stated)} cannot be identified; set data.crs to what it is"
        sentence += ", or correct the file with gdal_edit -a_srs"
        raise Rejected("crs-unknown", sentence, path)
    if crs is None:
        assert configured is not None
        sentence = f"its reference system {crs_name(stated)} cannot be identified; {crs_name(configured)} is used"
        sentence += ": check that it is right"
        return identified(configured.to_wkt()) or configured, (Note("crs-replaced", sentence),)
    if stated.to_epsg() is None and crs.to_epsg() is not None and crs != stated and not _is_compound(stated):
        sentence = f"its reference system {crs_name(stated)} matches {crs_name(crs)}, which is used"
        return crs, (Note("crs-matched", sentence),)
    return crs, ()


def _is_compound(crs: CRS) -> bool:
    return pyproj.CRS.from_wkt(crs.to_wkt()).is_compound


def _from_points(path: Place, header: Header) -> tuple[Affine, float]:
    """Affine transform through ground control points, and how far they lie off it, pixels."""
    if len(header.gcps) < LEAST_GCPS:
        sentence = (
            f"has {len(header.gcps)} ground control points, which do not show how it is turned; add points until there "
            f"are {LEAST_GCPS}, or add a world file and remove the points"
        )
        raise Rejected("position-inexact", sentence, path)
    try:
        transform = from_gcps(header.gcps)
        points = np.array([(point.x, point.y) for point in header.gcps]).T
        found = np.array(~transform @ (points[0], points[1]))
        residual_px = float(np.abs(found - [[p.col for p in header.gcps], [p.row for p in header.gcps]]).max())
    except (ValueError, TypeError, TransformNotInvertibleError):
        residual_px = float("inf")
    if not residual_px <= MAX_GCP_RESIDUAL_PX:
        off = f"lie up to {residual_px:.1f} px off a straight grid, {MAX_GCP_RESIDUAL_PX} px is allowed"
        off = off if np.isfinite(residual_px) else "define no grid"
        sentence = f"its {len(header.gcps)} ground control points {off}; rectify it with gdalwarp"
        raise Rejected("position-inexact", sentence, path)
    return transform, residual_px


def _from_world_file(path: Place) -> Affine | None:
    """Transform of the world file next to a raster; its position is that of the centre of the upper left pixel."""
    if not isinstance(path, Path):
        return None
    for suffix in world_suffixes(path.suffix.lower()):
        for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
            if candidate.is_file():
                return world_transform(candidate)
    return None


def world_transform(path: Path) -> Affine:
    """Transform of a world file.

    Raises:
        Rejected: the file does not hold six numbers that give pixels a size.
    """
    return parse_world(path.read_text("utf-8-sig", "replace"), path)


def parse_world(text: str, path: Place) -> Affine:
    """Transform from the text of a world file; errors as with `world_transform`."""
    try:
        a, d, b, e, x, y = (float(number.replace(",", ".")) for number in text.split())
        transform = Affine(a, b, x, d, e, y) @ Affine.translation(-0.5, -0.5)
        if not np.isfinite(transform[:6]).all() or transform.is_degenerate:
            raise ValueError
    except ValueError:
        sentence = "not a world file, which has six numbers; correct or delete it"
        raise Rejected("unreadable", sentence, path) from None
    return transform


def _from_prj(path: Place) -> CRS | None:
    if not isinstance(path, Path):
        return None
    for candidate in (path.with_suffix(".prj"), path.with_suffix(".PRJ")):
        if candidate.is_file():
            return parse_prj(candidate.read_text("utf-8-sig", "replace"), candidate)
    return None


def parse_prj(text: str, path: Place) -> CRS:
    """Reference system from the text of a `.prj`.

    Raises:
        Rejected: it cannot be read.
    """
    try:
        return CRS.from_user_input(text.strip())
    except CRSError:
        sentence = "holds no reference system that can be read; correct or delete it"
        raise Rejected("crs-unknown", sentence, path) from None
