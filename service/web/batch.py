"""Many jobs in one call: each is accepted or refused by itself, and all that are accepted share one commit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.errors import StoreUnavailableError
from service.model import ApiKey, Problem
from service.store import NewJob
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, kind_of, parse_object, read_body, require_json
from service.web.callers import Callers, note, note_made
from service.web.creating import Creating, Line
from service.web.jobs import LONGEST_BODY
from service.web.refusals import RefusalError, invalid_request, not_a_name, shown
from service.web.requests import PROVIDER_HEADER, NewJobs
from service.web.views import Views

_MOST_JOBS = 100
_MOST_VALUES = 20_000  # in all of them; the whole is no larger than one job may be


class Batch:
    """Accepts jobs by the hundred. `refused` makes the answer to an error, of which each item shows its own."""

    def __init__(
        self,
        *,
        callers: Callers,
        creating: Creating,
        new_jobs: NewJobs,
        views: Views,
        refused: Callable[[Exception], Response],
    ) -> None:
        self._callers = callers
        self._creating = creating
        self._new_jobs = new_jobs
        self._views = views
        self._refused = refused

    async def create(self, request: Request) -> Response:
        """Accept 1 to 100 jobs: 200 with what became of each, in the order in which they were sent.

        Which calls are one call is told item by item, each at its place, as for single creates: sent again with its
        `Idempotency-Key`, or because its answer was lost, a batch brings back what was accepted, and what was refused
        (and corrected since) is tried. Against the limit of an API key each job counts by itself.
        """
        caller = await self._callers.caller(request)
        require_json(request)
        body = await read_body(request, limit=LONGEST_BODY, seconds=BODY_SECONDS)
        items = _items(parse_object(body, most_values=_MOST_VALUES))
        line = self._creating.line(request)
        try:
            header = request.headers.get(PROVIDER_HEADER)
            told = await asyncio.gather(
                *(self._accept(line, caller, index, item, header) for index, item in enumerate(items))
            )
            made = [each["job"]["id"] for each in told if "job" in each]
            note(request, made=f"{len(made)} of {len(told)}")
            note_made(request, *made)
            return self._creating.watched(JSONResponse({"object": "list", "data": told}), line)
        except BaseException:
            line.hang_up()
            raise

    def _read(self, index: int, item: object, tenant: str, header: str | None) -> NewJob:
        if not isinstance(item, dict):
            raise invalid_request([Problem(f"jobs[{index}]", f"must be an object; {kind_of(item)} was sent")])
        return self._new_jobs.read(item, tenant, header)

    async def _accept(self, line: Line, caller: ApiKey, index: int, item: object, header: str | None) -> dict[str, Any]:
        try:
            new = self._read(index, item, caller.tenant, header)
            operation = f"jobs.batch/{index}"
            created = await self._creating.once(line, caller, new, operation=operation, body=item)
        except (RefusalError, StoreUnavailableError) as error:
            answer = self._refused(error)
            return {"index": index, "status": answer.status_code, **json.loads(bytes(answer.body))}
        replayed = {"replayed": True} if created.replayed else {}
        return {"index": index, "status": 202, **replayed, "job": self._views.job(created.job)}


def _items(body: Mapping[str, Any]) -> list[object]:
    problems = [Problem(shown(name), not_a_name(name, ("jobs",), "a field")) for name in body if name != "jobs"]
    items = body.get("jobs")
    if not isinstance(items, list) or not 1 <= len(items) <= _MOST_JOBS:
        sent = f"{len(items):,} were sent" if isinstance(items, list) else f"{kind_of(items)} was sent"
        example = '[{"model": "…", "prompt": "…"}]'
        problems.append(Problem("jobs", f"must be an array of 1 to {_MOST_JOBS} jobs, for example {example}; {sent}"))
    if problems or not isinstance(items, list):
        raise invalid_request(problems)
    return items
