"""LLM Gateway: the OpenAI-style `/videos` with signed callbacks whose secret is made anew for each job.

Sources: LLM Gateway's source code and captured answers and deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from service import signing
from service.clock import Clock, SystemClock
from service.errors import BadCallbackError
from service.model import Billable, ErrorCode, Job, JobError, Model, Output, Problem, Report, Status, VideoRequest
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
from service.vault import Vault

_STATUSES = {
    "queued": Status.RUNNING,
    "in_progress": Status.RUNNING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "canceled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "expired": Status.EXPIRED,
}
_RESET = "x-ratelimit-reset"  # an absolute unix second
_DEEPEST_ERROR = 4  # an upstream's error was observed nested twice

_SIZES = {
    ("16:9", "720p"): "1280x720",
    ("9:16", "720p"): "720x1280",
    ("16:9", "480p"): "854x480",
    ("9:16", "480p"): "480x854",
    ("16:9", "768p"): "1366x768",
    ("9:16", "768p"): "768x1366",
    ("16:9", "1080p"): "1920x1080",
    ("9:16", "1080p"): "1080x1920",
    ("16:9", "4k"): "3840x2160",
    ("9:16", "4k"): "2160x3840",
}
"""The sizes of the gateway that are an aspect ratio and a resolution; its own default comes first."""

_OWNED = {
    "model": "model",
    "prompt": "prompt",
    "seconds": "duration",
    "size": "size",
    "audio": "generate_audio",
    "image": "first_frame",
    "last_frame": "last_frame",
    "reference_images": "references",
    "input_reference": "references",
    "reference_videos": "references",
    "reference_audios": "references",
    "callback_url": None,
    "callback_secret": None,
}
"""Fields of their request that we write, and the field of ours that each comes from."""

# The gateway passes on a 401 or 404 of the provider behind it under codes of its own: never blame our key alone.
_SENTENCES = {
    ErrorCode.INVALID_REQUEST: "LLM Gateway refused the request; change what its message names and send a new job.",
    ErrorCode.UNSUPPORTED_MODEL: "LLM Gateway does not offer this model; choose one that its GET /models lists.",
    ErrorCode.CONTENT_POLICY: "LLM Gateway or its provider refused the content; change the prompt or the input.",
    ErrorCode.PROVIDER_AUTH: (
        "LLM Gateway or the provider behind it refused a key or a permission; the operator must check "
        "LLMGATEWAY_API_KEY, then the gateway's own provider keys and rules."
    ),
    ErrorCode.PROVIDER_CREDITS: "The LLM Gateway account has too few credits; the operator must add some.",
}
_NO_SUCH_ADDRESS = JobError(
    code=ErrorCode.PROVIDER_UNAVAILABLE,
    message=(
        "There is no video API at LLMGATEWAY_BASE_URL; the operator must correct it, "
        "for example to https://api.llmgateway.io/v1."
    ),
    retryable=True,
    billable=Billable.NO,
    provider_code="404",
    provider_message="404 Not Found",
)
_GAVE_UP = {
    "timeout": (
        ErrorCode.TIMED_OUT,
        "LLM Gateway stopped waiting for the provider behind it, which may still make and bill the video.",
    ),
    "poll_error": (
        ErrorCode.PROVIDER_UNAVAILABLE,
        "LLM Gateway gave up asking the provider behind it, which may still make and bill the video.",
    ),
}


class LLMGateway:
    """LLM Gateway's video API at `base_url`, for example `https://api.llmgateway.io/v1`.

    `vault` derives each job's callback secret, so that none is stored. All calls of an organisation, downloads
    included, share 120 a minute. Raises ValueError for an impossible key.
    """

    name = "llmgateway"
    signing_advice = (
        "LLM Gateway signs with a secret that is derived for each job from REELKEEPER_SECRET_KEY, as the address is: "
        "it came to the right one, so that setting is right too, and either headers or body were changed on the way, "
        "or somebody who knows the address forges"
    )
    submit_seconds = 180.0  # one POST may try three providers in a row
    poll_seconds = 30.0

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        base_url: str,
        api_key: str,
        vault: Vault,
        manners: Manners | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.manners = manners or Manners(
            first_poll_ms=60_000, poll_every_ms=30_000, retention_ms=86_400_000, per_minute=90, burst=30
        )
        self._client = client
        self._videos = f"{base_url.rstrip('/')}/videos"
        self._models = f"{base_url.rstrip('/')}/models"
        self._api_key = api_key
        self._headers = wire.request_headers(api_key)
        self._vault = vault
        self._clock = clock or SystemClock()

    def problems(self, request: VideoRequest) -> Sequence[Problem]:
        """Name what the gateway would drop in silence or cannot be told; what a model supports is its own to judge."""
        found = wire.option_problems(request.provider_options, _OWNED) + wire.reference_problems(request.references)
        if not request.prompt:
            found.append(Problem("prompt", "LLM Gateway needs a prompt"))
        if request.duration is None or request.duration < 1:
            found.append(Problem("duration", "LLM Gateway needs whole seconds, 1 or more, for example 5"))
        if request.seed is not None:
            found.append(Problem("seed", "LLM Gateway takes no seed; leave it out"))
        if _size(request) is None and (request.aspect_ratio or request.resolution):
            field = "aspect_ratio" if request.aspect_ratio else "resolution"
            message = (
                "LLM Gateway has no size for it; write a size alone, for example 1280x720, or 16:9 or 9:16 with 720p"
            )
            found.append(Problem(field, message))
        if request.last_frame and not request.first_frame:
            found.append(Problem("last_frame", "LLM Gateway needs a first_frame with it"))
        if (request.first_frame or request.last_frame) and request.references:
            found.append(Problem("references", "LLM Gateway takes either frames or references, not both"))
        return found

    async def submit(self, job: Job, callback_url: str) -> Submission:
        """Make the paid call, once: the gateway ignores idempotency keys, and has no list to look anything up in.

        A request with `problems` is refused here, unsent.
        """
        if problems := self.problems(job.request):
            return Refused(verdicts.unsendable(problems))
        secret = self._vault.callback_secret(job.id)
        request = self._client.build_request(
            "POST",
            self._videos,
            headers={**self._headers, "Content-Type": "application/json"},
            content=wire.encode(_body(job.request, callback_url, secret)),
        )
        hide = (callback_url, callback_url.rpartition("/")[2], secret, self._api_key)
        answer = await wire.submit(self._client, request, seconds=self.submit_seconds)
        return self._judge(answer, hide) if isinstance(answer, Answer) else answer

    async def poll(self, provider_job_id: str) -> Report | Unanswered:
        """Ask for the job; anything but a 200 with a status word is no answer. Answers may be two seconds old."""
        request = self._client.build_request("GET", self._job_url(provider_job_id), headers=self._headers)
        found = await wire.poll(
            self._client,
            request,
            seconds=self.poll_seconds,
            now_ms=self._clock.now(),
            reset=_RESET,
        )
        if isinstance(found, Unanswered):
            return found
        return _report(found, (self._api_key,)) or Unanswered("HTTP 200 without a status")

    def receive(self, callback: Callback) -> Report | Hint | Unrelated:
        """Verify with this job's own secret and read `video.completed` or `video.failed`.

        Raises BadSignatureError or BadCallbackError.
        """
        secrets = self._vault.callback_secrets(callback.job_id)
        keys = [signing.key_of(secret) for secret in secrets]
        signing.verify_standard(keys, callback.headers, callback.body, callback.received_at)
        event_type, event = wire.event(callback.body)
        if event_type not in ("video.completed", "video.failed"):
            return Unrelated(event_type)
        if event.get("id") != callback.headers[signing.WEBHOOK_ID]:
            raise BadCallbackError("the body's id must be the one in webhook-id")
        report = _report(wire.mapping(event.get("data")), (self._api_key, *secrets))
        if report is None or report.provider_job_id is None:
            raise BadCallbackError("data must hold the job's id and status")
        # `video.failed` stands for every end without a video; which one it was is said by data.status alone.
        ended_well = report.status is Status.COMPLETED
        if report.status is Status.RUNNING or ended_well is not (event_type == "video.completed"):
            raise BadCallbackError("the event's type and data.status contradict each other")
        return report

    def locations(self, job: Job, output: Output) -> Sequence[Location]:  # noqa: ARG002 - a job has one output there
        """Return the gateway's own content address; the URLs in its answers may be missing, or anybody's."""
        if job.provider_job_id is None:
            return ()
        return (Location(f"{self._job_url(job.provider_job_id)}/content", wire.bearer(self._api_key)),)

    async def models(self) -> Sequence[Model] | Unanswered:
        """List the models that make videos, of all that the gateway's catalogue holds."""
        url, seconds, now_ms = self._models, self.poll_seconds, self._clock.now()
        return await listing.models(
            self._client, url, self._api_key, _model, seconds=seconds, now_ms=now_ms, reset=_RESET
        )

    def _job_url(self, provider_job_id: str) -> str:
        return f"{self._videos}/{quote(provider_job_id, safe='')}"

    def _judge(self, answer: Answer, hide: Sequence[str]) -> Submission:
        if httpx.codes.is_success(answer.status):
            data = wire.mapping(wire.decode(answer.body))
            provider_job_id = wire.job_id(data.get("id"))
            if provider_job_id is None:
                return InDoubt(f"HTTP {answer.status} without a job id")
            return Accepted(provider_job_id, _report(data, hide) or Report(Status.RUNNING, "", provider_job_id))
        if answer.status == httpx.codes.NOT_FOUND and answer.body == b"404 Not Found":
            return Refused(_NO_SUCH_ADDRESS)
        complaint = _complaint(answer, hide)
        if complaint is not None and answer.status in verdicts.REFUSALS:
            return Refused(verdicts.refusal(answer.status, complaint, _SENTENCES))
        busy = frozenset({503, 529})  # 529: the gateway sheds load
        wait_ms = retry_after_ms(answer.headers, self._clock.now(), _RESET)
        return wire.not_refused(answer, known=complaint is not None, busy=busy, wait_ms=wait_ms)


def _size(request: VideoRequest) -> str | None:
    """Return the size to ask for, None when nothing was asked for or nothing fits.

    Of an aspect ratio and a resolution, the one that is missing is the gateway's default: 16:9, 720p.
    """
    if not request.aspect_ratio and not request.resolution:
        return request.size
    resolution = (request.resolution or "").lower()
    for (ratio, height), size in _SIZES.items():
        if request.aspect_ratio in (None, ratio) and resolution in ("", height) and request.size in (None, size):
            return size
    return None


def _body(request: VideoRequest, callback_url: str, callback_secret: str) -> dict[str, Any]:
    own: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt,
        "seconds": request.duration,
        "size": _size(request),
        "audio": request.generate_audio,
        "image": request.first_frame,
        "last_frame": request.last_frame,
        "callback_url": callback_url,
        "callback_secret": callback_secret,
    }
    for kind in ("image", "video", "audio"):
        own[f"reference_{kind}s"] = [reference.url for reference in request.references if reference.type == kind]
    return {key: value for key, value in own.items() if value not in (None, [])} | dict(request.provider_options)


def _report(data: Mapping[str, Any], hide: Sequence[str]) -> Report | None:
    """Read the job object that polls, submissions and callbacks share; None without a status word."""
    word = wire.status_word(data.get("status"), _STATUSES, hide)
    if word is None:
        return None
    status = _STATUSES.get(word, Status.RUNNING)
    cost = wire.cost(data.get("usage"))
    return Report(
        status=status,
        word=word,
        understood=word in _STATUSES,
        provider_job_id=wire.job_id(data.get("id")),
        outputs=(Output(0),) if status is Status.COMPLETED else (),
        cost=cost,
        error=_job_error(status, data.get("error"), cost, hide),
    )


def _job_error(status: Status, error: object, cost: float | None, hide: Sequence[str]) -> JobError | None:
    """Read `{code?, message?, details?}`, where `details` is the upstream's error of the same form."""
    code = message = None
    level = wire.mapping(error)
    for _ in range(_DEEPEST_ERROR):
        code = code or wire.words(level.get("code"), 200, hide=hide)
        message = message or wire.words(level.get("message"), hide=hide)
        level = wire.mapping(level.get("details"))
    found = verdicts.ended("LLM Gateway", status, code, message, cost)
    if found is not None and status is Status.FAILED and code in _GAVE_UP:
        ours, sentence = _GAVE_UP[code]
        return replace(found, code=ours, message=sentence, retryable=True)
    return found


def _complaint(answer: Answer, hide: Sequence[str]) -> verdicts.Complaint | None:
    """Read the schema checker's error, or the one of all else: `{"error": {"message", "type", "param", "code"}}`."""
    error = wire.mapping(wire.mapping(wire.decode(answer.body)).get("error"))
    if error.get("name") == "ZodError":
        return verdicts.Complaint("ZodError", _issues(wire.items(error.get("issues")), hide))
    message = wire.words(error.get("message"), hide=hide)
    if message is None or not isinstance(error.get("type"), str):
        return None
    return verdicts.Complaint(wire.words(error.get("code"), 200, hide=hide), message)


def _issues(issues: Sequence[object], hide: Sequence[str]) -> str:
    """Return every mistake that the schema checker found, each with the path of its field."""
    found = []
    for issue in map(wire.mapping, issues):
        path = ".".join(str(step) for step in wire.items(issue.get("path")) if isinstance(step, str | int))
        found.append(f"{path}: {wire.words(issue.get('message'), hide=hide)}")
    return wire.words("; ".join(found), hide=hide) or "the request does not fit the schema"


def _model(entry: Mapping[str, Any]) -> Model | None:
    """Read a video model of the gateway's catalogue: it can what any of the providers behind it can.

    Which durations there are is not in the catalogue.
    """
    model_id = listing.model_id(entry)
    architecture = wire.mapping(entry.get("architecture"))
    if model_id is None or "video" not in wire.items(architecture.get("output_modalities")):
        return None
    behind = [wire.mapping(each) for each in wire.items(entry.get("providers"))]
    sizes = listing.texts([size for each in behind for size in wire.items(each.get("supportedVideoSizes"))])
    audio = [said for each in behind if isinstance(said := each.get("supportsVideoAudio"), bool)]
    shapes = [shape for shape, size in _SIZES.items() if size in (sizes or ())]
    return Model(
        id=model_id,
        provider=LLMGateway.name,
        name=wire.words(entry.get("name"), 200) or model_id,
        description=wire.words(entry.get("description")),
        created=listing.created(entry.get("created")),
        sizes=sizes or None,
        resolutions=tuple(dict.fromkeys(height.replace("k", "K") for _, height in shapes)) or None,
        aspect_ratios=tuple(dict.fromkeys(ratio for ratio, _ in shapes)) or None,
        generate_audio=any(audio) if audio else None,
        entry=entry,
    )
