"""Where commands work: at the database on this machine (`local`), or at a running service over HTTP (`remote`).

Both show the same JSON, which is the API's, so that what a command prints does not depend on where it works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from service.errors import ReelkeeperError
from service.model import ErrorCode, State
from service.web.keys import KeyBody

View = dict[str, Any]
"""A job, an event, a key, … as the API's JSON has it."""


class DeskError(ReelkeeperError):
    """What was asked for is not done; the text says why and what to do, `code` is the API's word for it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Search:
    """Which jobs are looked for; times are unix ms. Without a tenant it is every tenant that may be seen."""

    state: State | None = None
    provider: str | None = None
    model: str | None = None
    tenant: str | None = None
    error: ErrorCode | None = None
    text: str | None = None  # words of prompt, model or metadata, the last one as a beginning; or an id
    created_after: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and what continues the list; it may be short although it goes on. None: that was all."""

    jobs: list[View]
    go_on: str | None


class Desk(Protocol):
    """Shows and does what operators want. Every method raises DeskError.

    What is about a job that is not there is `job_not_found`.
    """

    where: str
    """For sentences: "in /var/lib/reelkeeper.db", "at https://videos.example.com"."""

    async def jobs(self, search: Search, *, go_on: str | None, limit: int) -> Page:
        """Return a page of jobs, as many as `limit` or fewer; `go_on` continues after the page before."""
        ...

    async def job(self, job_id: str) -> View:
        """Return a job."""
        ...

    async def retries(self, job_id: str) -> list[str] | None:
        """Return the newest jobs that retried this one, newest first; None where nobody tells."""
        ...

    async def events(self, job_id: str) -> list[View]:
        """Return what happened to a job, oldest first."""
        ...

    def follow(self, job_id: str) -> AsyncIterator[View]:
        """Yield what happened to a job, and what happens, until the job has ended."""
        ...

    async def receipts(self, job_id: str) -> list[View]:
        """Return the genuine callbacks about a job, oldest first."""
        ...

    async def deliveries(self, job_id: str) -> list[View]:
        """Return what a job's caller was told, with every attempt, oldest first."""
        ...

    async def cancel(self, job_id: str) -> View:
        """Cancel a job; return it with its `cancellation`, which says what that meant."""
        ...

    async def retry(self, job_id: str) -> tuple[View, bool]:
        """Return the job that repeats one that brought no video, and whether somebody had it made by hand before."""
        ...

    async def attach(self, job_id: str, provider_job_id: str) -> View:
        """Bind a provider's id to a job; return the job."""
        ...

    async def remirror(self, job_id: str) -> View:
        """Have a job's output copied again; return the job."""
        ...

    async def redeliver(self, job_id: str) -> View:
        """Have the newest message about a job sent again; return the delivery."""
        ...

    async def rejected(self, job_id: str | None, limit: int) -> list[View]:
        """Return rejected callbacks, newest first."""
        ...

    async def receivers(self, limit: int) -> tuple[list[View], bool]:
        """Return receivers that do not take what they are told, 100 at most, and whether there are more."""
        ...

    async def redeliver_all(self, receiver: str, tenant: str | None) -> View:
        """Send all again that a receiver did not take; return how much that is."""
        ...

    async def keys(self) -> list[View]:
        """Return every API key, oldest first, without the keys themselves."""
        ...

    async def create_key(self, wanted: KeyBody) -> View:
        """Make an API key; return it with the `key` itself, this once."""
        ...

    async def revoke_key(self, key_id: str) -> View:
        """Make an API key useless; return it."""
        ...


def no_job(job_id: str, where: str) -> DeskError:
    """Return what is said of a job that is not there."""
    return DeskError(f"there is no job {job_id} {where}; `reelkeeper jobs list` shows the newest", "job_not_found")


def no_key(key_id: str, where: str) -> DeskError:
    """Return what is said of an API key that is not there."""
    return DeskError(f"there is no key {key_id} {where}; `reelkeeper keys list` shows them", "key_not_found")


def retried_before(job_id: str) -> DeskError:
    """Return what is said of a job that was retried by hand before, when the job that came of it was deleted."""
    way = f"POST /v1/jobs/{job_id}/retry with an Idempotency-Key of your own makes another one"
    return DeskError(f"{job_id}: it was retried before, and that job was deleted since; {way}", "job_deleted")


def no_receiver(receiver: str, where: str) -> DeskError:
    """Return what is said of a receiver that is not there."""
    return DeskError(
        f"there is no receiver {receiver} {where}; name it as `reelkeeper receivers list` shows it, for example "
        "https://hooks.example.com:443, and with --tenant say whose it is",
        "receiver_not_found",
    )
