"""A store with a clock that stands still, and the legal ways to bring a job into every state."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.clock import ManualClock
from service.db import Database
from service.ids import Ids
from service.model import (
    Artifact,
    ErrorCode,
    Job,
    JobError,
    OnUnknown,
    Output,
    Report,
    Source,
    State,
    Status,
    VideoRequest,
)
from service.store import (
    Claims,
    Created,
    Deliveries,
    Idempotency,
    KeyStore,
    Ledger,
    NewJob,
    Receipt,
    Sessions,
    Statistics,
    Store,
    Timing,
    Verdict,
)

TIMING = Timing()
POLL_MS = 10_000
RETENTION_MS = 3_600_000
FIRST_POLL_MS = 30_000
GONE = JobError(ErrorCode.OUTPUT_UNAVAILABLE, "gone")
UNKNOWN = JobError(ErrorCode.SUBMISSION_UNKNOWN, "nobody knows")
REFUSED = JobError(ErrorCode.CONTENT_POLICY, "no")
TIMED_OUT = JobError(ErrorCode.TIMED_OUT, "silent")
ENDED = {
    Status.FAILED: JobError(ErrorCode.PROVIDER_FAILED, "failed there"),
    Status.CANCELLED: JobError(ErrorCode.CANCELLED, "cancelled there"),
    Status.EXPIRED: JobError(ErrorCode.EXPIRED, "expired there"),
}


def report(status: Status, provider_job_id: str, *, outputs: int = 1, cost: float | None = None) -> Report:
    return Report(
        status=status,
        word=status,
        provider_job_id=provider_job_id,
        outputs=tuple(Output(i) for i in range(outputs)) if status is Status.COMPLETED else (),
        cost=cost,
        error=ENDED.get(status),
    )


def artifact(index: int = 0) -> Artifact:
    return Artifact(index, f"acme/2026/09/{index}.mp4", 1000, f"{index:064x}", "video/mp4")


class World:
    """A store, what it announced, and shortcuts. `sql` runs a raw statement beside the store and commits it."""

    def __init__(
        self, database: Database, clock: ManualClock, sql: Callable[..., Sequence[Mapping[str, Any]]], seed: int = 7
    ) -> None:
        self.database = database
        self.clock = clock
        self.sql = sql
        self.announced: list[State] = []
        self.ids = Ids(clock, random.Random(seed))  # noqa: S311 - names that repeat
        self.ledger = Ledger(database, clock, self.announced.append)
        self.store = Store(self.ledger, self.ids)
        self.claims = Claims(self.ledger, self.ids)
        self.keys = KeyStore(database, clock, self.ids)
        self.deliveries = Deliveries(self.ledger, self.ids)
        self.statistics = Statistics(self.ledger)
        self.sessions = Sessions(database, clock, self.ids)

    # What is asked

    async def create(self, new: NewJob, idempotency: Idempotency | None = None) -> Job:
        created = await self.store.create_job(new, idempotency)
        assert isinstance(created, Created)
        return created.job

    async def apply(self, job: Job, said: Report, source: Source = Source.CALLBACK) -> Verdict:
        return await self.store.apply(job.id, said, source, poll_ms=POLL_MS, retention_ms=RETENTION_MS)

    async def receive(self, job: Job, said: Report, body: bytes = b"{}") -> Verdict:
        receipt = Receipt({"x-signature": "s"}, body, self.clock.now())
        return await self.store.receive(job.id, said, receipt, poll_ms=POLL_MS, retention_ms=RETENTION_MS)

    async def submitted(self, job: Job, provider_job_id: str, first_poll_ms: int = FIRST_POLL_MS) -> Job | None:
        return await self.store.submitted(job.id, provider_job_id, "pending", first_poll_ms=first_poll_ms)

    async def now(self, job: Job) -> Job:
        """Read the job as it is now."""
        found = await self.store.job(job.id)
        assert found is not None
        return found

    async def reports(self) -> dict[str, dict[Source, int]]:
        """Count how the last words about jobs came today."""
        reports = (await self.statistics.overview()).reports
        return {name: {source: sum(times) for source, times in of.items()} for name, of in reports.items()}

    async def history(self, job: Job) -> list[str]:
        return [event.type.removeprefix("job.") for event in await self.store.events(job.id)]

    # How a job comes into a state; a worker holds it (its lease is in the row) wherever a worker can

    async def queued(self, provider: str = "alpha", on_unknown: OnUnknown = OnUnknown.WAIT, model: str = "m") -> Job:
        return await self.create(NewJob("acme", provider, VideoRequest(model=model, prompt="a fox"), on_unknown))

    async def queued_again(self, provider: str = "alpha", on_unknown: OnUnknown = OnUnknown.WAIT) -> Job:
        job = await self.submitting(provider, on_unknown)
        return sure(await self.claims.turned_away(job, self.clock.now(), "busy"))

    async def submitting(self, provider: str = "alpha", on_unknown: OnUnknown = OnUnknown.WAIT) -> Job:
        job = await self.queued(provider, on_unknown)
        return held(job, await self.claims.claim_queued(provider, 1000))

    async def doubted(self, provider: str = "alpha", on_unknown: OnUnknown = OnUnknown.RESUBMIT) -> Job:
        job = sure(await self.claims.in_doubt(await self.submitting(provider, on_unknown), "reset"))
        assert job.due_at is not None
        self.clock.advance(job.due_at - self.clock.now())
        return held(job, await self.claims.claim_doubtful(1000))

    async def resubmitted(self, provider: str = "alpha") -> Job:
        """Return a job whose second submission is being made."""
        job = sure(await self.claims.resubmit(await self.doubted(provider)))
        return held(job, await self.claims.claim_queued(provider, 1000))

    async def running(self, provider: str = "alpha") -> Job:
        job = await self.submitting(provider)
        await self.submitted(job, f"at-{job.id}")
        await self.store.hint(job.id)
        return held(job, await self.claims.claim_polls(provider, 1000))

    async def mirroring(self, provider: str = "alpha", outputs: int = 1) -> Job:
        job = await self.running(provider)
        assert job.provider_job_id is not None
        said = report(Status.COMPLETED, job.provider_job_id, outputs=outputs)
        assert await self.apply(job, said) is Verdict.APPLIED
        return held(job, await self.claims.claim_mirrors(provider, 1000))

    async def mirrored(self, provider: str = "alpha") -> Job:
        """Return a mirroring job whose output is in storage."""
        job = await self.mirroring(provider)
        assert await self.claims.keep_artifact(job, artifact())
        return job

    async def completed(self, provider: str = "alpha") -> Job:
        return sure(await self.claims.mirrored(await self.mirrored(provider)))

    async def failed(self, provider: str = "alpha") -> Job:
        return sure(await self.claims.refused(await self.submitting(provider), REFUSED))

    async def failed_unknown(self, provider: str = "alpha") -> Job:
        job = await self.doubted(provider, OnUnknown.WAIT)
        return sure(await self.claims.give_up_submission(job, UNKNOWN))

    async def failed_attached(self, provider: str = "alpha") -> Job:
        job = await self.failed_unknown(provider)
        sure(await self.store.attach(job.id, f"at-{job.id}"))
        return held(job, await self.claims.claim_polls(provider, 1000))

    async def attached(self, provider: str = "alpha") -> Job:
        """Return a running job whose id an operator found, of which nobody has said a word yet."""
        job = await self.doubted(provider, OnUnknown.WAIT)
        sure(await self.store.attach(job.id, f"at-{job.id}"))
        return held(job, await self.claims.claim_polls(provider, 1000))

    async def expired_attached(self, provider: str = "alpha") -> Job:
        job = sure(await self.claims.expire(await self.attached(provider), TIMED_OUT, self.clock.now()))
        return held(job, await self.claims.claim_polls(provider, 1000))

    async def failed_unavailable(self, provider: str = "alpha") -> Job:
        return sure(await self.claims.give_up_mirror(await self.mirroring(provider), GONE))

    async def cancelled(self, provider: str = "alpha") -> Job:
        return sure(await self.store.cancel((await self.queued(provider)).id))

    async def expired(self, provider: str = "alpha") -> Job:
        job = sure(await self.claims.expire(await self.running(provider), TIMED_OUT, self.clock.now()))
        return held(job, await self.claims.claim_polls(provider, 1000))


def held(job: Job, claimed: Sequence[Job]) -> Job:
    """Return the job from what was claimed."""
    return next(found for found in claimed if found.id == job.id)


def sure(job: Job | None) -> Job:
    """Return a job that must have been moved."""
    assert job is not None
    return job
