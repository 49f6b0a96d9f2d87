"""What a client says about parts and versions: Range, If-Range, If-Match and If-None-Match, by RFC 9110.

A tag is a strong entity tag with its quotes, for example `"9f86d0…"`. Dates never match: nothing has a Last-Modified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from service.web.refusals import RefusalError

# Numbers have no bound, and Python's take long to read; whoever writes longer ones gets the whole, as anybody may.
_RANGE = re.compile(r"([0-9]{0,100})-([0-9]{0,100})", re.ASCII)
_TAG = re.compile(r'(W/)?("[!#-~\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to, not including, `end`; at least one."""

    start: int
    end: int


def read_range(headers: Headers, size: int, tag: str) -> Span | None:
    """Return which of `size` bytes are asked for; None for the whole.

    The whole is also the answer to several ranges, to what is no range, and to a range of another version than `tag`.
    Raises RefusalError (416) when there is no byte in the range.
    """
    given = headers.getlist("range")
    if len(given) != 1 or headers.getlist("if-range") not in ([], [tag]):
        return None
    unit, _, listed = given[0].partition("=")
    ranges = [each for each in (each.strip(" \t") for each in listed.split(",")) if each]
    found = _RANGE.fullmatch(ranges[0]) if unit.lower() == "bytes" and len(ranges) == 1 else None
    if found is None or ranges == ["-"]:
        return None
    first, last = (int(number) if number else None for number in found.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
        if last and not size:
            return None  # the last bytes of nothing are all of it, and no Content-Range can say so
    else:
        if last is not None and last < first:
            return None
        start, end = first, size if last is None else min(last + 1, size)
    if start >= end:
        raise RefusalError(
            416,
            "range_not_satisfiable",
            f"There are {size:,} bytes, and none of them is in the range; leave Range out to get all of them.",
            headers={"content-range": f"bytes */{size}", "accept-ranges": "bytes"},
        )
    return Span(start, end)


def forbidden(headers: Headers, tag: str) -> bool:
    """Tell whether If-Match allows only other versions than `tag`."""
    return "if-match" in headers and not _among(headers.getlist("if-match"), tag, weakly=False)


def known(headers: Headers, tag: str) -> bool:
    """Tell whether the client has `tag` already, by If-None-Match."""
    return _among(headers.getlist("if-none-match"), tag, weakly=True)


def named(headers: Headers, tag: str) -> bool:
    """Tell whether the client speaks of `tag` in any condition."""
    return any(_among(headers.getlist(name), tag, weakly=True) for name in ("if-match", "if-none-match", "if-range"))


def _among(given: list[str], tag: str, *, weakly: bool) -> bool:
    text = ", ".join(given)
    if text.strip() == "*":
        return True
    return any(found[2] == tag and (weakly or not found[1]) for found in _TAG.finditer(text))
