"""`GET /v1/callbacks/rejected`: which callbacks were not believed, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.store import Mark, Rejection, Rejections
from service.web.answers import JSONResponse
from service.web.callers import Callers, is_job_id
from service.web.filters import as_cursor, as_limit, cursor_of, read_query
from service.web.views import rfc3339

_USUAL_LIMIT = 20
_MARK = re.compile(r"1:([0-9]{1,15}):(job_[0-9a-z]{26}):([a-z_]{1,40})", re.ASCII)


def rejection_view(rejection: Rejection) -> dict[str, Any]:
    """Return what callers and programs see of rejected callbacks that have one reason."""
    return {
        "object": "rejected_callbacks",
        "job": rejection.job_id,
        "provider": rejection.provider,
        "reason": rejection.reason,
        "message": rejection.message,
        "times": rejection.times,
        "first_at": rfc3339(rejection.first_at),
        "last_at": rfc3339(rejection.last_at),
        "headers": rejection.headers,
        "bytes": rejection.bytes,
    }


class RejectedCallbacks:
    """Shows rejected callbacks: to callers those of their own jobs, to operators all."""

    def __init__(self, rejections: Rejections, callers: Callers) -> None:
        self._rejections = rejections
        self._callers = callers

    async def page(self, request: Request) -> Response:
        """List them, newest first. What came in the last seconds may not be counted yet."""
        caller = await self._callers.caller(request)
        query = read_query(request.query_params.multi_items(), _QUERY)
        limit = query.get("limit", _USUAL_LIMIT)
        found = await self._rejections.page(
            None if caller.operator else caller.tenant,
            job_id=query.get("job"),
            before=query.get("cursor"),
            limit=limit + 1,
        )
        listed, has_more = found[:limit], len(found) > limit
        return JSONResponse(
            {
                "object": "list",
                "data": [rejection_view(each) for each in listed],
                "has_more": has_more,
                "next_cursor": cursor_after(listed[-1]) if has_more else None,
            }
        )


def cursor_after(rejection: Rejection) -> str:
    """Return what continues a list after `rejection`."""
    return cursor_of(f"1:{rejection.last_at}:{rejection.job_id}:{rejection.reason}")


def _job(text: str) -> str:
    if not is_job_id(text):
        raise ValueError("must be the id of a job, job_…")
    return text


def as_mark(text: str) -> Mark:
    """Read what `cursor_after` made. Raises ValueError."""
    found = as_cursor(text, _MARK)
    return Mark(int(found[1]), found[2], found[3])


_QUERY: dict[str, Callable[[str], Any]] = {"job": _job, "limit": as_limit, "cursor": as_mark}
