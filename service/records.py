"""What the database holds, opened: all that commands on the same machine need, and what a service is built around."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.clock import Clock, SystemClock
from service.config import LocalConfig
from service.db.guard import why_absent
from service.db.sqlite import SQLiteDatabase
from service.errors import StoreUnavailableError
from service.ids import Ids
from service.store import (
    Backups,
    Catalogue,
    Claims,
    Deliveries,
    Eras,
    Erasures,
    KeyStore,
    Ledger,
    Rejections,
    Sessions,
    Statistics,
    Store,
    Timing,
)


@dataclass(frozen=True, slots=True)
class Records:
    """What the database holds, one part of it each."""

    ledger: Ledger
    ids: Ids
    store: Store
    claims: Claims
    deliveries: Deliveries
    erasures: Erasures
    catalogue: Catalogue
    keys: KeyStore
    backups: Backups
    eras: Eras
    rejections: Rejections
    statistics: Statistics
    sessions: Sessions


@asynccontextmanager
async def open_records(
    config: LocalConfig,
    *,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    timing: Timing | None = None,
    create: bool = True,
) -> AsyncIterator[Records]:
    """Open (and migrate) the database of `config`, and close it at the end.

    Without `create`, one that is not there is StoreUnavailableError: an empty one would be taken for the service's.
    """
    absent = None if create else why_absent(config.database)
    if absent is not None:
        raise StoreUnavailableError(absent)
    clock = clock or SystemClock()
    ids = Ids(clock, chance)
    timing = timing or Timing(job_deadline=config.job_deadline_ms)
    db = await SQLiteDatabase.open(config.database, clock)
    try:
        ledger = Ledger(db, clock)
        yield Records(
            ledger,
            ids,
            Store(ledger, ids, timing),
            Claims(ledger, ids, timing),
            Deliveries(ledger, ids, timing),
            Erasures(ledger, ids, timing),
            Catalogue(db),
            KeyStore(db, clock, ids),
            Backups(ledger, timing),
            Eras(ledger),
            Rejections(ledger),
            Statistics(ledger),
            Sessions(db, clock, ids),
        )
    finally:
        await db.close()
