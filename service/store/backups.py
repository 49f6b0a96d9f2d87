"""What a service must doubt that begins to live on a backup.

A copy of a stopped service's file is that service. A copy of a running one is not: what it calls queued may have been
submitted, and paid for, after it was taken, and nobody can look it up. So each such job counts as a submission whose
answer was lost: a callback adopts it, its deadline ends it, and it is submitted again only if its caller chose a
second bill and the service that went on cannot have done that already.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.model import State
from service.store.transaction import Ledger, Timing, Transaction

_REASON = "the service goes on from a backup, and the job may have been submitted since that was taken"


@dataclass(frozen=True, slots=True)
class Restoration:
    """A service goes on from a backup that was taken at `taken_at` (unix ms), with `in_doubt` jobs to be doubted."""

    taken_at: int
    in_doubt: int


class Backups:
    """Knows whether the database is a backup that nobody has served yet."""

    def __init__(self, ledger: Ledger, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._timing = timing or Timing()

    async def restore(self) -> Restoration | None:
        """Make the backup a service's database, before anybody claims a job of it; None when it is one already.

        All or nothing, and once: whoever is killed meanwhile finds the backup as it was.
        """

        def work(tx: Transaction) -> Restoration | None:
            backup = tx.one("leave_backup")
            if backup is None:
                return None
            taken_at = backup["taken_at"]
            after = self._timing.resubmit_after
            # A second submission comes so long after the first: until then, none was made. A clock that was set back
            # in between proves nothing.
            doubt = {
                "now": tx.now,
                "recent": 0 <= tx.now - taken_at < after,
                "deadline_ms": self._timing.job_deadline,
            }
            submitting = [row["id"] for row in tx.all("doubt_submitting", **doubt)]
            queued = [row["id"] for row in tx.all("doubt_queued", **doubt, resubmit_after_ms=after)]
            for job_id in queued:
                tx.entered(job_id, State.SUBMITTING, source="backup")
            for job_id in (*queued, *submitting):
                tx.event(job_id, "job.in_doubt", reason=_REASON, taken_at=taken_at)
            return Restoration(taken_at, len(queued) + len(submitting))

        return await self._ledger.write(work)
