"""What can be seen of the service while it works: told to whoever counts or traces, after it happened.

An observer is called on the event loop and must not block; what it raises, `Observers` keeps from everybody else. Times
are unix ms, durations s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    kind: str | None = None  # of the error that ended it, when one did: the name of its class, "OutputGoneError"


@dataclass(frozen=True, slots=True)
class Answered:
    """A request was answered, or its client left."""

    method: str
    route: str  # the path with names for what varies: "/v1/jobs/{job_id}"; "" for none of ours
    status: int
    begun_at: int
    seconds: float  # to its end
    job: str | None = None
    waited: float = 0.0  # s, until the answer began, which may stream for hours
    made: tuple[str, ...] = ()  # the jobs that it accepted, or that the same request made before


@dataclass(frozen=True, slots=True)
class CalledBack:
    """A callback came to a job's own address."""

    provider: str
    verdict: str  # of a genuine one, else the reason of its rejection; one of a few words
    job: str
    begun_at: int
    seconds: float
    rejected: bool = False


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
    """Several observers as one, of which none can break what it sees: `complain` is told of what they raise.

    It is told once of each observer and kind of error, for what is broken is so with every request.
    """

    def __init__(
        self, observers: Sequence[Observer] = (), complain: Callable[[Exception], object] = lambda _: None
    ) -> None:
        self._observers = observers
        self._complain = complain
        self._told: set[tuple[type, type]] = set()

    def entered(self, job: Job) -> None:
        """See a job that is in a new state, which is on disk."""
        self._each(lambda observer: observer.entered(job))

    def handled(self, work: Handled) -> None:
        """See the end of a piece of work."""
        self._each(lambda observer: observer.handled(work))

    def answered(self, answer: Answered) -> None:
        """See the end of a request."""
        self._each(lambda observer: observer.answered(answer))

    def called_back(self, callback: CalledBack) -> None:
        """See what a callback turned out to be."""
        self._each(lambda observer: observer.called_back(callback))

    def _each(self, show: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                show(observer)
            except Exception as error:  # noqa: BLE001 - what is seen has happened, whatever becomes of its number
                key = (type(observer), type(error))
                if key not in self._told:
                    self._told.add(key)
                    self._complain(error)
