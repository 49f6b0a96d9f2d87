"""The body with which a video is asked for: which fields there are, what each may hold, and how it becomes a job."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from service.model import OnUnknown, Problem, Reference, VideoRequest
from service.providers import Provider
from service.store import NewJob
from service.web.mistakes import NO_FIELD, read, top
from service.web.notify import notify_problems
from service.web.options import options_problems
from service.web.refusals import invalid_request

PROVIDER_HEADER = "x-reelkeeper-provider"
"""Names the provider beside the body, for the compatible faces, where `provider` in it may be something else."""

_MOST_METADATA = 16_384  # bytes
_LONGEST_URL = 8_192  # characters; a data: URL is bounded by the body alone
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HTTPS = re.compile(r"https://[^/?#]", re.IGNORECASE)
_DATA = re.compile(r"data:[^,]*,.", re.IGNORECASE)
URL = "an https:// or data: URL, for example https://example.com/cat.png"


def _url(value: str) -> str:
    if value[:7].lower() == "http://":
        raise ValueError("must begin with https://; over plain http anybody on the way can read and change it")
    # Media inside a request are megabytes long: what looks at every character is one pass in C.
    if not value.isprintable() or " " in value or not (_DATA.match(value) or _HTTPS.match(value)):
        raise ValueError
    if len(value) > _LONGEST_URL and _HTTPS.match(value):
        raise ValueError(f"must be shorter: a URL has at most {_LONGEST_URL:,} characters")
    return value


def printable(value: str) -> str:
    """Return a text that can be shown on a line; ValueError when it cannot."""
    if not value.strip() or _CONTROL.search(value):
        raise ValueError
    return value


def small(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object that is small enough to be shown with every job; ValueError when it is not."""
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > _MOST_METADATA:
        raise ValueError(f"must be smaller: at most {_MOST_METADATA:,} bytes as JSON")
    return value


Url = Annotated[str, AfterValidator(_url)]
ModelName = Annotated[str, StringConstraints(max_length=200), AfterValidator(printable)]
AspectRatio = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$")]
Resolution = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,40}$")]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class ReferenceBody(BaseModel):
    """One reference as JSON."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["image", "video", "audio"] = Field(description='"image", "video" or "audio"')
    url: Url = Field(description=URL)


References = Annotated[
    list[
        Annotated[
            ReferenceBody,
            Field(description='an object such as {"type": "image", "url": "https://example.com/cat.png"}'),
        ]
    ],
    Field(max_length=20),
]


class CommonBody(BaseModel):
    """What every face calls by the same names. A field that is null counts as left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: ModelName = Field(
        description="the provider's name of a model, 1 to 200 characters without control characters, "
        "for example google/veo-3.1"
    )
    prompt: Annotated[str, StringConstraints(max_length=20_000)] | None = Field(
        None, description="a text of at most 20,000 characters"
    )
    duration: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        None, description="whole seconds from 1 to 3600, for example 5"
    )
    aspect_ratio: AspectRatio | None = Field(None, description="a string of width:height, for example 16:9")
    resolution: Resolution | None = Field(None, description="the name of a resolution, for example 1080p")
    size: Size | None = Field(None, description="a string of WIDTHxHEIGHT in pixels, for example 1920x1080")
    seed: Seed | None = Field(None, description="a whole number of at most 64 bits, for example 42")
    generate_audio: bool | None = Field(None, description="true or false")

    def video_request(self, **more: Any) -> VideoRequest:  # noqa: ANN401 - fields of VideoRequest
        """Return what is asked for: these fields, and `more`, which each face calls by names of its own."""
        return VideoRequest(**{name: getattr(self, name) for name in CommonBody.model_fields}, **more)


class OwnFields(BaseModel):
    """What no provider's dialect has a field for."""

    provider: str | None = Field(None, description="the name of a configured provider")
    provider_options: dict[str, Any] | None = Field(
        None, description="an object with fields of the provider's own request, passed on as they are"
    )
    metadata: Annotated[dict[str, Any], AfterValidator(small)] | None = Field(
        None, description='an object of your own, kept with the job, for example {"order": "A-17"}'
    )
    on_unknown: Literal["wait", "resubmit"] | None = Field(
        None,
        description='"wait" (never more than one paid job) or "resubmit" (a second bill rather than no video, when '
        "the provider's answer was lost)",
    )


class CreateBody(OwnFields, CommonBody):
    """The JSON object of `POST /v1/jobs`."""

    first_frame: Url | None = Field(None, description=URL)
    last_frame: Url | None = Field(None, description=URL)
    references: References | None = Field(
        None,
        description='an array of at most 20 objects such as {"type": "image", "url": "https://example.com/cat.png"}',
    )
    notify_url: str | None = Field(
        None,
        description="an https:// URL on the public internet where you are told how the job ended, "
        "for example https://example.com/hooks/videos",
    )


def named_provider(body: Mapping[str, Any], header: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """Return the body with the provider that PROVIDER_HEADER names, if it does, and what contradicts it."""
    given = body.get("provider")
    if header is None or given not in (None, header):
        problem = Problem("provider", f"is another one than {PROVIDER_HEADER} names; send one of them")
        return dict(body), [problem] if header is not None else []
    return {**body, "provider": header}, []


class NewJobs:
    """Turns parsed bodies into what the store accepts.

    `allowed_private_hosts` (`host:port`) are those where a caller may be told although they are not public.
    """

    def __init__(
        self, providers: Mapping[str, Provider], default_provider: str, allowed_private_hosts: Collection[str]
    ) -> None:
        self._providers = providers
        self._default_provider = default_provider
        self._allowed_private_hosts = allowed_private_hosts

    def read(self, body: Mapping[str, Any], tenant: str, header: str | None = None) -> NewJob:
        """Return the tenant's new job; `header` is that of PROVIDER_HEADER.

        Raises RefusalError (400) that names everything that is wrong: to us, and to the provider's wire form.
        """
        body, contradictions = named_provider(body, header)
        wanted, problems = read(CreateBody, body, {"model": "?"})
        problems += contradictions
        problems += notify_problems("notify_url", wanted.notify_url, self._allowed_private_hosts)
        name = self._default_provider if wanted.provider is None else wanted.provider
        provider = self._providers.get(name)
        if provider is None:
            there = ", ".join(self._providers)
            problems.append(Problem("provider", f"must be one of {there}, which are configured here"))
        request = wanted.video_request(
            first_frame=wanted.first_frame,
            last_frame=wanted.last_frame,
            references=tuple(Reference(each.type, each.url) for each in wanted.references or ()),
            provider_options=wanted.provider_options or {},
        )
        problems += options_problems(request, within="provider_options")
        if provider is not None:
            # Of a field that is wrong anyway, the provider was not shown what was sent.
            wrong = {top(problem.field) for problem in problems}
            problems += [each for each in provider.problems(request) if top(each.field) not in wrong]
        if problems:
            # The fields are many: they are named once, for all that resemble none of them.
            unknown = any(problem.message == NO_FIELD for problem in problems)
            raise invalid_request(problems, f"The fields are {', '.join(CreateBody.model_fields)}." if unknown else "")
        on_unknown = OnUnknown(wanted.on_unknown or OnUnknown.WAIT)
        return NewJob(tenant, name, request, on_unknown, wanted.metadata, notify_url=wanted.notify_url)
