"""Why a callback was rejected, in words that help whoever has to find the fault: for people, long after the answer.

Nothing here decides about a callback, and none of it is told to the one who sent it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from service.errors import BadCallbackError, BadSignatureError, Distrust
from service.providers import Callback, Provider
from service.store import Reason
from service.web.refusals import RefusalError, shown

_LARGEST_UNPACKED = 262_144  # bytes
_LARGEST_JSON = 32_768  # bytes; to write more of it anew keeps everybody waiting, and no callback is that long

_RAW = "it must pass on bodies byte for byte"
_REWROTE = f"a proxy or middleware parsed it and wrote it anew; {_RAW}"
_TOUCHED = f"a proxy or middleware changed it; {_RAW}"

_SIGNATURES = {
    Distrust.MISSING: Reason.MISSING_HEADER,
    Distrust.MALFORMED: Reason.MALFORMED_HEADER,
    Distrust.CLOCK: Reason.CLOCK_SKEW,
    Distrust.UNMATCHED: Reason.WRONG_SECRET,
}
_ADVISED = frozenset({Reason.MISSING_HEADER, Reason.WRONG_SECRET})
_REFUSALS = {
    "unsupported_media_type": (
        Reason.WRONG_CONTENT_TYPE,
        "Something on the way changed the Content-Type, or it was no provider who sent it.",
    ),
    "body_too_large": (
        Reason.TOO_LARGE,
        "No provider's callback is that large: it was no provider who sent it, or something on the way swelled it.",
    ),
    "body_too_slow": (
        Reason.TOO_SLOW,
        "A proxy or the network held it up; let the proxy take the whole body before it passes it on.",
    ),
    "mismatched": (
        Reason.MISMATCHED,
        "The job is bound to another id, or another job to this one; its history tells to which, and how it came.",
    ),
}
"""By the code of the refusal: the reason, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a callback was rejected, and what to do about it, for people."""

    reason: Reason
    message: str


def first_look(provider: Provider, error: Exception) -> Diagnosis | None:
    """Say at no cost what an error means; None for one that is no fault of a callback at its own address."""
    match error:
        case BadSignatureError():
            reason = _SIGNATURES[error.reason]
            return Diagnosis(reason, f"{error}. {provider.signing_advice}." if reason in _ADVISED else f"{error}.")
        case BadCallbackError():
            return Diagnosis(Reason.NOT_A_CALLBACK, f"The signature is genuine, and {error}.")
        case RefusalError(code=code) if code in _REFUSALS:
            reason, advice = _REFUSALS[code]
            return Diagnosis(reason, f"{error} {advice}")
    return None


def close_look(provider: Provider, callback: Callback, found: Diagnosis) -> Diagnosis:
    """Look whether the signature of a callback fits what its body may have been before something changed it.

    It takes some milliseconds, for whatever a stranger may send.
    """
    if found.reason is not Reason.WRONG_SECRET:
        return found
    for form, advice, body in _forms(callback.body):
        if body != callback.body and _fits(provider, callback, body):
            return Diagnosis(Reason.BODY_ALTERED, f"The signature fits {form}: {advice}.")
    encoding = callback.headers.get("content-encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        sign = f"it came with Content-Encoding: {shown(encoding)}, which no provider sends"
        return Diagnosis(Reason.BODY_ALTERED, f"Something on the way changed the body: {sign}; {_RAW}. {found.message}")
    same = "A body that was changed on its way looks the same, unless it was changed in one of the usual manners."
    return Diagnosis(Reason.WRONG_SECRET, f"{found.message} {same}")


def _fits(provider: Provider, callback: Callback, body: bytes) -> bool:
    try:
        provider.receive(Callback(callback.job_id, callback.headers, body, callback.received_at))
    except BadSignatureError:
        return False
    except BadCallbackError:
        pass  # believed, and not understood
    return True


def _forms(body: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Yield what a body may have been: how it differs from what came, what that means, and the bytes."""
    mark = "\ufeff".encode()
    yield "the body without the white space at its ends", _TOUCHED, body.strip()
    for name, end in (("newline", b"\n"), ("CRLF", b"\r\n")):
        yield f"the body with a {name} at its end", _TOUCHED, body.rstrip() + end
    yield "the body without its byte order mark", _TOUCHED, body.removeprefix(mark)
    yield "the body with a byte order mark before it", _TOUCHED, mark + body
    plain = body.replace(b"\r\n", b"\n")
    yield "the body with LF for CRLF", _TOUCHED, plain
    yield "the body with CRLF for LF", _TOUCHED, plain.replace(b"\n", b"\r\n")
    unpacked = _unpacked(body)
    if unpacked is not None:
        yield "the body once it is unpacked", f"a proxy or middleware packed it; {_RAW}", unpacked
        body = unpacked
    for form, written in _written_anew(body):
        yield f"the body written as {form}", _REWROTE, written


def _unpacked(body: bytes) -> bytes | None:
    """Return what a gzip or zlib body holds, as far as a callback may be long; None for any other body."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, _LARGEST_UNPACKED)
    except zlib.error:
        return None


def _written_anew(body: bytes) -> Iterator[tuple[str, bytes]]:
    if len(body) > _LARGEST_JSON:
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    for form, write in _WRITERS.items():
        try:
            yield form, write(value).encode()
        except (ValueError, RecursionError):  # half of a surrogate pair, for example, has no bytes
            continue


def _writers() -> Iterator[tuple[str, Callable[[object], str]]]:
    for spacing, separators in (("compact JSON", (",", ":")), ("JSON with spaces", (", ", ": "))):
        for order in (False, True):
            for escaped in (False, True):
                said = [spacing, *["sorted"] * order, *["ASCII alone"] * escaped]
                yield ", ".join(said), partial(json.dumps, separators=separators, sort_keys=order, ensure_ascii=escaped)


_WRITERS = dict(_writers())
