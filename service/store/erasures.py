"""Files of deleted jobs, and those that a completed one has no use for, on their way out of object storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from service.ids import Ids
from service.model import Artifact
from service.store.transaction import Ledger, Timing


def files_of(artifact: Artifact) -> tuple[str, str]:
    """Return the keys of an artifact and of its poster; who stored that may have died before it was noted."""
    noted = artifact.footage.poster if artifact.footage is not None else None
    return artifact.key, noted or str(PurePosixPath(artifact.key).with_suffix(".jpg"))


@dataclass(frozen=True, slots=True)
class Erasure:
    """A file that is to be removed; `id` is its key."""

    id: str
    attempt: int
    lease: str


class Erasures:
    """What a worker may do with files that are to be removed."""

    def __init__(self, ledger: Ledger, ids: Ids, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._ids = ids
        self._timing = timing or Timing()

    async def claim(self, limit: int) -> list[Erasure]:
        """Lease files to remove."""
        now, lease = self._ledger.clock.now(), self._ids.new("lease")
        taken = {"now": now, "lease": lease, "until": now + self._timing.lease, "limit": limit}
        rows = await self._ledger.db.run(lambda tx: tx.all("claim_erasures", **taken))
        return [Erasure(**row) for row in rows]

    async def renew(self, erasure: Erasure) -> bool:
        """Keep a lease; False when it was lost."""
        until = self._ledger.clock.now() + self._timing.lease
        kept = await self._ledger.db.run(
            lambda tx: tx.one("renew_erasure", id=erasure.id, lease=erasure.lease, until=until)
        )
        return kept is not None

    async def erased(self, erasure: Erasure) -> bool:
        """Note that the file is gone; False when the lease was lost."""
        row = await self._ledger.db.run(lambda tx: tx.one("erased", id=erasure.id, lease=erasure.lease))
        return row is not None

    async def erase_again(self, erasure: Erasure, due_at: int) -> bool:
        """Try again at `due_at` (unix ms); False when the lease was lost."""
        row = await self._ledger.db.run(
            lambda tx: tx.one("erase_again", id=erasure.id, lease=erasure.lease, due_at=due_at)
        )
        return row is not None
