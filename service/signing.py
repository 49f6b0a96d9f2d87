"""HMAC schemes in both directions: sign and verify over raw bytes.

Two schemes, both HMAC-SHA256 with a timestamp inside what is signed:

- OpenRouter: `X-OpenRouter-Signature: t=<unix s>,v1=<mac>`, the mac of `t,body` in lower-case hex.
- The form of Standard Webhooks: `webhook-id`, `webhook-timestamp` (unix s) and `webhook-signature: v1,<mac>`, the mac
  of `id.timestamp.body` in padded base64.

Sources: OpenRouter's webhook guide (a comma, not a dot); captured deliveries of LLM Gateway. The latter looks like
Standard Webhooks, but its key is the secret as given: `whsec_` is kept and nothing is decoded. So both functions take
key *bytes*, and whoever knows the dialect makes them; `key_of` does it for both providers.

A verifier raises BadSignatureError, and nothing else, for whatever a stranger may send. Its text helps an operator
whose clock or secret is wrong, and never holds the signature that was expected.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from service.errors import BadSignatureError, Distrust

WINDOW_S = 300
"""How far a signed timestamp may be from our clock, in either direction. Both providers sign each retry anew."""

OPENROUTER_SIGNATURE = "x-openrouter-signature"
WEBHOOK_ID = "webhook-id"
WEBHOOK_TIMESTAMP = "webhook-timestamp"
WEBHOOK_SIGNATURE = "webhook-signature"

_MOST_CHARACTERS = 8192
_MOST_PARTS = 32
_MOST_DIGITS = 12


def key_of(secret: str) -> bytes:
    """Return the key that a shared secret stands for: its UTF-8 bytes, nothing stripped, nothing decoded.

    Raises ValueError for an empty secret, with which everybody could sign.
    """
    if not secret:
        raise ValueError("a signing secret is empty; set one, for example the output of `openssl rand -hex 32`")
    return secret.encode()


def sign_openrouter(key: bytes, body: bytes, now_ms: int) -> str:
    """Return the value of `X-OpenRouter-Signature` for a body that is sent now (unix ms).

    Raises ValueError for an empty key.
    """
    timestamp = str(now_ms // 1000)
    return f"t={timestamp},v1={_hex(key, timestamp, body)}"


def verify_openrouter(keys: Sequence[bytes], header: str | None, body: bytes, now_ms: int) -> None:
    """Check the value of `X-OpenRouter-Signature` against every key; unknown parts of it are ignored.

    Raises BadSignatureError.
    """
    parts = _split(OPENROUTER_SIGNATURE, header, ",")
    pairs = [part.lstrip(" ").partition("=")[::2] for part in parts]
    timestamps = [value for name, value in pairs if name == "t"]
    if len(timestamps) != 1:
        raise BadSignatureError(
            f"{OPENROUTER_SIGNATURE} must hold one t=<unix seconds>, it holds {len(timestamps)}", Distrust.MALFORMED
        )
    _check_time(OPENROUTER_SIGNATURE, timestamps[0], now_ms)
    signatures = [value for name, value in pairs if name == "v1"]
    _match(OPENROUTER_SIGNATURE, signatures, [_hex(key, timestamps[0], body) for key in keys])


def sign_standard(key: bytes, message_id: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Return the three `webhook-*` headers for a body that is sent now (unix ms).

    Raises ValueError for an empty key, and for an id that a verifier would refuse.
    """
    if not _is_message_id(message_id):
        raise ValueError("a message id is printable ASCII without spaces and dots, for example evt_01j9x")
    timestamp = str(now_ms // 1000)
    return {
        WEBHOOK_ID: message_id,
        WEBHOOK_TIMESTAMP: timestamp,
        WEBHOOK_SIGNATURE: f"v1,{_base64(key, message_id, timestamp, body)}",
    }


def verify_standard(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_ms: int) -> None:
    """Check the three `webhook-*` headers (names in lower case) against every key; unknown versions are ignored.

    Raises BadSignatureError.
    """
    message_id = _bounded(WEBHOOK_ID, headers.get(WEBHOOK_ID))
    if not _is_message_id(message_id):
        raise BadSignatureError(f"{WEBHOOK_ID} must be printable ASCII without spaces and dots", Distrust.MALFORMED)
    timestamp = _bounded(WEBHOOK_TIMESTAMP, headers.get(WEBHOOK_TIMESTAMP))
    _check_time(WEBHOOK_TIMESTAMP, timestamp, now_ms)
    parts = _split(WEBHOOK_SIGNATURE, headers.get(WEBHOOK_SIGNATURE), " ")
    signatures = [value for version, _, value in (part.partition(",") for part in parts) if version == "v1"]
    _match(WEBHOOK_SIGNATURE, signatures, [_base64(key, message_id, timestamp, body) for key in keys])


def _hex(key: bytes, timestamp: str, body: bytes) -> str:
    return _mac(key, timestamp.encode() + b"," + body).hex()


def _base64(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    return base64.b64encode(_mac(key, f"{message_id}.{timestamp}.".encode() + body)).decode()


def _mac(key: bytes, message: bytes) -> bytes:
    if not key:
        raise ValueError("a signing key is empty; everybody could sign with it")
    return hmac.digest(key, message, hashlib.sha256)


def _is_message_id(text: str) -> bool:
    # A dot would let one signed message be read as another id, timestamp and body.
    return bool(text) and text.isascii() and text.isprintable() and " " not in text and "." not in text


def _bounded(name: str, value: str | None) -> str:
    """Return the header's text if there is any and it is short ASCII: nothing else is ever split or signed."""
    if not value:
        raise BadSignatureError(
            f"{name} is missing: the callback is not signed, or a proxy took the header away", Distrust.MISSING
        )
    if len(value) > _MOST_CHARACTERS:
        raise BadSignatureError(f"{name} is longer than {_MOST_CHARACTERS} characters", Distrust.MALFORMED)
    if not value.isascii():
        raise BadSignatureError(f"{name} holds characters that are not ASCII", Distrust.MALFORMED)
    return value


def _split(name: str, value: str | None, separator: str) -> list[str]:
    parts = _bounded(name, value).split(separator, _MOST_PARTS)
    if len(parts) > _MOST_PARTS:
        raise BadSignatureError(f"{name} has more than {_MOST_PARTS} parts", Distrust.MALFORMED)
    return parts


def _check_time(name: str, timestamp: str, now_ms: int) -> None:
    # The text itself is what was signed, so it is never rendered again; float() and int() read too many spellings.
    if not timestamp.isdigit() or len(timestamp) > _MOST_DIGITS:
        raise BadSignatureError(f"{name} has a timestamp that is not a whole number of seconds", Distrust.MALFORMED)
    off_ms = int(timestamp) * 1000 - now_ms
    if abs(off_ms) > WINDOW_S * 1000:
        side = "ahead of" if off_ms > 0 else "behind"
        raise BadSignatureError(
            f"{name} has a timestamp {abs(off_ms) // 1000} s {side} our clock, more than the {WINDOW_S} s allowed: "
            "an old message, or one of the two clocks is wrong",
            Distrust.CLOCK,
        )


def _match(name: str, given: Sequence[str], expected: Sequence[str]) -> None:
    """Compare whole texts: a signature has exactly one spelling, so there is no decoder that could be lenient."""
    if not given:
        raise BadSignatureError(f"{name} holds no v1 signature", Distrust.MALFORMED)
    found = False
    for text in given:
        for right in expected:
            found |= hmac.compare_digest(text.encode(), right.encode())
    if not found:
        raise BadSignatureError(
            f"{name} matches none of our secrets ({len(expected)}): they differ, or the body was changed on the way",
            Distrust.UNMATCHED,
        )
