"""Multipart forms, read as the JSON object that they stand for.

A form has names and texts only. What the `openai` SDK (httpx and its own query strings) and other clients make of an
object is undone here: `a[b]=1` is `{"a": {"b": "1"}}`, `a[]=1` and `a[0]=1` are `{"a": ["1"]}`, and so is `a=1` when it
comes more than once. A file becomes the `data:` URL of the picture that it is. Texts stay texts: what is a number or
a boolean is known to whoever knows the fields.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.model import Problem
from service.web.body import bounded, within
from service.web.refusals import RefusalError, shown

_MOST_FIELDS = 500
_MOST_FILES = 20
_LONGEST_NAME = 200  # characters
_DEEPEST = 16
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_STEP = re.compile(r"\[([^\[\]]*)\]")
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PICTURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
)

_Item = tuple[tuple[str, ...], str]  # ("a", "b", "") and a value, of a[b][]


def is_form(request: Request) -> bool:
    """Tell whether a body says that it is a multipart form."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def read_form(
    request: Request, *, files: Collection[str], limit: int, seconds: float
) -> tuple[dict[str, Any], list[Problem]]:
    """Read a form of at most `limit` bytes within `seconds` in all, and name the fields that cannot be read.

    `files` are the fields that may be, or hold, files. Large ones wait on disk, not in memory, until the form is whole.
    Raises RefusalError: 400 `invalid_form`, 408, 413.
    """
    async with within(seconds):
        form = await _parsed(request, limit)
    try:
        problems: list[Problem] = []
        items: list[_Item] = []
        for raw, value in form.multi_items():
            name = raw.encode("latin-1").decode(errors="replace")
            try:
                steps = _steps(name)
                text = _text(value) if isinstance(value, str) else await _picture(value, steps[0], files)
                items.append((steps, text))
            except ValueError as error:
                problems.append(Problem(shown(name), str(error)))
        return _fields(items, problems), problems
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """Starlette's parser, which takes what follows the last boundary for the end of the form, and here must see it.

    It closes its files when the stream fails, so the stream is what tells.
    """

    def __init__(self, headers: Headers, chunks: AsyncGenerator[bytes, None], *, longest: int) -> None:
        super().__init__(
            headers, self._whole(chunks), max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=longest
        )
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def _whole(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not self._ended:
            raise MultiPartException("It breaks off before its closing boundary.")


async def _parsed(request: Request, limit: int) -> FormData:
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise _no_form("Its Content-Type names no boundary, or an impossible one; leave that header to your library.")
    # As Latin-1 every byte stays what it is, so that text which is not UTF-8 is found out and not guessed at.
    headers = Headers(raw=[(b"content-type", b'multipart/form-data; charset=latin-1; boundary="%b"' % boundary)])
    try:
        return await _Parser(headers, bounded(request, limit), longest=limit).parse()
    except MultiPartException as error:
        raise _no_form(error.message) from None


def _no_form(why: str) -> RefusalError:
    return RefusalError(400, "invalid_form", f"The body cannot be read as multipart/form-data. {why}")


def _steps(name: str) -> tuple[str, ...]:
    """Return "a", "b" and "" for `a[b][]`."""
    found = _NAME.fullmatch(name) if len(name) <= _LONGEST_NAME and "\ufffd" not in name else None
    steps = () if found is None else (found[1], *_STEP.findall(found[2]))
    if not 0 < len(steps) <= _DEEPEST:
        raise ValueError(
            f"is no name of a field; write name, name[key] or name[], at most {_LONGEST_NAME} characters and "
            f"{_DEEPEST} deep"
        )
    return steps


def _text(raw: str) -> str:
    try:
        return raw.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise ValueError("must be text in UTF-8") from None


async def _picture(file: UploadFile, field: str, files: Collection[str]) -> str:
    if field not in files:
        raise ValueError(f"must be text; files can be sent as {', '.join(files)}")
    data = await file.read()
    for begins, content_type in _PICTURES:
        if begins.match(data):
            return f"data:{content_type};base64,{base64.b64encode(data).decode()}"
    raise ValueError(
        "must be a file that is a PNG, JPEG, WebP or GIF picture; "
        f"this one has {len(data):,} bytes and is none of them by its content"
    )


def _fields(items: Sequence[_Item], problems: list[Problem]) -> dict[str, Any]:
    """Return the object of all items that make sense; the others are added to `problems`."""
    found: dict[str, Any] = {}
    for name, inner in _grouped(items).items():
        try:
            found[name] = _value(inner)
        except ValueError as error:
            problems.append(Problem(shown(name), str(error)))
    return found


def _value(items: Sequence[_Item]) -> Any:  # noqa: ANN401 - a value of JSON
    values = [value for steps, value in items if not steps]
    if values:
        if len(values) != len(items):
            raise ValueError("must be either one value or an object; both were sent")
        return values[0] if len(values) == 1 else values
    groups = _grouped(items)
    if "" in groups:
        if len(groups) > 1:
            raise ValueError("must be either an array, name[], or an object, name[key]; both were sent")
        return _elements(groups[""])
    if all(map(_INDEX.fullmatch, groups)) and {int(index) for index in groups} == set(range(len(groups))):
        return [_value(groups[str(index)]) for index in range(len(groups))]
    return {key: _value(inner) for key, inner in groups.items()}


def _elements(items: Sequence[_Item]) -> Sequence[Any]:
    """Return the elements of `a[]=1`, or of `a[][b]=1`, where each element's parts come in any order.

    The SDK groups them: `a[][b]`, `a[][b]`, `a[][c]`, `a[][c]`.
    """
    columns: dict[tuple[str, ...], list[str]] = {}
    for steps, value in items:
        columns.setdefault(steps, []).append(value)
    if () in columns and len(columns) == 1:
        return columns[()]
    counts = {len(column) for column in columns.values()}
    if len(counts) > 1 or any("" in steps for steps in columns):
        raise ValueError(
            "must be written with indexes, name[0][key], name[1][key]: it is not clear what belongs to what"
        )
    return [_value([(steps, column[at]) for steps, column in columns.items()]) for at in range(counts.pop())]


def _grouped(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    groups: dict[str, list[_Item]] = {}
    for (first, *rest), value in items:
        groups.setdefault(first, []).append((tuple(rest), value))
    return groups
