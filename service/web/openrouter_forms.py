"""OpenRouter's dialect: the fields of its `POST /videos`, and how it tells of a job.

Source: OpenRouter's API reference and its Python SDK 1.3.84. Its TypeScript SDK refuses null in an optional field of an
answer, so what is not known is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from service.model import Job, JobError, Problem, Reference, State, VideoRequest
from service.web.requests import PROVIDER_HEADER, URL, CommonBody, Url

OWN_PROVIDER = "openrouter"
"""The provider whose dialect this is."""

_WORDS = {
    State.QUEUED: "pending",
    State.SUBMITTING: "pending",
    State.RUNNING: "in_progress",
    State.MIRRORING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
}

_OBSERVED_ONLY = {"session_id", "trace", "user"}  # by OpenRouter, never by the model
_FRAME = (
    'an object such as {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}, '
    '"frame_type": "first_frame"}'
)
_REFERENCE = 'an object such as {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}'
_LINK = 'an object such as {"url": "https://example.com/cat.png"}'


class Link(BaseModel):
    """Where media is."""

    model_config = ConfigDict(strict=True)

    url: Url = Field(description=URL)


class FrameImage(BaseModel):
    """One element of `frame_images`."""

    model_config = ConfigDict(strict=True)

    type: Literal["image_url"] = Field(description='"image_url"')
    image_url: Link = Field(description=_LINK)
    frame_type: Literal["first_frame", "last_frame"] = Field(description='"first_frame" or "last_frame"')


class InputReference(BaseModel):
    """One element of `input_references`."""

    model_config = ConfigDict(strict=True)

    type: Literal["image_url", "audio_url", "video_url"] = Field(description='"image_url", "audio_url" or "video_url"')
    image_url: Link | None = Field(None, description=_LINK)
    audio_url: Link | None = Field(None, description=_LINK)
    video_url: Link | None = Field(None, description=_LINK)

    @model_validator(mode="after")
    def _has_what_it_says(self) -> Self:
        if getattr(self, self.type) is None:
            raise ValueError(f"must hold {self.type}, {_LINK}, because that is its type")
        return self


def _one_each(frames: list[FrameImage]) -> list[FrameImage]:
    if len({frame.frame_type for frame in frames}) < len(frames):
        raise ValueError("must hold at most one first_frame and one last_frame")
    return frames


class OpenRouterBody(CommonBody):
    """The JSON object of `POST /api/v1/videos`: `VideoGenerationRequest`.

    Any other field is passed on as it is: OpenRouter adds some every month.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    callback_url: str | None = Field(
        None, description="an https:// URL that is told how the job ends, for example https://example.com/hooks/videos"
    )
    frame_images: (
        Annotated[
            list[Annotated[FrameImage, Field(description=_FRAME)]], Field(max_length=2), AfterValidator(_one_each)
        ]
        | None
    ) = Field(None, description=f"an array of at most 2 objects, each {_FRAME}")
    input_references: (
        Annotated[list[Annotated[InputReference, Field(description=_REFERENCE)]], Field(max_length=20)] | None
    ) = Field(None, description=f"an array of at most 20 objects, each {_REFERENCE}")
    previous_job_id: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="the id of an earlier job, which is continued"
    )
    provider: dict[str, Any] | None = Field(
        None,
        description='an object such as {"options": {"google-vertex": {"parameters": {}}}}; '
        f"a provider of this service is named in the header {PROVIDER_HEADER}",
    )
    creativity: int | None = Field(None, description="a whole number, for upscaling models")
    upscale_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="a number above 0, for upscaling models, for example 2"
    )
    session_id: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        None, description="a string of at most 256 characters, for OpenRouter's logs"
    )
    trace: dict[str, Any] | None = Field(None, description="an object, for OpenRouter's logs")
    user: str | None = Field(None, description="a string, for OpenRouter's logs")


_TRANSLATED = {*CommonBody.model_fields, "callback_url", "frame_images", "input_references"}
_ONLY_THERE = ("previous_job_id", "creativity", "upscale_factor")


def video_request(wanted: OpenRouterBody, provider: str) -> VideoRequest:
    """Return what is wanted, for `provider`.

    What OpenRouter alone understands is meant for OpenRouter: another provider gets neither the fields for its logs
    nor `provider`, of which `provider.options.<its name>` are fields of its own request.
    """
    frames = {frame.frame_type: frame.image_url.url for frame in wanted.frame_images or ()}
    rest = {name: value for name, value in wanted if name not in _TRANSLATED and value is not None}
    if provider != OWN_PROVIDER:
        rest = {name: value for name, value in rest.items() if name not in _OBSERVED_ONLY}
        options = rest.pop("provider", {}).get("options")
        own = options.get(provider) if isinstance(options, Mapping) else None
        rest |= own if isinstance(own, Mapping) else {}
    return wanted.video_request(
        first_frame=frames.get("first_frame"),
        last_frame=frames.get("last_frame"),
        references=tuple(_reference(each) for each in wanted.input_references or ()),
        provider_options=rest,
    )


def elsewhere(wanted: OpenRouterBody, provider: str) -> list[Problem]:
    """Name what another provider than OpenRouter would ignore in silence, and bill."""
    if provider == OWN_PROVIDER:
        return []
    return [
        Problem(name, f"only OpenRouter knows it, and this request goes to {provider}; leave it out")
        for name in _ONLY_THERE
        if getattr(wanted, name) is not None
    ]


def in_its_words(problems: Sequence[Problem]) -> list[Problem]:
    """Return problems with the common form as problems with this one."""
    frame = re.compile("first_frame|last_frame")
    return [Problem(frame.sub("frame_images", _renamed(each.field)), _renamed(each.message)) for each in problems]


class OpenRouterForms:
    """Writes jobs with absolute links under `public_url`, for example `https://videos.example.com`."""

    def __init__(self, public_url: str) -> None:
        self._videos = f"{public_url}/api/v1/videos"

    def url(self, job: Job) -> str:
        """Return where the job is read."""
        return f"{self._videos}/{job.id}"

    def job(self, job: Job) -> dict[str, Any]:
        """Return the job as `VideoGenerationResponse`, without links that need no key."""
        url = self.url(job)
        shown: dict[str, Any] = {"id": job.id, "polling_url": url, "status": _WORDS[job.state]}
        if job.state is State.COMPLETED:
            shown["unsigned_urls"] = [f"{url}/content?index={artifact.index}" for artifact in job.artifacts]
        elif job.state.final:
            shown["error"] = _told(job.error) if job.error is not None else f"The job has ended as {job.state}."
        if job.cost is not None:
            shown["usage"] = {"cost": job.cost}
        return shown


def _told(error: JobError) -> str:
    """Return an error as one text, which is all that the dialect has for it."""
    words = f" The provider's words: {error.provider_message}" if error.provider_message else ""
    return f"{error.code}: {error.message}{words}"


def _reference(given: InputReference) -> Reference:
    link: Link = getattr(given, given.type)
    return Reference(given.type.removesuffix("_url"), link.url)


def _renamed(text: str) -> str:
    return re.sub(r"\breferences\b", "input_references", text.replace("provider_options.", ""))
