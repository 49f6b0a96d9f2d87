"""The calls of the native API about a job that is there, beside reading it: what `acting` does, over HTTP."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from service.model import Job
from service.store import Deliveries, Store
from service.web.acting import OPERATION, PROVIDER_JOB_ID, Acting
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, parse_object, read_body, require_json
from service.web.callers import Callers
from service.web.creating import Creating
from service.web.mistakes import read
from service.web.refusals import invalid_request
from service.web.views import Views

_LONGEST_BODY = 4_096  # bytes


class AttachBody(BaseModel):
    """The JSON object of `POST /v1/jobs/{id}/attach`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    provider_job_id: str = Field(
        description=PROVIDER_JOB_ID, json_schema_extra={"pattern": "^[A-Za-z0-9._~:/-]{1,512}$"}
    )


class Actions:
    """Does with a caller's jobs what they ask for."""

    def __init__(
        self,
        *,
        store: Store,
        deliveries: Deliveries,
        callers: Callers,
        creating: Creating,
        acting: Acting,
        views: Views,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._callers = callers
        self._creating = creating
        self._acting = acting
        self._views = views

    async def cancel(self, request: Request) -> Response:
        """Cancel a job, and say what that means: 200 it is cancelled, 202 its provider was asked, 409 it goes on."""
        done = await self._acting.cancel(await self._callers.job(request))
        said = self._views.cancellation(done.job, done.message, asked=done.asked)
        return JSONResponse(said, 202 if done.asked else 200)

    async def retry(self, request: Request) -> Response:
        """Ask once more for what a job did not bring: 202 with a new job, whose `retry_of` names the old one.

        Calls are told apart as those of a create are. Whether the old job is billed is for the caller to weigh.
        """
        caller = await self._callers.caller(request)
        job = await self._callers.job(request)
        self._acting.require_provider(job)
        return await self._creating.create(
            request, caller, job, operation=OPERATION.format(job.id), body={}, answer=self._accepted
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return JSONResponse(self._views.job(job), 202, {"location": self._views.url(job), **headers})

    async def deliveries(self, request: Request) -> Response:
        """List what the caller was told about a job, and the newest 50 attempts at each message, oldest first."""
        job = await self._callers.job(request)
        owed = await self._deliveries.of(job.id)
        data = [self._views.delivery(delivery, attempts) for delivery, attempts in owed]
        return JSONResponse({"object": "list", "data": data})

    async def receipts(self, request: Request) -> Response:
        """List the genuine callbacks that came about a job, oldest first; those that say the same are one."""
        job = await self._callers.job(request)
        data = [self._views.receipt(receipt) for receipt in await self._store.receipts(job.id)]
        return JSONResponse({"object": "list", "data": data})

    async def redeliver(self, request: Request) -> Response:
        """Send the newest message about a job once more: 202 with the delivery."""
        job = await self._callers.job(request)
        return JSONResponse(self._views.delivery(*await self._acting.redeliver(job)), 202)

    async def remirror(self, request: Request) -> Response:
        """Copy a video again that was given up as unavailable: 202 with the job, which is tried for a day."""
        job = await self._acting.remirror(await self._callers.job(request), source="caller")
        return JSONResponse(self._views.job(job), 202)

    async def attach(self, request: Request) -> Response:
        """Bind an id that an operator found at the provider: 200 with the job, about which the provider is asked."""
        await self._callers.operator(request)
        job = await self._callers.job(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=_LONGEST_BODY, seconds=BODY_SECONDS))
        wanted, problems = read(AttachBody, body, {"provider_job_id": ""})
        if problems:
            raise invalid_request(problems)
        return JSONResponse(self._views.job(await self._acting.attach(job, wanted.provider_job_id)))
