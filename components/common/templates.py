"""Jinja templates that lie next to the module that fills them."""

from __future__ import annotations

from pathlib import Path

import jinja2


def templates(folder: Path, *, html: bool = True) -> jinja2.Environment:
    """The templates of a folder. An undefined name in a template is an error.

    Args:
        folder: folder of the templates.
        html: whether they are HTML, in which values are escaped; otherwise they are plain text, such as Markdown.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
        undefined=jinja2.StrictUndefined,
    )
