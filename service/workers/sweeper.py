"""What dead processes left in storage is collected: at the start, and every few hours."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from service.backoff import Backoff, spread_ms
from service.clock import Clock
from service.errors import InterruptedWorkError
from service.storage import Storage
from service.workers import About, Outcome

_EVERY_MS = 6 * 3_600_000
_JITTER = 0.1
_FAILED = Backoff(first_ms=60_000, most_ms=_EVERY_MS)
_YOUNG_MS = 24 * 3_600_000  # another process may be at it: a copy takes an hour at most


@dataclass(frozen=True, slots=True)
class Sweep:
    """One round through the storage."""

    id: str = "storage"


class Sweeper:
    """Removes what is a day old and was never finished: uploads, temporary files, probes and jobs' empty folders.

    What has not the exact form of ours is nobody's business: an operator may keep other things beside it.
    When to sweep next is kept in memory alone: whoever starts the service anew may have killed the one before.
    """

    name = "sweep"

    def __init__(self, storage: Storage, clock: Clock, chance: random.Random, log: FilteringBoundLogger) -> None:
        self._storage = storage
        self._clock = clock
        self._chance = chance
        self._log = log
        self._due: int | None = 0  # unix ms; None while it is under way
        self._failures = 0  # in a row
        self._left: str | None = None  # what was last said to stay

    async def claim(self, limit: int) -> Sequence[Sweep]:  # noqa: ARG002 - there is only one
        """Take the round if its time has come."""
        if self._due is None or self._due > self._clock.now():
            return []
        self._due = None
        return [Sweep()]

    async def renew(self, item: Sweep) -> bool:  # noqa: ARG002 - nobody else could take it
        """Keep what only this process knows of."""
        return True

    def about(self, item: Sweep) -> About:  # noqa: ARG002 - all rounds are alike
        """Say nothing: it is about the whole storage."""
        return About()

    async def handle(self, item: Sweep) -> Outcome:  # noqa: ARG002 - all rounds are alike
        """Sweep once. What can never be collected is told once, not in every round."""
        swept = await self._storage.sweep(datetime.fromtimestamp((self._clock.now() - _YOUNG_MS) / 1000, UTC))
        if swept.left is not None and swept.left != self._left:
            self._log.warning("storage.not_swept", reason=swept.left)
        self._left = swept.left
        self._failures = 0
        self._wait(spread_ms(_EVERY_MS, _JITTER, self._chance))
        return Outcome("swept", f"aborted {swept.uploads} uploads, removed {swept.files} files")

    async def failed(self, item: Sweep, error: Exception) -> Outcome:  # noqa: ARG002 - all rounds are alike
        """Sweep again: at once when it was only interrupted, later and later while the storage is ill."""
        if isinstance(error, InterruptedWorkError):
            self._wait(0)
            return Outcome("interrupted")
        self._failures += 1
        self._wait(_FAILED.delay_ms(self._failures, self._chance))
        return Outcome("later")

    def _wait(self, milliseconds: int) -> None:
        self._due = self._clock.now() + milliseconds
