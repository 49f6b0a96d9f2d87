"""Callbacks that came to a job's own address and were not believed: kept, within bounds, for who looks for the reason.

Nothing is ever decided by them. There is one row for all of a job that have one reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.db import Row
from service.store.transaction import Ledger, Transaction, dumps


class Reason(StrEnum):
    """Why a callback was rejected."""

    MISSING_HEADER = "missing_header"  # it was not signed, or something on the way took the signature away
    MALFORMED_HEADER = "malformed_header"
    CLOCK_SKEW = "clock_skew"  # it was signed too long ago, or too far ahead
    BODY_ALTERED = "body_altered"  # the signature fits the body as it was before something on the way changed it
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a word; the signature fits nothing that was tried
    NOT_A_CALLBACK = "not_a_callback"  # genuine, and not understood
    MISMATCHED = "mismatched"  # genuine, and about another of the provider's jobs
    WRONG_CONTENT_TYPE = "wrong_content_type"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"


@dataclass(frozen=True, slots=True)
class Rejection:
    """All of a job's rejected callbacks that have one reason; `message`, `headers` and `bytes` are of the last one."""

    job_id: str
    provider: str
    reason: Reason
    message: str  # what to do, for people
    times: int
    first_at: int  # unix ms
    last_at: int
    headers: Mapping[str, str]  # a few, in lower case, and never a signature
    bytes: int | None  # of the body; None: it was not read


@dataclass(frozen=True, slots=True)
class Mark:
    """A rejection's place in a list, newest first."""

    last_at: int
    job_id: str
    reason: str


class Rejections:
    """Keeps the newest `most` of them."""

    most = 1_000

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def keep(self, rejections: Sequence[Rejection]) -> None:
        """Add rejections to those that are kept; those of a job that is not there, or not that provider's, are not."""

        def work(tx: Transaction) -> None:
            kept = 0
            for each in rejections:
                fields = {name: getattr(each, name) for name in Rejection.__dataclass_fields__}
                kept += tx.do("upsert_rejection", **fields | {"headers": dumps(each.headers)})
            if kept:
                tx.do("trim_rejections", most=self.most)

        await self._ledger.write(work)

    async def page(
        self,
        tenant: str | None = None,
        *,
        job_id: str | None = None,
        before: Mark | None = None,
        limit: int = 20,
    ) -> list[Rejection]:
        """List them, newest first; `before` continues after the last one of the page before, `tenant` sees its own."""
        rows = await self._ledger.db.look(
            lambda tx: tx.all(
                "rejections",
                tenant=tenant,
                job_id=job_id,
                before_at=before and before.last_at,
                before_job=before and before.job_id,
                before_reason=before and before.reason,
                limit=limit,
            ),
            tenant or "",
        )
        return [_rejection(row) for row in rows]

    async def totals(self) -> dict[str, dict[str, int]]:
        """Count those that are kept, and no others: provider -> reason -> times."""
        found: dict[str, dict[str, int]] = {}
        for row in await self._ledger.db.look(lambda tx: tx.all("count_rejections")):
            found.setdefault(row["provider"], {})[row["reason"]] = row["times"]
        return found


def _rejection(row: Row) -> Rejection:
    fields = {name: row[name] for name in Rejection.__dataclass_fields__}
    return Rejection(**fields | {"reason": Reason(row["reason"]), "headers": json.loads(row["headers"])})
