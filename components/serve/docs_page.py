"""The page /docs: every route with what it takes, from the OpenAPI description, without scripts or other servers."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td{{padding:.4rem;border-top:1px solid #8886;vertical-align:top}}</style>
</head><body><h1>{title}</h1><p>{about}</p><p>Machine-readable: <a href="openapi.json">openapi.json</a></p>
<table>{rows}</table></body></html>
"""


def page(description: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description."""
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(route.get('summary', ''))}<br><small>{escape(route.get('description', ''))}</small></td></tr>"
        for path, methods in description["paths"].items()
        for method, route in methods.items()
    ]
    info = description["info"]
    return PAGE.format(title=escape(info["title"]), about=escape(info["description"]), rows="\n".join(rows))
