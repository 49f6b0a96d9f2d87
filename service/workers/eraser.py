"""Files of deleted jobs leave object storage, however long that refuses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import PurePosixPath

from service.backoff import Backoff
from service.clock import Clock
from service.errors import InterruptedWorkError
from service.storage import Storage
from service.store import Erasure, Erasures
from service.workers import About, Outcome

_FAILED = Backoff(first_ms=5_000, most_ms=3_600_000)


class Eraser:
    """Removes files, each as often as it takes."""

    name = "erase"

    def __init__(self, erasures: Erasures, storage: Storage, clock: Clock, chance: random.Random) -> None:
        self._erasures = erasures
        self._storage = storage
        self._clock = clock
        self._chance = chance

    async def claim(self, limit: int) -> Sequence[Erasure]:
        """Lease files to remove."""
        return await self._erasures.claim(limit)

    async def renew(self, item: Erasure) -> bool:
        """Keep the lease while the storage thinks."""
        return await self._erasures.renew(item)

    def about(self, item: Erasure) -> About:
        """Say whose file it is: its folder has the job's name."""
        return About(PurePosixPath(item.id).parent.name, attempt=item.attempt)

    async def handle(self, item: Erasure) -> Outcome:
        """Remove a file; one that is not there is removed already."""
        await self._storage.delete(item.id)
        return Outcome("erased" if await self._erasures.erased(item) else "lease lost")

    async def failed(self, item: Erasure, error: Exception) -> Outcome:
        """Try again: at once after a restart, later and later after anything else. It is never given up."""
        wait_ms = 0 if isinstance(error, InterruptedWorkError) else _FAILED.delay_ms(item.attempt, self._chance)
        await self._erasures.erase_again(item, self._clock.now() + wait_ms)
        return Outcome("later" if wait_ms else "interrupted")
