"""The native API, `/v1/jobs`: ask for a video, see how it goes, cancel it. What it accepts is in `requests`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from service.model import Job, State
from service.providers import Provider
from service.store import Store
from service.web.answers import JSONResponse
from service.web.body import parse_object, read_body, require_json
from service.web.callers import Callers
from service.web.creating import Creating
from service.web.filters import cursor_after, read_filters
from service.web.refusals import RefusalError
from service.web.requests import new_job
from service.web.views import Views

_LONGEST_BODY = 1_048_576  # bytes
_BODY_SECONDS = 30.0


class Jobs:
    """Serves jobs to their callers."""

    def __init__(
        self,
        *,
        store: Store,
        callers: Callers,
        creating: Creating,
        providers: Mapping[str, Provider],
        default_provider: str,
        views: Views,
    ) -> None:
        self._store = store
        self._callers = callers
        self._creating = creating
        self._providers = providers
        self._default_provider = default_provider
        self._views = views

    async def create(self, request: Request) -> Response:
        """Accept a job: 202 once it is on disk. With an `Idempotency-Key`, once for all calls with that key."""
        caller = await self._callers.caller(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=_LONGEST_BODY, seconds=_BODY_SECONDS))
        new = new_job(body, caller.tenant, self._providers, self._default_provider)
        return await self._creating.create(
            request, caller, new, operation="jobs.create", body=body, answer=self._accepted
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return JSONResponse(self._views.job(job), 202, {"location": self._views.url(job), **headers})

    async def page(self, request: Request) -> Response:
        """List the caller's jobs, newest first."""
        caller = await self._callers.caller(request)
        filters = read_filters(request)
        jobs = await self._store.jobs(
            caller.tenant,
            state=filters.state,
            provider=filters.provider,
            model=filters.model,
            created_after=filters.created_after,
            created_before=filters.created_before,
            before_id=filters.before_id,
            limit=filters.limit + 1,
        )
        listed, has_more = jobs[: filters.limit], len(jobs) > filters.limit
        return JSONResponse(
            {
                "object": "list",
                "data": [self._views.job(job) for job in listed],
                "has_more": has_more,
                "next_cursor": cursor_after(listed[-1]) if has_more else None,
            }
        )

    async def read(self, request: Request) -> Response:
        """Show one job."""
        return JSONResponse(self._views.job(await self._callers.job(request)))

    async def events(self, request: Request) -> Response:
        """Show a job's history, oldest first."""
        job = await self._callers.job(request)
        events = await self._store.events(job.id)
        return JSONResponse({"object": "list", "data": [self._views.event(event) for event in events]})

    async def cancel(self, request: Request) -> Response:
        """Cancel a job that was not submitted yet; cancelling it again changes nothing and is no error."""
        asked = await self._callers.job(request)
        job = await self._store.cancel(asked.id) or await self._store.job(asked.id) or asked
        if job.state is not State.CANCELLED:
            raise RefusalError(409, "cannot_cancel", _why_not(job))
        return JSONResponse(self._views.job(job))


def _why_not(job: Job) -> str:
    match job.state:
        case State.QUEUED:
            return (
                "The job was on its way to the provider a moment ago and is queued again; send the request once more."
            )
        case State.SUBMITTING:
            return (
                f"The job is being submitted to {job.provider}, which may have it already, has no way to cancel it "
                "and bills it; the job goes on."
            )
        case State.RUNNING:
            return f"{job.provider} has the job, has no way to cancel it and bills it; the job goes on."
        case State.MIRRORING:
            return f"{job.provider} has finished and billed the video, and it is being copied; the job goes on."
        case _:
            return f"The job has ended as {job.state}; there is nothing left to cancel."
