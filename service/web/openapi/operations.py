"""What is said of a call, and what many calls have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.model import Face
from service.web.openapi.parameters import Parameter
from service.web.openapi.responses import PICTURE, VIDEO, Response, bare, file

NATIVE = "Native"
OPENROUTER = "OpenRouter's dialect"
OPENAI = "OpenAI-style dialect"
CALLBACKS = "Callbacks"
OPERATORS = "Operators"

TAGS: Mapping[str, str] = {
    NATIVE: "`/v1/jobs`: everything that can be done with a job.",
    OPENROUTER: "`/api/v1/videos`, for the `openrouter` SDKs as they are.",
    OPENAI: "`/v1/videos` with LLM Gateway's extensions, for the `openai` SDKs and LLM Gateway's clients as they are.",
    CALLBACKS: "Where providers report, and what of it was rejected.",
    OPERATORS: "How the service is.",
}
FACES: Mapping[str, Face] = {OPENROUTER: Face.OPENROUTER, OPENAI: Face.OPENAI}
"""The face in whose form the refusals of a tag's calls are; native, where none is named."""


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `takes` names parameters, in the order of `parameters.PARAMETERS`, or is one; `refuses` are the statuses of its
    errors, with what they mean here if that differs; `keyless` calls need no API key.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: Mapping[int, Response]
    refuses: Sequence[int]
    takes: Sequence[str | Parameter] = ()
    sent: Mapping[str, Any] | None = None
    meaning: Mapping[int, str] = field(default_factory=dict)
    keyless: bool = False


SEEN = (401, 500, 503)
FOUND = (401, 404, 500, 503)
SENT = (400, 408, 413, 415)
MADE = (400, 401, 402, 408, 409, 410, 413, 415, 429, 500, 503)
_CONTENT = (400, 401, 404, 409, 410, 412, 416, 500, 503)
CALL = ("Idempotency-Key", "x-stainless-retry-count")
MATCH = ("If-None-Match",)
_CONDITIONS = ("If-Match", "If-None-Match")
_FILE_CONDITIONS = ("Range", "If-Range", *_CONDITIONS)

REUSED = "The `Idempotency-Key` was used before, with another body (`idempotency_key_reused`)."
_DELETED = "The job that this `Idempotency-Key` made was deleted since (`job_deleted`)."
_LIMITED = "The limit of the API key is used up (`rate_limited`)."
MAKING = {409: REUSED, 410: _DELETED, 429: _LIMITED}
_NOT_KEPT = {
    409: "The job has not ended yet (`not_ready`).",
    410: "The job kept no video, or storage lost it (`gone`).",
}


def content(path: str, name: str, tag: str, takes: Sequence[str], *, also: Sequence[int] = ()) -> list[Operation]:
    """Return how the kept bytes are sent, and what is said about them."""
    media = [VIDEO, PICTURE] if also else [VIDEO]
    whole, part = "The kept bytes.", "The part that `Range` asks for."
    known = "You have it, by its `ETag`."
    return [
        Operation(
            "GET",
            path,
            name,
            tag,
            "The kept bytes, from the bucket itself where it can sign links",
            {
                200: file(whole, media, status=200, head=False),
                206: file(part, media, status=206, head=False),
                302: bare("They are in the bucket, where they can be read without a key.", 302),
                304: bare(known, 304),
            },
            (*_CONTENT, *also),
            ("job_id", *takes, *_FILE_CONDITIONS),
            meaning=_NOT_KEPT,
        ),
        Operation(
            "HEAD",
            path,
            f"{name}Head",
            tag,
            "What would be said about the kept bytes",
            {200: file(whole, media, status=200, head=True), 304: bare(known, 304)},
            tuple(status for status in (*_CONTENT, *also) if status != 416),  # noqa: PLR2004 - Range is for GET alone
            ("job_id", *takes, *_CONDITIONS),
            meaning=_NOT_KEPT,
        ),
    ]
