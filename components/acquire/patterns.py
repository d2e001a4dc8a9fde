"""Path patterns of a user's own data: `images/{tile}.tif` -> regular expression and tile id.

In a pattern, `{tile}` matches an id and any other field, such as `{r}` or `{c:02}`, a number. `*`, `?` and `[...]`
match characters of one name, and `**` matches any folders.
"""

from __future__ import annotations

import re
import string

WILD = re.compile(r"\*\*/|\*|\?|\[!?\]?[^\]]*\]")


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for complete paths; its groups are the fields."""
    parts: list[str] = []
    seen: set[str] = set()
    for text, name, _, _ in string.Formatter().parse(pattern):
        parts.append(_globbed(text))
        if name in seen:
            parts.append(f"(?P={name})")
        elif name is not None:
            seen.add(name)
            parts.append(f"(?P<{name}>{'[^/]+' if name == 'tile' else '[0-9]+'})")
    return re.compile("".join(parts))


def tile_of(match: re.Match[str]) -> str | None:
    """Id of the tile: the text of `{tile}`, or the numbers of the other fields joined by `_`; None: no field."""
    fields = match.groupdict()
    if "tile" in fields:
        return fields["tile"]
    return "_".join(str(int(number)) for number in fields.values()) if fields else None


def plain_letters(pattern: str) -> int:
    """Number of fixed letters in a pattern: the more, the more specific it is."""
    return sum(len(WILD.sub("", text)) for text, *_ in string.Formatter().parse(pattern))


def _globbed(text: str) -> str:
    pieces, end = [], 0
    for wild in WILD.finditer(text):
        pieces += [re.escape(text[end : wild.start()]), _meaning(wild[0])]
        end = wild.end()
    return "".join([*pieces, re.escape(text[end:])])


def _meaning(wild: str) -> str:
    if wild.startswith("["):
        inside = wild[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}[wild]
