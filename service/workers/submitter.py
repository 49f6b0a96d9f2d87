"""Queued jobs are submitted, once; submissions whose outcome is unknown are waited for, never repeated unasked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from structlog.typing import FilteringBoundLogger

from service.backoff import Backoff
from service.clock import Clock
from service.errors import StoreUnavailableError
from service.model import Billable, ErrorCode, Job, JobError, OnUnknown, Source, Status
from service.providers import Accepted, InDoubt, Refused, TurnedAway
from service.store import Claims, Store
from service.workers import About, Outcome, Pause
from service.workers.asking import PacedProviders, about_job

_RESERVE = 0.25  # of the provider's pace is left to polls and downloads: what is paid for goes before new spending


class Submitter:
    """Makes the paid call for queued jobs, after the claim that says so is committed.

    `callback_url` makes the address at which a provider reports about a job, from the provider's name and the job's id.
    """

    name = "submit"
    turned_away = Backoff(first_ms=2_000, most_ms=300_000)

    def __init__(
        self,
        store: Store,
        claims: Claims,
        providers: PacedProviders,
        callback_url: Callable[[str, str], str],
        clock: Clock,
        chance: random.Random,
        log: FilteringBoundLogger,
        *,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._store = store
        self._claims = claims
        self._providers = providers
        self._callback_url = callback_url
        self._clock = clock
        self._chance = chance
        self._log = log
        self._pause = pause

    async def claim(self, limit: int) -> Sequence[Job]:
        """Lease as many queued jobs as their providers may be asked for now."""
        return await self._providers.claim(self._claims.claim_queued, limit, reserve=_RESERVE)

    async def renew(self, item: Job) -> bool:
        """Keep the lease while the provider thinks, and go on even if it was lost.

        A paid call that is cut off is a paid job whose id nobody knows. Whoever took the row meanwhile can only have
        marked it as doubtful, and all that we write is guarded by the state and the attempt, not by the lease.
        """
        await self._claims.renew(item)
        return True

    def about(self, item: Job) -> About:
        """Say which job it is, and of whom; the first time also for how long it was queued."""
        first = item.attempt == 1 and not item.doubts and item.submitted_at is not None
        return replace(about_job(item), overdue_ms=(item.submitted_at or 0) - item.created_at if first else None)

    async def handle(self, item: Job) -> Outcome:
        """Submit the job and store which of the outcomes it was."""
        provider = self._providers[item.provider]
        submission = await provider.submit(item, self._callback_url(provider.name, item.id))
        match submission:
            case Accepted(provider_job_id, report):
                first_poll_ms = provider.manners.first_poll_ms
                await self._record(
                    item,
                    lambda: self._store.submitted(item.id, provider_job_id, report.word, first_poll_ms=first_poll_ms),
                    provider_job_id=provider_job_id,
                )
                if report.status is not Status.RUNNING:
                    await self._store.apply(
                        item.id,
                        report,
                        Source.SUBMISSION,
                        poll_ms=provider.manners.poll_every_ms,
                        retention_ms=provider.manners.retention_ms,
                    )
                return Outcome("accepted")
            case Refused(error):
                await self._record(item, lambda: self._claims.refused(item, error), refused=error.code)
                return Outcome("refused", error.code)
            case TurnedAway(reason, retry_after_ms):
                self._providers.close_for(provider.name, retry_after_ms)
                wait = max(retry_after_ms or 0, self.turned_away.delay_ms(item.attempt, self._chance))
                due_at = self._clock.now() + wait
                await self._record(item, lambda: self._claims.turned_away(item, due_at, reason), turned_away=reason)
                return Outcome("turned away", reason)
            case InDoubt(reason):
                await self._record(item, lambda: self._claims.in_doubt(item, reason), in_doubt=reason)
                return Outcome("in doubt", reason)

    async def failed(self, item: Job, error: Exception) -> Outcome:
        """Whatever happened, the provider may have the job."""
        reason = f"the submission was cut short ({type(error).__name__})"
        await self._claims.in_doubt(item, reason)
        return Outcome("in doubt", reason)

    async def _record(self, job: Job, write: Callable[[], Awaitable[object]], **answer: str) -> None:
        """Store what the provider answered, however long the database takes to come back: it is nowhere else.

        Forgotten, the id of a paid job would be lost, and a call that was provably turned away would count as doubtful.
        """
        wait = 0.1
        while True:
            try:
                await write()
            except StoreUnavailableError as error:
                self._log.error(
                    "submission.not_recorded_yet",
                    job=job.id,
                    provider=job.provider,
                    **answer,
                    error=str(error),
                )
                await self._pause(wait)
                wait = min(wait * 2, 5.0)
            else:
                return


class DoubtResolver:
    """Ends what nobody else ends: submissions in doubt or without a worker, and jobs of a provider not `served`."""

    name = "resolve"

    def __init__(self, claims: Claims, served: Sequence[str]) -> None:
        self._claims = claims
        self._served = served

    async def claim(self, limit: int) -> Sequence[Job]:
        """Lease submissions that nobody is making any more; end what waited too long for a provider to come back."""
        await self._claims.give_up_unserved(self._served, limit)
        return await self._claims.claim_doubtful(limit)

    async def renew(self, item: Job) -> bool:
        """Keep the lease."""
        return await self._claims.renew(item)

    def about(self, item: Job) -> About:
        """Say which job it is, and of whom."""
        return about_job(item)

    async def handle(self, item: Job) -> Outcome:
        """Mark a submission that a crash cut off as doubtful; resubmit or give up one that stayed silent."""
        if item.doubted_at is None:
            reason = "the service stopped during the submission"
            await self._claims.in_doubt(item, reason)
            return Outcome("in doubt", reason)
        if item.on_unknown is OnUnknown.RESUBMIT and item.doubts == 1:
            await self._claims.resubmit(item)
            return Outcome("resubmitted")
        error = JobError(
            ErrorCode.SUBMISSION_UNKNOWN,
            "The provider's answer to the submission was lost and no callback came: it may have made and billed the "
            "video. An operator who finds the job there can bind it: reelkeeper jobs attach JOB PROVIDER_JOB_ID",
            billable=Billable.UNKNOWN,
        )
        await self._claims.give_up_submission(item, error)
        return Outcome("gave up", error.code)

    async def failed(self, item: Job, error: Exception) -> Outcome:  # noqa: ARG002 - the lease lapses, and it is tried again
        """Leave it to the next claim."""
        return Outcome("later")
