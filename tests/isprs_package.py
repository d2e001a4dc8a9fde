"""The ISPRS packages as downloaded, made by code: real names and layout, small tiles, one trap per argument.

`write_package(folder, "potsdam", ["2_10", "4_12"], lossy=("4_12",))` writes `folder/Potsdam.zip`, a zip of one zip per
folder, and returns the sources to import. `form="folder"` writes the same unpacked. Nothing here reads the project's
own tables of names, so that two truths are compared.
"""

from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from tests.isprs_scene import CRS, PALETTE, place, scene, world_file

__all__ = ["PALETTE", "place", "raster", "scene", "world_file", "write_package", "write_zip", "zipped"]

MAGENTA = (200, 10, 200)  # of no class, also after the threshold
NODATA = -9999.0


@dataclass(frozen=True)
class Layout:
    """Where a package keeps a layer: archive (inner zip), folder in it, name of the file."""

    archive: str
    folder: str
    name: str

    def path(self, tile: str) -> tuple[str, str, str]:
        numbers = [int(part) for part in tile.split("_")]
        row, column = numbers if len(numbers) == 2 else (0, 0)
        return self.archive, self.folder, self.name.format(n=numbers[0], r=row, c=column)


VAIHINGEN_MAIN = "ISPRS_semantic_labeling_Vaihingen"
LAYOUTS: dict[str, dict[str, Layout]] = {
    "potsdam": {
        "rgb": Layout("2_Ortho_RGB", "2_Ortho_RGB", "top_potsdam_{r}_{c}_RGB.tif"),
        "irrg": Layout("3_Ortho_IRRG", "3_Ortho_IRRG", "top_potsdam_{r}_{c}_IRRG.tif"),
        "rgbir": Layout("4_Ortho_RGBIR", "4_Ortho_RGBIR", "top_potsdam_{r}_{c}_RGBIR.tif"),
        "absolute": Layout("1_DSM", "1_DSM", "dsm_potsdam_{r:02}_{c:02}.tif"),
        "lastools": Layout("1_DSM_normalisation", "", "dsm_potsdam_{r:02}_{c:02}_normalized_lastools.jpg"),
        "ownapproach": Layout("1_DSM_normalisation", "", "dsm_potsdam_{r:02}_{c:02}_normalized_ownapproach.jpg"),
        "label": Layout("5_Labels_all", "", "top_potsdam_{r}_{c}_label.tif"),
        "eroded": Layout("5_Labels_all_noBoundary", "", "top_potsdam_{r}_{c}_label_noBoundary.tif"),
    },
    "vaihingen": {
        "irrg": Layout(VAIHINGEN_MAIN, "top", "top_mosaic_09cm_area{n}.tif"),
        "absolute": Layout(VAIHINGEN_MAIN, "dsm", "dsm_09cm_matching_area{n}.tif"),
        "label": Layout(VAIHINGEN_MAIN, "gts_for_participants", "top_mosaic_09cm_area{n}.tif"),
        "eroded": Layout(f"{VAIHINGEN_MAIN}_ground_truth_eroded", "", "top_mosaic_09cm_area{n}_noBoundary.tif"),
    },
}
KINDS = {"image": ("rgb", "irrg", "rgbir"), "dsm": ("absolute", "lastools", "ownapproach")}
REAL_POTSDAM_TRAPS: dict[str, Any] = {
    "lossy": ("4_12",),
    "odd_cars": ("6_7",),
    "dsm_short": {"3_13": 1},
    "dsm_nodata": ("2_10",),
    "dsm_nan": ("2_11",),
    "dsm_outliers": ("2_12",),
}
"""What the real package of Potsdam has (the last three in some tile)."""


@dataclass(frozen=True, kw_only=True)
class Traps:
    """What may be wrong. Empty: nothing. A tile is named by its id, a kind is image, dsm, label or eroded."""

    lossy: Collection[str] = ()  # both labels went through a lossy picture format: no colour is exact
    odd_cars: Collection[str] = ()  # cars are 252,255,0 in both labels, but for about 2 %
    unknown_px: Mapping[str, int] = field(default_factory=dict)  # pixels of the label (not the eroded one) in magenta
    dsm_short: Mapping[str, int] = field(default_factory=dict)  # columns that the DSM lacks at the right
    dsm_nodata: Collection[str] = ()  # a square of 8 px is -9999, and the file says that this is nodata
    dsm_untagged: Collection[str] = ()  # the same square, and the file does not say it
    dsm_nan: Collection[str] = ()  # the same square is NaN
    dsm_outliers: Collection[str] = ()  # four pixels are 3000 m high, four 900 m deep
    dsm_blank: Collection[str] = ()  # 0 everywhere
    dsm_coarse: Collection[str] = ()  # half as many pixels a side, of twice the size
    plain_dsm_ids: bool = False  # dsm_potsdam_2_10 instead of 02_10
    padded_ids: bool = False  # top_potsdam_02_10 too
    capitals: bool = False  # names in capitals
    georeference: Literal["tiff", "world", "apart", "none"] = "tiff"  # world: .tfw beside; apart: in an own archive
    no_crs: bool = False  # in any file (one with a world file never has one)
    wrong_crs: Collection[str] = ()  # all files of the tile say EPSG:32631
    renamed_folders: bool = False  # archives and folders have names that say nothing
    twice: Collection[str] = ()  # the image lies in the package once more, in another archive
    copies: Mapping[str, str] = field(default_factory=dict)  # tile -> the tile whose pixels (not place) it has
    same_place: Mapping[str, str] = field(default_factory=dict)  # tile -> the tile whose place on the map it has
    swapped: Collection[str] = ()  # image and label have each other's name
    band_swap: Collection[str] = ()  # bands of the image in reverse order
    missing: Collection[tuple[str, str]] = ()  # (tile, kind) that the package lacks
    truncated: Collection[tuple[str, str]] = ()  # (tile, kind) of which the second half is lost
    deflated_outside: bool = False  # the inner zips are packed once more


def write_package(
    folder: Path,
    dataset: Literal["potsdam", "vaihingen"],
    tiles: Iterable[str],
    *,
    side_px: int = 64,
    form: Literal["zip", "zips", "folder"] = "zip",
    layers: Collection[str] | None = None,
    **traps: Any,
) -> list[Path]:
    """Write a package below a folder; returns the sources to import, the data's own first.

    Args:
        folder: gets `Potsdam.zip` or `Vaihingen.zip`; with form zips the inner zips; with form folder their content.
        dataset: whose names.
        tiles: ids, for example 2_10 or 38.
        side_px: rows and columns of an image.
        form: zip of zips, zips, or a folder.
        layers: of `LAYOUTS`; None: image, absolute DSM and both labels.
        traps: fields of `Traps`.
    """
    trap = Traps(**traps)
    layers = layers or (("rgb" if dataset == "potsdam" else "irrg"), "absolute", "label", "eroded")
    build = folder / ".build"
    for tile in tiles:
        for archive, inside, name, content in _files(dataset, tile, side_px, layers, trap):
            path = build / archive / inside / (name.upper() if trap.capitals else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    title = dataset.capitalize()
    sources = []
    for name in [title] + [f"{title}_world_files"] * (build / WORLD_FILES).is_dir():
        parts = sorted(p for p in build.iterdir() if (p.name == WORLD_FILES) == (name != title))
        sources += _arrange(folder, name, parts, form, zipfile.ZIP_DEFLATED * trap.deflated_outside)
    shutil.rmtree(build)
    return sources


WORLD_FILES = "world_files"


def raster(pixels_BHW: np.ndarray, driver: str = "GTiff", **profile: Any) -> bytes:
    """Content of a TIFF or JPEG; None as a value leaves that key of the profile out."""
    bands, height, width = pixels_BHW.shape
    known = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    kept = {key: value for key, value in (known | profile).items() if value is not None}
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED=False), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # no georeference is one of the traps
        with memory.open(driver=driver, **kept) as file:
            file.write(pixels_BHW)
        return bytes(memory.getbuffer())


def write_zip(target: Path | io.BytesIO, members: Mapping[str, bytes | Path], compression: int = 8) -> None:
    """Write a zip, the same bytes at every run; a member is content or a file."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = compression
            with archive.open(info, "w", force_zip64=True) as out:
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        shutil.copyfileobj(file, out, 1 << 20)
                else:
                    out.write(content)


def zipped(members: Mapping[str, bytes | Path], compression: int = 8) -> bytes:
    """Content of a zip."""
    buffer = io.BytesIO()
    write_zip(buffer, members, compression)
    return buffer.getvalue()


def _arrange(folder: Path, name: str, parts: list[Path], form: str, outer: int) -> list[Path]:
    """One source in the form asked for; returns its paths."""
    if form == "folder":
        for part in parts:
            shutil.copytree(part, folder / name / part.name)
        return [folder / name]
    zips = {}
    for part in parts:
        files = sorted(path for path in part.rglob("*") if path.is_file())
        zips[part.name] = part.with_suffix(".zip") if form == "zip" else folder / f"{part.name}.zip"
        write_zip(zips[part.name], {path.relative_to(part).as_posix(): path for path in files})
    if form == "zips":
        return list(zips.values())
    write_zip(folder / f"{name}.zip", {f"{name}/{part}.zip": path for part, path in zips.items()}, outer)
    return [folder / f"{name}.zip"]


def _files(
    dataset: str, tile: str, side_px: int, layers: Collection[str], trap: Traps
) -> Iterator[tuple[str, str, str, bytes]]:
    """Archive, folder in it, name and content of every file of a tile."""
    pixels = scene(dataset, trap.copies.get(tile, tile), side_px)
    transform = place(dataset, trap.same_place.get(tile, tile), side_px)
    placed = {layer: (layer, *_path(dataset, layer, tile, trap)) for layer in layers}
    if tile in trap.swapped:
        image = next(layer for layer in layers if layer in KINDS["image"])
        placed |= {image: (image, *placed["label"][1:]), "label": ("label", *placed[image][1:])}
    for layer, archive, inside, name in placed.values():
        kind = next((kind for kind, of_kind in KINDS.items() if layer in of_kind), layer)
        if (tile, kind) in trap.missing:
            continue
        scale = 2 if kind == "dsm" and tile in trap.dsm_coarse else 1
        changed = _trapped(kind, tile, pixels[layer], trap)[:, ::scale, ::scale]
        content = _encoded(dataset, tile, kind, name, changed, transform @ Affine.scale(scale), trap)
        content = content[: len(content) // 2] if (tile, kind) in trap.truncated else content
        yield archive, inside, name, content
        if kind == "image" and tile in trap.twice:
            yield "more", "again", name, content
        if trap.georeference in ("world", "apart"):
            world = Path(name).stem + (".jgw" if name.endswith("jpg") else ".tfw")
            apart = trap.georeference == "apart"
            yield (
                *((WORLD_FILES, "") if apart else (archive, inside)),
                world,
                world_file(transform @ Affine.scale(scale)),
            )


def _path(dataset: str, layer: str, tile: str, trap: Traps) -> tuple[str, str, str]:
    layout = LAYOUTS[dataset][layer]
    name = layout.name
    if trap.plain_dsm_ids:
        name = name.replace(":02", "")
    if trap.padded_ids:
        name = name.replace("{r}", "{r:02}").replace("{c}", "{c:02}").replace("{n}", "{n:02}")
    archive, inside, name = Layout(layout.archive, layout.folder, name).path(tile)
    if trap.renamed_folders:
        number = list(LAYOUTS[dataset]).index(layer)
        return f"part{number}", f"x{number}", name
    return archive, inside, name


def _trapped(kind: str, tile: str, pixels_BHW: np.ndarray, trap: Traps) -> np.ndarray:
    """The pixels with the traps of their kind."""
    changed = pixels_BHW.copy()
    if kind == "image" and tile in trap.band_swap:
        changed = changed[::-1]
    if kind == "dsm":
        changed = _trapped_heights(tile, changed, trap)
    if kind in ("label", "eroded"):
        rng = np.random.default_rng(1)
        if tile in trap.odd_cars:
            cars = (changed == np.array([255, 255, 0])[:, None, None]).all(0) & (rng.random(changed.shape[1:]) > 0.02)
            changed[:, cars] = np.array([252, 255, 0], np.uint8)[:, None]
        if tile in trap.lossy:
            away = rng.integers(1, 60, changed.shape)
            changed = np.where(changed > 127, changed - away, changed + away).astype(np.uint8)
        if kind == "label" and tile in trap.unknown_px:
            first = np.unravel_index(np.arange(trap.unknown_px[tile]), changed.shape[1:])
            changed[:, first[0], first[1]] = np.array(MAGENTA, np.uint8)[:, None]
    return changed


def _trapped_heights(tile: str, heights_1HW: np.ndarray, trap: Traps) -> np.ndarray:
    square = np.s_[:, 8:16, 8:16]
    if heights_1HW.dtype == np.uint8:  # decimetres above ground: these files have no such trap
        return heights_1HW
    if tile in {*trap.dsm_nodata, *trap.dsm_untagged}:
        heights_1HW[square] = NODATA
    if tile in trap.dsm_nan:
        heights_1HW[square] = np.nan
    if tile in trap.dsm_outliers:
        heights_1HW[:, 20, 20:24], heights_1HW[:, 24, 20:24] = 3000, -900
    if tile in trap.dsm_blank:
        heights_1HW[:] = 0
    return heights_1HW[:, :, : heights_1HW.shape[2] - trap.dsm_short.get(tile, 0)]


def _encoded(
    dataset: str, tile: str, kind: str, name: str, pixels_BHW: np.ndarray, transform: Affine, trap: Traps
) -> bytes:
    if name.endswith(".jpg"):
        return raster(pixels_BHW, "JPEG", quality=95)
    inside = trap.georeference == "tiff"
    crs = "EPSG:32631" if tile in trap.wrong_crs else CRS[dataset]
    return raster(
        pixels_BHW,
        transform=transform if inside else None,
        crs=crs if inside and not trap.no_crs else None,
        nodata=NODATA if kind == "dsm" and tile in trap.dsm_nodata else None,
        compress="lzw" if kind in ("label", "eroded") else None,
    )
