"""A watch as a table for the terminal, and as one self-contained HTML page, rendered from `report.html.j2`."""

from __future__ import annotations

from pathlib import Path

from components.common.templates import templates
from components.watch.config import Content


def table(content: Content) -> list[str]:
    """Lines of a table: statistic, distance, limit, verdict."""
    rows = [
        (
            f"{one['title']}, {one['measure'].upper()}",
            "-" if one["distance"] is None else f"{one['distance']:.3f}",
            f"{one['limit']:.3f}",
            "drift" if one["drifted"] else "",
        )
        for one in content["statistics"]
    ]
    width = max(len(row[0]) for row in rows)
    header = f"{'statistic':<{width}}  distance  limit"
    return [
        header,
        *(f"{name:<{width}}  {distance:>8}  {limit:>5}  {flag}".rstrip() for name, distance, limit, flag in rows),
    ]


def render(content: Content) -> str:
    """The page.

    Args:
        content: content of `drift.json`.
    """
    return templates(Path(__file__).parent).get_template("report.html.j2").render(content=content)
