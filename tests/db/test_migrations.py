from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase, _migrate, _statements
from service.errors import ConfigurationError
from tests.db.rows import names, put


class KilledError(Exception):
    pass


class FragileConnection(sqlite3.Connection):
    """A connection that dies at its statement number `dies_at`, counted from 1, and executes nothing from there on."""

    dies_at: int | None = None
    executed = 0

    def execute(self, *arguments: Any, **more: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as its parent
        self.executed += 1
        if self.dies_at is not None and self.executed >= self.dies_at:
            raise KilledError
        return super().execute(*arguments, **more)


def connect(path: Path) -> FragileConnection:
    connection = sqlite3.connect(path, factory=FragileConnection, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def schema(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        migrations = connection.execute("SELECT name, applied_at FROM migrations ORDER BY name").fetchall()
        return migrations + connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_a_migration_that_is_interrupted_anywhere_goes_on_from_there(tmp_path: Path) -> None:
    clock = ManualClock()
    with closing(connect(tmp_path / "whole.db")) as connection:
        _migrate(connection, clock)
        statements = connection.executed
    assert statements > 20
    for k in range(1, statements + 1):
        path = tmp_path / f"{k}.db"
        with closing(connect(path)) as connection:
            connection.dies_at = k
            with pytest.raises(KilledError):
                _migrate(connection, clock)
        with closing(connect(path)) as connection:
            _migrate(connection, clock)
        assert schema(path) == schema(tmp_path / "whole.db")


async def test_a_second_opening_changes_nothing_and_keeps_what_is_there(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(1))
    await database.run(put("a"))
    await database.close()
    before = schema(path)
    database = await SQLiteDatabase.open(path, ManualClock(2))
    assert await database.read(names) == ["a"]
    await database.close()
    assert schema(path) == before


async def test_the_database_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    await (await SQLiteDatabase.open(path, ManualClock())).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES ('0999_tomorrow.sql', 1)")
    before = schema(path)
    with pytest.raises(ConfigurationError, match=r"newer Reelkeeper \(it has 0999_tomorrow.sql\): upgrade"):
        await SQLiteDatabase.open(path, ManualClock())
    assert schema(path) == before


async def test_many_may_open_a_new_database_at_the_same_time(tmp_path: Path) -> None:
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        opened = await asyncio.gather(*(SQLiteDatabase.open(path, ManualClock()) for _ in range(8)))
        await asyncio.gather(*(database.run(put(f"{number}")) for number, database in enumerate(opened)))
        assert await opened[0].read(names) == [f"{number}" for number in range(8)]
        await asyncio.gather(*(database.close() for database in opened))


@pytest.mark.parametrize(
    "pieces",
    [
        ["-- Only a remark; with a semicolon.\n"],
        ["SELECT 1;\n", "SELECT\n  2;\n", ""],
        [
            "CREATE TABLE a (x);\n",
            "-- Why; twice.\nCREATE TRIGGER t AFTER INSERT ON a\nBEGIN\n SELECT 1;\nEND;\n",
            "\n",
        ],
        ["SELECT ';' AS\n a;\n", ""],
        ["SELECT 1;\n", "SELECT 2"],
    ],
)
def test_a_script_is_split_into_its_statements_and_nothing_is_left_out(pieces: list[str]) -> None:
    assert _statements("".join(pieces)) == pieces
    with closing(sqlite3.connect(":memory:")) as connection:
        for piece in pieces:
            connection.execute(piece)
