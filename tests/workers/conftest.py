"""A stage for every test of a step, and a shop for those of the mirror."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase
from tests.servers import loopback
from tests.store.world import World
from tests.workers.shop import Shop, mirror_of
from tests.workers.stage import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    clock = ManualClock()
    database = await SQLiteDatabase.open(tmp_path / "store.db", clock)
    beside = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    beside.row_factory = sqlite3.Row

    def sql(statement: str, **parameters: object) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in beside.execute(statement, parameters)]

    logged = CapturingLogger()
    log = structlog.wrap_logger(logged, processors=[], wrapper_class=structlog.make_filtering_bound_logger(20))
    yield Stage(World(database, clock, sql), log, logged)
    beside.close()
    await database.close()


@pytest.fixture
async def shop(stage: Stage, tmp_path: Path) -> AsyncIterator[Shop]:
    async def talk(head: str, writer: asyncio.StreamWriter) -> None:
        answers = open_shop.shelf[head.split()[1].partition("?")[0]]
        writer.write(answers.pop(0) if len(answers) > 1 else answers[0])

    async with loopback(talk) as server, AsyncExitStack() as stack:
        videos = tmp_path / "videos"
        open_shop = Shop(stage, mirror_of(stage, server, videos, stack), server, videos)
        yield open_shop
