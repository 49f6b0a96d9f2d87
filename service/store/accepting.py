"""How a call becomes a job, once: the same call made again, for whatever reason, is answered with the same job.

Three things tell that two calls are one. An idempotency key: its caller says so. A mark: the `openai` SDK counts its
retries in a header. And the truth about our own answer: a client that marks nothing repeats a call because it never got
an answer, so a job whose answer was never sent is what the same call means when it comes again. Once an answer was
sent, the same call is a wish for another video.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from service.db import Row
from service.model import Face, Job, OnUnknown, State, VideoRequest
from service.store.inputs import taken_out
from service.store.transaction import Timing, Transaction, dumps


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a face hands over when a caller asks for a video. `notify_secret` is sealed."""

    tenant: str
    provider: str
    request: VideoRequest
    on_unknown: OnUnknown = OnUnknown.WAIT
    metadata: Mapping[str, Any] | None = None
    face: Face = Face.NATIVE
    notify_url: str | None = None
    notify_secret: str | None = None
    retry_of: str | None = None


def repeated(job: Job, request: VideoRequest) -> NewJob:
    """Return the wish for the same video once more; `request` is the job's, whole."""
    return NewJob(
        tenant=job.tenant,
        provider=job.provider,
        request=request,
        on_unknown=job.on_unknown,
        metadata=job.metadata,
        face=job.face,
        notify_url=job.notify_url,
        notify_secret=job.notify_secret,
        retry_of=job.id,
    )


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's promise that calls with this key are one call. `fingerprint` is a hash of the canonical body."""

    key: str
    operation: str  # "jobs.create"
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call without an idempotency key, and what is known of the same call made before.

    `id` is this call's own name and begins with `process`, the name of ours; `waiting` holds the names of all calls
    whose callers are on the line to this process just now.
    """

    id: str
    api_key_id: str
    operation: str
    fingerprint: str
    marked: bool = False  # its sender says that it is a retry
    dedupe_window_ms: int = 0
    waiting: Container[str] = ()
    process: str = "call"


@dataclass(frozen=True, slots=True)
class Created:
    """The job that the call made, now or when it was first made (`replayed`)."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key was used before with another body; `job_id` is what it made then."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobDeleted:
    """The job that the idempotency key made was deleted since; `job_id` was its name."""

    job_id: str


@dataclass(frozen=True, slots=True)
class OutOfCredits:
    """The provider refused to spend a moment ago: nothing was made."""

    provider: str


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The caller asks for more than it may: nothing was made."""


@dataclass(frozen=True, slots=True)
class NotRetriable:
    """The job goes on, or has brought its video: there is nothing to be made of it again."""

    job: Job


Hindrance = RateLimited | NotRetriable
Creation = Created | KeyReused | JobDeleted | OutOfCredits | Hindrance


def retriable(job: Job) -> bool:
    """Tell whether a job has ended without its video."""
    return job.state.final and job.state is not State.COMPLETED


def accept(
    tx: Transaction,
    job_id: str,
    new: NewJob,
    *,
    idempotency: Idempotency | None,
    call: Call | None,
    timing: Timing,
    hindrance: Hindrance | None = None,
) -> Creation:
    """Make the job under the name `job_id`, or find the one that the same call made before.

    `hindrance` keeps a new job from being made, not one from being found.
    """
    if idempotency is not None and (used := _used(tx, new.tenant, idempotency)) is not None:
        return used
    if call is not None and (before := _repeated(tx, call, timing)) is not None:
        tx.do("called_again", job_id=before, call=call.id, now=tx.now)
        return Created(tx.job(before), replayed=True)
    if hindrance is not None:
        return hindrance
    if tx.one("poor_provider", provider=new.provider, since=tx.now - timing.poor):
        return OutOfCredits(new.provider)
    if idempotency is not None:
        scope = {"tenant": new.tenant, "operation": idempotency.operation, "key": idempotency.key}
        mark = {"fingerprint": idempotency.fingerprint, "job_id": job_id, "now": tx.now}
        if tx.one("insert_idempotency_key", **scope, **mark) is None:
            # Another transaction was first, which SQLite's one writer rules out and other databases do not.
            return _used(tx, new.tenant, idempotency) or KeyReused("")
    request, inputs = taken_out(new.request)
    tx.do(
        "insert_job",
        id=job_id,
        tenant=new.tenant,
        provider=new.provider,
        model=request.model,
        request=request.to_json(),
        on_unknown=new.on_unknown,
        metadata=dumps(new.metadata or {}),
        now=tx.now,
        deadline_ms=timing.job_deadline,
        face=new.face,
        notify_url=new.notify_url,
        notify_secret=new.notify_secret,
        retry_of=new.retry_of,
    )
    for field, url in inputs.items():
        tx.do("insert_input", job_id=job_id, field=field, url=url)
    if call is not None:
        about = {"api_key_id": call.api_key_id, "operation": call.operation, "fingerprint": call.fingerprint}
        tx.do("insert_create", job_id=job_id, call=call.id, now=tx.now, **about)
    return Created(tx.entered(job_id, State.QUEUED), replayed=False)


def _used(tx: Transaction, tenant: str, idempotency: Idempotency) -> Creation | None:
    used = tx.one("idempotency_key", tenant=tenant, operation=idempotency.operation, key=idempotency.key)
    if used is None:
        return None
    if used["fingerprint"] != idempotency.fingerprint:
        return KeyReused(used["job_id"])
    if tx.one("job", id=used["job_id"], tenant=tenant) is None:
        return JobDeleted(used["job_id"])
    return Created(tx.job(used["job_id"]), replayed=True)


def _repeated(tx: Transaction, call: Call, timing: Timing) -> str | None:
    """Return the job that the same call made before, if this one is that call again.

    It looks, and what follows is written in the same transaction: with one writer nobody comes between. A database with
    several needs a lock on the key, the operation and the fingerprint here.
    """
    rows = tx.all(
        "repeated_calls",
        api_key_id=call.api_key_id,
        operation=call.operation,
        fingerprint=call.fingerprint,
        since=tx.now - max(timing.repeat, call.dedupe_window_ms),
    )
    recent = [row for row in rows if row["called_at"] > tx.now - timing.repeat]

    def on_the_line(row: Row) -> bool:
        """Tell whether somebody is being answered with this job just now, here or by another process, perhaps."""
        ours = row["call"].startswith(call.process)
        return row["call"] in call.waiting if ours else row["called_at"] > tx.now - timing.answering

    unanswered = [row for row in recent if not row["answered"] and not on_the_line(row)]
    # A caller who is on the line gets its own answer: its job is the last that somebody else's retry can mean.
    retried = sorted(recent, key=lambda row: not row["answered"] and on_the_line(row)) if call.marked else []
    # Without a window even a job of another process, whose clock is ahead of ours, is outside it.
    window = call.dedupe_window_ms
    within = [row for row in rows if row["created_at"] > tx.now - window] if window else []
    found: list[Row] = [*unanswered, *retried, *within]
    return found[0]["job_id"] if found else None
