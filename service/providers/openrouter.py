"""OpenRouter: `POST /videos`, `GET /videos/{id}`, `…/content`, `GET /videos/models`, and its signed webhooks.

Sources: OpenRouter's API reference and Python SDK (fields, statuses), its webhook guide (envelope, signature).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from service import signing
from service.clock import Clock, SystemClock
from service.errors import BadCallbackError
from service.model import ErrorCode, Job, Model, Output, Problem, Report, Status, VideoRequest
from service.outbound import Answer, retry_after_ms
from service.providers import (
    Accepted,
    Callback,
    Hint,
    InDoubt,
    Location,
    Manners,
    Refused,
    Submission,
    Unanswered,
    Unrelated,
    listing,
    verdicts,
    wire,
)

_STATUSES = {
    "pending": Status.RUNNING,
    "in_progress": Status.RUNNING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "dead": Status.FAILED,  # OpenRouter's own AI SDK provider treats it so
    "cancelled": Status.CANCELLED,
    "canceled": Status.CANCELLED,
    "expired": Status.EXPIRED,
}
_EVENTS = "video.generation."
_MOST_OUTPUTS = 32
_LONGEST_URL = 8192

_OWNED = {
    "model": "model",
    "prompt": "prompt",
    "duration": "duration",
    "aspect_ratio": "aspect_ratio",
    "resolution": "resolution",
    "size": "size",
    "seed": "seed",
    "generate_audio": "generate_audio",
    "frame_images": "first_frame and last_frame",
    "input_references": "references",
    "callback_url": None,
}
"""Fields of their request that we write, and the field of ours that each comes from."""

_SENTENCES = {
    ErrorCode.INVALID_REQUEST: "OpenRouter refused the request; change what its message names and send a new job.",
    ErrorCode.UNSUPPORTED_MODEL: "OpenRouter does not offer this model; choose one that its GET /videos/models lists.",
    ErrorCode.CONTENT_POLICY: "OpenRouter refused the content; change the prompt or the input.",
    ErrorCode.PROVIDER_AUTH: "OpenRouter refused the service's key; the operator must check OPENROUTER_API_KEY.",
    ErrorCode.PROVIDER_CREDITS: "The service's OpenRouter account has too few credits; the operator must add some.",
}


class OpenRouter:
    """OpenRouter's video API at `base_url`, for example `https://openrouter.ai/api/v1`.

    `webhook_secrets` are the workspace's signing secrets, several during a rotation. With none of them a callback
    cannot be believed, and is only a reason to poll. Raises ValueError for an empty secret or an impossible key.
    """

    name = "openrouter"
    signing_advice = (
        "OpenRouter signs with the webhook secret of the workspace that OPENROUTER_API_KEY belongs to, and not at all "
        "while that has none: OPENROUTER_WEBHOOK_SECRET must be that secret to the letter (a whsec_ in front is a part "
        "of it), or a comma-separated list with it while it is being changed"
    )
    submit_seconds = 120.0
    poll_seconds = 30.0

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        base_url: str,
        api_key: str,
        webhook_secrets: Sequence[str],
        manners: Manners | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.manners = manners or Manners(first_poll_ms=60_000, poll_every_ms=30_000, retention_ms=86_400_000)
        self._client = client
        self._videos = f"{base_url.rstrip('/')}/videos"
        self._api_key = api_key
        self._headers = wire.request_headers(api_key)
        self._keys = [signing.key_of(secret) for secret in webhook_secrets]
        self._clock = clock or SystemClock()

    def problems(self, request: VideoRequest) -> Sequence[Problem]:
        """Name what OpenRouter's request cannot say; what a model supports is OpenRouter's to judge, and free."""
        return wire.option_problems(request.provider_options, _OWNED) + wire.reference_problems(request.references)

    async def submit(self, job: Job, callback_url: str) -> Submission:
        """Make the paid call, once. OpenRouter has no idempotency key and no list, so nothing can be looked up later.

        A request with `problems` is refused here, unsent.
        """
        if problems := self.problems(job.request):
            return Refused(verdicts.unsendable(problems))
        request = self._client.build_request(
            "POST",
            self._videos,
            headers={**self._headers, "Content-Type": "application/json"},
            content=wire.encode(_body(job.request, callback_url)),
        )
        hide = (callback_url, callback_url.rpartition("/")[2], self._api_key)
        answer = await wire.submit(self._client, request, seconds=self.submit_seconds)
        return self._judge(answer, hide) if isinstance(answer, Answer) else answer

    async def poll(self, provider_job_id: str) -> Report | Unanswered:
        """Ask for the job; anything but a 200 with a status word is no answer."""
        request = self._client.build_request("GET", self._job_url(provider_job_id), headers=self._headers)
        found = await wire.poll(self._client, request, seconds=self.poll_seconds, now_ms=self._clock.now())
        if isinstance(found, Unanswered):
            return found
        return _report(found, (self._api_key,)) or Unanswered("HTTP 200 without a status")

    def receive(self, callback: Callback) -> Report | Hint | Unrelated:
        """Verify and read `video.generation.*`; other genuine types (`batch.*` of a shared default URL) are left alone.

        Raises BadSignatureError or BadCallbackError.
        """
        if not self._keys:
            return Hint()
        header = callback.headers.get(signing.OPENROUTER_SIGNATURE)
        signing.verify_openrouter(self._keys, header, callback.body, callback.received_at)
        event_type, event = wire.event(callback.body)
        if not event_type.startswith(_EVENTS):
            return Unrelated(event_type)
        report = _report(wire.mapping(event.get("data")), (self._api_key,))
        if report is None or report.provider_job_id is None:
            raise BadCallbackError("data must hold the job's id and status")
        if _meaning(event_type.removeprefix(_EVENTS)) is not report.status:
            raise BadCallbackError("the event's type and data.status contradict each other")
        return report

    def locations(self, job: Job, output: Output) -> Sequence[Location]:
        """Return the content proxy, which needs our key, then the signed URL of OpenRouter's own copy, if it lives."""
        found = []
        if job.provider_job_id is not None:
            url = f"{self._job_url(job.provider_job_id)}/content?index={output.index}"
            found.append(Location(url, wire.bearer(self._api_key)))
        expired = output.expires_at is not None and output.expires_at <= self._clock.now()
        if output.url is not None and not expired:
            found.append(Location(output.url))
        return found

    async def models(self) -> Sequence[Model] | Unanswered:
        """List the video models; OpenRouter itself would need no key for this, others with its dialect may."""
        url, now_ms = f"{self._videos}/models", self._clock.now()
        return await listing.models(self._client, url, self._api_key, _model, seconds=self.poll_seconds, now_ms=now_ms)

    def _job_url(self, provider_job_id: str) -> str:
        return f"{self._videos}/{quote(provider_job_id, safe='')}"

    def _judge(self, answer: Answer, hide: Sequence[str]) -> Submission:
        if httpx.codes.is_success(answer.status):
            # 202 is documented; any other success that names the job has been accepted just as well.
            data = wire.mapping(wire.decode(answer.body))
            provider_job_id = wire.job_id(data.get("id"))
            if provider_job_id is None:
                return InDoubt(f"HTTP {answer.status} without a job id")
            return Accepted(provider_job_id, _report(data, hide) or Report(Status.RUNNING, "", provider_job_id))
        complaint = _complaint(answer, hide)
        if complaint is not None and answer.status in verdicts.REFUSALS:
            return Refused(verdicts.refusal(answer.status, complaint, _SENTENCES))
        wait_ms = retry_after_ms(answer.headers, self._clock.now())
        return wire.not_refused(answer, known=complaint is not None, busy=frozenset({503}), wait_ms=wait_ms)


def _body(request: VideoRequest, callback_url: str) -> dict[str, Any]:
    frames = (("first_frame", request.first_frame), ("last_frame", request.last_frame))
    own = {
        "model": request.model,
        "prompt": request.prompt,
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
        "size": request.size,
        "seed": request.seed,
        "generate_audio": request.generate_audio,
        "frame_images": [
            {"type": "image_url", "image_url": {"url": url}, "frame_type": frame} for frame, url in frames if url
        ],
        "input_references": [
            {"type": f"{reference.type}_url", f"{reference.type}_url": {"url": reference.url}}
            for reference in request.references
        ],
        "callback_url": callback_url,
    }
    return {key: value for key, value in own.items() if value not in (None, [])} | dict(request.provider_options)


def _meaning(word: str) -> Status:
    return _STATUSES.get(word, Status.RUNNING)


def _report(data: Mapping[str, Any], hide: Sequence[str]) -> Report | None:
    """Read the job object that polls, submissions and callbacks share; None without a status word."""
    word = wire.status_word(data.get("status"), _STATUSES, hide)
    if word is None:
        return None
    status = _meaning(word)
    cost = wire.cost(data.get("usage"))
    return Report(
        status=status,
        word=word,
        understood=word in _STATUSES,
        provider_job_id=wire.job_id(data.get("id")),
        outputs=_outputs(data, hide) if status is Status.COMPLETED else (),
        cost=cost,
        error=verdicts.ended("OpenRouter", status, None, _error_text(data.get("error"), hide), cost),
    )


def _outputs(data: Mapping[str, Any], hide: Sequence[str]) -> tuple[Output, ...]:
    """Count the outputs. `unsigned_urls` need our key, so only their number counts; `urls` are signed and need none."""
    unsigned, signed = wire.items(data.get("unsigned_urls")), wire.items(data.get("urls"))
    count = min(max(len(unsigned), len(signed), 1), _MOST_OUTPUTS)
    expires_at = wire.time_ms(data.get("expires_at"))
    urls = [_url(value, hide) for value in signed[:count]] + [None] * count
    return tuple(Output(index, urls[index], expires_at) for index in range(count))


def _url(value: object, hide: Sequence[str]) -> str | None:
    usable = isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= _LONGEST_URL
    # One that holds our key is not kept, and not changed: the video is at the content proxy, too.
    return wire.words(value, _LONGEST_URL) if usable and wire.hidden(str(value), hide) == value else None


def _error_text(error: object, hide: Sequence[str]) -> str | None:
    # The reference says a string; an object is what other gateways with this dialect send.
    return wire.words(wire.mapping(error).get("message", error), hide=hide)


def _complaint(answer: Answer, hide: Sequence[str]) -> verdicts.Complaint | None:
    """Read `{"error": {"code": <int>, "message": <str>, "metadata"?: {"error_type"?}}}`, their only error shape."""
    error = wire.mapping(wire.mapping(wire.decode(answer.body)).get("error"))
    code, message = error.get("code"), wire.words(error.get("message"), hide=hide)
    if isinstance(code, bool) or not isinstance(code, int) or message is None:
        return None
    error_type = wire.words(wire.mapping(error.get("metadata")).get("error_type"), 200, hide=hide)
    return verdicts.Complaint(error_type or str(code), message)


def _model(entry: Mapping[str, Any]) -> Model | None:
    """Read a VideoModel of the reference, where null means that nothing is said."""
    model_id = listing.model_id(entry)
    if model_id is None:
        return None
    return Model(
        id=model_id,
        provider=OpenRouter.name,
        name=wire.words(entry.get("name"), 200) or model_id,
        description=wire.words(entry.get("description")),
        created=listing.created(entry.get("created")),
        sizes=listing.texts(entry.get("supported_sizes")),
        resolutions=listing.texts(entry.get("supported_resolutions")),
        aspect_ratios=listing.texts(entry.get("supported_aspect_ratios")),
        durations=listing.durations(entry.get("supported_durations")),
        generate_audio=listing.flag(entry.get("generate_audio")),
        entry=entry,
    )
