from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.clock import ManualClock
from service.db import Tx
from service.db import sqlite as module
from service.db.sqlite import SQLiteDatabase
from service.errors import ConfigurationError, StoreUnavailableError
from service.ids import Ids
from service.store import KeyStore
from tests.db.rows import names, on_disk, put
from tests.turns import Turn

ROOT = Path(__file__).parent.parent.parent


async def on_writer(database: SQLiteDatabase, work: Callable[[sqlite3.Connection], Any]) -> object:
    return await module._on_thread(database._writer, work)


async def pragma(database: SQLiteDatabase, text: str) -> object:
    return await on_writer(database, lambda connection: (connection.execute(f"PRAGMA {text}").fetchone() or [None])[0])


async def statements(database: SQLiteDatabase) -> list[str]:
    """Return a list that grows with every statement that the writer executes."""
    seen: list[str] = []
    await on_writer(database, lambda connection: connection.set_trace_callback(seen.append))
    return seen


# Group commit


@pytest.mark.parametrize(("works", "commits"), [(1, 1), (100, 1), (256, 1), (600, 3)])
async def test_works_that_wait_together_share_a_commit(database: SQLiteDatabase, works: int, commits: int) -> None:
    seen = await statements(database)
    wanted = [f"{number:03}" for number in range(works)]
    assert await asyncio.gather(*(database.run(put(name)) for name in wanted)) == wanted
    assert seen.count("COMMIT") == seen.count("BEGIN IMMEDIATE") == commits
    assert await database.read(names) == wanted


async def test_works_run_in_the_order_in_which_they_came(database: SQLiteDatabase) -> None:
    ran: list[int] = []
    await asyncio.gather(*(database.run(lambda _, number=number: ran.append(number)) for number in range(300)))  # type: ignore[misc]
    assert ran == list(range(300))


async def test_a_caller_is_answered_only_after_the_commit(database: SQLiteDatabase, path: Path) -> None:
    await database.run(put("a"))
    assert on_disk(path) == ["a"]


async def test_an_error_undoes_its_own_work_and_no_other(database: SQLiteDatabase) -> None:
    def half(tx: Tx) -> None:
        put("half")(tx)
        raise ValueError("half-way")

    seen = await statements(database)
    answers = await asyncio.gather(
        database.run(put("a")),
        database.run(half),
        database.run(put("b")),
        database.run(put("a")),  # a second one of that name breaks a rule of the table
        database.run(put("c")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [str, ValueError, str, sqlite3.IntegrityError, str]
    assert seen.count("COMMIT") == 1
    assert await database.read(names) == ["a", "b", "c"]


async def test_an_error_that_undoes_the_whole_transaction_is_told_to_all_who_shared_it(
    database: SQLiteDatabase,
) -> None:
    pages = await pragma(database, "page_count")
    await pragma(database, f"max_page_count = {pages}")
    answers = await asyncio.gather(
        database.run(put("a")), database.run(put("b", 100_000)), database.run(put("c")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 3
    assert "full" in str(answers[0])
    assert await database.read(names) == []
    await pragma(database, "max_page_count = 100000")
    await asyncio.gather(database.run(put("a")), database.run(put("b", 100_000)))
    assert await database.read(names) == ["a", "b"]


async def test_a_commit_that_fails_is_told_to_all_who_shared_it(database: SQLiteDatabase) -> None:
    def owe(tx: Tx) -> None:  # a row without its job, found out at the commit
        tx._connection.execute("PRAGMA defer_foreign_keys = ON")  # type: ignore[attr-defined]
        tx.do("insert_event", job_id="job_none", type="job.queued", now=1, data="{}")

    answers = await asyncio.gather(database.run(put("a")), database.run(owe), return_exceptions=True)
    assert [type(answer) for answer in answers] == [sqlite3.IntegrityError] * 2
    assert await database.read(names) == []
    assert await database.run(put("a")) == "a"


async def test_what_a_cancelled_caller_asked_for_is_done_and_the_others_are_answered(database: SQLiteDatabase) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(tx: Tx) -> str:
        entered.set()
        leave.wait(10)
        return put("slow")(tx)

    running = asyncio.create_task(database.run(slow))
    await asyncio.to_thread(entered.wait, 10)
    waiting = asyncio.create_task(database.run(put("waiting")))
    other = asyncio.create_task(database.run(put("other")))
    await Turn()
    for task in (running, waiting):
        task.cancel()
    leave.set()
    assert await other == "other"
    assert running.cancelled()
    assert waiting.cancelled()
    assert await database.read(names) == ["other", "slow", "waiting"]


# Reading


async def test_reading_never_waits_for_a_writer(database: SQLiteDatabase) -> None:
    await database.run(put("a"))
    entered, leave = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        put("b")(tx)
        entered.set()
        leave.wait(10)

    writing = asyncio.create_task(database.run(slow))
    await asyncio.to_thread(entered.wait, 10)
    assert await database.read(names) == ["a"]
    assert not writing.done()
    leave.set()
    await writing
    assert await database.read(names) == ["a", "b"]


async def test_a_read_sees_one_moment(database: SQLiteDatabase, path: Path) -> None:
    def twice(tx: Tx) -> tuple[list[str], list[str]]:
        before = names(tx)
        with closing(sqlite3.connect(path, isolation_level=None)) as beside:
            beside.execute("INSERT INTO api_keys VALUES ('b', 'n', 't', 0, 'h', 1, NULL, 0, NULL)")
        return before, names(tx)

    assert await database.read(twice) == ([], [])
    assert await database.read(names) == ["b"]


async def test_a_reader_cannot_write(database: SQLiteDatabase) -> None:
    with pytest.raises(StoreUnavailableError, match="readonly"):
        await database.read(put("a"))
    assert await database.read(names) == []


async def test_an_error_while_reading_leaves_the_reader_usable(database: SQLiteDatabase) -> None:
    def wrong(tx: Tx) -> None:
        names(tx)
        raise KeyError("wrong")

    with pytest.raises(KeyError):
        await database.read(wrong)
    with pytest.raises(KeyError, match="no_such_query"):
        await database.read(lambda tx: tx.one("no_such_query"))
    with pytest.raises(sqlite3.ProgrammingError):  # a parameter that was forgotten is a bug, not a broken disk
        await database.read(lambda tx: tx.one("job"))
    assert await database.read(names) == []


# When the disk, the file or a lock is at fault


async def test_a_lock_that_somebody_else_holds_is_a_store_that_is_unavailable(
    database: SQLiteDatabase, path: Path
) -> None:
    await pragma(database, "busy_timeout = 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(database.run(put("a")), database.run(put("b")), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        assert "locked" in str(answers[0])
        assert str(path) in str(answers[0])
        assert await database.read(names) == []
        other.execute("ROLLBACK")
    assert await database.run(put("a")) == "a"


async def test_a_database_that_cannot_be_written_is_a_store_that_is_unavailable(database: SQLiteDatabase) -> None:
    await pragma(database, "query_only = 1")
    with pytest.raises(StoreUnavailableError, match="readonly"):
        await database.run(put("a"))
    await pragma(database, "query_only = 0")
    assert await database.run(put("a")) == "a"


async def test_a_lock_while_opening_is_a_store_that_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await SQLiteDatabase.open(path, ManualClock())).close()
    monkeypatch.setattr(module, "_BUSY_MS", 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await SQLiteDatabase.open(path, ManualClock())


async def test_a_path_that_cannot_be_a_database_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, however long one looks at it" * 100)
    for path in (tmp_path, tmp_path / "text", tmp_path / "text" / "below.db", Path("/proc/no/reelkeeper.db")):
        with pytest.raises(ConfigurationError, match="REELKEEPER_DATABASE"):
            await SQLiteDatabase.open(path, ManualClock())
    assert "sqlite:///var/reelkeeper.db" in str(await refusal(tmp_path / "text"))


async def refusal(path: Path) -> BaseException:
    with pytest.raises(ConfigurationError) as caught:
        await SQLiteDatabase.open(path, ManualClock())
    return caught.value


# What is in force


async def test_commits_are_on_disk_before_they_are_told(database: SQLiteDatabase) -> None:
    assert await pragma(database, "journal_mode") == "wal"
    assert await pragma(database, "synchronous") == 2  # FULL
    assert await pragma(database, "foreign_keys") == 1
    assert await pragma(database, "busy_timeout") == 2_000


@pytest.mark.parametrize("name", ["reelkeeper.db", "what? 100% #1 ü.db"])
async def test_only_its_owner_can_read_the_file(tmp_path: Path, name: str) -> None:
    before = os.umask(0)
    try:
        database = await SQLiteDatabase.open(tmp_path / "deep" / name, ManualClock())
        await database.run(put("a"))
        assert await database.read(names) == ["a"]
        modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "deep").iterdir()}
        assert modes == {name: 0o600, f"{name}-wal": 0o600, f"{name}-shm": 0o600}
        await database.close()
    finally:
        os.umask(before)


async def test_a_callers_key_is_nowhere_in_the_file(database: SQLiteDatabase, path: Path) -> None:
    clock = ManualClock()
    _, secret = await KeyStore(database, clock, Ids(clock)).create("the-name", "acme")
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"the-name" in content
    assert secret.encode() not in content
    assert secret[-20:].encode() not in content


# Closing


async def test_closing_commits_what_waits(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock())
    wanted = [f"{number:03}" for number in range(300)]
    asked = [asyncio.create_task(database.run(put(name))) for name in wanted]
    await Turn()
    await database.close()
    assert on_disk(path) == wanted
    assert await asyncio.gather(*asked) == wanted


async def test_a_closed_database_says_so(database: SQLiteDatabase) -> None:
    await database.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await database.run(put("a"))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await database.read(names)
    await database.close()


async def test_closing_that_is_cancelled_loses_nothing_and_closes(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock())
    entered, leave = threading.Event(), threading.Event()

    def slow(tx: Tx) -> str:
        entered.set()
        leave.wait(10)
        return put("slow")(tx)

    asked = asyncio.create_task(database.run(slow))
    await asyncio.to_thread(entered.wait, 10)
    closing_it = asyncio.create_task(database.close())
    await Turn()
    closing_it.cancel()
    await Turn()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await closing_it
    assert await asked == "slow"
    assert on_disk(path) == ["slow"]
    for connection in (database._writer, database._reader, database._looker):
        connection._thread.join(10)
        assert not connection._thread.is_alive()


@pytest.mark.parametrize("work", ["pass", "raise SystemExit", "await database.run(lambda tx: tx.do('probe', now=1))"])
def test_a_process_ends_although_nobody_closed_the_database(path: Path, work: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from service.clock import ManualClock\n"
        "from service.db.sqlite import SQLiteDatabase\n"
        "async def main():\n"
        "    database = await SQLiteDatabase.open(Path(sys.argv[1]), ManualClock())\n"
        f"    {work}\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=30, cwd=ROOT)  # noqa: S603 - the program above
