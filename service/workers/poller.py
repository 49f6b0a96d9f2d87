"""Running jobs are asked about when their time comes: the rescue for every callback that never arrives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from service.backoff import Backoff, spread_ms
from service.clock import Clock
from service.errors import InterruptedWorkError
from service.model import Billable, ErrorCode, Job, JobError, Report, Source, Status
from service.providers import Unanswered
from service.store import Claims, Store
from service.workers import About, Outcome
from service.workers.asking import PacedProviders, about_job

_RESERVE = 0.1  # of the provider's pace is left to downloads: less than submissions leave, which never end
_AGE_SHARE = 20  # an old job is asked about every twentieth of its age
_SLOWEST_MS = 600_000
_JITTER = 0.1
_LOOK_AGAIN_MS = 86_400_000  # how long a job that we gave up on is still looked at


class Poller:
    """Polls jobs that run, and now and then those that we gave up on: their video may come after all."""

    name = "poll"

    def __init__(
        self,
        store: Store,
        claims: Claims,
        providers: PacedProviders,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._claims = claims
        self._providers = providers
        self._clock = clock
        self._chance = chance

    async def claim(self, limit: int) -> Sequence[Job]:
        """Lease as many due jobs as their providers may be asked about now."""
        return await self._providers.claim(self._claims.claim_polls, limit, reserve=_RESERVE)

    async def renew(self, item: Job) -> bool:
        """Keep the lease while the provider thinks."""
        return await self._claims.renew(item)

    def about(self, item: Job) -> About:
        """Say which job it is, and of whom."""
        return about_job(item)

    async def handle(self, item: Job) -> Outcome:
        """Ask, apply what was said, and if that was no last word, say when to ask again."""
        provider = self._providers[item.provider]
        answer = await provider.poll(item.provider_job_id or "")
        if isinstance(answer, Report) and answer.provider_job_id not in (None, item.provider_job_id):
            answer = Unanswered("the answer is about another job")  # a cache's mistake must not mix up two videos
        if isinstance(answer, Unanswered):
            self._providers.close_for(item.provider, answer.retry_after_ms)
            await self._later(item, self._after_error(item, answer.retry_after_ms), answered=False)
            return Outcome("unanswered", answer.reason)
        report: Report = replace(answer, provider_job_id=item.provider_job_id)
        manners = provider.manners
        await self._store.apply(
            item.id, report, Source.POLL, poll_ms=manners.poll_every_ms, retention_ms=manners.retention_ms
        )
        if report.status is Status.RUNNING:
            await self._later(item, self._interval(item, manners.poll_every_ms), answered=True)
        elif item.state.final:
            await self._claims.poll_again(item, None, answered=True)  # a last word; a video would have recovered it
        if not report.understood:
            return Outcome("unknown word", report.word)
        return Outcome(report.status.value, None if report.word == report.status else report.word)

    async def failed(self, item: Job, error: Exception) -> Outcome:
        """Ask again: at once after a restart, later after a fault of ours."""
        if isinstance(error, InterruptedWorkError):  # which must not be taken for silence, even at the deadline
            await self._claims.poll_again(item, self._clock.now(), answered=False)
            return Outcome("interrupted")
        await self._later(item, self._after_error(item, None), answered=False)
        return Outcome("later")

    def _interval(self, job: Job, poll_every_ms: int) -> int:
        age = self._clock.now() - (job.submitted_at or job.created_at)
        interval = max(poll_every_ms, min(age // _AGE_SHARE, _SLOWEST_MS))
        return spread_ms(interval, _JITTER, self._chance)

    def _after_error(self, job: Job, retry_after_ms: int | None) -> int:
        backoff = Backoff(self._providers[job.provider].manners.poll_every_ms, _SLOWEST_MS)
        return max(retry_after_ms or 0, backoff.delay_ms(job.attempt, self._chance))

    async def _later(self, job: Job, wait_ms: int, *, answered: bool) -> None:
        now = self._clock.now()
        if job.state.final:
            given_up = now >= job.deadline_at + _LOOK_AGAIN_MS
            await self._claims.poll_again(job, None if given_up else now + wait_ms, answered=answered)
        elif now >= job.deadline_at:
            error = JobError(
                ErrorCode.TIMED_OUT,
                "The provider did not say how the job ended before its deadline. It may still finish and bill it; "
                "if the video comes within a day, it is kept and this job completes.",
                retryable=True,
                billable=Billable.UNKNOWN,
            )
            await self._claims.expire(job, error, now + wait_ms)
        else:
            await self._claims.poll_again(job, min(now + wait_ms, job.deadline_at), answered=answered)
