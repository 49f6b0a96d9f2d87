"""The OpenAI-style dialect of `/v1/videos` with LLM Gateway's extensions: how a job is asked for in it, and shown.

Sources: the types of the `openai` package (the video object), LLM Gateway's source code and captured answers (its
request fields, `content` and `usage`). What neither has is added under names of our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from service.logs import redact
from service.model import Job, Problem, Reference, State, VideoRequest
from service.web.mistakes import read, top
from service.web.refusals import shown
from service.web.requests import AspectRatio, ModelName, OwnFields, Resolution, Seed, Size, Url
from service.web.views import footage

DEFAULT_MODEL = "veo-3.1-generate-preview"
"""LLM Gateway's, for requests to it that name none."""

FILES = ("input_reference", "reference_images", "image", "last_frame")
"""The fields that can be sent as files."""

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_NATIVE = {
    "duration": "seconds",
    "generate_audio": "audio",
    "first_frame": "image",
    "references": "reference_images",
    "notify_url": "callback_url",
}
"""Names of other faces, and what they are called here."""
_NATIVE_NAME = re.compile(rf"\b({'|'.join(_NATIVE)})\b")

# The poll loops of its clients know these four words, and take any other for an end.
_STATUSES = {
    State.QUEUED: "queued",
    State.SUBMITTING: "queued",
    State.RUNNING: "in_progress",
    State.MIRRORING: "in_progress",
    State.COMPLETED: "completed",
}
# Stages, not a forecast: providers do not say how far they are.
_PROGRESS = {State.RUNNING: 10, State.MIRRORING: 90, State.COMPLETED: 100}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def _within(key: str) -> Callable[[object], object]:
    def unwrapped(value: object) -> object:
        if isinstance(value, dict):
            if set(value) != {key}:
                raise ValueError
            return value[key]
        return value

    return unwrapped


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


_IMAGE = 'an https:// or data: URL, or an object such as {"image_url": "https://example.com/cat.png"}'
_VIDEO = 'an https:// or data: URL, or an object such as {"video_url": "https://example.com/cat.mp4"}'
_AUDIO = 'an https:// or data: URL, or an object such as {"audio_url": "https://example.com/cat.mp3"}'
_Image = Annotated[Url, BeforeValidator(_within("image_url")), Field(description=_IMAGE)]
_Video = Annotated[Url, BeforeValidator(_within("video_url")), Field(description=_VIDEO)]
_Audio = Annotated[Url, BeforeValidator(_within("audio_url")), Field(description=_AUDIO)]
_Several = Field(max_length=20)
_Single = BeforeValidator(_listed)


class VideoBody(OwnFields):
    """The JSON object of `POST /v1/videos`. Fields that are not named here are the provider's own."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: ModelName | None = Field(
        None,
        description="the provider's name of a model, 1 to 200 characters without control characters, "
        "for example veo-3.1-generate-preview",
    )
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000)] = Field(
        description="a text of 1 to 20,000 characters"
    )
    seconds: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=3600)] | None = Field(
        None, description='whole seconds from 1 to 3600, for example 8 or "8"'
    )
    size: Size | None = Field(None, description="a string of WIDTHxHEIGHT in pixels, for example 1280x720")
    audio: bool | None = Field(None, description="true or false")
    n: Annotated[Literal[1], BeforeValidator(_whole)] | None = Field(
        None, description="1; every video is a job of its own"
    )
    image: _Image | None = Field(None, description=f"{_IMAGE}: the first frame")
    last_frame: _Image | None = Field(None, description=_IMAGE)
    reference_images: Annotated[list[_Image], _Several, _Single] | None = Field(
        None, description=f"an array of at most 20, each {_IMAGE}"
    )
    input_reference: Annotated[list[_Image], _Several, _Single] | None = Field(
        None, description=f"an array of at most 20, or a single one: {_IMAGE}"
    )
    reference_videos: Annotated[list[_Video], _Several, _Single] | None = Field(
        None, description=f"an array of at most 20, each {_VIDEO}"
    )
    reference_audios: Annotated[list[_Audio], _Several, _Single] | None = Field(
        None, description=f"an array of at most 20, each {_AUDIO}"
    )
    callback_url: str | None = Field(
        None, description="an https:// URL, for example https://example.com/hooks/videos, with a callback_secret"
    )
    callback_secret: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = Field(
        None, description="a text of 1 to 1,000 characters, which signs what is sent to callback_url"
    )
    aspect_ratio: AspectRatio | None = Field(None, description="a string of width:height, for example 16:9")
    resolution: Resolution | None = Field(None, description="the name of a resolution, for example 1080p")
    seed: Seed | None = Field(None, description="a whole number of at most 64 bits, for example 42")

    @property
    def extras(self) -> dict[str, Any]:
        """The fields that are not named here."""
        return self.model_extra or {}

    def video_request(self, model: str) -> VideoRequest:
        """Return what is asked for, in no provider's dialect."""
        images = [Reference("image", url) for url in self.reference_images or self.input_reference or ()]
        videos = [Reference("video", url) for url in self.reference_videos or ()]
        audios = [Reference("audio", url) for url in self.reference_audios or ()]
        return VideoRequest(
            model=model,
            prompt=self.prompt,
            duration=self.seconds,
            aspect_ratio=self.aspect_ratio,
            resolution=self.resolution,
            size=self.size,
            seed=self.seed,
            generate_audio=self.audio,
            first_frame=self.image,
            last_frame=self.last_frame,
            references=(*images, *videos, *audios),
            provider_options={**self.extras, **(self.provider_options or {})},
        )

    def told_here(self, problem: Problem) -> Problem:
        """Return a problem of a `VideoRequest` with the names that this dialect has for its fields."""
        field = problem.field.removeprefix("provider_options.")
        if field not in self.extras or field in (self.provider_options or {}):
            field = _NATIVE_NAME.sub(lambda found: _NATIVE[found[1]], problem.field)
        message = problem.message.replace("a first_frame", "an image")
        return Problem(field, _NATIVE_NAME.sub(lambda found: _NATIVE[found[1]], message))


class VideoForm(VideoBody):
    """The same as a multipart form, where numbers and booleans are texts."""

    model_config = ConfigDict(strict=False)


def read_video(body: Mapping[str, Any], form: type[VideoBody]) -> tuple[VideoBody, list[Problem]]:
    """Return a body as VideoBody or VideoForm, and what is wrong with it; the mistakes of `mistakes.read` included.

    A field that is null counts as left out.
    """
    wanted, problems = read(form, {name: value for name, value in body.items() if value is not None}, {"prompt": "?"})
    wrong = {top(problem.field) for problem in problems}
    if wanted.reference_images is not None and wanted.input_reference is not None:
        problems.append(Problem("input_reference", "is another name of reference_images; send one of them"))
    both = ("callback_url", "callback_secret")
    for one, other in (both, both[::-1]):
        if getattr(wanted, one) is None and getattr(wanted, other) is not None and one not in wrong:
            problems.append(Problem(one, f"must be sent together with {other}, or neither of them"))
    for name in wanted.extras:
        if name in _NATIVE:
            problems.append(Problem(name, f"is called {_NATIVE[name]} here"))
        elif name in (wanted.provider_options or {}):
            problems.append(Problem(shown(name), "is in provider_options as well; leave one of them out"))
    return wanted, problems


class OpenAIForms:
    """Writes video objects with absolute links under `public_url`, for example `https://videos.example.com`."""

    def __init__(self, public_url: str) -> None:
        self._videos = f"{public_url}/v1/videos"

    def url(self, job: Job) -> str:
        """Return where the video object is read."""
        return f"{self._videos}/{job.id}"

    def video(self, job: Job) -> dict[str, Any]:
        """Return the job as a video object: times in unix s, `seconds` a string, null for what is not known.

        It never expires: the video is kept.
        """
        outputs = [
            {
                "index": artifact.index,
                "url": f"{self.url(job)}/content?index={artifact.index}",
                "bytes": artifact.bytes,
                "sha256": artifact.sha256,
                "content_type": artifact.content_type,
                **footage(artifact),
            }
            for artifact in job.artifacts
        ]
        video: dict[str, Any] = {
            "id": job.id,
            "object": "video",
            "status": _STATUSES.get(job.state, "failed"),
            "model": job.model,
            "prompt": job.request.prompt,
            "progress": _PROGRESS.get(job.state, 0),
            "created_at": job.created_at // 1000,
            "completed_at": None if job.finished_at is None else job.finished_at // 1000,
            "expires_at": None,
            "seconds": _seconds(job),
            "size": _size(job),
            "error": _error(job),
            "remixed_from_video_id": None,
            "provider": job.provider,
            "provider_job_id": job.provider_job_id,
            "provider_status": job.provider_status,
            "cost": job.cost,
            "outputs": outputs,
            "metadata": job.metadata,
        }
        if job.state is State.COMPLETED:
            video["content"] = [
                {"type": "video", "url": output["url"], "mime_type": output["content_type"]} for output in outputs
            ]
        if job.cost is not None:
            video["usage"] = {"cost": job.cost}
        if job.notify_url is not None:
            video["callback"] = {"url": str(redact(job.notify_url))}
        return video


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    error = asdict(job.error)
    if job.state in (State.CANCELLED, State.EXPIRED):
        error["code"] = job.state  # the only place where this dialect can tell them from other failures
    return error


def _seconds(job: Job) -> str | None:
    if job.request.duration is not None:
        return str(job.request.duration)
    shown = [artifact.footage.duration_ms for artifact in job.artifacts if artifact.footage is not None]
    return None if not shown or shown[0] is None else str(round(shown[0] / 1000))


def _size(job: Job) -> str | None:
    if job.request.size is not None:
        return job.request.size
    shown = [artifact.footage for artifact in job.artifacts if artifact.footage is not None]
    return f"{shown[0].width}x{shown[0].height}" if shown else None
