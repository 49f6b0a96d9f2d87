"""How much may be passed on to a provider as it is: all of it but long texts stays in the job, whoever reads that."""

from __future__ import annotations

import json
from collections.abc import Container

from service.model import Problem, VideoRequest
from service.store import taken_out
from service.web.refusals import shown

_MOST_BYTES = 65_536
_TOO_MUCH = (
    f"must be smaller: what is passed on to the provider has at most {_MOST_BYTES:,} bytes as JSON, texts of more than "
    "1,000 characters not counted; send media as https:// or data: URLs"
)


def options_problems(request: VideoRequest, *, sent: Container[str] = (), within: str) -> list[Problem]:
    """Say that a request's provider options are too large, if they are, and name the largest.

    A caller sent each as a field of that name, if it is in `sent`, or in the field `within`.
    """
    options = taken_out(request)[0].provider_options
    if _size(options) <= _MOST_BYTES:
        return []
    largest = max(options, key=lambda name: len(name) + _size(options[name]))
    return [Problem(shown(largest) if largest in sent else within, _TOO_MUCH)]


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
