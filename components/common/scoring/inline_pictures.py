"""Pictures as data URIs, which an HTML page contains itself: PNG for few colours, else JPEG."""

from __future__ import annotations

import base64
import io

from PIL import Image

from components.common.scoring.panels import Picture


def data_uri(picture: Picture, side_px: int) -> str:
    """A picture `[H, W, 3]` as a data URI, at most `side_px` wide and high: PNG with up to 64 colours, else JPEG."""
    image = Image.fromarray(picture)
    few_colours = image.getcolors(64) is not None
    image.thumbnail((side_px, side_px), Image.Resampling.NEAREST if few_colours else Image.Resampling.BOX)
    buffer = io.BytesIO()
    if few_colours:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    kind = "png" if few_colours else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
