"""What an import found, as a few lines: tiles per kind, and what is missing of them."""

from __future__ import annotations

from collections.abc import Sequence

from components.common.data.datasets import KINDS
from components.common.data.rawtree import RawTree

SHOWN = 6
"""Tiles that a line spells out."""


def summary(tree: RawTree, known: Sequence[str]) -> str:
    """A line per kind of file, then tiles that lack one, and tiles of which there is nothing.

    Args:
        tree: what lies in the folder.
        known: ids of all tiles that the data set has.
    """
    kinds = [kind for kind in KINDS if tree.dataset.pattern(kind)]
    counts = {kind: sum(kind in files for files in tree.tiles.values()) for kind in kinds}
    lines = [f"{kind:8}{count} of {len(known)} tiles" for kind, count in counts.items()]
    lacks = {tile: [kind for kind in kinds if kind not in files] for tile, files in tree.tiles.items()}
    _add(lines, "incomplete", [f"{tile} (no {', no '.join(lacked)})" for tile, lacked in lacks.items() if lacked])
    _add(lines, "not there", [tile for tile in known if tile not in tree.tiles])
    return "\n".join(lines)


def _add(lines: list[str], title: str, items: Sequence[str]) -> None:
    """A line with the first of the items, if there are any."""
    if items:
        more = f" and {len(items) - SHOWN} more" * (len(items) > SHOWN)
        lines.append(f"{title}: {', '.join(items[:SHOWN])}{more}")
