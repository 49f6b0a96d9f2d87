"""The domain's sentences for callers, callbacks and operators: each one method, each one transaction.

A transition is one guarded UPDATE that returns the row it moved: a `Job` back means that it happened, None that
somebody else was there first. Every transition writes one event in its transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from service.errors import StoreUnavailableError
from service.ids import Ids
from service.model import (
    ATTACHED,
    Billable,
    ErrorCode,
    Event,
    Footage,
    Job,
    JobError,
    OnUnknown,
    Report,
    Source,
    State,
    Status,
    VideoRequest,
)
from service.store.accepting import (
    Call,
    Creation,
    Hindrance,
    Idempotency,
    JobDeleted,
    NewJob,
    NotRetriable,
    accept,
    repeated,
    retriable,
)
from service.store.erasures import files_of
from service.store.finding import Found, Wanted, find
from service.store.inputs import whole_request
from service.store.receipts import KeptReceipt, Receipt, Verdict, kept_receipts
from service.store.transaction import Ledger, Timing, Transaction, dumps, error_columns, job_from

_LONGEST_RETENTION_MS = 30 * 86_400_000
_REMIRROR_MS = 86_400_000
_FORGET = (  # what refers to a job, in an order in which nothing is left without what it refers to
    "delete_delivery_attempts",
    "delete_deliveries",
    "delete_create",
    "delete_inputs",
    "delete_receipts",
    "delete_rejections",
    "delete_events",
    "forget_artifacts",
)


class Store:
    """The way to the jobs for faces, callbacks and operators."""

    def __init__(self, ledger: Ledger, ids: Ids, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._ids = ids
        self._timing = timing or Timing()

    # Callers

    async def create_job(
        self,
        new: NewJob,
        idempotency: Idempotency | None = None,
        call: Call | None = None,
        hindrance: Hindrance | None = None,
    ) -> Creation:
        """Accept a job, once for all calls with one idempotency key, and for all that are one call made again.

        With a `hindrance` no new job is made; one that the same call made before is found all the same.
        """
        job_id, timing = self._ids.new("job"), self._timing

        def work(tx: Transaction) -> Creation:
            return accept(tx, job_id, new, idempotency=idempotency, call=call, timing=timing, hindrance=hindrance)

        return await self._ledger.write(work)

    async def retry(
        self,
        job: Job,
        idempotency: Idempotency | None = None,
        call: Call | None = None,
        hindrance: Hindrance | None = None,
    ) -> Creation:
        """Accept the same wish once more, if the job has ended without its video; as `create_job` does, once.

        Whether it has is looked up where the new job is made, so that one that is being recovered is not paid twice.
        """
        job_id, timing = self._ids.new("job"), self._timing

        def work(tx: Transaction) -> Creation:
            if tx.one("job", id=job.id, tenant=job.tenant) is None:
                return JobDeleted(job.id)
            now = tx.job(job.id)
            new = repeated(now, whole_request(tx, now))
            kept_from = hindrance if retriable(now) else NotRetriable(now)
            return accept(tx, job_id, new, idempotency=idempotency, call=call, timing=timing, hindrance=kept_from)

        return await self._ledger.write(work)

    async def answered(self, call_id: str) -> None:
        """Note that the answer to a call was sent: the same call made again is a wish for another job."""
        await self._ledger.db.run(lambda tx: tx.do("answered", call=call_id))

    async def job(self, job_id: str, tenant: str | None = None) -> Job | None:
        """Read a job; with `tenant`, only if it is theirs."""
        row = await self._ledger.db.read(lambda tx: tx.one("job", id=job_id, tenant=tenant))
        return None if row is None else job_from(row)

    async def find(
        self,
        tenant: str | None,
        wanted: Wanted,
        *,
        before_id: str | None = None,
        limit: int = 20,
        index: bool = True,
    ) -> Found:
        """Find jobs, newest first: one tenant's, or (None) everybody's; `before_id` continues.

        Quick whatever is wanted: no more than a few thousand jobs are looked at, and what was found among them is told.
        The words of new jobs are added to the index first, which writes; without `index` these are not found by words.
        """
        behind = await self._ledger.db.read(lambda tx: tx.one("not_indexed")) if wanted.text and index else None
        if behind is not None:
            with suppress(StoreUnavailableError):  # looking for older jobs must work when writing does not
                await self._ledger.db.run(lambda tx: tx.do("index_words"))
        return await self._ledger.db.look(
            lambda tx: find(tx, tenant, wanted, before_id=before_id, limit=limit), tenant or ""
        )

    async def jobs(self, tenant: str | None = None, *, before_id: str | None = None, limit: int = 20) -> list[Job]:
        """Return the newest jobs, one tenant's or (None) everybody's; `before_id` continues after the page before."""
        return (await self.find(tenant, Wanted(), before_id=before_id, limit=limit)).jobs

    async def jobs_oldest_first(self, tenant: str, *, after_id: str | None = None, limit: int = 20) -> list[Job]:
        """List a tenant's jobs the other way round; `after_id` continues after the last job of the page before."""
        rows = await self._ledger.db.look(
            lambda tx: tx.all("tenant_jobs_oldest_first", tenant=tenant, after_id=after_id, limit=limit), tenant
        )
        return [job_from(row) for row in rows]

    async def request(self, job: Job) -> VideoRequest:
        """Return a job's request as its caller sent it, with long texts; of a completed job they are gone."""
        return await self._ledger.db.read(lambda tx: whole_request(tx, job))

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """Return a job's history after its event number `after`, oldest first."""
        rows = await self._ledger.db.read(lambda tx: tx.all("events", job_id=job_id, after=after))
        return [Event(row["seq"], row["job_id"], row["type"], row["at"], json.loads(row["data"])) for row in rows]

    async def retries(self, job_id: str) -> list[str]:
        """Return the jobs that retried this one, the newest 20 of them, newest first."""
        return [row["id"] for row in await self._ledger.db.read(lambda tx: tx.all("retries", job_id=job_id))]

    async def receipts(self, job_id: str) -> list[KeptReceipt]:
        """Return the genuine callbacks about a job, in the order in which they came."""
        return await self._ledger.db.look(lambda tx: kept_receipts(tx, job_id), job_id)

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel a job that waits to be submitted; None when it is in any other state."""

        def work(tx: Transaction) -> Job | None:
            for doubted, billable, message in (
                (False, Billable.NO, "cancelled before it was submitted"),
                (True, Billable.UNKNOWN, "cancelled before it was submitted again"),
            ):
                error = JobError(ErrorCode.CANCELLED, message, billable=billable)
                if tx.one("cancel", id=job_id, doubted=doubted, now=tx.now, **error_columns(error)):
                    return tx.entered(job_id, State.CANCELLED)
            return None

        return await self._ledger.write(work)

    async def delete(self, job: Job) -> bool:
        """Forget a job that has ended, and let its files be removed; False when it has not, or is being worked on."""

        def work(tx: Transaction) -> bool:
            if not tx.one("close_job", id=job.id, tenant=job.tenant, now=tx.now):
                return False
            _let_go(tx, tx.job(job.id))
            for forget in _FORGET:
                tx.do(forget, job_id=job.id)
            tx.do("delete_job", id=job.id)
            return True

        return await self._ledger.write(work)

    async def keep_footage(self, job_id: str, index: int, footage: Footage) -> bool:
        """Note what an artifact shows; False when it is not there any more."""
        column = dumps(asdict(footage))
        kept = await self._ledger.db.run(lambda tx: tx.one("keep_footage", job_id=job_id, index=index, footage=column))
        return kept is not None

    # Reports

    async def receive(
        self, job_id: str, report: Report, receipt: Receipt, *, poll_ms: int, retention_ms: int
    ) -> Verdict:
        """Keep a verified callback and apply it, in one transaction."""

        def work(tx: Transaction) -> Verdict:
            verdict = self._apply(tx, job_id, report, Source.CALLBACK, poll_ms, retention_ms)
            tx.do(
                "upsert_receipt",
                job_id=job_id,
                provider_job_id=report.provider_job_id,
                word=report.word,
                verdict=verdict,
                received_at=receipt.received_at,
                headers=dumps(receipt.headers),
                body=receipt.body,
            )
            return verdict

        return await self._ledger.write(work)

    async def apply(self, job_id: str, report: Report, source: Source, *, poll_ms: int, retention_ms: int) -> Verdict:
        """Let a report move the job on: the one place where callbacks, polls and answers to submissions meet."""
        return await self._ledger.write(lambda tx: self._apply(tx, job_id, report, source, poll_ms, retention_ms))

    async def hint(self, job_id: str) -> None:
        """Make a running job due for a poll: an unsigned callback can do no more."""
        hinted = await self._ledger.db.run(
            lambda tx: tx.one("hint", id=job_id, now=self._ledger.clock.now(), gap_ms=self._timing.hint_gap)
        )
        if hinted is not None:
            self._ledger.announce(State.RUNNING)

    def _apply(
        self, tx: Transaction, job_id: str, report: Report, source: Source, poll_ms: int, retention_ms: int
    ) -> Verdict:
        if not report.understood:
            tx.do("count_unknown_word", id=job_id, word=report.word)
        if self._moved_on(tx, job_id, report, source, poll_ms, retention_ms):
            return Verdict.APPLIED
        job = tx.job(job_id)
        # It came to the job's own address: an id that was attached, perhaps by mistake, is worth less.
        yields = source is Source.CALLBACK and not _is_half(job, report)
        if yields and self._rebind(tx, job, report.provider_job_id, report.word, poll_ms):
            self._moved_on(tx, job_id, report, source, poll_ms, retention_ms)
            return Verdict.APPLIED
        elsewhere = tx.one("bound_elsewhere", id=job_id, provider=job.provider, provider_job_id=report.provider_job_id)
        return Verdict.MISMATCHED if elsewhere else Verdict.DUPLICATE

    def _moved_on(
        self, tx: Transaction, job_id: str, report: Report, source: Source, poll_ms: int, retention_ms: int
    ) -> bool:
        about = {"id": job_id, "provider_job_id": report.provider_job_id, "word": report.word}
        data = {"source": source, "provider_status": report.word, "provider_job_id": report.provider_job_id}
        if report.status is Status.RUNNING:
            return self._goes_on(tx, about, data, poll_ms)
        if report.status is Status.COMPLETED:
            found = {
                "outputs": dumps([asdict(output) for output in report.outputs]),
                "mirror_until": _mirror_until(report, tx.now, retention_ms),
                "cost": report.cost,
                "now": tx.now,
            }
            if tx.one("report_completed", **about, **found):
                if source is Source.CALLBACK:  # a poll finds it only when it looks, and would teach ever longer times
                    tx.do("learn_duration", id=job_id, now=tx.now)
                return self._settled(tx, job_id, State.MIRRORING, data)
            before = tx.job(job_id)
            if tx.one("report_recovered", **about, **found):
                if before.provider_job_id != report.provider_job_id:
                    _let_go(tx, before)
                    tx.do("forget_artifacts", job_id=job_id)
                tx.event(job_id, "job.recovered", **data)
                return self._settled(tx, job_id, State.MIRRORING, data)
            return False
        state = State(report.status)
        error = report.error or JobError(ErrorCode.PROVIDER_FAILED, f"the provider says {report.word}")
        if tx.one("report_ended", **about, state=state, cost=report.cost, now=tx.now, **error_columns(error)):
            return self._settled(tx, job_id, state, {**data, "code": error.code})
        return False

    def _goes_on(self, tx: Transaction, about: Mapping[str, Any], data: Mapping[str, Any], poll_ms: int) -> bool:
        adopted = tx.one("report_running", **about, now=tx.now, poll_ms=poll_ms, deadline_ms=self._timing.job_deadline)
        if adopted:
            tx.entered(about["id"], State.RUNNING, **data)
        return bool(adopted or tx.one("report_word", **about))

    @staticmethod
    def _settled(tx: Transaction, job_id: str, state: State, data: Mapping[str, Any]) -> bool:
        tx.entered(job_id, state, **data)
        return True

    async def submitted(self, job_id: str, provider_job_id: str, word: str, *, first_poll_ms: int) -> Job | None:
        """Bind the provider's id. No fence: who knows the id of a paid job is always right.

        It takes the place of one that was attached and that no report has confirmed. A job that we gave up on stays as
        it is, and is due for a poll; None when the job or the id is bound already.
        """

        def work(tx: Transaction) -> Job | None:
            usual = tx.one("usual_duration", id=job_id)
            first = usual["usual_ms"] if usual else first_poll_ms
            return self._bind(tx, job_id, provider_job_id, word, first, by_hand=False)

        return await self._ledger.write(work)

    def _bind(
        self, tx: Transaction, job_id: str, provider_job_id: str, word: str, first_poll_ms: int, *, by_hand: bool
    ) -> Job | None:
        about = {"id": job_id, "provider_job_id": provider_job_id, "word": word, "now": tx.now}
        first = {"first_poll_ms": first_poll_ms, "deadline_ms": self._timing.job_deadline}
        if tx.one("submitted", **about, **first, by_hand=by_hand):
            tx.do("forget_poor_provider", provider=tx.job(job_id).provider)
            return tx.entered(job_id, State.RUNNING, provider_job_id=provider_job_id)
        if tx.one("bind", **about):
            return self._bound(tx, job_id, provider_job_id=provider_job_id)
        job = tx.one("job", id=job_id, tenant=None)
        return None if job is None else self._rebind(tx, job_from(job), provider_job_id, word, first_poll_ms)

    def _rebind(
        self, tx: Transaction, job: Job, provider_job_id: str | None, word: str, first_poll_ms: int
    ) -> Job | None:
        """Put an id in the place of one that was attached by hand and not confirmed; None when it was not so."""
        about = {"id": job.id, "provider_job_id": provider_job_id, "word": word, "now": tx.now}
        if not job.unconfirmed or not tx.one("rebind", **about, first_poll_ms=first_poll_ms):
            return None
        return self._bound(tx, job.id, provider_job_id=provider_job_id, instead_of=job.provider_job_id)

    @staticmethod
    def _bound(tx: Transaction, job_id: str, **data: object) -> Job:
        tx.event(job_id, "job.bound", **data)
        tx.moved.add(State.RUNNING)  # the poller looks after given-up jobs too
        return tx.job(job_id)

    # Operators

    async def attach(self, job_id: str, provider_job_id: str) -> Job | None:
        """Bind a provider's id that an operator found, and make the job due for a poll.

        It takes the place of one that was attached before and that no report has confirmed; None when the job is bound
        otherwise, or is just being submitted, or when another job has the id.
        """
        return await self._ledger.write(lambda tx: self._bind(tx, job_id, provider_job_id, ATTACHED, 0, by_hand=True))

    async def remirror(self, job_id: str, retention_ms: int = _REMIRROR_MS, *, source: str = "operator") -> Job | None:
        """Copy again what was given up as unavailable, for a day; None when the job did not end that way.

        `source` is who wants it, as the event tells: "operator" or "caller".
        """

        def work(tx: Transaction) -> Job | None:
            if not tx.one("remirror", id=job_id, now=tx.now, mirror_until=tx.now + retention_ms):
                return None
            tx.event(job_id, "job.recovered", source=source)
            return tx.entered(job_id, State.MIRRORING)

        return await self._ledger.write(work)

    async def keeps_videos(self) -> bool:
        """Tell whether there is a video that storage should have."""
        return await self._ledger.db.read(lambda tx: tx.one("any_artifact") is not None)

    async def probe(self) -> None:
        """Write something and commit it; raise StoreUnavailableError when that fails, or will soon if nobody acts."""
        await self._ledger.db.run(lambda tx: tx.do("probe", now=self._ledger.clock.now()))
        await self._ledger.db.check()


def _let_go(tx: Transaction, job: Job) -> None:
    """Have a job's files removed, once it is deleted, or completed without them."""
    for artifact in job.artifacts:
        for key in files_of(artifact):
            tx.do("insert_erasure", id=key, job_id=job.id, now=tx.now)


def _is_half(job: Job, report: Report) -> bool:
    """Tell whether a report may be the end of one of two submissions, while the other one may bring the video."""
    ended = report.status not in (Status.RUNNING, Status.COMPLETED)
    return ended and job.on_unknown is OnUnknown.RESUBMIT and job.doubts > 0


def _mirror_until(report: Report, now: int, retention_ms: int) -> int:
    """Return until when the outputs can be expected at the provider: what it says, within reason, or what is usual."""
    said = [output.expires_at for output in report.outputs if output.expires_at]
    return min(max([now + retention_ms, *said]), now + _LONGEST_RETENTION_MS)
