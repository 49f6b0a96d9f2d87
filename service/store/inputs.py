"""Media that callers send inside a request, as long `data:` URLs.

They are kept beside the request, not in it: whoever reads a job, or a hundred, has no use for their megabytes. Only the
submission gets them back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from service.model import Reference, VideoRequest

_SHORT = 1_000  # characters
_DATA = re.compile(r"data:[^\s,]{0,200},", re.IGNORECASE)


def taken_out(request: VideoRequest) -> tuple[VideoRequest, dict[str, str]]:
    """Return the request with long `data:` URLs abbreviated, and those URLs by the field that each stood in."""
    inputs: dict[str, str] = {}

    def short(field: str, url: str | None) -> str | None:
        head = None if url is None or len(url) <= _SHORT else _DATA.match(url)
        if url is None or head is None:
            return url
        inputs[field] = url
        return f"{head[0]}… ({len(url):,} characters)"

    light = replace(
        request,
        first_frame=short("first_frame", request.first_frame),
        last_frame=short("last_frame", request.last_frame),
        references=tuple(
            Reference(each.type, short(f"references[{index}]", each.url) or "")
            for index, each in enumerate(request.references)
        ),
    )
    return light, inputs


def put_back(request: VideoRequest, inputs: Mapping[str, str]) -> VideoRequest:
    """Return the request as its caller sent it."""
    return replace(
        request,
        first_frame=inputs.get("first_frame", request.first_frame),
        last_frame=inputs.get("last_frame", request.last_frame),
        references=tuple(
            Reference(each.type, inputs.get(f"references[{index}]", each.url))
            for index, each in enumerate(request.references)
        ),
    )
