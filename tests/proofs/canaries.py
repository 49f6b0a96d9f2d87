"""Secrets that can be told from everything else, and the search for them in whatever was left behind."""

from __future__ import annotations

import base64
import json
import secrets
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

_PIECE = 16  # bytes: who finds the beginning or the end of a secret has found it, for it may have been cut
_WINDOW, _STEP = 8, 4
_LETTERS = string.ascii_letters + string.digits


def word(length: int = 32) -> str:
    """Return letters and digits that nobody else comes by."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


@dataclass
class Canary:
    """A kind of secret: its `values` (one for each job, for example), and the places that may or must hold one."""

    name: str
    values: set[bytes] = field(default_factory=set)
    must: Mapping[str, str] = field(default_factory=dict)  # place: why
    may: Mapping[str, str] = field(default_factory=dict)

    def add(self, *values: str | bytes) -> None:
        """Note further secrets of this kind."""
        self.values |= {value.encode() if isinstance(value, str) else value for value in values}

    def needles(self) -> set[bytes]:
        """Return all that gives one of them away: as it is, escaped, encoded or cut."""
        return {needle for value in self.values for piece in _pieces(value) for needle in _spellings(piece)}


def _pieces(value: bytes) -> Iterator[bytes]:
    yield value[:_PIECE]
    if len(value) > _PIECE:
        yield value[-_PIECE:]


def _spellings(piece: bytes) -> Iterator[bytes]:
    yield piece
    yield from (piece.hex().encode(), piece.hex().upper().encode())
    for before in range(3):  # base64 spells the same bytes in three ways, by what stands before them
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            spelt = encode(b"\0" * before + piece).rstrip(b"=")
            yield spelt[(0, 2, 3)[before] : -1]  # the characters that its neighbours have a part in are left out
    try:
        text = piece.decode()
    except ValueError:
        return
    yield quote(text, safe="").encode()
    escaped = json.dumps(text)[1:-1]
    yield from (escaped.encode(), escaped.replace("/", "\\/").encode())


@dataclass(frozen=True)
class Cell:
    """One kind of secret in one place: how often it was found there, and what was to be expected."""

    canary: str
    place: str
    found: int
    says: str  # "found", "not found", "must be there", each with its reason, or what is wrong
    well: bool


def search(canaries: list[Canary], places: Mapping[str, bytes]) -> list[Cell]:
    """Look for every secret in every place; a cell says whether that is as it should be."""
    cells = []
    seen = {place: _steps(content) for place, content in places.items()}
    for canary in canaries:
        if not canary.values:  # nothing was looked for, so nothing can have been found
            cells += [Cell(canary.name, place, 0, "NEVER MADE", well=False) for place in places]
            continue
        needles = canary.needles()
        for place, content in places.items():
            found = sum(_may_hold(seen[place], needle) and needle in content for needle in needles)
            if place in canary.must:
                says, well = f"must be there: {canary.must[place]}", found > 0
            elif place in canary.may:
                says, well = f"may be there: {canary.may[place]}", True
            else:
                says, well = "not found", not found
            if not well:
                says = "MISSING" if place in canary.must else "FOUND"
            cells.append(Cell(canary.name, place, found, says, well))
    return cells


def around(canary: Canary, content: bytes, most: int = 5) -> list[str]:
    """Return what stands around the first places where a secret was found, for whoever must find out why."""
    found = []
    for needle in sorted(canary.needles()):
        at = content.find(needle)
        if at >= 0:
            begin = max(content.rfind(b"\n", 0, at), at - 300)
            found.append(content[begin : at + 200].decode(errors="replace").strip())
    return found[:most]


def _steps(content: bytes) -> set[bytes]:
    """Return eight bytes from every fourth place: tens of thousands of needles are looked up there before a search."""
    return {content[at : at + _WINDOW] for at in range(0, len(content), _STEP)}


def _may_hold(steps: set[bytes], needle: bytes) -> bool:
    if len(needle) < _WINDOW + _STEP - 1:
        return True
    return any(needle[at : at + _WINDOW] in steps for at in range(_STEP))
