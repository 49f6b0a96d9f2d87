"""OpenRouter's dialect, under `/api/v1`.

Sources: OpenRouter's API reference (submit, poll, content, models), its webhook guide and cookbook (envelope,
signature), its errors page. What it does not document (the retry schedule, some error texts) is the sandbox's own.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from service import signing
from service.clock import Clock
from service.sandbox.behaviours import BEHAVIOURS, Behaviour, Failure
from service.sandbox.dialect import FORGED_KEY, Message, Order, bearer, compact, random_name, read_object
from service.sandbox.jobs import ProviderJob
from service.sandbox.links import Links

_CREATED: Final = 1_767_225_600  # the models' birthday, unix seconds
_COST: Final = 0.25  # USD
_LINKS_LIVE_S: Final = 3_600

_OFFERED: Final[Mapping[str, tuple[object, ...]]] = {
    "resolution": ("360p", "480p", "720p", "768p", "1080p", "1K", "2K", "4K"),
    "aspect_ratio": ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21"),
    "size": ("854x480", "480x854", "1280x720", "720x1280", "1920x1080", "1080x1920", "3840x2160", "2160x3840"),
    "duration": tuple(range(1, 61)),
}
_TYPES: Final[Mapping[str, type]] = {"prompt": str, "seed": int, "generate_audio": bool, "callback_url": str}
_WORDS: Final = {"queued": "pending"}
_FAILURES: Final = {
    Failure.INTERNAL: "The provider could not generate the video: internal error",
    Failure.MODERATION: "The generated video was blocked by the provider's content policy",
}
_ENDINGS: Final = {"cancelled": "Job was cancelled", "expired": "Job exceeded maximum time to live"}
_ERRORS: Final = {
    400: "Invalid request: the provider rejected these parameters",
    402: "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
    404: "Video job not found",
    409: "The video is not ready yet",
    410: "The video is no longer available",
    413: "Request body too large",
    429: "Rate limit exceeded",
    500: "Internal Server Error",
    503: "No available model provider meets your routing requirements",
}


class OpenRouter:
    """Speaks as OpenRouter does. An empty `webhook_secret` leaves callbacks unsigned, as an unset one does there."""

    name = "openrouter"

    def __init__(
        self, *, clock: Clock, chance: random.Random, links: Links, api_key: str | None, webhook_secret: str
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._links = links
        self._api_key = api_key
        self._webhook_secret = webhook_secret

    def stranger(self, headers: Headers) -> Response | None:
        """Return the refusal of a caller without a right key."""
        key = bearer(headers)
        if key is None:
            return self.error(401, "Missing Authentication header")
        if self._api_key is not None and key != self._api_key:
            return self.error(401, "User not found.")
        return None

    def order(self, headers: Headers, raw: bytes) -> Order | Response:
        """Read a create request; the key comes first."""
        if refusal := self.stranger(headers):
            return refusal
        request = read_object(raw)
        if request is None:
            return self.error(400, "The request body is not a JSON object")
        if problem := _problem(request):
            return self.error(400, problem)
        model = request["model"]
        if model not in BEHAVIOURS:
            return self.error(400, f"{model:.200} is not a valid model ID")
        return Order(BEHAVIOURS[model], model, request.get("prompt") or "", request, request.get("callback_url"))

    def new_ids(self) -> tuple[str, str]:
        """Return `gen-vid-<unix seconds>-<20 letters and digits>` and a generation id."""
        now = self._clock.now() // 1000
        return f"gen-vid-{now}-{random_name(self._chance)}", f"gen-{now}-{random_name(self._chance)}"

    def accepted(self, job: ProviderJob) -> Response:
        """Answer 202 with exactly `id`, `polling_url` and `status` (a real run in OpenRouter's cookbook)."""
        return self._json(202, {"id": job.id, "polling_url": self._polling_url(job), "status": "pending"})

    def shown(self, job: ProviderJob, status: str) -> Response:
        """Answer a poll; what is not known yet is left out, never null."""
        shown: dict[str, Any] = {"id": job.id}
        if status not in {"queued", "in_progress"}:
            shown["generation_id"] = job.other_id
        shown |= {"polling_url": self._polling_url(job), "status": _WORDS.get(status, status)}
        if status == "completed":
            shown["unsigned_urls"] = self._content_urls(job)
            if job.behaviour.links:
                expires_at = job.ended_at // 1000 + _LINKS_LIVE_S
                shown["urls"] = [self._links.output(job.id, i, expires_at) for i in range(job.behaviour.outputs)]
                shown["expires_at"] = expires_at
            shown["usage"] = {"cost": _COST, "is_byok": False}
        if error := _error_text(job, status):
            shown["error"] = error
        return self._json(200, shown)

    def not_ready(self, status: str) -> Response:
        """Answer 409, whatever the status."""
        return self.error(409, f"{_ERRORS[409]}. Current status: {_WORDS.get(status, status)}")

    def error(self, status: int, message: str | None = None, retry_after: int | None = None) -> Response:
        """Answer `{"error":{"code":<int>,"message":<str>}}`; a 429 also names its type in `metadata`."""
        error: dict[str, Any] = {"code": status, "message": message or _ERRORS[status]}
        if status == 429:  # noqa: PLR2004 - an HTTP status
            error["metadata"] = {"error_type": "rate_limit_exceeded"}
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        return self._json(status, {"error": error}, headers)

    def callback(self, job: ProviderJob, status: str, signed_at: int, *, forged: bool) -> Message:
        """Write the envelope; its idempotency key is the same in every attempt."""
        data: dict[str, Any] = {
            "id": job.id,
            "status": status,
            "generation_id": job.other_id,
            "model": job.model,
        }
        if status == "completed":
            data |= {"unsigned_urls": self._content_urls(job), "usage": {"cost": _COST, "is_byok": False}}
        else:
            data["error"] = _error_text(job, status)
        happened = datetime.fromtimestamp(min(job.ended_at, signed_at) / 1000, UTC)
        event = {
            "type": f"video.generation.{status}",
            "created_at": happened.strftime("%Y-%m-%dT%H:%M:%S.") + f"{happened.microsecond // 1000:03d}Z",
            "data": data,
        }
        body = compact(event)
        headers = {"Content-Type": "application/json", "X-OpenRouter-Idempotency-Key": f"{job.id}-{status}"}
        key = FORGED_KEY if forged else self._webhook_secret.encode()
        if key:
            headers["X-OpenRouter-Signature"] = signing.sign_openrouter(key, body, signed_at)
        return Message(headers, body)

    def models(self) -> Response:
        """List every behaviour with all keys that OpenRouter's SDKs require."""
        return self._json(200, {"data": [_model(behaviour) for behaviour in BEHAVIOURS.values()]})

    def content_headers(self) -> dict[str, str]:
        """Return nothing: no further header is documented."""
        return {}

    def _polling_url(self, job: ProviderJob) -> str:
        return f"{self._links.base_url}/api/v1/videos/{job.id}"

    def _content_urls(self, job: ProviderJob) -> list[str]:
        return [f"{self._polling_url(job)}/content?index={index}" for index in range(job.behaviour.outputs)]

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
        return Response(compact(value), status, headers, "application/json")


def _error_text(job: ProviderJob, status: str) -> str | None:
    return _FAILURES[job.behaviour.failure] if status == "failed" else _ENDINGS.get(status)


def _problem(request: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a create request: the first thing only."""
    if not isinstance(request.get("model"), str):
        return "model is required and must be a string"
    for name, wanted in _TYPES.items():
        value = request.get(name)
        # bool is an int in Python, not in JSON.
        if value is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
            return f"{name} must be of type {wanted.__name__}"
    for name, offered in _OFFERED.items():
        value = request.get(name)
        if value is not None and (isinstance(value, bool) or value not in offered):
            return f"{name} {value!r:.80} is not supported by this model; supported: {', '.join(map(str, offered))}"
    if not _is_callback_url(request.get("callback_url")):
        return "callback_url must be an https URL"
    return None


def _is_callback_url(url: str | None) -> bool:
    """Whether OpenRouter would take it; unlike OpenRouter, plain http is taken for this machine and its neighbours."""
    if url is None:
        return True
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_near(host)))


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _model(behaviour: Behaviour) -> dict[str, Any]:
    return {
        "id": behaviour.model,
        "canonical_slug": behaviour.model,
        "hugging_face_id": None,
        "name": f"Sandbox: {behaviour.name}",
        "created": _CREATED,
        "description": behaviour.sentence,
        "supported_resolutions": _OFFERED["resolution"],
        "supported_aspect_ratios": _OFFERED["aspect_ratio"],
        "supported_sizes": _OFFERED["size"],
        "supported_durations": _OFFERED["duration"],
        "supported_frame_images": ("first_frame", "last_frame"),
        "generate_audio": True,
        "seed": True,
        "upscale_factor": None,
        "creativity": None,
        "pricing_skus": {"per_generation": str(_COST)},
        "allowed_passthrough_parameters": (),
    }
