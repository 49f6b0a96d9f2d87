"""The jobs that the sandbox accepted, and what was sent and fetched for each: what a real provider would bill by."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from service.sandbox.behaviours import Behaviour

_KEPT_PER_JOB = 50  # callbacks and downloads each
_MOST_SHOWN = 4_096  # characters of a request


@dataclass(slots=True)
class SentCallback:
    """One callback request that went out. `status` is the receiver's answer, None when there was none."""

    kind: str  # genuine, duplicate, forged or stale
    attempt: int  # from 1
    sent_at: int  # unix ms
    status: int | None = None
    error: str | None = None  # why there was no answer


@dataclass(slots=True)
class Download:
    """One request for an output's bytes. `authorization`: whether it carried a key, wherever it went."""

    via: str  # content (with the key), link (signed) or elsewhere (signed, on the other origin)
    index: int
    host: str  # as the caller wrote it
    authorization: bool
    at: int  # unix ms
    status: int
    bytes: int = 0  # handed to the network so far


@dataclass(slots=True)
class ProviderJob:
    """One accepted submission. Its status follows from the time alone."""

    id: str
    other_id: str  # OpenRouter's generation id, LLM Gateway's log id
    number: int  # in the order of acceptance, from 1
    dialect: str
    model: str
    behaviour: Behaviour
    created_at: int  # unix ms
    speed: float
    request: Mapping[str, Any]  # as shown in the ledger
    callback_url: str | None = field(repr=False)
    callback_secret: str | None = field(repr=False)
    told_at: int | None = None  # unix ms, the first callback
    polls: int = 0
    callbacks: deque[SentCallback] = field(default_factory=lambda: deque(maxlen=_KEPT_PER_JOB))
    downloads: deque[Download] = field(default_factory=lambda: deque(maxlen=_KEPT_PER_JOB))
    served: int = 0

    @property
    def ended_at(self) -> int:
        """When the last status begins, unix ms."""
        return self.created_at + round(self.behaviour.ends_at_ms / self.speed)

    @property
    def final_status(self) -> str:
        """The last status, which is the truth that a genuine callback tells."""
        return self.behaviour.timeline[-1][1]

    def status(self, now: int) -> str:
        """Return the status at `now` (unix ms)."""
        elapsed = (now - self.created_at) * self.speed
        return [word for begins, word in self.behaviour.timeline if begins <= max(elapsed, 0)][-1]

    def shown_status(self, now: int) -> str:
        """Return the status that a poll shows, which may lag behind the callback.

        LLM Gateway caches GETs for two seconds and its worker does not invalidate them (observed).
        """
        lag = self.behaviour.stale_get_ms
        status = self.status(now)
        if not lag or status != self.final_status:
            return status
        known_since = self.told_at if self.callback_url else self.ended_at
        if known_since is not None and (now - known_since) * self.speed >= lag:
            return status
        return "in_progress"


class Ledger:
    """Every job that was accepted, oldest first; the oldest are forgotten beyond `most` jobs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: dict[str, ProviderJob] = {}
        self._by_other_id: dict[str, ProviderJob] = {}
        self.submissions: Counter[str] = Counter()  # create calls by dialect, refused ones included
        self.accepted = 0

    def add(self, job: ProviderJob) -> None:
        """Keep a new job."""
        self.accepted += 1
        self._jobs[job.id] = job
        self._by_other_id[job.other_id] = job
        while len(self._jobs) > self._most:
            oldest = self._jobs.pop(next(iter(self._jobs)))
            del self._by_other_id[oldest.other_id]

    def find(self, job_id: str) -> ProviderJob | None:
        """Return the job with that id, if it is still kept."""
        return self._jobs.get(job_id)

    def find_other(self, other_id: str) -> ProviderJob | None:
        """Return the job with that generation or log id."""
        return self._by_other_id.get(other_id)

    def jobs(self) -> list[ProviderJob]:
        """Return the kept jobs, oldest first."""
        return list(self._jobs.values())

    def lines(self, now: int) -> Iterator[str]:
        """Write the ledger as JSON, one job a line, so that a long one is never in memory as one text."""
        head = {"submissions": dict(self.submissions), "accepted": self.accepted}
        yield json.dumps(head)[:-1] + ', "jobs": ['
        for place, job in enumerate(self.jobs()):
            yield ("," if place else "") + "\n" + json.dumps(_shown(job, now), ensure_ascii=False)
        yield "\n]}\n"


def shown_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a create body for the ledger: without the callback's secret, and without what is too long to keep."""
    shown: dict[str, Any] = {}
    left = _MOST_SHOWN
    for key, value in request.items():
        size = len(key) + len(json.dumps(value))
        if key == "callback_secret":
            continue
        if size > left:
            shown["(left out)"] = "the rest is too long to keep"
            break
        left -= size
        shown[key] = value
    return shown


def _shown(job: ProviderJob, now: int) -> dict[str, Any]:
    return {
        "id": job.id,
        "dialect": job.dialect,
        "model": job.model,
        "created_at": job.created_at,
        "status": job.status(now),
        "request": job.request,
        "polls": job.polls,
        "callbacks": [asdict(callback) for callback in job.callbacks],
        "downloads": [asdict(download) for download in job.downloads],
    }
