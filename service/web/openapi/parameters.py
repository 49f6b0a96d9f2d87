"""What stands in paths, queries and headers of requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from service.model import TENANT, ErrorCode, State
from service.web.openapi.shapes import JOB_ID, Schema, one_of, text, whole

Parameter = Mapping[str, Any]

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_MOMENT = f"^([0-9]{{1,12}}|{_TIME})$"
_SHORT = text(minLength=1, maxLength=200)
_SWITCH = one_of(("true", "false", "1", "0", "yes", "no"))
_INDEX = whole(maximum=999_999)
_IN_PATH: Mapping[str, tuple[Schema, str]] = {
    "job_id": (JOB_ID, "the job"),
    "id": (text(minLength=1), "the model; the id may hold slashes"),
    "key_id": (text(pattern="^key_[0-9a-z]{26}$"), "the API key's id"),
    "token": (text(minLength=1), "proves that we made the address"),
}
_IN_QUERY: Mapping[str, tuple[Schema, str]] = {
    "job": (JOB_ID, "only those about this job"),
    "state": (one_of(State), "only jobs in this state"),
    "provider": (_SHORT, "only jobs of this provider"),
    "model": (_SHORT, "only jobs of this model"),
    "error": (one_of(ErrorCode), "only jobs that ended with this error"),
    "tenant": (
        text(pattern=rf"^(\*|{TENANT})$"),
        "only jobs of this tenant, with an operator key; `*` is every tenant, and left out it is the key's own",
    ),
    "q": (
        _SHORT,
        "only jobs with these words in prompt, model or metadata, the last one as a beginning; or with this id",
    ),
    "created_after": (text(pattern=_MOMENT), "only jobs since then: RFC 3339, or unix seconds"),
    "created_before": (text(pattern=_MOMENT), "only jobs before that: RFC 3339, or unix seconds"),
    "limit": (whole(minimum=1, maximum=100, default=20), "how many at most"),
    "cursor": (text(minLength=1), "the `next_cursor` of the page before, unchanged"),
    "index": (_INDEX, "which output; 0 when left out"),
    "redirect": (_SWITCH, "false: no `302` to the bucket, but the bytes"),
    "variant": (
        one_of(("video", "thumbnail", "spritesheet")),
        "the video, or a picture of it; there are no spritesheets",
    ),
}
_IN_HEADER: Mapping[str, tuple[Schema, str]] = {
    "Idempotency-Key": (
        text(pattern="^[!-~]([ -~]{0,253}[!-~])?$"),
        "makes repeated calls with the same body one job; 1 to 255 printable ASCII characters, for example a UUID",
    ),
    "x-stainless-retry-count": (text(), "1 or more marks a retry, which is the call that it retries; SDKs send it"),
    "Last-Event-ID": (text(), "of a stream only: continue after the event with this id"),
    "Range": (text(), "a part of the bytes, for example `bytes=0-1023`"),
    "If-Range": (text(), "the `ETag` of which the part must be"),
    "If-Match": (text(), "the `ETag` that it must have"),
    "If-None-Match": (text(), "the `ETag` that you have"),
    "X-OpenRouter-Signature": (text(), "OpenRouter's signature, `t=…,v1=…`"),
    "webhook-id": (text(), "of the message, as Standard Webhooks has it"),
    "webhook-timestamp": (text(), "unix seconds"),
    "webhook-signature": (text(), "`v1,…`"),
}


def _all(place: str, table: Mapping[str, tuple[Schema, str]]) -> dict[str, Parameter]:
    return {
        name: {"name": name, "in": place, "description": said, "required": place == "path", "schema": schema}
        for name, (schema, said) in table.items()
    }


PARAMETERS: Mapping[str, Parameter] = _all("path", _IN_PATH) | _all("query", _IN_QUERY) | _all("header", _IN_HEADER)
"""Parameters by name, but for those of the same name that mean something else, which are made below."""

AFTER_EVENT: Parameter = {
    "name": "after",
    "in": "query",
    "description": "continue after the event with this id; 0 is before all of them",
    "required": False,
    "schema": whole(maximum=999_999_999),
}
AFTER_VIDEO: Parameter = {
    "name": "after",
    "in": "query",
    "description": "continue after this video, the `last_id` of the page before",
    "required": False,
    "schema": JOB_ID,
}
ORDER: Parameter = {
    "name": "order",
    "in": "query",
    "description": "by the time of creation",
    "required": False,
    "schema": one_of(("asc", "desc")),
}


def reporting_provider(providers: Collection[str]) -> Parameter:
    """Return which of `providers` reports."""
    return {
        "name": "provider",
        "in": "path",
        "description": "the provider that reports",
        "required": True,
        "schema": one_of(providers),
    }


def named_provider(providers: Collection[str]) -> Parameter:
    """Return the header that names one of `providers`."""
    return {
        "name": "X-Reelkeeper-Provider",
        "in": "header",
        "description": "the provider that it goes to; else the one that lists its model, the dialect's own first",
        "required": False,
        "schema": one_of(providers),
    }
