"""What can be done with a job that is there, for the API and for the pages alike: each wish is one method.

Each takes the job as it was just read, and returns what came of it or raises RefusalError with what the job's reader
can do instead. Why a wish would be refused now is also told without trying, for the buttons of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.clock import Clock
from service.model import (
    ApiKey,
    Billable,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    ErrorCode,
    Job,
    Problem,
    State,
    is_provider_job_id,
)
from service.providers import Cancels, Provider, Unanswered
from service.store import Created, Deliveries, Idempotency, Store, retriable
from service.web.creating import Creating, fingerprint_of, why_not_retriable
from service.web.refusals import RefusalError, invalid_request
from service.web.views import Views

OPERATION = "jobs.retry:{}"
"""What a retry of a job is called, by which calls are told apart."""

BY_HAND = "by-hand"
"""The idempotency key of every retry that people ask for: one job is repeated once, from whatever page or command."""

PROVIDER_JOB_ID = "1 to 512 letters, digits or ._~:/- as the provider shows it, for example gen-1a2b3c"
"""What a provider's name for a job can be, in words that complete "must be …"."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What cancelling a job meant, in words too; `asked` its provider only, and the job goes on until it says more."""

    job: Job
    asked: bool
    message: str


def by_hand(job: Job) -> Idempotency:
    """Return what makes one call of all retries of a job that people ask for."""
    return Idempotency(BY_HAND, OPERATION.format(job.id), fingerprint_of({}))


class Acting:
    """Does with a job what somebody who may see it asks for."""

    def __init__(
        self,
        *,
        store: Store,
        deliveries: Deliveries,
        creating: Creating,
        providers: Mapping[str, Provider],
        views: Views,
        clock: Clock,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._creating = creating
        self._providers = providers
        self._views = views
        self._clock = clock

    def hindrances(self, job: Job, owed: Sequence[Delivery]) -> dict[str, str | None]:
        """Return for each wish why it would be refused now, None when it would not; `owed` is all about the job."""
        return {
            "cancel": self._why_no_cancel(job),
            "retry": self._why_no_retry(job),
            "redeliver": _why_no_redelivery(job, owed),
            "remirror": _why_no_remirror(job),
            "attach": _why_no_attach(job, self._clock.now()),
        }

    async def cancel(self, asked: Job) -> Cancellation:
        """Cancel a job, or ask its provider to. Cancelling a cancelled job again changes nothing and is no error.

        Raises RefusalError (409 `cannot_cancel`, 503 `provider_unavailable`).
        """
        job = await self._store.cancel(asked.id) or await self._store.job(asked.id) or asked
        provider = self._providers.get(job.provider)
        able = isinstance(provider, Cancels)
        if isinstance(provider, Cancels) and job.state is State.RUNNING and job.provider_job_id is not None:
            job = await self._ask_to_cancel(provider, job, job.provider_job_id)
            if job.state is not State.CANCELLED:
                message = f"{job.provider} was asked to cancel the job, which goes on until it says how the job ended."
                return Cancellation(job, asked=True, message=message)
        if job.state is not State.CANCELLED:
            raise RefusalError(409, "cannot_cancel", _uncancellable(job, able=able))
        return Cancellation(job, asked=False, message=_how_cancelled(job))

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

    def _why_no_cancel(self, job: Job) -> str | None:
        able = isinstance(self._providers.get(job.provider), Cancels)
        if job.state is State.QUEUED or (able and job.state is State.RUNNING):
            return None
        return _uncancellable(job, able=able)

    def require_provider(self, job: Job) -> None:
        """Refuse to ask once more what nobody is there to be asked. Raises RefusalError (409 `cannot_retry`)."""
        if job.provider not in self._providers:
            raise RefusalError(409, "cannot_retry", _unserved(job))

    async def retry(self, job: Job, caller: ApiKey, key: str) -> Created:
        """Ask once more for what a job did not bring, once for all calls with the same idempotency key.

        Raises RefusalError (402, 409, 410, 429), as a create does.
        """
        self.require_provider(job)
        return await self._creating.once(key, caller, job, operation=OPERATION.format(job.id), body={})

    def _why_no_retry(self, job: Job) -> str | None:
        if job.provider not in self._providers:
            return _unserved(job)
        return None if retriable(job) else why_not_retriable(job)

    async def redeliver(self, job: Job) -> tuple[Delivery, Sequence[DeliveryAttempt]]:
        """Send the newest message about a job once more; return it with the newest attempts so far.

        Raises RefusalError (409 `nothing_to_deliver`, `being_delivered`).
        """
        nothing = _nothing_to_deliver(job)
        if nothing is not None:
            raise RefusalError(409, "nothing_to_deliver", nothing)
        again = await self._deliveries.redeliver(job.id)
        if again is None:
            where = f"{self._views.url(job)}/deliveries shows what comes of it."
            raise RefusalError(409, "being_delivered", f"{_BEING_DELIVERED}; {where}")
        return again, await self._deliveries.attempts(again.id)

    async def remirror(self, asked: Job, *, source: str) -> Job:
        """Copy a video again that was given up as unavailable, for a day; `source` is who wants it.

        Raises RefusalError (409 `cannot_remirror`).
        """
        job = await self._store.remirror(asked.id, source=source)
        if job is None:
            job = await self._store.job(asked.id) or asked
            raise RefusalError(409, "cannot_remirror", _unremirrorable(job))
        return job

    async def attach(self, asked: Job, provider_job_id: str) -> Job:
        """Bind an id that somebody found at the provider; the provider is asked about it at once.

        It takes the place of one that was attached before, until a report confirms that one. To bind the same again
        changes nothing and is no error. Raises RefusalError (400 `invalid_request`, 409 `cannot_attach`).
        """
        if not is_provider_job_id(provider_job_id):
            raise invalid_request([Problem("provider_job_id", f"must be {PROVIDER_JOB_ID}")])
        job = await self._store.attach(asked.id, provider_job_id)
        if job is None:
            job = await self._store.job(asked.id) or asked
            if job.provider_job_id != provider_job_id:
                taken = f"Another job is bound to {provider_job_id} already; look the id up at {job.provider} again."
                raise RefusalError(409, "cannot_attach", _why_no_attach(job, self._clock.now()) or taken)
        return job


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


def _uncancellable(job: Job, *, able: bool) -> str:
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


def _unserved(job: Job) -> str:
    return f"{job.provider} is not configured here any more; send a new POST /v1/jobs to another provider."


_BEING_DELIVERED = "The message is being sent just now"


def _nothing_to_deliver(job: Job) -> str | None:
    if job.notify_url is None:
        return "The job has no notify_url; name one when you create a job."
    return None if job.state.final else f"The job is {job.state}; its end is told when it has come."


def _why_no_redelivery(job: Job, owed: Sequence[Delivery]) -> str | None:
    # A lease that lapsed is not looked at: the message is sent again by itself then.
    sending = bool(owed) and owed[-1].state is DeliveryState.PENDING and owed[-1].lease is not None
    return _nothing_to_deliver(job) or (f"{_BEING_DELIVERED}." if sending else None)


def _unremirrorable(job: Job) -> str:
    ended = f"The job is {job.state}" + (f" with {job.error.code}" if job.error else "")
    return f"{ended}; only the video of a job that is failed with output_unavailable can be copied again."


def _why_no_remirror(job: Job) -> str | None:
    given_up = job.error is not None and job.error.code is ErrorCode.OUTPUT_UNAVAILABLE
    return None if given_up else _unremirrorable(job)


def _why_no_attach(job: Job, now: int) -> str | None:
    if job.provider_job_id is not None and not job.unconfirmed:
        return f"The job is bound to {job.provider_job_id}, which is for good."
    if job.submitted_at is None:
        return f"The job was never submitted, so {job.provider} has no id for it."
    if job.state is State.SUBMITTING and job.doubted_at is None and now < (job.leased_until or 0):
        return (
            f"The job is being submitted to {job.provider} just now, whose answer names its id; attach one when the "
            "answer is known to be lost, in a few minutes at most."
        )
    unknown = job.error is not None and job.error.code is ErrorCode.SUBMISSION_UNKNOWN
    if not job.state.final or job.state is State.EXPIRED or unknown:
        return None
    ended = f" with {job.error.code}" if job.error else ""
    return f"The job has ended as {job.state}{ended}; only one whose submission has an unknown outcome can be bound."
