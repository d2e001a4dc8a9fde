"""`mobanet data import`: archives or folders from ISPRS -> one tree of raw tiles that check and the pipeline read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.acquire.import_summary import summary
from components.acquire.isprs_files import collect
from components.acquire.step import with_crs
from components.common.data import datasets


def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Downloaded .zip files, folders, or both.")
    ],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="potsdam or vaihingen.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder; created if it does not exist.")],
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Image variant: rgb, rgbir or irrg; default: the data set's first."),
    ] = None,
    dsm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="DSM variant: absolute, lastools or ownapproach; default: the data set's first."
        ),
    ] = None,
    crs: Annotated[
        str | None, typer.Option(metavar="EPSG:CODE", help="CRS of files without one; default: the data set's CRS.")
    ] = None,
) -> None:
    """Find the files of a data set by name in archives and folders, and copy them into one tree.

    Your files are never changed, and nothing is unpacked twice. Every raster is read completely, and its world file is
    copied next to it. Run the same command again after an interruption or with more sources: existing files stay,
    unless a source has a better one.

    Exit 0: done, see the table. Exit 2: no files of the data set were found, or a source is unsafe.
    """
    known, out = with_crs(datasets.dataset(dataset, image, dsm), "--crs", crs), out.expanduser()
    tree = collect([path.expanduser() for path in sources], known, out, exact=False)
    typer.echo(f"{out}:\n{summary(tree, datasets.tiles(known.name))}\n{known.acknowledgement}")
