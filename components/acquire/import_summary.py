"""Summary of an import in a few lines: tiles per kind, and missing files."""

from __future__ import annotations

from collections.abc import Sequence

from components.common.data.datasets import KINDS
from components.common.data.rawtree import RawTree

SHOWN = 6
"""Tiles listed in a line."""


def summary(tree: RawTree, known: Sequence[str]) -> str:
    """One line per kind of file, then incomplete tiles and missing tiles.

    Args:
        tree: the imported files.
        known: ids of all tiles of the data set.
    """
    kinds = [kind for kind in KINDS if tree.dataset.pattern(kind)]
    counts = {kind: sum(kind in files for files in tree.tiles.values()) for kind in kinds}
    lines = [f"{kind:8}{count} of {len(known)} tiles" for kind, count in counts.items()]
    lacks = {tile: [kind for kind in kinds if kind not in files] for tile, files in tree.tiles.items()}
    _add(lines, "incomplete", [f"{tile} (no {', no '.join(lacked)})" for tile, lacked in lacks.items() if lacked])
    _add(lines, "missing", [tile for tile in known if tile not in tree.tiles])
    return "\n".join(lines)


def _add(lines: list[str], title: str, items: Sequence[str]) -> None:
    """Add a line with the first items, if there are any."""
    if items:
        more = f" and {len(items) - SHOWN} more" * (len(items) > SHOWN)
        lines.append(f"{title}: {', '.join(items[:SHOWN])}{more}")
