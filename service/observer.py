"""What can be seen of the service while it works: told to whoever counts or traces, after it happened.

An observer is called on the event loop, must not block and must not raise. Times are unix ms, durations s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.model import Job


@dataclass(frozen=True, slots=True)
class Handled:
    """A worker was done with an item."""

    step: str  # "submit", "poll", "mirror", "notify", …
    outcome: str  # a few words that never hold what a stranger wrote: "accepted", "in doubt"
    begun_at: int
    seconds: float
    provider: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A request was answered, or its client left."""

    method: str
    route: str  # the path with names for what varies: "/v1/jobs/{job_id}"; "" for none of ours
    status: int
    begun_at: int
    seconds: float
    job: str | None = None


@dataclass(frozen=True, slots=True)
class CalledBack:
    """A callback came to a job's own address."""

    provider: str
    verdict: str  # of a genuine one, else the reason of its rejection
    job: str
    begun_at: int
    seconds: float


class Observer(Protocol):
    """Counts or traces what happens."""

    def entered(self, job: Job) -> None:
        """See a job that is in a new state, which is on disk."""
        ...

    def handled(self, work: Handled) -> None:
        """See the end of a piece of work."""
        ...

    def answered(self, answer: Answered) -> None:
        """See the end of a request."""
        ...

    def called_back(self, callback: CalledBack) -> None:
        """See what a callback turned out to be."""
        ...


class Observers:
    """Several observers as one; of none at all, it sees nothing."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def entered(self, job: Job) -> None:
        """See a job that is in a new state, which is on disk."""
        for each in self._observers:
            each.entered(job)

    def handled(self, work: Handled) -> None:
        """See the end of a piece of work."""
        for each in self._observers:
            each.handled(work)

    def answered(self, answer: Answered) -> None:
        """See the end of a request."""
        for each in self._observers:
            each.answered(answer)

    def called_back(self, callback: CalledBack) -> None:
        """See what a callback turned out to be."""
        for each in self._observers:
            each.called_back(callback)
