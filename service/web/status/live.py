"""What a page tells the browser while it changes: the live parts whose HTML is another one than before.

A live part is an element with an `id` and `data-live`. What stands in a `<time data-ago>` counts on by itself in the
browser, so it alone is no change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_PART = re.compile(r"<(?P<tag>[a-z0-9]+)\b(?=[^>]*\sdata-live(?=[\s=>]))[^>]*?\sid=\"(?P<id>[^\"]+)\"[^>]*>")
_COUNTING = re.compile(r"(<time\b[^>]*\sdata-(?:ago|since)\b[^>]*>)[^<]*")


def message(event: str, data: Mapping[str, str] | None = None) -> bytes:
    """Return a server-sent event. In ASCII: some readers take U+2028 and its like for the end of a line."""
    return f"event: {event}\ndata: {json.dumps(data or {}, separators=(',', ':'))}\n\n".encode()


def parts(page: str) -> dict[str, str]:
    """Return the live parts of a page, by id; one inside another is a part of that one only.

    Texts and attributes are escaped, so every `<` begins or ends an element.
    """
    found: dict[str, str] = {}
    at = 0
    while begin := _PART.search(page, at):
        at = begin.end()
        depth = 1
        for each in re.finditer(rf"<(/?){begin['tag']}\b", page[at:]):
            depth += -1 if each[1] else 1
            if not depth:
                at = page.index(">", at + each.end()) + 1
                break
        found[begin["id"]] = page[begin.start() : at]
    return found


class Shown:
    """What one stream has shown."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def news(self, page: str) -> dict[str, str]:
        """Return the parts that were not shown yet as they are now; all of them at first."""
        now = parts(page)
        plain = {name: _COUNTING.sub(r"\1", html) for name, html in now.items()}
        changed = {name: now[name] for name, html in plain.items() if self._before.get(name) != html}
        self._before = plain
        return changed
