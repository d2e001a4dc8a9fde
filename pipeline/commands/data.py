"""`mobanet data import`: what ISPRS hands out, archives or folders -> one tree that check and the pipeline read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from components.acquire.isprs_files import collect
from components.acquire.summary import summary
from components.common.data import datasets
from components.common.readers.rasters import parse_crs


def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="The .zip files as downloaded, or folders, or both.")
    ],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="potsdam or vaihingen.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets the files; made if it does not exist.")],
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which images: rgb, rgbir or irrg; default: the data set's first."),
    ] = None,
    dsm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Which heights: absolute, lastools or ownapproach; default: the data set's first."
        ),
    ] = None,
    crs: Annotated[
        str | None, typer.Option(metavar="EPSG:CODE", help="Where the files carry none; default: as the data set says.")
    ] = None,
) -> None:
    """Find the files of a data set by their names, wherever they lie, and put them into one tree.

    Nothing is unpacked twice, and no file of yours is changed. Every picture is read to its last pixel, and gets the
    georeference of its world file and the reference system if it has none. Run the same command again after an
    interruption, or with further sources: what is there stays, unless something better comes.

    Exit 0: done, see the table. Exit 2: nothing of the data set was found, or a source is not to be trusted.
    """
    known, out = datasets.dataset(dataset, image, dsm), out.expanduser()
    if crs is not None:
        parse_crs(crs)
    tree = collect([path.expanduser() for path in sources], replace(known, crs=crs or known.crs), out, exact=False)
    typer.echo(f"{out}:\n{summary(tree, datasets.tiles(known.name))}\n{known.acknowledgement}")
