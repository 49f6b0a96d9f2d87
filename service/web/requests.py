"""The body with which a video is asked for: which fields there are, what each may hold, and how a mistake is told.

The description of a field completes the sentence "must be …", in the answer to a mistake and wherever the API is
described.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from service.model import OnUnknown, Problem, Reference, VideoRequest
from service.providers import Provider
from service.store import NewJob
from service.web.body import kind_of
from service.web.refusals import MOST_PROBLEMS, invalid_request, not_a_name, shown

_MOST_METADATA = 16_384  # bytes
_LONGEST_URL = 8_192  # characters; a data: URL is bounded by the body alone
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HTTPS = re.compile(r"https://[^\s/?#]+[^\s]*", re.IGNORECASE)
_DATA = re.compile(r"data:[^\s,]*,[^\s]+", re.IGNORECASE)
_NO_FIELD = "is not a field"
_URL = "an https:// or data: URL, for example https://example.com/cat.png"


def _url(value: str) -> str:
    if value[:7].lower() == "http://":
        raise ValueError("must begin with https://; over plain http anybody on the way can read and change it")
    if _CONTROL.search(value) or not (_DATA.fullmatch(value) or _HTTPS.fullmatch(value)):
        raise ValueError
    if len(value) > _LONGEST_URL and _HTTPS.match(value):
        raise ValueError(f"must be shorter: a URL has at most {_LONGEST_URL:,} characters")
    return value


def _model(value: str) -> str:
    if not value.strip() or _CONTROL.search(value):
        raise ValueError
    return value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > _MOST_METADATA:
        raise ValueError(f"must be smaller: at most {_MOST_METADATA:,} bytes as JSON")
    return value


Url = Annotated[str, AfterValidator(_url)]


class ReferenceBody(BaseModel):
    """One reference as JSON."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["image", "video", "audio"] = Field(description='"image", "video" or "audio"')
    url: Url = Field(description=_URL)


class CreateBody(BaseModel):
    """The JSON object of `POST /v1/jobs`. A field that is null counts as left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[str, StringConstraints(max_length=200), AfterValidator(_model)] = Field(
        description="the provider's name of a model, 1 to 200 characters without control characters, "
        "for example google/veo-3.1"
    )
    prompt: Annotated[str, StringConstraints(max_length=20_000)] | None = Field(
        None, description="a text of at most 20,000 characters"
    )
    provider: str | None = Field(None, description="the name of a configured provider")
    duration: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        None, description="whole seconds from 1 to 3600, for example 5"
    )
    aspect_ratio: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$")] | None = Field(
        None, description="a string of width:height, for example 16:9"
    )
    resolution: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,40}$")] | None = Field(
        None, description="the name of a resolution, for example 1080p"
    )
    size: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")] | None = Field(
        None, description="a string of WIDTHxHEIGHT in pixels, for example 1920x1080"
    )
    seed: int | None = Field(None, description="a whole number of at most 64 bits, for example 42")
    generate_audio: bool | None = Field(None, description="true or false")
    first_frame: Url | None = Field(None, description=_URL)
    last_frame: Url | None = Field(None, description=_URL)
    references: Annotated[list[ReferenceBody], Field(max_length=20)] | None = Field(
        None,
        description='an array of at most 20 objects such as {"type": "image", "url": "https://example.com/cat.png"}',
    )
    provider_options: dict[str, Any] | None = Field(
        None, description="an object with fields of the provider's own request, passed on as they are"
    )
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata)] | None = Field(
        None, description='an object of your own, kept with the job, for example {"order": "A-17"}'
    )
    on_unknown: Literal["wait", "resubmit"] | None = Field(
        None,
        description='"wait" (never more than one paid job) or "resubmit" (a second bill rather than no video, when '
        "the provider's answer was lost)",
    )


def new_job(body: Mapping[str, Any], tenant: str, providers: Mapping[str, Provider], default_provider: str) -> NewJob:
    """Turn a parsed body into what the store accepts.

    Raises RefusalError (400) that names everything that is wrong: to us, and to the provider's wire form.
    """
    problems: list[Problem] = []
    try:
        wanted = CreateBody.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(each) for each in details[:MOST_PROBLEMS]]
        wanted = _what_is_right(body, {str(each["loc"][0]) for each in details})
    name = default_provider if wanted.provider is None else wanted.provider
    provider = providers.get(name)
    if provider is None:
        problems.append(Problem("provider", f"must be one of {', '.join(providers)}, which are configured here"))
    request = _video_request(wanted)
    if provider is not None:
        # Of a field that is wrong anyway, the provider was not shown what was sent.
        wrong = {_top(problem.field) for problem in problems}
        problems += [each for each in provider.problems(request) if _top(each.field) not in wrong]
    if problems:
        # The fields are many: they are named once, for all that resemble none of them.
        unknown = any(problem.message == _NO_FIELD for problem in problems)
        raise invalid_request(problems, f"The fields are {', '.join(CreateBody.model_fields)}." if unknown else "")
    return NewJob(tenant, name, request, OnUnknown(wanted.on_unknown or OnUnknown.WAIT), wanted.metadata)


def _what_is_right(body: Mapping[str, Any], wrong: set[str]) -> CreateBody:
    """Return the rest of a request with wrong fields, so that its other mistakes can be told in the same answer."""
    return CreateBody.model_validate({"model": "?"} | {name: body[name] for name in body if name not in wrong})


def _video_request(wanted: CreateBody) -> VideoRequest:
    return VideoRequest(
        model=wanted.model,
        prompt=wanted.prompt,
        duration=wanted.duration,
        aspect_ratio=wanted.aspect_ratio,
        resolution=wanted.resolution,
        size=wanted.size,
        seed=wanted.seed,
        generate_audio=wanted.generate_audio,
        first_frame=wanted.first_frame,
        last_frame=wanted.last_frame,
        references=tuple(Reference(each.type, each.url) for each in wanted.references or ()),
        provider_options=wanted.provider_options or {},
    )


def _problem(error: ErrorDetails) -> Problem:
    path, kind = error["loc"], error["type"]
    in_reference = path[0] == "references" and len(path) > 2  # noqa: PLR2004 - references, its index, a field
    fields = (ReferenceBody if in_reference else CreateBody).model_fields
    field = fields.get(str(path[-1] if in_reference else path[0]))
    if field is None:
        return Problem(_path(path), _unknown(str(path[-1]), tuple(fields), listed=in_reference))
    described = field.description or ""
    if kind == "missing":
        return Problem(_path(path), f"is required, and must be {described}")
    if kind == "value_error" and (text := str(error["ctx"]["error"])):
        return Problem(_path(path), text)
    if len(path) == 2:  # noqa: PLR2004 - an element of references, not the whole
        described = 'an object such as {"type": "image", "url": "https://example.com/cat.png"}'
    given = f"; {kind_of(error['input'])} was sent" if kind.endswith("_type") else ""
    return Problem(_path(path), f"must be {described}{given}")


def _unknown(name: str, fields: Sequence[str], *, listed: bool) -> str:
    if name == "notify_url":
        return "is not supported yet; read the job or its events to learn how it goes"
    return not_a_name(name, fields, "a field", listed=listed)


def _path(steps: Sequence[int | str]) -> str:
    """Write `("references", 0, "url")` as `references[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in steps).removeprefix(".")


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]
