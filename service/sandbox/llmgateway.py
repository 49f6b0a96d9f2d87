"""LLM Gateway's dialect, under `/v1`: key order, texts and headers as observed on its own gateway and worker."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from service import signing
from service.clock import Clock
from service.sandbox import catalogue
from service.sandbox.behaviours import BEHAVIOURS, PREFIX, Failure
from service.sandbox.dialect import FORGED_KEY, Message, Order, bearer, compact, random_name, read_object
from service.sandbox.jobs import ProviderJob
from service.sandbox.links import Links
from service.sandbox.zod import issues

_DEFAULT_MODEL: Final = "veo-3.1-generate-preview"
_OK: Final = PREFIX + "ok"
_SECONDS: Final = range(1, catalogue.LONGEST_S + 1)
_LIMIT: Final = 120  # requests a minute, as its 429 says

_WORDS: Final = {"cancelled": "canceled"}
_PROGRESS: Final = {"queued": 0, "completed": 100, "failed": 100, "cancelled": 0, "expired": 0}
_ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired"})
_FAILURES: Final = {
    Failure.INTERNAL: ("InternalServiceError", "The service encountered an unexpected internal error."),
    Failure.MODERATION: ("OutputVideoSensitiveContentDetected", "content policy"),
}
_UNSUPPORTED_MODEL: Final = (
    "Unsupported video model. Use a video-capable model from /v1/models, optionally prefixed with a configured "
    "provider like openai/, avalanche/, or google-vertex/."
)
_NO_KEY: Final = (
    "Unauthorized: No API key provided. Expected 'Authorization: Bearer your-api-token' header or "
    "'x-api-key: your-api-token' header"
)
_WRONG_KEY: Final = (
    "Unauthorized: Invalid LLMGateway API token. The token could not be found. Go to the LLMGateway 'API Keys' page "
    "to generate a new token."
)
_BAD_REQUEST: Final = "invalid_request_error"
_ERRORS: Final[Mapping[int, tuple[str, str, str | None]]] = {  # status -> message, type, code
    400: ("rejected by upstream", _BAD_REQUEST, None),
    401: (_NO_KEY, _BAD_REQUEST, "invalid_api_key"),
    402: ("Insufficient credits for video generation: minimum $1.00 required", "billing_error", None),
    404: ("Video not found", _BAD_REQUEST, "not_found"),
    409: ("Video is not ready yet", _BAD_REQUEST, None),
    # There is no 410 for an output here: a video that is not there any more is not available.
    410: ("Video content is not available", _BAD_REQUEST, "not_found"),
    413: ("Request body too large", _BAD_REQUEST, None),
    415: ("Unsupported Media Type: Content-Type must be application/json", _BAD_REQUEST, "unsupported_media_type"),
    429: ("Rate limit exceeded for /v1/videos.", "rate_limit_error", "rate_limit_exceeded"),
    500: ("Internal server error", "api_error", None),
    503: ("rejected by upstream", "api_error", None),
}


class LLMGateway:
    """Speaks as LLM Gateway does."""

    name = "llmgateway"

    def __init__(self, *, clock: Clock, chance: random.Random, links: Links, api_key: str | None) -> None:
        self._clock = clock
        self._chance = chance
        self._links = links
        self._api_key = api_key

    def stranger(self, headers: Headers) -> Response | None:
        """Return the refusal of a caller without a right key, which may also come as `x-api-key`."""
        key = bearer(headers) or headers.get("x-api-key")
        if not key:
            return self.error(401)
        if self._api_key is not None and key != self._api_key:
            return self.error(401, _WRONG_KEY)
        return None

    def order(self, headers: Headers, raw: bytes) -> Order | Response:
        """Read a create request: its form is checked before the key, as its framework does."""
        if refusal := self._malformed(headers, raw):
            return refusal
        request = read_object(raw) or {}
        if refusal := self.stranger(headers):
            return refusal
        asked = request.get("model", _DEFAULT_MODEL)
        real = catalogue.provider_of(asked)  # by its real name a model behaves
        behaviour = BEHAVIOURS.get(_OK if real else asked if asked.startswith(PREFIX) else PREFIX + asked)
        if behaviour is None:
            return self.error(400, _UNSUPPORTED_MODEL)
        model = real or behaviour.model
        if request["seconds"] not in _SECONDS:
            offered = ", ".join(f"{seconds}s" for seconds in _SECONDS)
            return self.error(
                400,
                f"Requested parameters are not supported for {model}. sandbox: duration "
                f"{request['seconds']}s is unsupported (supported durations: {offered}).",
            )
        return Order(
            behaviour,
            model,
            request["prompt"],
            request,
            request.get("callback_url"),
            request.get("callback_secret"),
        )

    def new_ids(self) -> tuple[str, str]:
        """Return 20 letters and digits for the job, and as many for its log."""
        return random_name(self._chance), random_name(self._chance)

    def accepted(self, job: ProviderJob) -> Response:
        """Answer 200 (not 202) with the queued job."""
        return self._json(200, self._object(job, "queued", job.ended_at))

    def shown(self, job: ProviderJob, status: str) -> Response:
        """Answer a poll."""
        return self._json(200, self._object(job, status, job.ended_at))

    def not_ready(self, status: str) -> Response:
        """Answer 409 with the status in it: for every status but completed, failed ones too."""
        return self.error(409, f"Video is not ready yet. Current status: {_WORDS.get(status, status)}")

    def error(self, status: int, message: str | None = None, retry_after: int | None = None) -> Response:
        """Answer `{"error":{"message","type","param":null,"code"}}`; a 429 says in its text when to come back."""
        text, kind, code = _ERRORS[status]
        headers: dict[str, str] = {}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        if status == 429:  # noqa: PLR2004 - an HTTP status
            wait = retry_after or 1
            text = f"{text} Please retry after {wait} seconds."
            headers["x-ratelimit-limit"] = str(_LIMIT)
            headers["x-ratelimit-remaining"] = "0"
            headers["x-ratelimit-reset"] = str(self._clock.now() // 1000 + wait)
        error = {"message": message or text, "type": kind, "param": None, "code": code}
        return self._json(404 if status == 410 else status, {"error": error}, headers)  # noqa: PLR2004 - see _ERRORS

    def callback(self, job: ProviderJob, status: str, signed_at: int, *, forged: bool) -> Message:
        """Write the event: its id never changes, its body is made anew for every attempt.

        Everything but completed arrives as `video.failed`, with the word in `data.status` (observed).
        """
        event_id = f"evt_{job.id}"
        event = {
            "object": "event",
            "id": event_id,
            "type": "video.completed" if status == "completed" else "video.failed",
            "created_at": signed_at // 1000,
            "data": self._object(job, status, min(job.ended_at, signed_at)),
        }
        body = compact(event)
        key = FORGED_KEY if forged else (job.callback_secret or "").encode()
        headers = {
            "Content-Type": "application/json",
            **signing.sign_standard(key, event_id, body, signed_at),
            "accept": "*/*",
            "accept-language": "*",
            "sec-fetch-mode": "cors",
            "user-agent": "node",
            "accept-encoding": "gzip, deflate",
        }
        return Message(headers, body)

    def models(self) -> Response:
        """List its public catalogue, to which every behaviour is added."""
        return self._json(200, {"data": catalogue.models()})

    def content_headers(self) -> dict[str, str]:
        """Return the trace id that every answer carries."""
        return {"x-trace-id": f"{self._chance.getrandbits(128):032x}"}

    def _malformed(self, headers: Headers, raw: bytes) -> Response | None:
        if "application/json" not in headers.get("content-type", ""):
            return self.error(415)
        request = read_object(raw)
        if request is None:
            return self.error(400, "Malformed JSON in request body")
        if found := issues(request):
            return self._json(400, {"success": False, "error": {"issues": found, "name": "ZodError"}})
        return None

    def _object(self, job: ProviderJob, status: str, ended_at: int) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": job.id,
            "object": "video",
            "model": job.model,
            "status": _WORDS.get(status, status),
            "progress": _PROGRESS.get(status, 50),
            "created_at": job.created_at // 1000,
            "completed_at": ended_at // 1000 if status in _ENDED else None,
            "expires_at": None,
            "error": _error(job) if status == "failed" else None,
        }
        if status == "completed":
            shown["content"] = [{"type": "video", "url": self._links.log(job.other_id), "mime_type": "video/mp4"}]
        return shown

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
        return Response(compact(value), status, {**self.content_headers(), **(headers or {})}, "application/json")


def _error(job: ProviderJob) -> dict[str, Any]:
    """Return the error with the upstream's own nested in it twice, as observed."""
    code, message = _FAILURES[job.behaviour.failure]
    innermost = {"code": code, "message": message}
    return {"code": code, "details": {"code": code, "details": innermost, "message": message}, "message": message}
