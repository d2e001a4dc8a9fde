"""Polygons of a class map: one per connected area, with class, area, mean confidence and median height.

The map is read in blocks; areas are connected across them, so the result does not depend on the block size. Memory
grows with the block and with the number and detail of the polygons, not with the pixels of the map. Polygons are valid,
do not overlap, and cover the pixels that have a class; neighbours share every vertex of their border.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from components.common.errors import DataError, ParamsError, reason
from components.common.files import replacing
from components.common.progress import track
from components.common.rasterfiles.grids import Grid
from components.common.readers.footprints import pixel_size_m
from components.predict.areas.connected import Areas, Connecting, MapBlock, Numbers, counted, medians_m
from components.predict.areas.outlines import outlines
from components.predict.areas.small_areas import Merged, merged
from components.predict.config import Polygons
from components.predict.outputs.ground_area import pixel_area_m2

if TYPE_CHECKING:
    import geopandas

log = logging.getLogger(__name__)

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".parquet": None}
"""Formats by suffix, and GDAL's driver; None: GeoParquet, which geopandas writes."""

LAYER = "classes"
BLOCK_PX = 2048
TIMELESS = "1970-01-01T00:00:00Z"
"""Time that a GeoPackage states as its last change, so that equal polygons are equal files."""

Heights = Callable[[slice, slice], npt.NDArray[np.float32]]


def check_suffix(path: Path) -> None:
    """Raise ParamsError if polygons cannot be written under this name."""
    if path.suffix.lower() not in DRIVERS:
        raise ParamsError(f"{path}: polygons are written as {', '.join(DRIVERS)}; choose one of these suffixes")


def write_polygons(
    classes: Path,
    names: Sequence[str],
    confidence: Path | None,
    heights: Heights | None,
    request: Polygons,
    *,
    block_px: int = BLOCK_PX,
) -> int:
    """Write the polygons of a class map.

    Args:
        classes: the map, one band of uint8, 255 nodata.
        names: of the classes, in the order of their values from 0.
        confidence: raster of the same grid, percent, 255 nodata; None: the column is null.
        heights: returns the heights of a rectangle of the map, `[h, w]`, metres, NaN = not measured; None: the column
            is null.
        request: file and options.
        block_px: side of a block. It changes memory and speed, not the result.

    Returns:
        Number of polygons.
    """
    check_suffix(request.path)
    with ExitStack() as stack:
        file = _opened(classes, stack)
        grid = Grid(file.height, file.width, file.transform, file.crs)
        rated = _opened(confidence, stack) if confidence is not None else None
        areas = _areas(file, rated, heights, block_px)
    if (highest := max(areas.classes[1:], default=0)) >= len(names):
        raise DataError(f"{classes}: has class {highest}, but the model has {len(names)} classes; use its own map")
    square_metres = _square_metres(grid, areas)
    end = merged(areas, square_metres, request.min_area_m2, pixel_size_m(grid) or (1.0, 1.0))
    if end.joined or end.dropped:
        log.info(
            "%s: %d polygons below %g m2 joined a neighbour; %d without a neighbour are dropped",
            request.path,
            end.joined,
            request.min_area_m2,
            end.dropped,
        )
    number, shapes = outlines(areas.borders.of(end.area), file.transform)
    if request.simplify_m:
        shapes = _simplified(shapes, request.simplify_m, grid)
    _write(_columns(areas, end, number, names), shapes, file.crs, request.path)
    return len(shapes)


def _opened(path: Path, stack: ExitStack) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return stack.enter_context(rasterio.open(path))
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}); write the map again") from error


def _areas(file: Any, rated: Any, heights: Heights | None, block_px: int) -> Areas:
    """The areas of a map, read in blocks."""
    connecting = Connecting(file.height, file.width)
    starts = [(top, left) for top in range(0, file.height, block_px) for left in range(0, file.width, block_px)]
    for top, left in track(starts, "connecting polygons"):
        rows, columns = slice(top, min(top + block_px, file.height)), slice(left, min(left + block_px, file.width))
        percent = None if rated is None else _band(rated, rows, columns)
        metres = None if heights is None else heights(rows, columns)
        connecting.add(MapBlock(rows, columns, _band(file, rows, columns), percent, metres))
    return connecting.areas()


def _band(file: Any, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
    try:
        return file.read(1, window=Window.from_slices(rows, columns))
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{file.name}: cannot be read ({reason(error)}); write the map again") from error


def _square_metres(grid: Grid, areas: Areas) -> npt.NDArray[np.float64]:
    """Ground of every area [n]: its pixels times the size of a pixel at its centre of mass."""
    pixels = np.maximum(areas.sums.pixels, 1)
    x, y = areas.sums.x / pixels + 0.5, areas.sums.y / pixels + 0.5
    return areas.sums.pixels * pixel_area_m2(grid, x, y)


def _simplified(shapes: npt.NDArray[np.object_], tolerance_m: float, grid: Grid) -> npt.NDArray[np.object_]:
    """Polygons [n] whose common borders have fewer vertices; the outline of the map stays as it is."""
    assert grid.transform is not None
    middle = np.array([grid.width_px / 2]), np.array([grid.height_px / 2])
    units = np.sqrt(abs(grid.transform.determinant) / pixel_area_m2(grid, *middle)[0])  # of the map per metre
    return shapely.coverage_simplify(shapes, tolerance_m * units, simplify_boundary=False)


def _columns(areas: Areas, end: Merged, number: Numbers, names: Sequence[str]) -> dict[str, Any]:
    """Columns of the table, one row per polygon."""
    count = len(end.classes)
    sums = areas.sums.of(end.area, count)
    values = end.classes[number].astype(np.int32)
    with np.errstate(invalid="ignore"):
        percent = sums.percent / np.where(sums.rated > 0, sums.rated, np.nan)
    return {
        "class": np.array(names, object)[values],
        "value": values,
        "area_m2": np.round(end.square_metres[number], 4),
        "confidence": np.round(percent[number], 2),
        "height_m": medians_m(counted(areas.heights, end.area), count)[number],
    }


def _write(columns: dict[str, Any], shapes: npt.NDArray[np.object_], crs: Any, path: Path) -> None:
    import geopandas
    import pyogrio

    table = geopandas.GeoDataFrame(columns, geometry=shapes, crs=None if crs is None else crs.to_wkt())
    driver = DRIVERS[path.suffix.lower()]
    try:
        with replacing(path) as draft, TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            file = Path(folder, path.name)  # GDAL looks at the suffix
            if driver is None:
                table.to_parquet(file)
            else:
                _write_with_gdal(table, file, driver)
            file.replace(draft)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(f"{path}: cannot be written ({reason(error)}); check the disk and the folder") from error


def _write_with_gdal(table: geopandas.GeoDataFrame, file: Path, driver: str) -> None:
    import pyogrio

    logging.getLogger("pyogrio").setLevel(logging.WARNING)  # it logs the number of records
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": TIMELESS})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            pyogrio.write_dataframe(table, file, layer=LAYER, driver=driver, geometry_type="Polygon")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
