"""Publishes a scene of a pipeline run: complete map, STAC item and HTML page -> a folder or an S3 prefix.

The map is copied last, so that whoever sees it finds everything else.
"""

from __future__ import annotations

import logging
import mimetypes
import shutil
from dataclasses import dataclass
from pathlib import Path

from components.common.data.config import S3
from components.common.files import replacing
from components.predict.publication import buckets
from components.predict.publication.page import write_page
from components.predict.publication.scene_tasks import acquired_at, combine_scene, map_of, scene_of, summary_of
from components.predict.publication.stac import acquisition, write_item
from components.predict.step import AgreementError

log = logging.getLogger(__name__)

TYPES = {".gpkg": "application/geopackage+sqlite3", ".qml": "application/xml", ".tif": "image/tiff"}
"""Media types that Python does not know, by suffix."""


@dataclass(frozen=True, slots=True)
class Published:
    """A scene that is complete."""

    folder: Path  # of its files on the workspace
    item: str  # file name of the STAC item
    page: str  # file name of the page
    place: str  # path or URI of the map


def publish_scene(name: str, workspace: Path) -> Published:
    """Combine the parts of a scene, describe the map, and copy everything to the output.

    Args:
        name: the scene.
        workspace: folder of the run.

    Raises:
        MobanetError: parts do not belong together, or the output cannot be written.
        AgreementError: everything is published, but windows of the map agree less than `predict.min_agreement`.
    """
    order, scene = scene_of(name, workspace)
    output = map_of(name, workspace)
    too_low = None
    try:
        combine_scene(name, workspace)
    except AgreementError as error:
        too_low = error
    item, page = output.with_suffix(".json"), output.with_suffix(".html")
    write_page(page, output, summary_of(output), scene.image, scene.dsm)
    write_item(item, output, acquisition(acquired_at(order), scene.image or scene.dsm))
    place = f"{order.output.rstrip('/')}/{name}"
    deliver(output, place)
    log.info("%s: the map is in %s", name, place)
    if too_low is not None:
        raise too_low
    return Published(output.parent, item.name, page.name, f"{place}/{output.name}")


def deliver(output: Path, place: str) -> None:
    """Copy a map and all files of its folder, the map last.

    Args:
        output: the map.
        place: folder or `s3://BUCKET/PREFIX`.

    Raises:
        MobanetError: the place cannot be written.
    """
    others = [file for file in sorted(output.parent.iterdir()) if file.is_file() and not file.name.startswith(".")]
    for file in sorted(others, key=lambda file: file == output):
        if place.startswith(S3):
            buckets.upload(file, f"{place}/{file.name}", media_type(file))
            continue
        with replacing(Path(place).expanduser() / file.name) as draft:
            shutil.copyfile(file, draft)


def media_type(file: Path) -> str:
    """Media type of a file, by its suffix."""
    return TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
