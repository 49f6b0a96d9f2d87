"""What the two dialects have in common: the questions that the endpoints ask of each."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.responses import Response

from service.sandbox.behaviours import Behaviour
from service.sandbox.jobs import ProviderJob

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase

FORGED_KEY = b"a key that nobody agreed on"


@dataclass(frozen=True, slots=True)
class Order:
    """A create request that is right in every part."""

    behaviour: Behaviour
    model: str
    prompt: str
    request: Mapping[str, Any]
    callback_url: str | None = field(default=None, repr=False)
    callback_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A callback, ready to be sent."""

    headers: Mapping[str, str]
    body: bytes


class Dialect(Protocol):
    """One provider's wire format."""

    name: str

    def stranger(self, headers: Headers) -> Response | None:
        """Return the refusal of a caller without a right key, None for one with it."""
        ...

    def order(self, headers: Headers, raw: bytes) -> Order | Response:
        """Read a create request: what was asked for, or the refusal."""
        ...

    def new_ids(self) -> tuple[str, str]:
        """Return an id for a job and the second one that the provider gives it."""
        ...

    def accepted(self, job: ProviderJob) -> Response:
        """Answer a create request that was accepted."""
        ...

    def shown(self, job: ProviderJob, status: str) -> Response:
        """Answer a poll."""
        ...

    def not_ready(self, status: str) -> Response:
        """Answer a download that comes too early, or for a job that brought nothing."""
        ...

    def error(self, status: int, message: str | None = None, retry_after: int | None = None) -> Response:
        """Answer with the provider's error shape; without a message in its own words for that status."""
        ...

    def callback(self, job: ProviderJob, status: str, signed_at: int, *, forged: bool) -> Message:
        """Write the callback that claims `status`, signed at `signed_at` (unix ms)."""
        ...

    def models(self) -> Response:
        """List every behaviour as a model."""
        ...

    def content_headers(self) -> dict[str, str]:
        """Return what this provider adds to the headers of a video."""
        ...


def compact(value: object) -> bytes:
    """Return JSON as both providers write it: no spaces, nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def random_name(chance: random.Random, length: int = 20) -> str:
    """Return letters and digits, as both providers name things."""
    return "".join(chance.choices(_ALPHABET, k=length))


def read_object(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `raw`, None if it holds anything else."""
    try:
        value = json.loads(raw)
        if b"\\ud" in raw.lower():
            compact(value)  # half of a surrogate pair is no text, although JSON can spell it
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def bearer(headers: Headers) -> str | None:
    """Return the bearer token that a request carries."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
