"""Many jobs in one call: each is accepted or refused by itself, and all that are accepted share one commit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.errors import StoreUnavailableError
from service.model import Problem
from service.store import Idempotency, NewJob, Store
from service.web.answers import JSONResponse
from service.web.body import kind_of, parse_object, read_body, require_json
from service.web.callers import Callers, note
from service.web.creating import Creating, fingerprint_of, idempotency_key, outcome
from service.web.jobs import BODY_SECONDS, LONGEST_BODY
from service.web.refusals import RefusalError, invalid_request, not_a_name, shown
from service.web.requests import NewJobs
from service.web.views import Views

_MOST_JOBS = 100
_MOST_VALUES = 20_000  # in all of them; the whole is no larger than one job may be
_OPERATION = "jobs.batch"


class Batch:
    """Accepts jobs by the hundred. `refused` makes the answer to an error, of which each item shows its own."""

    def __init__(
        self,
        *,
        store: Store,
        callers: Callers,
        creating: Creating,
        new_jobs: NewJobs,
        views: Views,
        refused: Callable[[Exception], Response],
    ) -> None:
        self._store = store
        self._callers = callers
        self._creating = creating
        self._new_jobs = new_jobs
        self._views = views
        self._refused = refused

    async def create(self, request: Request) -> Response:
        """Accept 1 to 100 jobs: 200 with what became of each, in the order in which they were sent.

        An `Idempotency-Key` holds for each item at its place: sent again, what was accepted is replayed, and what was
        refused (and corrected since) is tried. Without one, every call makes new jobs. Against the limit of an API key
        each job counts; when not all of them are free, none is made (429).
        """
        caller = await self._callers.caller(request)
        require_json(request)
        body = await read_body(request, limit=LONGEST_BODY, seconds=BODY_SECONDS)
        items = _items(parse_object(body, most_values=_MOST_VALUES))
        key = idempotency_key(request)
        wanted = [self._read(index, item, caller.tenant) for index, item in enumerate(items)]
        self._creating.spend(caller, sum(isinstance(each, NewJob) for each in wanted))
        told = await asyncio.gather(
            *(
                self._accept(index, each, None if key is None else _idempotency(key, index, items[index]))
                for index, each in enumerate(wanted)
            )
        )
        note(request, made=f"{sum('job' in each for each in told)} of {len(told)}")
        return JSONResponse({"object": "list", "data": told})

    def _read(self, index: int, item: object, tenant: str) -> NewJob | RefusalError:
        try:
            if not isinstance(item, dict):
                raise invalid_request([Problem(f"jobs[{index}]", f"must be an object; {kind_of(item)} was sent")])
            return self._new_jobs.read(item, tenant)
        except RefusalError as error:
            return error

    async def _accept(
        self, index: int, wanted: NewJob | RefusalError, idempotency: Idempotency | None
    ) -> dict[str, Any]:
        try:
            if isinstance(wanted, RefusalError):
                raise wanted
            created = outcome(await self._store.create_job(wanted, idempotency))
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


def _idempotency(key: str, index: int, item: object) -> Idempotency:
    return Idempotency(f"{key}/{index}", _OPERATION, fingerprint_of(item))
