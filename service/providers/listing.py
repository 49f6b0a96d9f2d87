"""How a provider's list of models is asked for and read: with bounds, and with nothing in it that is ours.

Both providers answer `{"data": [entry…]}`, without pages. An entry that is not what it should be is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from service.model import Model
from service.outbound import ask, retry_after_ms
from service.providers import Unanswered, wire

_MOST_BYTES = 8 * 1_048_576
_MOST_MODELS = 2_000
_LONGEST_ENTRY = 65_536  # bytes
_DEEPEST_ENTRY = 16  # levels of lists and objects
_MOST_VALUES = 200  # of one list
_LONGEST_VALUE = 100  # characters
_LONGEST_DURATION = 86_400  # s
_ID = re.compile(r"[!-~]{1,256}", re.ASCII)
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")

Read = Callable[[Mapping[str, Any]], Model | None]


async def models(
    client: httpx.AsyncClient,
    url: str,
    api_key: str,
    read: Read,
    *,
    seconds: float,
    now_ms: int,
    reset: str | None = None,
) -> Sequence[Model] | Unanswered:
    """Ask for the list at `url` and `read` each entry of it, which comes without our key, should it be quoted.

    `reset` names a header that tells when a rate limit ends. Of models with one id, the first is kept.
    """
    request = client.build_request("GET", url, headers=wire.request_headers(api_key))
    try:
        answer = await ask(client, request, seconds=seconds, limit=_MOST_BYTES)
    except httpx.HTTPError as error:
        return Unanswered(f"no answer ({type(error).__name__})")
    if answer.status != httpx.codes.OK:
        reset = reset if answer.status == httpx.codes.TOO_MANY_REQUESTS else None
        return Unanswered(f"HTTP {answer.status}", retry_after_ms(answer.headers, now_ms, reset))
    data = wire.mapping(wire.decode(answer.body)).get("data")
    if not isinstance(data, list):
        return Unanswered("HTTP 200 without a list of models")
    found: dict[str, Model] = {}
    for each in data:
        entry = _entry(each, api_key)
        model = None if entry is None else read(entry)
        if model is not None:
            found.setdefault(model.id, model)
        if len(found) == _MOST_MODELS:
            break
    return list(found.values())


def model_id(entry: Mapping[str, Any]) -> str | None:
    """Return the entry's `id` if it can be a model's: printable ASCII without spaces."""
    value = entry.get("id")
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def texts(value: object) -> tuple[str, ...] | None:
    """Return the texts in a list, each once; None when it is no list."""
    if not isinstance(value, list):
        return None
    usable = (each for each in value[:_MOST_VALUES] if isinstance(each, str) and 0 < len(each) <= _LONGEST_VALUE)
    return tuple(dict.fromkeys(usable))


def durations(value: object) -> tuple[int, ...] | None:
    """Return the whole seconds in a list, each once; None when it is no list."""
    if not isinstance(value, list):
        return None
    numbers = (each for each in value[:_MOST_VALUES] if isinstance(each, int) and not isinstance(each, bool))
    return tuple(dict.fromkeys(each for each in numbers if 0 < each <= _LONGEST_DURATION))


def created(value: object) -> int | None:
    """Return a time in unix seconds."""
    milliseconds = wire.time_ms(value)
    return None if milliseconds is None else milliseconds // 1000


def flag(value: object) -> bool | None:
    """Return a truth value; None when it is none."""
    return value if isinstance(value, bool) else None


def _entry(value: object, api_key: str) -> dict[str, Any] | None:
    """Return an entry that can be kept and passed on as JSON, else None. What hides our key leaves its id."""
    try:
        entry = _clean(value, _DEEPEST_ENTRY, api_key)
        if isinstance(entry, dict) and isinstance(value, dict) and "id" in value:
            entry["id"] = _clean(value["id"], _DEEPEST_ENTRY, "")
        size = len(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and size <= _LONGEST_ENTRY else None


def _clean(value: object, levels: int, api_key: str) -> Any:  # noqa: ANN401 - whatever JSON can be
    """Return the value without our key and credentials in URLs. Raises ValueError when it is nested too deeply."""
    if isinstance(value, str):
        return _CREDENTIALS.sub("", wire.hidden(value, (api_key,)))
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_clean(each, levels - 1, api_key) for each in value]
    return {wire.hidden(key, (api_key,)): _clean(each, levels - 1, api_key) for key, each in value.items()}
