"""The desk at the database on this machine; what changes there is seen by a service that runs beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from service.clock import Clock
from service.commands.desk import DeskError, Page, Search, View, no_job, no_key, no_receiver, retried_before
from service.model import Job
from service.records import Records
from service.store import Created, JobDeleted, OutOfCredits, Wanted
from service.web.acting import Acting, by_hand
from service.web.callers import is_job_id
from service.web.creating import Creating, why_not_retriable
from service.web.keys import KeyBody, create_key, key_view, revoke_key
from service.web.receivers import receiver_meant, receiver_view, redeliver_all, redelivery_view, tenant_meant
from service.web.refusals import RefusalError
from service.web.rejections import rejection_view
from service.web.views import Views

_LOOK_SECONDS = 1.0


class LocalDesk:
    """Works with `records`. `pause` waits between two looks at a job that is followed."""

    def __init__(
        self,
        records: Records,
        *,
        views: Views,
        database: str,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.where = f"in {database}"
        self._records = records
        self._views = views
        self._pause = pause
        self._acting = Acting(
            store=records.store,
            deliveries=records.deliveries,
            creating=Creating(records.store, clock, records.ids),
            providers={},  # none is asked from here
            views=views,
            clock=clock,
        )

    async def jobs(self, search: Search, *, go_on: str | None, limit: int) -> Page:
        """Return a page of jobs, as many as `limit` or fewer; `go_on` continues after the page before."""
        wanted = Wanted(
            state=search.state,
            provider=search.provider,
            model=search.model,
            error=search.error,
            text=search.text,
            created_after=search.created_after,
        )
        found = await self._records.store.find(search.tenant, wanted, before_id=go_on, limit=limit)
        return Page([self._views.job(job) for job in found.jobs], found.go_on)

    async def job(self, job_id: str) -> View:
        """Return a job."""
        return self._views.job(await self._job(job_id))

    async def retries(self, job_id: str) -> list[str] | None:
        """Return the newest jobs that retried this one, newest first."""
        return await self._records.store.retries(job_id)

    async def events(self, job_id: str) -> list[View]:
        """Return what happened to a job, oldest first."""
        return [self._views.event(each) for each in await self._records.store.events(job_id)]

    async def follow(self, job_id: str) -> AsyncIterator[View]:
        """Yield what happened to a job, and what happens, until the job has ended."""
        after = 0
        while True:
            job = await self._job(job_id)  # before its events, so that what ended it is among them
            for event in await self._records.store.events(job_id, after):
                after = event.id
                yield self._views.event(event)
            if job.state.final:
                return
            await self._pause(_LOOK_SECONDS)

    async def receipts(self, job_id: str) -> list[View]:
        """Return the genuine callbacks about a job, oldest first."""
        return [self._views.receipt(each) for each in await self._records.store.receipts(job_id)]

    async def deliveries(self, job_id: str) -> list[View]:
        """Return what a job's caller was told, with every attempt, oldest first."""
        owed = await self._records.deliveries.of(job_id)
        return [self._views.delivery(delivery, attempts) for delivery, attempts in owed]

    async def cancel(self, job_id: str) -> View:
        """Cancel a job; return it with its `cancellation`, which says what that meant."""
        with _refusals(job_id):
            done = await self._acting.cancel(await self._job(job_id))
        return self._views.cancellation(done.job, done.message, asked=done.asked)

    async def retry(self, job_id: str) -> tuple[View, bool]:
        """Return the job that repeats one that brought no video, and whether somebody had it made by hand before."""
        job = await self._job(job_id)
        made = await self._records.store.retry(job, by_hand(job))
        if isinstance(made, OutOfCredits):
            said = f"the account at {made.provider} is out of credits; add some, and try again after a minute"
            raise DeskError(f"{job_id}: {said}", "provider_credits")
        if isinstance(made, JobDeleted):
            await self._job(job_id)  # or it is this one that was deleted
            raise retried_before(job_id)
        if not isinstance(made, Created):
            raise DeskError(f"{job_id}: {why_not_retriable(await self._job(job_id))}", "cannot_retry")
        return self._views.job(made.job), made.replayed

    async def attach(self, job_id: str, provider_job_id: str) -> View:
        """Bind a provider's id to a job; return the job."""
        with _refusals(job_id):
            return self._views.job(await self._acting.attach(await self._job(job_id), provider_job_id))

    async def remirror(self, job_id: str) -> View:
        """Have a job's output copied again; return the job."""
        with _refusals(job_id):
            return self._views.job(await self._acting.remirror(await self._job(job_id), source="operator"))

    async def redeliver(self, job_id: str) -> View:
        """Have the newest message about a job sent again; return the delivery."""
        with _refusals(job_id):
            return self._views.delivery(*await self._acting.redeliver(await self._job(job_id)))

    async def rejected(self, job_id: str | None, limit: int) -> list[View]:
        """Return rejected callbacks, newest first."""
        return [rejection_view(each) for each in await self._records.rejections.page(job_id=job_id, limit=limit)]

    async def receivers(self, limit: int) -> tuple[list[View], bool]:
        """Return receivers that do not take what they are told, 100 at most, and whether there are more."""
        found = await self._records.deliveries.failing(None, limit=limit + 1)
        return [receiver_view(each) for each in found[:limit]], len(found) > limit

    async def redeliver_all(self, receiver: str, tenant: str | None) -> View:
        """Send all again that a receiver did not take; return how much that is."""
        receiver = receiver_meant(receiver)
        try:
            with _refusals(receiver):
                tenant = tenant or await tenant_meant(self._records.deliveries, receiver)
                done = await redeliver_all(self._records.deliveries, tenant, receiver)
        except DeskError as error:
            raise no_receiver(receiver, self.where) if error.code == "receiver_not_found" else error from None
        return redelivery_view(tenant, receiver, done)

    async def keys(self) -> list[View]:
        """Return every API key, oldest first, without the keys themselves."""
        return [key_view(each) for each in await self._records.keys.all()]

    async def create_key(self, wanted: KeyBody) -> View:
        """Make an API key; return it with the `key` itself, this once."""
        made, secret = await create_key(self._records.keys, wanted)
        return {**key_view(made), "key": secret}

    async def revoke_key(self, key_id: str) -> View:
        """Make an API key useless; return it."""
        key = await revoke_key(self._records.keys, key_id)
        if key is None:
            raise no_key(key_id, self.where)
        return key_view(key)

    async def _job(self, job_id: str) -> Job:
        job = await self._records.store.job(job_id) if is_job_id(job_id) else None
        if job is None:
            raise no_job(job_id, self.where)
        return job


@contextmanager
def _refusals(about: str) -> Iterator[None]:
    """Tell a refusal of the API's in its own words."""
    try:
        yield
    except RefusalError as error:
        raise DeskError(f"{about}: {error.message}", error.code) from None
