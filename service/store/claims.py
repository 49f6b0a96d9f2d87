"""The domain's sentences for workers: they lease rows that are due, and what they write is fenced by that lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from service.db import Row
from service.ids import Ids
from service.model import Artifact, Billable, ErrorCode, Job, JobError, State
from service.store.erasures import files_of
from service.store.inputs import whole_request
from service.store.transaction import Ledger, Timing, Transaction, dumps, error_columns


class Claims:
    """What workers may do with jobs that they hold: a job back means that it happened, None that the lease is lost."""

    def __init__(self, ledger: Ledger, ids: Ids, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._ids = ids
        self._timing = timing or Timing()

    async def renew(self, job: Job) -> bool:
        """Keep a lease; False when it was lost."""
        until = self._ledger.clock.now() + self._timing.lease
        return (
            await self._ledger.db.run(lambda tx: tx.one("renew", id=job.id, lease=job.lease, until=until)) is not None
        )

    # Submitter

    async def claim_queued(self, provider: str, limit: int) -> list[Job]:
        """Lease jobs to submit, and expire those that waited too long. Committed before any paid call is made."""

        def work(tx: Transaction) -> list[Job]:
            for doubted, billable in ((False, Billable.NO), (True, Billable.UNKNOWN)):
                error = JobError(
                    ErrorCode.EXPIRED, "not submitted before its deadline", retryable=True, billable=billable
                )
                late = {"provider": provider, "doubted": doubted, "now": tx.now, "limit": limit}
                for row in tx.all("expire_queued", **late, **error_columns(error)):
                    tx.entered(row["id"], State.EXPIRED, code=error.code)
            rows = self._claim(tx, "claim_queued", limit, provider=provider)
            jobs = [tx.entered(row["id"], State.SUBMITTING) for row in rows]
            return [replace(job, request=whole_request(tx, job)) for job in jobs]

        return await self._ledger.write(work)

    async def claim_doubtful(self, limit: int) -> list[Job]:
        """Lease submissions whose worker died (`doubted_at` is None) or whose wait for a callback is over."""
        return await self._ledger.write(
            lambda tx: [tx.job(row["id"]) for row in self._claim(tx, "claim_doubtful", limit)]
        )

    async def turned_away(self, job: Job, due_at: int, reason: str) -> Job | None:
        """Put a job back in the queue that the provider provably did not accept."""
        return await self._move("turned_away", job, State.QUEUED, {"due_at": due_at}, reason=reason)

    async def refused(self, job: Job, error: JobError) -> Job | None:
        """End a job that the provider refused."""
        if job.doubts:  # an earlier submission may have been accepted, and billed
            error = replace(error, billable=Billable.UNKNOWN)

        def work(tx: Transaction) -> Job | None:
            if not tx.one("refused", id=job.id, attempt=job.attempt, now=tx.now, **error_columns(error)):
                return None
            if error.code is ErrorCode.PROVIDER_CREDITS:
                tx.do("note_poor_provider", provider=job.provider, now=tx.now)
            return tx.entered(job.id, State.FAILED, code=error.code)

        return await self._ledger.write(work)

    async def in_doubt(self, job: Job, reason: str) -> Job | None:
        """Note that nobody knows whether the provider accepted the job; it stays `submitting`."""

        def work(tx: Transaction) -> Job | None:
            marked = tx.one(
                "in_doubt",
                id=job.id,
                attempt=job.attempt,
                now=tx.now,
                deadline_ms=self._timing.job_deadline,
                resubmit_after_ms=self._timing.resubmit_after,
            )
            if marked is None:
                return None
            tx.event(job.id, "job.in_doubt", reason=reason)
            return tx.job(job.id)

        return await self._ledger.write(work)

    async def resubmit(self, job: Job) -> Job | None:
        """Queue a silent submission again, once, if its caller chose so."""
        deadline = {"deadline_ms": self._timing.job_deadline}
        return await self._move("resubmit", job, State.QUEUED, deadline, reason="resubmit")

    async def give_up_submission(self, job: Job, error: JobError) -> Job | None:
        """End a job of which nobody ever learned whether the provider accepted it."""
        return await self._move("give_up_submission", job, State.FAILED, error_columns(error), code=error.code)

    async def give_up_unserved(self, served: Sequence[str], limit: int) -> None:
        """End jobs past their time whose provider was removed from the settings: no other worker looks at them."""
        left = "its provider was removed from the service's settings"
        unsent = JobError(ErrorCode.EXPIRED, f"not submitted before its deadline: {left}", billable=Billable.NO)
        unheard = JobError(ErrorCode.TIMED_OUT, f"nobody said how the job ended: {left}")
        uncopied = JobError(ErrorCode.OUTPUT_UNAVAILABLE, f"the video was not copied: {left}", billable=Billable.YES)

        def work(tx: Transaction) -> None:
            common = {"served": dumps(served), "now": tx.now, "limit": limit}
            for state, error in ((State.QUEUED, unsent), (State.RUNNING, unheard)):
                for doubted in (False, True):
                    told = replace(error, billable=Billable.UNKNOWN) if doubted else error
                    wanted = {"state": state, "doubted": doubted}
                    for row in tx.all("expire_unserved", **common, **wanted, **error_columns(told)):
                        tx.entered(row["id"], State.EXPIRED, code=told.code)
            for row in tx.all("give_up_unserved", **common, **error_columns(uncopied)):
                tx.entered(row["id"], State.FAILED, code=uncopied.code)

        await self._ledger.write(work)

    # Poller

    async def claim_polls(self, provider: str, limit: int) -> list[Job]:
        """Lease jobs to ask the provider about: running ones, and those we gave up on that are looked at again."""
        return await self._ledger.write(
            lambda tx: [tx.job(row["id"]) for row in self._claim(tx, "claim_polls", limit, provider=provider)]
        )

    async def poll_again(self, job: Job, due_at: int | None, *, answered: bool) -> bool:
        """Give the lease back and look again at `due_at` (None, for a given-up job only: never)."""
        row = await self._ledger.db.run(
            lambda tx: tx.one("poll_again", id=job.id, lease=job.lease, due_at=due_at, answered=answered)
        )
        return row is not None

    async def expire(self, job: Job, error: JobError, look_again_at: int | None) -> Job | None:
        """End a running job that stayed silent past its deadline; it is still looked at from time to time."""
        return await self._move("expire_running", job, State.EXPIRED, error_columns(error), {"due_at": look_again_at})

    # Mirror

    async def claim_mirrors(self, provider: str, limit: int) -> list[Job]:
        """Lease jobs whose outputs are to be copied."""
        return await self._ledger.write(
            lambda tx: [tx.job(row["id"]) for row in self._claim(tx, "claim_mirrors", limit, provider=provider)]
        )

    async def keep_artifact(self, job: Job, artifact: Artifact) -> bool:
        """Record that one output is in storage; False when the lease was lost."""
        columns = asdict(artifact) | {"footage": None if artifact.footage is None else dumps(asdict(artifact.footage))}

        def work(tx: Transaction) -> bool:
            if not tx.do("upsert_artifact", job_id=job.id, lease=job.lease, now=tx.now, **columns):
                return False
            for key in files_of(artifact):
                tx.do("cancel_erasure", id=key)
            return True

        return await self._ledger.write(work)

    async def mirrored(self, job: Job) -> Job | None:
        """Complete a job all of whose outputs have their artifact."""
        return await self._move("mirrored", job, State.COMPLETED, {})

    async def mirror_again(self, job: Job, due_at: int, mirror_until: int | None = None) -> bool:
        """Give the lease back and copy again at `due_at`; do not give up before `mirror_until`, if that is given."""
        row = await self._ledger.db.run(
            lambda tx: tx.one("mirror_again", id=job.id, lease=job.lease, due_at=due_at, mirror_until=mirror_until)
        )
        return row is not None

    async def give_up_mirror(self, job: Job, error: JobError) -> Job | None:
        """End a job whose outputs can no longer be had."""
        return await self._move("give_up_mirror", job, State.FAILED, error_columns(error), code=error.code)

    def _claim(self, tx: Transaction, query: str, limit: int, **parameters: object) -> list[Row]:
        lease = self._ids.new("lease")
        until = tx.now + self._timing.lease
        rows = tx.all(query, now=tx.now, limit=limit, lease=lease, until=until, **parameters)
        return sorted(rows, key=lambda row: str(row["id"]))

    async def _move(
        self, query: str, job: Job, to: State, *parameters: Mapping[str, object], **data: object
    ) -> Job | None:
        def work(tx: Transaction) -> Job | None:
            bound: dict[str, object] = {"id": job.id, "lease": job.lease, "attempt": job.attempt, "now": tx.now}
            for more in parameters:
                bound.update(more)
            return tx.entered(job.id, to, **data) if tx.one(query, **bound) else None

        return await self._ledger.write(work)
