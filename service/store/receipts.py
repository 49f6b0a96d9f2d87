"""Genuine callbacks as they came, and what each turned out to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.db import Tx


class Verdict(StrEnum):
    """What a genuine callback turned out to be."""

    APPLIED = "applied"  # it moved the job on
    DUPLICATE = "duplicate"  # it said nothing new
    MISMATCHED = "mismatched"  # it speaks of another provider job than the one that this job is bound to


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified callback as it came: kept in the transaction that applies it."""

    headers: Mapping[str, str]
    body: bytes
    received_at: int


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """All callbacks about a job that say the same; `headers` and `body` are of the first of them."""

    provider_job_id: str
    word: str  # the provider's status word
    verdict: Verdict  # APPLIED when any of them was
    times: int
    first_at: int  # unix ms
    last_at: int
    headers: Mapping[str, str]
    body: bytes  # as it was signed


def kept_receipts(tx: Tx, job_id: str) -> list[KeptReceipt]:
    """Read the callbacks about a job, in the order in which they came."""
    return [
        KeptReceipt(**{**row, "verdict": Verdict(row["verdict"]), "headers": json.loads(row["headers"])})
        for row in tx.all("receipts", job_id=job_id)
    ]
