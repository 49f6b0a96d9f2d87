from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db import guard
from service.db import sqlite as module
from service.db.guard import Limits
from service.db.sqlite import SQLiteDatabase
from service.errors import ConfigurationError, StoreUnavailableError
from tests.db.disks import MIB, Image, fill, read_only, remount_read_only, small_disk
from tests.db.holding import READ, WRITE, held
from tests.db.rows import names, on_disk, put

SMALL = Limits(log_usual=MIB, log_warned=2 * MIB, log_refused=3 * MIB, reserve=0, empty_every=0)
ROW = 60_000


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def trouble(database: SQLiteDatabase) -> str | None:
    try:
        await database.check()
    except StoreUnavailableError as error:
        return str(error)
    return None


async def refusal(database: SQLiteDatabase) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await database.run(put("refused"))
    return str(caught.value)


# The log


async def test_a_reader_who_stays_cannot_make_the_log_grow_without_end(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(), SMALL)
    kept, warned = [await database.run(put("first"))], 0
    with held(path, READ) as reader:
        message = ""
        for number in range(1_000):
            try:
                kept.append(await database.run(put(f"{number:03}", ROW)))
            except StoreUnavailableError as error:
                message = str(error)
                break
            warned += bool(await trouble(database))
        assert re.search(
            rf"has grown to 3 MiB, because a reader holds it \(python\S*, process {reader}\): end", message
        )
        assert "nothing is written" in message
        assert str(await trouble(database)) in message
        assert 3 * MIB < log_size(path) < 3 * MIB + 10 * ROW
        assert len(kept) > warned > 10
        assert await database.read(names) == sorted(kept)
    kept += [await database.run(put("and")), await database.run(put("on"))]
    assert log_size(path) <= MIB
    assert await trouble(database) is None
    await database.close()
    assert on_disk(path) == sorted(kept)


async def test_a_log_that_is_large_for_no_reader_is_no_reason_to_refuse(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(), SMALL)
    for number in range(5):
        await database.run(put(f"{number}", 4 * MIB))
        assert log_size(path) > SMALL.log_refused
    await database.close()
    assert len(on_disk(path)) == 5


async def test_a_large_log_is_tried_to_be_emptied_once_in_a_while(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(), Limits(log_warned=0, log_usual=0, empty_every=3600))
    seen: list[str] = []
    await module._on_thread(database._writer, lambda connection: connection.set_trace_callback(seen.append))
    for number in range(10):
        await database.run(put(f"{number}"))
    await database.close()
    assert sum("wal_checkpoint" in statement for statement in seen) == 1


async def test_the_log_shrinks_to_its_usual_size_by_itself(path: Path) -> None:
    usual = Limits(log_usual=MIB)
    database = await SQLiteDatabase.open(path, ManualClock(), usual)
    with held(path, READ):
        for number in range(60):
            await database.run(put(f"{number}", MIB))
    assert log_size(path) > 42 * MIB
    await database.run(put("one moves the log into the file"))
    await database.run(put("one begins it anew"))
    assert log_size(path) <= MIB
    await database.close()


# The disk


async def test_a_disk_with_little_room_is_told_before_it_is_full(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock(), Limits(reserve=1 << 60))
    assert await database.run(put("a")) == "a"
    assert re.search(
        rf"the disk of {path.parent} has [\d,]+ MiB free, less than the reserve of [\d,]+ MiB: make room",
        str(await trouble(database)),
    )
    await database.close()


async def test_a_full_disk_refuses_and_room_is_all_it_takes_to_go_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 * MIB) as folder:
        path, spare = folder / "reelkeeper.db", folder / "spare"
        spare.write_bytes(bytes(MIB))
        database = await SQLiteDatabase.open(path, ManualClock(), Limits(reserve=2 * MIB))
        kept = [await database.run(put("first"))]
        assert await trouble(database) is None
        for number in range(500):
            try:
                kept.append(await database.run(put(f"{number:03}", ROW)))
            except StoreUnavailableError as error:
                message = str(error)
                break
            warned = await trouble(database)
        assert "make room before it is full" in str(warned)
        assert f"(database or disk is full): make room on the disk of {folder}" in message
        assert await database.read(names) == sorted(kept)
        await database.close()

        database = await SQLiteDatabase.open(path, ManualClock())
        filler = fill(folder)
        refused = await asyncio.gather(*(database.run(put(f"{n}", MIB)) for n in range(5)), return_exceptions=True)
        assert {type(each) for each in refused} == {StoreUnavailableError}
        for each in (filler, spare):
            each.unlink()
        kept.append(await database.run(put("z" * 10)))
        assert await database.read(names) == sorted(kept)
        await database.close()
        assert on_disk(path) == sorted(kept)


async def test_a_full_disk_while_opening_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 * MIB) as folder:
        path = folder / "reelkeeper.db"
        await (await SQLiteDatabase.open(path, ManualClock())).close()
        filler = fill(folder)
        with pytest.raises(StoreUnavailableError, match=r"disk of .* full|make room"):
            await SQLiteDatabase.open(path, ManualClock())
        filler.unlink()
        await (await SQLiteDatabase.open(path, ManualClock())).close()


async def test_who_uses_another_disks_database_is_in_nobodys_way(tmp_path: Path) -> None:
    """On small disks the files have the same numbers."""
    with small_disk(tmp_path / "one", 8 * MIB) as one, small_disk(tmp_path / "two", 8 * MIB) as two:
        paths = [folder / "reelkeeper.db" for folder in (one, two)]
        for path in paths:
            await (await SQLiteDatabase.open(path, ManualClock())).close()
        assert len({path.stat().st_ino for path in paths}) == 1
        with held(paths[0], READ) as other:
            assert f"process {other}" in guard._holders(paths[0], guard._OPENERS_LOCKS)
            database = await SQLiteDatabase.open(paths[1], ManualClock())
            assert await database.run(put("a")) == "a"
            await database.close()


async def test_a_disk_that_is_read_only_while_opening_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 * MIB) as folder:
        path = folder / "reelkeeper.db"
        await (await SQLiteDatabase.open(path, ManualClock())).close()
        remount_read_only(folder)
        with pytest.raises(ConfigurationError, match=rf"REELKEEPER_DATABASE: {path} cannot be used"):
            await SQLiteDatabase.open(path, ManualClock())


async def test_files_that_become_read_only_refuse_until_they_are_not(tmp_path: Path) -> None:
    image = Image(tmp_path / "disk")
    with image.mounted():
        path = image.folder / "reelkeeper.db"
        database = await SQLiteDatabase.open(path, ManualClock())
        await database.run(put("before"))
        read_only(path, Path(f"{path}-wal"), on=True)
        assert "broken, read-only or full" in await refusal(database)
        assert await database.read(names) == ["before"]
        read_only(path, Path(f"{path}-wal"), on=False)
        await database.run(put("on"))
        await database.close()
        assert on_disk(path) == ["before", "on"]


async def test_a_file_system_that_failed_refuses_and_has_everything_when_it_is_back(tmp_path: Path) -> None:
    image = Image(tmp_path / "disk")
    path = image.folder / "reelkeeper.db"
    with image.mounted():
        database = await SQLiteDatabase.open(path, ManualClock())
        await database.run(put("before"))
        image.breaks()
        assert "broken, read-only or full; the kernel's log" in await refusal(database)
        assert await database.read(names) == ["before"]
        await database.close()

        database = await SQLiteDatabase.open(path, ManualClock())
        assert await database.read(names) == ["before"]
        assert "(attempt to write a readonly database): let the service write" in await refusal(database)
        await database.close()
    with image.mounted():
        database = await SQLiteDatabase.open(path, ManualClock())
        await database.run(put("on"))
        assert await database.read(names) == ["before", "on"]
        await database.close()


# Who else is at the file


async def test_who_holds_the_lock_is_named(database: SQLiteDatabase, path: Path) -> None:
    await module._on_thread(database._writer, lambda connection: connection.execute("PRAGMA busy_timeout = 1"))
    with held(path, WRITE) as other:
        assert re.search(
            rf"another process holds it locked \(python\S*, process {other}\); end sqlite3 shells",
            await refusal(database),
        )


async def test_where_locks_cannot_be_seen_nobody_is_named(path: Path) -> None:
    assert guard._holders(path, guard._READERS_LOCKS) == ""


@pytest.mark.parametrize("copying", ["VACUUM INTO", ".backup"])
async def test_a_copy_made_by_sqlite_while_we_write_stops_nobody_and_is_whole(
    database: SQLiteDatabase, path: Path, copying: str
) -> None:
    copy = path.with_name("copy.db")
    await asyncio.gather(*(database.run(put(f"{n:03}", ROW)) for n in range(200)))
    program = (
        "import sqlite3, sys\n"
        "path, copy = sys.argv[1:]\n"
        "source = sqlite3.connect(path, isolation_level=None, timeout=30)\n"
        + (
            "source.execute('VACUUM INTO ?', (copy,))\n"
            if copying == "VACUUM INTO"
            else "source.backup(sqlite3.connect(copy), pages=100)\n"
        )
    )
    with subprocess.Popen([sys.executable, "-c", program, path, copy]) as process:  # noqa: ASYNC220, S603 - the program above
        written = 0
        while process.poll() is None:
            await database.run(put(f"during-{written:06}", 500))
            written += 1
        assert process.returncode == 0
    found = on_disk(copy)
    assert found[:200] == [f"{n:03}" for n in range(200)]
    assert found[200:] == [f"during-{n:06}" for n in range(len(found) - 200)]
    assert len(on_disk(path)) == 200 + written


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes())
    other.replace(file)


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("happens", [remove, replace])
async def test_nothing_is_written_to_a_file_that_nobody_will_find_again(
    database: SQLiteDatabase, path: Path, suffix: str, happens: Callable[[Path], None]
) -> None:
    await database.run(put("before"))
    happens(path.with_name(path.name + suffix))
    message = await refusal(database)
    assert "removed or replaced while the service runs" in message
    assert "Put it back, or restart the service" in message


# Damage


async def test_a_damaged_file_takes_nothing_more(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock())
    for number in range(300):
        await database.run(put(f"{number:03}", 500))
    await database.close()
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'api_keys'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(os.urandom(4096))

    database = await SQLiteDatabase.open(path, ManualClock())
    assert await trouble(database) is None
    with pytest.raises(StoreUnavailableError, match=r"the file is damaged, and nothing more is written to it. Stop"):
        await database.read(names)
    with pytest.raises(StoreUnavailableError, match="damaged"):
        await database.run(lambda tx: tx.do("probe", now=1))  # which is in a page that is well
    assert "restore a backup" in str(await trouble(database))
    await database.close()


def test_a_rule_that_was_broken_is_no_fault_of_the_file(path: Path) -> None:
    path.touch()
    watch = guard.Guard(path, -1, Limits())
    for error in (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, KeyError):
        with pytest.raises(error), watch.blame():
            raise error("x")
    with pytest.raises(StoreUnavailableError, match="check the disk"), watch.blame():
        raise sqlite3.OperationalError("x")
    assert guard._look(path.with_name("none")) is None
