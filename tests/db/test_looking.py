"""What people look at may take long: it is ended in time, and nobody who is quick waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db import Tx
from service.db import sqlite as module
from service.db.guard import Limits
from service.db.sqlite import SQLiteDatabase
from service.errors import LookTooLongError, StoreUnavailableError
from tests.db.rows import names, put
from tests.turns import Turn

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def endless(tx: Tx) -> None:
    """Be what SQLite never comes to an end of."""
    tx._connection.execute(ENDLESS).fetchall()  # type: ignore[attr-defined]


class Long:
    """A look that lasts until it may end."""

    def __init__(self) -> None:
        self._begun, self._end = threading.Event(), threading.Event()

    def __call__(self, _: Tx) -> str:
        self._begun.set()
        self._end.wait(10)
        return "seen"

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait, 10)

    def end(self) -> None:
        self._end.set()


async def test_a_look_sees_what_is_committed_and_cannot_write(database: SQLiteDatabase) -> None:
    await database.run(put("a"))
    assert await database.look(names) == ["a"]
    with pytest.raises(StoreUnavailableError, match="readonly"):
        await database.look(put("b"))
    assert await database.look(names) == ["a"]


async def test_reading_and_writing_go_on_while_somebody_looks(database: SQLiteDatabase) -> None:
    long = Long()
    looking = asyncio.create_task(database.look(long))
    await long.begun()
    await database.run(put("a"))
    assert await database.read(names) == ["a"]
    assert not looking.done()
    long.end()
    assert await looking == "seen"


async def test_a_look_that_takes_too_long_is_ended_and_the_next_one_is_not(
    database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    await database.run(put("a"))
    for _ in range(2):
        with pytest.raises(LookTooLongError, match=r"longer than 0\.05 s and was ended: narrow it down"):
            await database.look(endless)
        assert await database.look(names) == ["a"]
    await database.check()


async def test_what_is_read_at_once_has_no_deadline(database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", -1.0)
    count = ENDLESS.replace("FROM n)", "FROM n WHERE x < 10000)")

    def work(tx: Tx) -> int:
        [(found,)] = tx._connection.execute(count).fetchall()  # type: ignore[attr-defined]
        return int(found)

    with pytest.raises(LookTooLongError):
        await database.look(work)
    assert await database.read(work) == 10_000


async def test_a_look_that_nobody_waits_for_any_more_is_ended(database: SQLiteDatabase) -> None:
    looking = asyncio.create_task(database.look(endless))
    await Turn()
    looking.cancel()
    begun = time.monotonic()
    assert await database.look(names) == []
    assert time.monotonic() - begun < module._LOOK_S / 2


async def test_who_looks_at_many_things_takes_turns_and_nobody_else_waits_for_them(database: SQLiteDatabase) -> None:
    seen: list[str] = []

    def noted(name: str) -> Callable[[Tx], None]:
        return lambda _: seen.append(name)

    long = Long()
    first = asyncio.create_task(database.look(long, "acme"))
    await long.begun()
    others = [asyncio.create_task(database.look(noted("acme"), "acme")) for _ in range(3)]
    await Turn()
    others.append(asyncio.create_task(database.look(noted("umbrella"), "umbrella")))
    await Turn()
    long.end()
    await asyncio.gather(first, *others)
    assert seen == ["umbrella", "acme", "acme", "acme"]


async def test_who_has_no_turn_for_long_is_told_to_come_again(
    database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    long = Long()
    looking = asyncio.create_task(database.look(long, "acme"))
    await long.begun()
    with pytest.raises(LookTooLongError, match="ask again in a while"):
        await database.look(names, "acme")
    long.end()
    assert await looking == "seen"
    monkeypatch.undo()
    assert await database.look(names, "acme") == []


async def test_who_looks_holds_the_log_no_longer_than_the_look_lasts(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(), Limits(log_warned=0, log_usual=0, empty_every=0))
    await database.look(names)
    await database.run(put("a"))
    await database.run(put("b"))
    assert await database.look(names) == ["a", "b"]
    await database.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_a_closed_database_is_not_looked_at(database: SQLiteDatabase) -> None:
    await database.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await database.look(names)
