"""Makes a VRT portable: absolute names of its sources become relative ones, in the Unicode form of data/raw."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath

from components.common.data.names import nfc
from components.common.rasterfiles.formats import vrt_references, vrt_source, vrt_tree


def relocated(path: Path, root: Path, place: str) -> bytes | None:
    """Content of a VRT for its place in data/raw; None: the file is no VRT, or needs no change.

    Args:
        path: the raster; a VRT must have passed `vrt_sources`.
        root: the user's folder.
        place: its path below data/raw, where the sources have the same relative paths as below `root`.
    """
    if path.suffix.lower() != ".vrt":
        return None
    tree, changed = vrt_tree(path), False
    for element in vrt_references(path, tree):
        source = nfc(below(root, vrt_source(path, element, root)))
        name = os.path.relpath(source, PurePosixPath(place).parent)
        if element.text != name:
            element.text, changed = name, True
            element.attrib = {key: value for key, value in element.attrib.items() if key.lower() != "relativetovrt"}
            element.set("relativeToVRT", "1")
    return ET.tostring(tree, encoding="utf-8") if changed else None


def below(root: Path, file: Path) -> str:
    """Path of a file relative to a folder that contains it, also if one of the two is given through links."""
    tops = (Path(os.path.abspath(root)), root.resolve())
    return next(file.relative_to(top).as_posix() for top in tops if file.is_relative_to(top))
