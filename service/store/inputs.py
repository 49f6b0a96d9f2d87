"""Long texts that callers send inside a request: media as `data:` URLs, and whatever else is long.

They are kept beside the request, not in it: whoever reads a job, or a hundred, has no use for their megabytes. The
submission gets them back, and so does whoever asks for the same once more; once the job is completed nobody can, and
they are deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from service.db import Tx
from service.model import Job, Reference, VideoRequest
from service.store.transaction import Transaction

_SHORT = 1_000  # characters
_SHOWN = 40  # characters of a long text
_DATA = re.compile(r"data:[^\s,]{0,200},", re.IGNORECASE)

_Change = Callable[[str, str], str]  # of the place of a text and the text


def taken_out(request: VideoRequest) -> tuple[VideoRequest, dict[str, str]]:
    """Return the request with long texts abbreviated, and those texts by the field that each stood in.

    A `prompt` stays: it is what people know a job by, and the faces bound it. An abbreviation is short, so a request
    that was abbreviated before comes back as it is.
    """
    inputs: dict[str, str] = {}

    def short(field: str, text: str) -> str:
        if len(text) <= _SHORT:
            return text
        inputs[field] = text
        data = _DATA.match(text)
        return f"{data[0] if data else text[:_SHOWN]}… ({len(text):,} characters)"

    return _changed(request, short), inputs


def put_back(request: VideoRequest, inputs: Mapping[str, str]) -> VideoRequest:
    """Return the request as its caller sent it."""
    return _changed(request, inputs.get) if inputs else request


def _changed(request: VideoRequest, change: _Change) -> VideoRequest:
    def media(field: str, url: str | None) -> str | None:
        return None if url is None else change(field, url)

    return replace(
        request,
        first_frame=media("first_frame", request.first_frame),
        last_frame=media("last_frame", request.last_frame),
        references=tuple(
            Reference(each.type, change(f"references[{index}]", each.url))
            for index, each in enumerate(request.references)
        ),
        provider_options=_walked("provider_options", request.provider_options, change),
    )


def _walked(place: str, value: Any, change: _Change) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Change the texts in a JSON value.

    A place in it is a path of positions, those of an object's fields in alphabetical order: names can be long, and hold
    anything that a path could be written with.
    """
    if isinstance(value, str):
        return change(place, value)
    if isinstance(value, Mapping):
        return {name: _walked(f"{place}.{index}", value[name], change) for index, name in enumerate(sorted(value))}
    if isinstance(value, list | tuple):
        return [_walked(f"{place}[{index}]", each, change) for index, each in enumerate(value)]
    return value


def whole_request(tx: Tx | Transaction, job: Job) -> VideoRequest:
    """Return a job's request as its caller sent it, from what is kept beside it."""
    inputs = {row["field"]: row["url"] for row in tx.all("inputs", job_id=job.id)}
    return put_back(job.request, inputs) if inputs else job.request
