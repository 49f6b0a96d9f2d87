"""Reading what strangers send: within a size and a time, and as JSON that means one thing only."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from starlette.requests import Request

from service.web.refusals import RefusalError, shown

LONGEST_WITH_MEDIA = 10_485_760  # bytes: callers of the compatible faces send images inside the request
BODY_SECONDS = 30.0

_JSON = re.compile(r'application/json\s*(;\s*charset\s*=\s*("utf-?8"|utf-?8)\s*)?;?\s*', re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_LARGEST = 2**63
_DEEPEST = 32
_MOST_VALUES = 2_000
_MOST_COMMAS = 100_000  # inside texts, more than anybody writes in prompts

_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "an array"}


def require_json(request: Request) -> None:
    """Refuse a body that does not say that it is JSON, before any of it is read."""
    given = request.headers.get("content-type")
    if given is None or not _JSON.fullmatch(given.strip()):
        sent = f"{shown(given)} was sent" if given else "none was sent"
        raise RefusalError(
            415, "unsupported_media_type", f"The Content-Type must be application/json, and the body JSON; {sent}."
        )


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """Read a body of at most `limit` bytes within `seconds` in all; no more than that is ever in memory.

    Raises RefusalError (408, 413).
    """
    body = bytearray()
    async with within(seconds):
        async for chunk in bounded(request, limit):
            body += chunk
    return bytes(body)


async def bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a body of at most `limit` bytes. Raises RefusalError (413).

    What is too large is refused as soon as that is known, at once if Content-Length says so. The connection stays
    open then: the server throws the rest away unread, and an honest sender gets to see the answer.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and not (_LENGTH.fullmatch(announced) and int(announced) <= limit):
        raise _too_large(limit)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Bound the time in which a body is read in all. Raises RefusalError (408).

    The connection is closed then: a sender that is merely slow learns why and may try again, and one that is slow on
    purpose holds nothing any longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RefusalError(
            408,
            "body_too_slow",
            f"The body did not arrive within {seconds:g} seconds; send it again over a faster connection.",
            headers={"connection": "close"},
        ) from None


def parse_object(body: bytes, *, most_values: int = _MOST_VALUES) -> dict[str, Any]:
    """Return the JSON object that `body` is.

    Refused is what other readers would understand differently or not at all: a key that stands twice in one object,
    NaN, Infinity, numbers beyond 64 bits, halves of surrogate pairs, and objects or arrays more than 32 deep or with
    more than `most_values` in all.
    """
    if not body:
        raise _not_json('The body is empty; send a JSON object, for example {"model": "…", "prompt": "…"}.')
    # What cannot be little is refused unparsed: to parse millions of values keeps everybody waiting for seconds.
    if body.count(b",") > most_values + _MOST_COMMAS:
        raise _too_many(most_values)
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise _not_json(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except UnicodeDecodeError as error:
        raise _not_json(f"The body is not UTF-8 text (byte {error.start}); encode the JSON as UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise _not_json(f"The body must be a JSON object, {{…}}; {kind_of(value)} was sent.")
    _require_simple(value, most_values)
    try:
        canonical(value)
    except UnicodeEncodeError:
        raise _not_json(
            "The body holds half of a surrogate pair (an escape from \\ud800 to \\udfff without its other half), "
            "which is not text; send whole characters."
        ) from None
    return value


def canonical(value: object) -> bytes:
    """Return the one JSON text of a value: two bodies that mean the same have the same."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def kind_of(value: object) -> str:
    """Return what JSON calls a value."""
    if value is None:
        return "null"
    return _KINDS.get(type(value), "an object")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _not_json(f'The body names "{shown(name)}" twice in one object; leave one of them out.')
        found[name] = value
    return found


def _whole(text: str) -> int:
    # 19 digits and a sign hold every 64-bit number; int() itself is slow on many more.
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:  # noqa: PLR2004 - see above
        raise _not_json(
            f"The body holds a whole number beyond 64 bits, {shown(text)}; send a smaller one, or a string."
        )
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _not_json(f"The body holds a number that is too large, {shown(text)}; send a smaller one, or a string.")
    return number


def _no_constant(name: str) -> NoReturn:
    raise _not_json(f"The body holds {name}, which is not JSON; send a number or null.")


def _require_simple(value: object, most_values: int) -> None:
    """Refuse what is nested deep or holds many values: it would be walked through at every reading of the job."""
    level: list[Any] = [value]
    found = 0
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        found += len(level)
    if any(isinstance(each, dict | list) for each in level):
        raise _too_deep()
    if found > most_values:
        raise _too_many(most_values)


def _too_large(limit: int) -> RefusalError:
    return RefusalError(
        413, "body_too_large", f"The body is larger than {limit:,} bytes; send large media as an https:// URL."
    )


def _too_many(most_values: int) -> RefusalError:
    return _not_json(f"The body holds more than {most_values:,} values; send fewer, or one long string.")


def _too_deep() -> RefusalError:
    return _not_json(f"The body nests objects or arrays more than {_DEEPEST} deep; make it flatter.")


def _not_json(message: str) -> RefusalError:
    return RefusalError(400, "invalid_json", message)
