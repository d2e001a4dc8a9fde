"""Scenes of a pipeline run: the texts `image` and `dsm` of its form -> for each map its name and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.common.data.config import S3
from components.common.errors import DataError, ParamsError
from components.common.rasterfiles.formats import FORMATS
from components.predict.publication import buckets

GLOB = frozenset("*?[")
"""Characters of a file name that stand for others."""

FORMS = 'a folder, s3://BUCKET/PREFIX, a file, a glob, or JSON: ["a.tif", ["b1.tif", "b2.tif"]] or {"NAME": "a.tif"}'
"""What the texts can be."""

Files = tuple[str, ...]
"""Names of files, as a user gives them; several are one mosaic."""


@dataclass(frozen=True, slots=True)
class SceneNames:
    """One map to make."""

    name: str  # of the map, without suffix
    image: Files  # empty: none
    dsm: Files  # empty: none


def scenes_of(image: str, dsm: str) -> list[SceneNames]:
    """The scenes that the form names, in order.

    Args:
        image: `FORMS`; a folder or prefix has one scene per raster below it; empty: no images.
        dsm: the same; the rasters of a folder or prefix belong to the images with the same name, and a single file or
            glob belongs to all images; empty: no heights. Without images, it names the scenes.

    Raises:
        ParamsError: the texts cannot be read, or do not fit together.
        DataError: a folder or prefix cannot be read, or has no raster.
    """
    images, heights = _parsed(image, "image"), _parsed(dsm, "dsm")
    if images is None and heights is None:
        raise ParamsError(f"image and dsm are empty; set at least one of them to {FORMS}")
    if images is None or heights is None:
        found = _named(images or heights)
        return [SceneNames(name, files if images else (), () if images else files) for name, files in found.items()]
    scenes = _named(images)
    for_all = heights if isinstance(heights, tuple) else None
    by_name = {} if isinstance(heights, tuple) else heights
    if unknown := by_name.keys() - scenes.keys() if _is_json(dsm) else ():
        raise ParamsError(f"dsm names the scene {min(unknown)}, but image does not; the scenes are {_listed(scenes)}")
    if missing := [] if for_all or _is_json(dsm) else [name for name in scenes if name not in by_name]:
        raise DataError(
            f"{dsm}: no raster has the name of the image {missing[0]}; name the files of every scene in JSON, "
            'for example {"NAME": "dsm.tif"}'
        )
    return [SceneNames(name, files, for_all or by_name.get(name, ())) for name, files in scenes.items()]


def moved(text: str, change: Callable[[str], str]) -> str:
    """A text of the form with every name in it changed.

    Raises:
        ParamsError: the text is wrong JSON.
    """
    if not _is_json(text):
        return change(text) if text else ""
    return json.dumps(_changed(_read_json(text, "the parameter"), change))


def is_remote(name: str) -> bool:
    """Whether a name is an URL or a path inside GDAL, not one of this machine."""
    return "://" in name or name.startswith("/vsi")


def _changed(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, dict):
        return {key: _changed(value, change) for key, value in content.items()}
    if isinstance(content, list):
        return [_changed(value, change) for value in content]
    return change(str(content))


def _parsed(text: str, parameter: str) -> dict[str, Files] | Files | None:
    """None: empty; files: one mosaic; else scene -> its files."""
    if not text.strip():
        return None
    if not _is_json(text):
        return _below(text.strip(), parameter)
    content = _read_json(text, parameter)
    pairs = content.items() if isinstance(content, dict) else [(None, value) for value in content]
    scenes: dict[str, Files] = {}
    for given, value in pairs:
        files = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
        if not files or not all(isinstance(file, str) and file for file in files):
            raise ParamsError(f"{parameter} has the entry {json.dumps(value)}; expected a file or a list of files")
        name = _stem(files[0]) if given is None else given
        if name in scenes:
            raise ParamsError(f'{parameter} has two scenes named {name}; name them in JSON: {{"NAME": "a.tif"}}')
        scenes[_checked(name, parameter)] = files
    if not scenes:
        raise ParamsError(f"{parameter} is {text}; expected at least one scene")
    return scenes


def _below(text: str, parameter: str) -> dict[str, Files] | Files:
    """The rasters of a folder or prefix by name, or the files of one mosaic."""
    path = Path(text).expanduser()
    if text.startswith(S3) and PurePosixPath(text).suffix.lower() not in FORMATS:
        root, names = text.rstrip("/"), buckets.objects(text)
    elif not is_remote(text) and path.is_dir():
        root, names = str(path), sorted(str(file) for file in path.rglob("*") if file.is_file())
    else:
        return (text,)
    found: dict[str, Files] = {}
    for file in names:
        relative = PurePosixPath(file).relative_to(root)
        if relative.suffix.lower() in FORMATS and not relative.name.startswith("."):
            name = _checked("_".join(relative.with_suffix("").parts), parameter)
            if name in found:
                raise DataError(f"{file}: {found[name][0]} has the same name; remove one, or list the files in JSON")
            found[name] = (file,)
    if not found:
        raise DataError(f"{text}: no raster below it; {parameter} can be {FORMS}")
    return found


def _named(found: dict[str, Files] | Files | None) -> dict[str, Files]:
    """Scenes by name; a mosaic is one scene, with the name of its first file."""
    if isinstance(found, tuple):
        return {_checked(_stem(found[0]), "image"): found}
    return found or {}


def _stem(file: str) -> str:
    """The name of a file without suffix; for a glob, that of its folder."""
    path = PurePosixPath(file.partition("?")[0] if "://" in file else file)
    names = [name for name in (path.stem, path.parent.name) if name and not set(name) & GLOB]
    return names[0] if names else "mosaic"


def _checked(name: str, parameter: str) -> str:
    """A name that can be part of a file name."""
    if not name or name.startswith(".") or set(name) & set('/\\\0\n"'):
        raise ParamsError(f"{parameter} names a scene {name!r}; expected a name without slashes, dots at its start")
    return name


def _is_json(text: str) -> bool:
    return text.strip()[:1] in ("{", "[")


def _read_json(text: str, parameter: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ParamsError(f"{parameter} is not valid JSON ({error}); it can be {FORMS}") from None


def _listed(names: Sequence[str] | dict[str, Files]) -> str:
    listed = list(names)
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
