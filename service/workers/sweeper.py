"""What dead processes left in storage is collected."""

from __future__ import annotations

from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.storage import Storage
from service.workers import Outcome

_YOUNG_MS = 24 * 3_600_000  # another process may be at it: a copy takes an hour at most


class Sweeper:
    """Removes what is a day old and was never finished: uploads, temporary files, probes and jobs' empty folders.

    What has not the exact form of ours is nobody's business: an operator may keep other things beside it.
    """

    name = "sweep"

    def __init__(self, storage: Storage, clock: Clock, log: FilteringBoundLogger) -> None:
        self._storage = storage
        self._clock = clock
        self._log = log
        self._left: str | None = None  # what was last said to stay

    async def do(self) -> Outcome:
        """Sweep once. What can never be collected is told once, not each time."""
        swept = await self._storage.sweep(datetime.fromtimestamp((self._clock.now() - _YOUNG_MS) / 1000, UTC))
        if swept.left is not None and swept.left != self._left:
            self._log.warning("storage.not_swept", reason=swept.left)
        self._left = swept.left
        return Outcome("swept", f"aborted {swept.uploads} uploads, removed {swept.files} files")
