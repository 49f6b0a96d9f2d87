# ruff: noqa: ASYNC240 - the files are small, and nothing else runs
"""A database whose files are taken apart: nothing that was acknowledged is lost, and nothing is mixed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db import guard
from service.db import sqlite as module
from service.db.backup import back_up
from service.db.sqlite import SQLiteDatabase
from service.errors import ConfigurationError, StoreUnavailableError
from tests.db.holding import READ, held
from tests.db.rows import names, on_disk, put

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_SETTLED_S", 0.1)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def killed(path: Path) -> list[str]:
    """Have a process write rows and be killed; return what it had acknowledged."""
    with writing(path) as (process, acked):
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert beside(path, "-wal").stat().st_size > 0
    return acked


@contextmanager
def writing(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Have another process that wrote rows, which it acknowledged, and goes on; it ends with the block."""
    command = [sys.executable, "-m", "tests.db.acking", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        acked = [process.stdout.readline().decode().strip() for _ in range(20)]
        try:
            yield process, acked
        finally:
            process.kill()


async def refusal(database: SQLiteDatabase) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await database.run(put("refused"))
    with pytest.raises(StoreUnavailableError) as told:
        await database.check()
    assert str(told.value) == str(caught.value)
    return str(caught.value)


async def not_opened(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await SQLiteDatabase.open(path, ManualClock())
    return str(caught.value)


async def reopened(path: Path) -> list[str]:
    database = await SQLiteDatabase.open(path, ManualClock())
    found = await database.read(names)
    await database.run(put("~on"))
    await database.close()
    return found


# The index


async def test_without_its_index_it_writes_nothing_and_loses_nothing_of_whoever_came_after(path: Path) -> None:
    first = await SQLiteDatabase.open(path, ManualClock())
    await first.run(put("a"))
    beside(path, "-shm").rename(beside(path, "-away"))
    another = (
        "import asyncio, sys; from pathlib import Path; from service.clock import ManualClock\n"
        "from service.db import guard; from service.db.sqlite import SQLiteDatabase; from tests.db.rows import put\n"
        "guard._holders = lambda *_: ''  # as where locks cannot be seen\n"
        "async def main():\n"
        "    database = await SQLiteDatabase.open(Path(sys.argv[1]), ManualClock())\n"
        "    await database.run(put('b'))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", another, str(path)], cwd=ROOT, check=True)  # noqa: ASYNC221, S603 - ours
    message = await refusal(first)
    assert f"{path}-shm, through which processes see each other, was removed or replaced while" in message
    beside(path, "-away").replace(beside(path, "-shm"))
    assert await refusal(first) == message
    await first.close()
    assert await reopened(path) == ["a", "b"]


async def test_nobody_opens_it_while_another_process_has_it_without_its_index(path: Path, tmp_path: Path) -> None:
    acked = killed(path)
    with held(path, READ) as other:
        beside(path, "-shm").unlink()
        expected = rf"another process uses {path} \(python\S*, process {other}\), and {path}-shm, .* was removed: end"
        with pytest.raises(ConfigurationError, match=expected):
            await SQLiteDatabase.open(path, ManualClock())
        with pytest.raises(StoreUnavailableError, match=expected):
            back_up(path, tmp_path / "copy.db", taken_at=1)
        assert not beside(path, "-shm").exists()
    assert set(acked) <= set(await reopened(path))


async def test_who_removes_log_and_index_loses_nothing_that_the_service_can_still_save(path: Path) -> None:
    database = await SQLiteDatabase.open(path, ManualClock())
    await database.run(put("a"))
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink()
    assert "was removed or replaced" in await refusal(database)
    await database.close()
    assert await reopened(path) == ["a"]


async def test_a_folder_that_is_moved_and_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "reelkeeper.db"
    database = await SQLiteDatabase.open(path, ManualClock())
    await database.run(put("a"))
    path.parent.rename(tmp_path / "away")
    assert "Put it back" in await refusal(database)
    (tmp_path / "away").rename(path.parent)
    await database.run(put("b"))
    await database.check()
    await database.close()
    assert on_disk(path) == ["a", "b"]


# The file


async def test_no_database_is_made_where_the_log_of_one_that_is_away_lies(path: Path, tmp_path: Path) -> None:
    with writing(path) as (process, acked):
        path.rename(tmp_path / "away.db")
        message = await not_opened(path)
        assert (
            f"REELKEEPER_DATABASE: {path} is away, but what belongs to it is there ({path}-wal, {path}-shm)" in message
        )
        assert "put the file back beside them; or, if it is gone for good, move those away, too" in message
        assert not path.exists()
        process.kill()
    beside(path, "-shm").unlink()
    assert await not_opened(path) == message
    (tmp_path / "away.db").rename(path)
    assert set(acked) <= set(await reopened(path))


async def test_a_new_database_is_made_once_what_belonged_to_the_old_one_is_away_or_empty(path: Path) -> None:
    killed(path)
    path.unlink()
    beside(path, "-shm").unlink()
    os.truncate(beside(path, "-wal"), 0)
    assert await reopened(path) == []


async def test_a_link_to_a_file_that_is_away_makes_none_beside_its_log(path: Path, tmp_path: Path) -> None:
    acked = killed(path)
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    path.rename(tmp_path / "away.db")
    assert f"({path}-wal, {path}-shm)" in await not_opened(link)
    (tmp_path / "away.db").rename(path)
    database = await SQLiteDatabase.open(link, ManualClock())
    assert set(acked) <= set(await database.read(names))
    beside(path, "-shm").unlink()
    assert f"{path}-shm, through which" in await refusal(database)
    await database.close()


async def test_a_file_that_another_process_makes_while_we_look_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acked = list[str]()
    look = guard.why_not_create

    def slow(path: Path) -> str | None:
        acked.extend(killed(path))
        return look(path)

    monkeypatch.setattr(module, "why_not_create", slow)
    found = await reopened(path)
    assert acked
    assert set(acked) <= set(found)


def test_a_file_that_cannot_be_looked_into_is_left_to_sqlite_to_judge(path: Path) -> None:
    path.touch()
    watch = guard.Guard(path, -1, guard.Limits(reserve=0))
    watch.admit_reader()
    assert watch.trouble() is None


# Backups in the wrong place


async def make_backup(path: Path, folder: Path) -> Path:
    """Return a backup that has one row, `backed-up`; there is no database afterwards."""
    database = await SQLiteDatabase.open(path, ManualClock())
    await database.run(put("backed-up"))
    back_up(path, folder / "copy.db", taken_at=1)
    await database.close()
    path.unlink()
    return folder / "copy.db"


@pytest.mark.parametrize("how", ["copied over", "moved over", "emptied"])
async def test_a_log_is_never_played_into_a_backup(path: Path, tmp_path: Path, how: str) -> None:
    copy = await make_backup(path, tmp_path)
    killed(path)
    if how == "emptied":
        os.truncate(path, 0)
    elif how == "copied over":
        shutil.copyfile(copy, path)
    else:
        shutil.copyfile(copy, tmp_path / "moved.db")
        (tmp_path / "moved.db").replace(path)
    size = beside(path, "-wal").stat().st_size
    content = path.read_bytes()
    message = await not_opened(path)
    assert f"{path} was replaced, by a backup for example, and the log {path}-wal belongs to the file that" in message
    assert f"move {path}-wal and {path}-shm away first" in message
    with pytest.raises(StoreUnavailableError, match="was replaced, by a backup for example"):
        back_up(path, tmp_path / "mixed.db", taken_at=2)
    assert beside(path, "-wal").stat().st_size == size
    assert path.read_bytes() == content
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink()
    assert await reopened(path) == ([] if how == "emptied" else ["backed-up"])


@pytest.mark.parametrize("seen", ["whole", "while it is copied"])
async def test_a_backup_that_is_copied_over_a_file_in_use_is_not_mixed_with_it(
    path: Path, tmp_path: Path, seen: str
) -> None:
    copy = await make_backup(path, tmp_path)
    database = await SQLiteDatabase.open(path, ManualClock())
    await asyncio.gather(*(database.run(put(f"{n:03}", 60_000)) for n in range(20)))
    if seen == "while it is copied":
        os.truncate(path, 0)
        await refusal(database)
    shutil.copyfile(copy, path)
    message = await refusal(database)
    assert f"{path} was overwritten while the service runs, by a backup for example: nothing is read or" in message
    with pytest.raises(StoreUnavailableError, match="overwritten while the service runs"):
        await database.read(names)
    await database.close()
    assert path.read_bytes() == copy.read_bytes()
    assert "was replaced, by a backup for example" in await not_opened(path)
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink()
    assert await reopened(path) == ["backed-up"]
