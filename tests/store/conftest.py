"""The only file here that knows which database the store runs on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase
from tests.store.world import World


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def world(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    database = await SQLiteDatabase.open(tmp_path / "store.db", clock)
    beside = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    beside.row_factory = sqlite3.Row

    def sql(statement: str, **parameters: object) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in beside.execute(statement, parameters)]

    yield World(database, clock, sql)
    beside.close()
    await database.close()


@pytest.fixture
def refused() -> type[Exception]:
    """Return what the database raises when a rule of its tables is broken."""
    return sqlite3.IntegrityError
