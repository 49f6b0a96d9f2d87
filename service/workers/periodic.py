"""What is done at the start and every few hours, by each process for itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.backoff import Backoff, spread_ms
from service.clock import Clock
from service.errors import InterruptedWorkError
from service.workers import About, Outcome

_EVERY_MS = 6 * 3_600_000
_JITTER = 0.1
_FAILED = Backoff(first_ms=60_000, most_ms=_EVERY_MS)


class Chore(Protocol):
    """What has to be done again and again, and is about no job."""

    name: str

    async def do(self) -> Outcome:
        """Do it once."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """One time that a chore is done."""

    id: str


class Periodic:
    """Does a chore, as a step.

    When to do it next is kept in memory alone: nothing is lost by doing it again, and whoever starts the service anew
    may have killed the one before, which left something.
    """

    def __init__(self, chore: Chore, clock: Clock, chance: random.Random) -> None:
        self.name = chore.name
        self._chore = chore
        self._clock = clock
        self._chance = chance
        self._due: int | None = 0  # unix ms; None while it is under way
        self._failures = 0  # in a row

    async def claim(self, limit: int) -> Sequence[Round]:  # noqa: ARG002 - there is only one
        """Take the round if its time has come."""
        if self._due is None or self._due > self._clock.now():
            return []
        self._due = None
        return [Round(self.name)]

    async def renew(self, item: Round) -> bool:  # noqa: ARG002 - nobody else could take it
        """Keep what only this process knows of."""
        return True

    def about(self, item: Round) -> About:  # noqa: ARG002 - all rounds are alike
        """Say nothing: it is about no job."""
        return About()

    async def handle(self, item: Round) -> Outcome:  # noqa: ARG002 - all rounds are alike
        """Do the chore."""
        outcome = await self._chore.do()
        self._failures = 0
        self._wait(spread_ms(_EVERY_MS, _JITTER, self._chance))
        return outcome

    async def failed(self, item: Round, error: Exception) -> Outcome:  # noqa: ARG002 - all rounds are alike
        """Do it again: at once when it was only interrupted, later and later while what it needs is ill."""
        if isinstance(error, InterruptedWorkError):
            self._wait(0)
            return Outcome("interrupted")
        self._failures += 1
        self._wait(_FAILED.delay_ms(self._failures, self._chance))
        return Outcome("later")

    def _wait(self, milliseconds: int) -> None:
        self._due = self._clock.now() + milliseconds
