"""What a caller can do with a job that is there: cancel it, ask for it again, be told again, have it copied again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from service.model import Billable, Job, State
from service.providers import Cancels, Provider, Unanswered
from service.store import Deliveries, Store
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.creating import Creating
from service.web.refusals import RefusalError
from service.web.views import Views


class Actions:
    """Does with a caller's jobs what they ask for."""

    def __init__(
        self,
        *,
        store: Store,
        deliveries: Deliveries,
        callers: Callers,
        creating: Creating,
        providers: Mapping[str, Provider],
        views: Views,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._callers = callers
        self._creating = creating
        self._providers = providers
        self._views = views

    async def cancel(self, request: Request) -> Response:
        """Cancel a job, and say what that means: 200 it is cancelled, 202 its provider was asked, 409 it goes on.

        Cancelling a cancelled job again changes nothing and is no error.
        """
        asked = await self._callers.job(request)
        job = await self._store.cancel(asked.id) or await self._store.job(asked.id) or asked
        provider = self._providers.get(job.provider)
        able = isinstance(provider, Cancels)
        if isinstance(provider, Cancels) and job.state is State.RUNNING and job.provider_job_id is not None:
            job = await self._ask_to_cancel(provider, job, job.provider_job_id)
            if job.state is not State.CANCELLED:
                message = f"{job.provider} was asked to cancel the job, which goes on until it says how the job ended."
                return self._cancellation(job, 202, "asked_provider", message)
        if job.state is not State.CANCELLED:
            raise RefusalError(409, "cannot_cancel", _why_not(job, able=able))
        return self._cancellation(job, 200, "cancelled", _how_cancelled(job))

    async def _ask_to_cancel(self, provider: Cancels, job: Job, provider_job_id: str) -> Job:
        """Return the job as it is after its provider took the wish."""
        match await provider.cancel(provider_job_id):
            case Unanswered(reason):
                raise RefusalError(
                    503,
                    "provider_unavailable",
                    f"{job.provider} was asked to cancel the job and gave no answer ({reason}), so it may cancel it "
                    "or not; the job goes on until it says how the job ended. To ask again does no harm.",
                    headers={"retry-after": "5"},
                )
            case False:
                raise RefusalError(
                    409, "cannot_cancel", f"{job.provider} does not cancel the job any more and bills it; it goes on."
                )
        await self._store.hint(job.id)  # it is asked soon, not when a job of this kind is usually done
        return await self._store.job(job.id) or job

    def _cancellation(self, job: Job, status: int, outcome: str, message: str) -> Response:
        return JSONResponse({**self._views.job(job), "cancellation": {"outcome": outcome, "message": message}}, status)

    async def retry(self, request: Request) -> Response:
        """Ask once more for what a job did not bring: 202 with a new job, whose `retry_of` names the old one.

        Calls are told apart as those of a create are. Whether the old job is billed is for the caller to weigh.
        """
        caller = await self._callers.caller(request)
        job = await self._callers.job(request)
        if job.provider not in self._providers:
            raise RefusalError(
                409,
                "cannot_retry",
                f"{job.provider} is not configured here any more; send a new POST /v1/jobs to another provider.",
            )
        return await self._creating.create(
            request, caller, job, operation=f"jobs.retry:{job.id}", body={}, answer=self._accepted
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return JSONResponse(self._views.job(job), 202, {"location": self._views.url(job), **headers})

    async def deliveries(self, request: Request) -> Response:
        """List what the caller was told about a job, and every attempt to do so, oldest first."""
        job = await self._callers.job(request)
        owed = await self._deliveries.of(job.id)
        data = [self._views.delivery(delivery, attempts) for delivery, attempts in owed]
        return JSONResponse({"object": "list", "data": data})

    async def redeliver(self, request: Request) -> Response:
        """Send the newest message about a job once more: 202 with the delivery."""
        job = await self._callers.job(request)
        if job.notify_url is None:
            raise _nothing_to_deliver("The job has no notify_url; name one when you create a job.")
        if not job.state.final:
            raise _nothing_to_deliver(f"The job is {job.state}; its end is told when it has come.")
        again = await self._deliveries.redeliver(job.id)
        if again is None:
            raise RefusalError(
                409,
                "being_delivered",
                f"The message is being sent just now; {self._views.url(job)}/deliveries shows what comes of it.",
            )
        before = [attempts for each, attempts in await self._deliveries.of(job.id) if each.id == again.id]
        return JSONResponse(self._views.delivery(again, before[0] if before else []), 202)

    async def remirror(self, request: Request) -> Response:
        """Copy a video again that was given up as unavailable: 202 with the job, which is tried for a day."""
        asked = await self._callers.job(request)
        job = await self._store.remirror(asked.id, source="caller")
        if job is None:
            job = await self._store.job(asked.id) or asked
            ended = f"The job is {job.state}" + (f" with {job.error.code}" if job.error else "")
            raise RefusalError(
                409,
                "cannot_remirror",
                f"{ended}; only the video of a job that is failed with output_unavailable can be copied again.",
            )
        return JSONResponse(self._views.job(job), 202)


def _nothing_to_deliver(message: str) -> RefusalError:
    return RefusalError(409, "nothing_to_deliver", message)


def _how_cancelled(job: Job) -> str:
    if job.provider_job_id is not None:
        return f"{job.provider} cancelled the job{_BILLED[job.error.billable if job.error else Billable.UNKNOWN]}."
    if job.error is not None and job.error.billable is Billable.UNKNOWN:
        return (
            f"The job was cancelled before it was submitted again; {job.provider} may have accepted an earlier "
            "submission, and then bills it."
        )
    return "The job was cancelled before it was submitted; nothing is billed."


_BILLED = {
    Billable.YES: " and bills it",
    Billable.NO: " and does not bill it",
    Billable.UNKNOWN: "; whether it bills it is not known",
}


def _why_not(job: Job, *, able: bool) -> str:
    match job.state:
        case State.QUEUED:
            return (
                "The job was on its way to the provider a moment ago and is queued again; send the request once more."
            )
        case State.SUBMITTING if able:
            return (
                f"The job is being submitted to {job.provider}, which has not named it yet and cannot be asked to "
                "cancel it before; send the request again in a few seconds."
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
