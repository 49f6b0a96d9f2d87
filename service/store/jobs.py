"""The domain's sentences for callers, callbacks and operators: each one method, each one transaction.

A transition is one guarded UPDATE that returns the row it moved: a `Job` back means that it happened, None that
somebody else was there first. Every transition writes one event in its transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from service.db import Tx
from service.ids import Ids
from service.model import (
    Billable,
    ErrorCode,
    Event,
    Job,
    JobError,
    OnUnknown,
    Report,
    Source,
    State,
    Status,
    VideoRequest,
)
from service.store.transaction import Ledger, Timing, Transaction, dumps, error_columns, job_from

_LONGEST_RETENTION_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a face hands over when a caller asks for a video."""

    tenant: str
    provider: str
    request: VideoRequest
    on_unknown: OnUnknown = OnUnknown.WAIT
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's promise that calls with this key are one call. `fingerprint` is a hash of the canonical body."""

    key: str
    operation: str  # "jobs.create"
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Created:
    """The job that the call made, now or when it was first made (`replayed`)."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key was used before with another body; `job_id` is what it made then."""

    job_id: str


class Verdict(StrEnum):
    """What a genuine callback turned out to be."""

    APPLIED = "applied"  # it moved the job on
    DUPLICATE = "duplicate"  # it said nothing new
    MISMATCHED = "mismatched"  # it speaks of another provider job than the one that this job is bound to


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified callback as it came: kept in the transaction that applies it."""

    headers: Mapping[str, str]
    body: bytes
    received_at: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Numbers for operators. Times are unix ms."""

    jobs: Mapping[str, Mapping[str, int]]  # provider -> state -> count
    oldest_due: Mapping[str, int]  # state -> since when its longest waiting job is overdue
    unknown_words: Mapping[str, Mapping[str, int]]  # provider -> status word that no adapter knows -> times
    reports: Mapping[str, Mapping[str, int]]  # provider -> callback | poll | submission -> jobs that it settled


class Store:
    """The way to the jobs for faces, callbacks and operators."""

    def __init__(self, ledger: Ledger, ids: Ids, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._ids = ids
        self._timing = timing or Timing()

    # Callers

    async def create_job(self, new: NewJob, idempotency: Idempotency | None = None) -> Created | KeyReused:
        """Accept a job, once for all calls with one idempotency key."""
        job_id = self._ids.new("job")

        def work(tx: Transaction) -> Created | KeyReused:
            if idempotency is not None:
                scope = {"tenant": new.tenant, "operation": idempotency.operation, "key": idempotency.key}
                fresh = tx.one(
                    "insert_idempotency_key", **scope, fingerprint=idempotency.fingerprint, job_id=job_id, now=tx.now
                )
                if fresh is None:
                    used = tx.one("idempotency_key", **scope)
                    if used is None or used["fingerprint"] != idempotency.fingerprint:
                        return KeyReused(used["job_id"] if used else "")
                    return Created(tx.job(used["job_id"]), replayed=True)
            tx.do(
                "insert_job",
                id=job_id,
                tenant=new.tenant,
                provider=new.provider,
                model=new.request.model,
                request=new.request.to_json(),
                on_unknown=new.on_unknown,
                metadata=dumps(new.metadata or {}),
                now=tx.now,
                deadline_ms=self._timing.job_deadline,
            )
            return Created(tx.entered(job_id, State.QUEUED), replayed=False)

        return await self._ledger.write(work)

    async def job(self, job_id: str, tenant: str | None = None) -> Job | None:
        """Read a job; with `tenant`, only if it is theirs."""
        row = await self._ledger.db.read(lambda tx: tx.one("job", id=job_id, tenant=tenant))
        return None if row is None else job_from(row)

    async def jobs(
        self,
        tenant: str | None = None,
        *,
        state: State | None = None,
        provider: str | None = None,
        model: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        before_id: str | None = None,
        limit: int = 20,
    ) -> list[Job]:
        """Newest first; `before_id` continues after the last job of the page before. Times are unix ms."""
        rows = await self._ledger.db.read(
            lambda tx: tx.all(
                "jobs" if tenant is None else "tenant_jobs",
                tenant=tenant,
                state=state,
                provider=provider,
                model=model,
                created_after=created_after,
                created_before=created_before,
                before_id=before_id,
                limit=limit,
            )
        )
        return [job_from(row) for row in rows]

    async def events(self, job_id: str) -> list[Event]:
        """Return a job's history, oldest first."""
        rows = await self._ledger.db.read(lambda tx: tx.all("events", job_id=job_id))
        return [Event(row["seq"], row["job_id"], row["type"], row["at"], json.loads(row["data"])) for row in rows]

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
        about = {"id": job_id, "provider_job_id": report.provider_job_id, "word": report.word}
        data = {"source": source, "provider_status": report.word, "provider_job_id": report.provider_job_id}
        if report.status is Status.RUNNING:
            if not report.understood:
                tx.do("count_unknown_word", id=job_id, word=report.word)
            if self._goes_on(tx, about, data, poll_ms):
                return Verdict.APPLIED
        elif report.status is Status.COMPLETED:
            found = {
                "outputs": dumps([asdict(output) for output in report.outputs]),
                "mirror_until": _mirror_until(report, tx.now, retention_ms),
                "cost": report.cost,
                "now": tx.now,
            }
            if tx.one("report_completed", **about, **found):
                if source is Source.CALLBACK:  # a poll finds it only when it looks, and would teach ever longer times
                    tx.do("learn_duration", id=job_id, now=tx.now)
                return self._settled(tx, job_id, State.MIRRORING, source, data)
            bound_before = tx.job(job_id).provider_job_id
            if tx.one("report_recovered", **about, **found):
                if bound_before != report.provider_job_id:
                    tx.do("forget_artifacts", job_id=job_id)
                tx.event(job_id, "job.recovered", **data)
                return self._settled(tx, job_id, State.MIRRORING, source, data)
        else:
            state = State(report.status)
            error = report.error or JobError(ErrorCode.PROVIDER_FAILED, f"the provider says {report.word}")
            if tx.one("report_ended", **about, state=state, cost=report.cost, now=tx.now, **error_columns(error)):
                return self._settled(tx, job_id, state, source, {**data, "code": error.code})
        elsewhere = tx.one(
            "bound_elsewhere",
            id=job_id,
            provider=tx.job(job_id).provider,
            provider_job_id=report.provider_job_id,
        )
        return Verdict.MISMATCHED if elsewhere else Verdict.DUPLICATE

    def _goes_on(self, tx: Transaction, about: Mapping[str, Any], data: Mapping[str, Any], poll_ms: int) -> bool:
        adopted = tx.one("report_running", **about, now=tx.now, poll_ms=poll_ms, deadline_ms=self._timing.job_deadline)
        if adopted:
            tx.entered(about["id"], State.RUNNING, **data)
        return bool(adopted or tx.one("report_word", **about))

    @staticmethod
    def _settled(tx: Transaction, job_id: str, state: State, source: Source, data: Mapping[str, Any]) -> Verdict:
        tx.do("count_report", id=job_id, source=source)
        tx.entered(job_id, state, **data)
        return Verdict.APPLIED

    async def submitted(self, job_id: str, provider_job_id: str, word: str, *, first_poll_ms: int) -> Job | None:
        """Bind the provider's id. No fence: who knows the id of a paid job is always right.

        A job that we gave up on stays as it is, and is due for a poll; None when the job or the id is bound already.
        """

        def work(tx: Transaction) -> Job | None:
            usual = tx.one("usual_duration", id=job_id)
            return self._bind(tx, job_id, provider_job_id, word, usual["usual_ms"] if usual else first_poll_ms)

        return await self._ledger.write(work)

    def _bind(self, tx: Transaction, job_id: str, provider_job_id: str, word: str, first_poll_ms: int) -> Job | None:
        about = {"id": job_id, "provider_job_id": provider_job_id, "now": tx.now}
        deadline = self._timing.job_deadline
        if tx.one("submitted", **about, word=word, first_poll_ms=first_poll_ms, deadline_ms=deadline):
            return tx.entered(job_id, State.RUNNING, provider_job_id=provider_job_id)
        if tx.one("bind", **about):
            tx.event(job_id, "job.bound", provider_job_id=provider_job_id)
            tx.moved.add(State.RUNNING)  # the poller looks after given-up jobs too
            return tx.job(job_id)
        return None

    # Operators

    async def attach(self, job_id: str, provider_job_id: str) -> Job | None:
        """Bind a provider's id that an operator found, and make the job due for a poll."""
        return await self._ledger.write(lambda tx: self._bind(tx, job_id, provider_job_id, "attached", 0))

    async def remirror(self, job_id: str, retention_ms: int) -> Job | None:
        """Copy again what was given up as unavailable; None when the job did not end that way."""

        def work(tx: Transaction) -> Job | None:
            if not tx.one("remirror", id=job_id, now=tx.now, mirror_until=tx.now + retention_ms):
                return None
            tx.event(job_id, "job.recovered", source="operator")
            return tx.entered(job_id, State.MIRRORING)

        return await self._ledger.write(work)

    async def overview(self) -> Overview:
        """Count jobs, and find what waits longest."""

        def work(tx: Tx) -> Overview:
            jobs: dict[str, dict[str, int]] = {}
            for row in tx.all("count_jobs"):
                jobs.setdefault(row["provider"], {})[row["state"]] = row["jobs"]
            reports: dict[str, dict[str, int]] = {}
            for row in tx.all("report_counts"):
                reports.setdefault(row["provider"], {})[row["source"]] = row["jobs"]
            words: dict[str, dict[str, int]] = {}
            for row in tx.all("unknown_words"):
                words.setdefault(row["provider"], {})[row["word"]] = row["times"]
            oldest = {row["state"]: row["due_at"] for row in tx.all("oldest_due", now=self._ledger.clock.now())}
            return Overview(jobs, oldest, words, reports)

        return await self._ledger.db.read(work)

    async def probe(self) -> None:
        """Write something and commit it, or raise StoreUnavailableError."""
        await self._ledger.db.run(lambda tx: tx.do("probe", now=self._ledger.clock.now()))


def _mirror_until(report: Report, now: int, retention_ms: int) -> int:
    """Return until when the outputs can be expected at the provider: what it says, within reason, or what is usual."""
    said = [output.expires_at for output in report.outputs if output.expires_at]
    return min(max([now + retention_ms, *said]), now + _LONGEST_RETENTION_MS)
