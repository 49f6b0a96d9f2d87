"""The domain's sentences, each one transaction. (Signatures first; bodies follow.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.clock import Clock
from service.ids import Ids
from service.model import ApiKey, Event, Job, OnUnknown, Report, State, VideoRequest


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
    DUPLICATE = "duplicate"  # seen before, or the job was there already
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
    oldest_due: Mapping[str, int]  # state -> due_at of the longest waiting job, only if it is overdue
    reports: Mapping[str, Mapping[str, int]]  # provider -> callback | poll -> jobs that it finished


class Store:
    """The only way to the database for everything above it."""

    def __init__(
        self, db: object, clock: Clock, ids: Ids, announce: Callable[[State], None] = lambda _: None
    ) -> None: ...

    async def create_job(self, new: NewJob, idempotency: Idempotency | None = None) -> Created | KeyReused: ...

    async def job(self, job_id: str, tenant: str | None = None) -> Job | None:
        """Read a job; with `tenant`, only if it is theirs."""

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
        """Newest first; `before_id` continues after the last job of the page before."""

    async def events(self, job_id: str) -> list[Event]: ...

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel a job on which nothing was spent yet (`queued`); None when it is in any other state."""

    async def receive(self, job_id: str, report: Report, receipt: Receipt) -> Verdict:
        """Keep a verified callback and apply it, in one transaction."""

    async def hint(self, job_id: str) -> None:
        """Make a running job due for a poll, at most every few seconds."""

    async def authenticate(self, key: str) -> ApiKey | None:
        """Return the key's record, None when it is unknown or revoked."""

    async def create_key(self, name: str, tenant: str, *, operator: bool = False) -> tuple[ApiKey, str]: ...

    async def keys(self) -> list[ApiKey]: ...

    async def revoke_key(self, key_id: str) -> ApiKey | None: ...

    async def overview(self) -> Overview: ...

    async def probe(self) -> None:
        """Write something and commit it, or raise StoreUnavailableError."""
