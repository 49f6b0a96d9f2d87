"""The native API, `/v1/jobs`: ask for a video, see how it goes. What it accepts is in `requests`.

Many at once are asked for in `batch`, their history is in `events`, and what else can be done with a job in `actions`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.model import ApiKey, Job
from service.store import Store, Wanted
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, parse_object, read_body, require_json
from service.web.callers import Callers
from service.web.creating import Creating
from service.web.filters import EVERY_TENANT, cursor_after, read_filters
from service.web.refusals import RefusalError
from service.web.requests import PROVIDER_HEADER, NewJobs
from service.web.views import Views

LONGEST_BODY = 1_048_576  # bytes


class Jobs:
    """Serves jobs to their callers."""

    def __init__(self, *, store: Store, callers: Callers, creating: Creating, new_jobs: NewJobs, views: Views) -> None:
        self._store = store
        self._callers = callers
        self._creating = creating
        self._new_jobs = new_jobs
        self._views = views

    async def create(self, request: Request) -> Response:
        """Accept a job: 202 once it is on disk. With an `Idempotency-Key`, once for all calls with that key."""
        caller = await self._callers.caller(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=LONGEST_BODY, seconds=BODY_SECONDS))
        new = self._new_jobs.read(body, caller.tenant, request.headers.get(PROVIDER_HEADER))
        return await self._creating.create(
            request, caller, new, operation="jobs.create", body=body, answer=self._accepted
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return JSONResponse(self._views.job(job), 202, {"location": self._views.url(job), **headers})

    async def page(self, request: Request) -> Response:
        """List the caller's jobs, newest first; to operators, those of the tenant that they name, or of all.

        A page may be short, or empty, and say that there is more: only so many jobs are looked at in one call.
        """
        caller = await self._callers.caller(request)
        filters = read_filters(request)
        wanted = Wanted(
            state=filters.state,
            provider=filters.provider,
            model=filters.model,
            error=filters.error,
            text=filters.text,
            created_after=filters.created_after,
            created_before=filters.created_before,
        )
        whose = _whose(caller, filters.tenant)
        found = await self._store.find(whose, wanted, before_id=filters.before_id, limit=filters.limit)
        return JSONResponse(
            {
                "object": "list",
                "data": [self._views.job(job) for job in found.jobs],
                "has_more": found.go_on is not None,
                "next_cursor": None if found.go_on is None else cursor_after(found.go_on),
            }
        )

    async def read(self, request: Request) -> Response:
        """Show one job."""
        return JSONResponse(self._views.job(await self._callers.job(request)))


def _whose(caller: ApiKey, tenant: str | None) -> str | None:
    """Return the tenant whose jobs are listed, None for every tenant. Raises RefusalError (403)."""
    if tenant in (None, caller.tenant):
        return caller.tenant
    if not caller.operator:
        raise RefusalError(
            403,
            "operators_only",
            "This API key sees its own tenant's jobs only; leave tenant out, or use an operator key, made with "
            "`reelkeeper keys create --operator`.",
        )
    return None if tenant == EVERY_TENANT else tenant
