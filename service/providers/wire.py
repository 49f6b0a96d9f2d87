"""What providers' wire formats share: parsing that never raises, and what an answer or a broken exchange means.

A provider's answer is a stranger's text. Whatever is not what it should be reads as None, and so as "not said".
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import httpx

from service.errors import BadCallbackError
from service.model import Problem, Reference, is_provider_job_id
from service.outbound import Answer, ask, retry_after_ms
from service.providers import InDoubt, TurnedAway, Unanswered

_MOST_TEXT = 2000
_LONGEST_WORD = 100
_SHORTEST_SECRET = 8  # characters: what is shorter may be part of any word, and no real account has such a key
_LATEST_S = 100_000_000_000  # the year 5138; larger is not a time in seconds
_MOST_COST = 1_000_000  # USD; larger is not the price of a video
_KEY = re.compile(r"[!-~]+", re.ASCII)

_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def bearer(api_key: str) -> dict[str, str]:
    """Return the header that carries an API key.

    Raises ValueError for a key that cannot stand in a header.
    """
    if not _KEY.fullmatch(api_key):
        raise ValueError("an API key is printable ASCII without spaces; was a line break copied with it?")
    return {"Authorization": f"Bearer {api_key}"}


def request_headers(api_key: str) -> dict[str, str]:
    """Return what every call carries. No compression, so that the limit on an answer's bytes is one on its size."""
    return {**bearer(api_key), "Accept": "application/json", "Accept-Encoding": "identity"}


def encode(fields: Mapping[str, Any]) -> bytes:
    """Return JSON in ASCII, so that no text can fail to be encoded.

    Raises ValueError for what JSON cannot say: NaN, infinity, or a value nested too deeply.
    """
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def option_problems(options: Mapping[str, Any], owned: Mapping[str, str | None]) -> list[Problem]:
    """Name the provider options that the adapter writes itself, or that JSON cannot say.

    `owned` maps a field of the provider's request to the field of ours that it comes from (None: from the service).
    """
    found = [
        Problem(f"provider_options.{field}", f"write {ours} instead" if ours else "the service sets this itself")
        for field, ours in owned.items()
        if field in options
    ]
    try:
        encode(options)
    except ValueError as error:
        found.append(Problem("provider_options", f"not valid JSON: {error}"))
    return found


def reference_problems(references: Sequence[Reference]) -> list[Problem]:
    """Name the references that are neither image, video nor audio."""
    return [
        Problem(f"references[{index}].type", "write image, video or audio")
        for index, reference in enumerate(references)
        if reference.type not in ("image", "video", "audio")
    ]


def decode(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that the bytes are, else None."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def mapping(value: object) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Return the value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return a provider's text for people without our own secrets, which an error of theirs may quote.

    Only text for people, and only what was parsed before: in a body, a key that is a word would take ids, addresses and
    status words with it. And before it is cut: what is left of a secret at a cut could not be found.
    """
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        text = text.replace(secret, "[hidden]")
        if "\\" in text:
            text = _spelt(secret).sub("[hidden]", text)
    return text


def _spelt(secret: str) -> re.Pattern[str]:
    r"""Return what finds a text however JSON within a text spells its characters: `/`, `\/`, `\u002f`."""
    spelt = [rf"(?:{re.escape(each)}|\\(?:{re.escape(each)}|u(?i:{ord(each):04x})))" for each in secret]
    return re.compile("".join(spelt))


def event(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the type of a verified callback, and the callback.

    Raises BadCallbackError when it is not a JSON object with a type.
    """
    found = decode(body)
    event_type = words(mapping(found).get("type"), 200)
    if found is None or event_type is None:
        raise BadCallbackError("the body must be a JSON object with a type")
    return event_type, found


def words(value: object, limit: int = _MOST_TEXT, *, hide: Iterable[str] = ()) -> str | None:
    """Return a text of theirs, cut at `limit` characters and fit to be stored (no lone surrogates).

    What people read comes without the secrets in `hide`.
    """
    if not isinstance(value, str) or not value:
        return None
    return hidden(value, hide)[:limit].encode(errors="replace").decode()


def status_word(value: object, known: Container[str], hide: Iterable[str]) -> str | None:
    """Return a job's status word: one of the `known` as it is, any other one as a text of theirs."""
    return value if isinstance(value, str) and value in known else words(value, _LONGEST_WORD, hide=hide)


def job_id(value: object) -> str | None:
    """Return a provider's name for a job if it can be one."""
    return value if isinstance(value, str) and is_provider_job_id(value) else None


def cost(usage: object) -> float | None:
    """Return `usage.cost` in USD."""
    value = usage.get("cost") if isinstance(usage, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_COST:
        return None
    return float(value)


def time_ms(value: object) -> int | None:
    """Return a time in unix seconds as unix milliseconds."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LATEST_S:
        return None
    return value * 1000


async def submit(client: httpx.AsyncClient, request: httpx.Request, *, seconds: float) -> Answer | TurnedAway | InDoubt:
    """Make the paid call once. Without a connection nothing was sent; any later break may have hidden an acceptance."""
    try:
        return await ask(client, request, seconds=seconds)
    except _NOTHING_SENT as error:
        return TurnedAway(f"no connection ({type(error).__name__})")
    except httpx.HTTPError as error:
        return InDoubt(f"the exchange broke before its answer ({type(error).__name__})")


def not_refused(answer: Answer, *, known: bool, busy: frozenset[int], wait_ms: int | None) -> TurnedAway | InDoubt:
    """Judge an answer to a paid call that neither accepts nor refuses; `known` tells that its error shape is theirs.

    `busy` are the statuses with which the provider itself says "not now". 429 counts from anybody: whoever limits a
    rate does so before passing a request on, and the CDN in front of a provider limits in words of its own.
    """
    said = f"HTTP {answer.status}" + ("" if known else ", not in the provider's own error shape")
    if answer.status == httpx.codes.TOO_MANY_REQUESTS or (known and answer.status in busy):
        return TurnedAway(said, wait_ms)
    return InDoubt(said)


async def poll(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    seconds: float,
    now_ms: int,
    reset: str | None = None,
) -> dict[str, Any] | Unanswered:
    """Ask for a job and return its JSON object; whatever else comes is no answer."""
    try:
        answer = await ask(client, request, seconds=seconds)
    except httpx.HTTPError as error:
        return Unanswered(f"no answer ({type(error).__name__})")
    if answer.status != httpx.codes.OK:
        reset = reset if answer.status == httpx.codes.TOO_MANY_REQUESTS else None
        return Unanswered(f"HTTP {answer.status}", retry_after_ms(answer.headers, now_ms, reset))
    found = decode(answer.body)
    return Unanswered("HTTP 200 without a JSON object") if found is None else found
