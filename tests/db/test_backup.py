"""A copy of a database that is in use: one moment, whole, and under its name only then."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db import backup
from service.db.backup import back_up
from service.db.sqlite import SQLiteDatabase
from service.errors import StoreUnavailableError

TAKEN_AT = 1_700_000_000_000
# Two rows that always have the same sum, moved between by a process of its own that never rests.
_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
done = 0
while True:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE durations SET usual_ms = usual_ms - 1 WHERE model = 'a'")
    connection.execute("UPDATE durations SET usual_ms = usual_ms + 1 WHERE model = 'b'")
    connection.execute("INSERT INTO unknown_words VALUES ('x', ?, zeroblob(0) IS NULL)", (str(done) * 200,))
    connection.execute("COMMIT")
    done += 1
    if done == 20:
        print("going", flush=True)
"""


def ask(path: Path, query: str) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [value for row in connection.execute(query) for value in row]


@contextmanager
def busy(path: Path) -> Iterator[None]:
    """Have the database written to without a pause by another process while the block lasts."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO durations VALUES ('x', ?, 1000000)", [("a",), ("b",)])
        rows = ((f"p{number}", "x" * 3_000) for number in range(4_000))
        connection.executemany("INSERT INTO unknown_words VALUES (?, ?, 1)", rows)
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as writer:  # noqa: S603 - our own lines
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"going\n"
            yield
        finally:
            writer.kill()


@pytest.mark.usefixtures("database")
def test_a_copy_is_one_moment_of_a_database_that_is_written_to_without_a_pause(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 50)
    copy, steps = tmp_path / "copy.db", list[tuple[int, int]]()
    with busy(path):
        before = ask(path, "SELECT count(*) FROM unknown_words")
        copied = back_up(path, copy, taken_at=TAKEN_AT, progress=lambda done, pages: steps.append((done, pages)))
        after = ask(path, "SELECT count(*) FROM unknown_words")
    assert before != after  # the writer did not wait for the copy
    assert copied.bytes == copy.stat().st_size
    assert ask(copy, "PRAGMA integrity_check") == ["ok"]
    assert ask(copy, "SELECT sum(usual_ms) FROM durations") == [2_000_000]
    assert ask(copy, "SELECT taken_at FROM backups") == [TAKEN_AT]
    assert ask(path, "SELECT taken_at FROM backups") == []
    assert len(steps) > 20
    assert steps == sorted(steps)  # it never began anew
    assert len({pages for _, pages in steps}) == 1
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.usefixtures("database")
async def test_a_copy_stands_alone_and_belongs_to_its_owner(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    back_up(path, folder / "copy.db", taken_at=TAKEN_AT)
    assert [each.name for each in folder.iterdir()] == ["copy.db"]
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600
    folder.chmod(0o500)
    try:
        assert ask(folder / "copy.db", "PRAGMA journal_mode") == ["delete"]
    finally:
        folder.chmod(0o700)
    opened = await SQLiteDatabase.open(folder / "copy.db", ManualClock())
    await opened.close()
    assert ask(folder / "copy.db", "SELECT taken_at FROM backups") == [TAKEN_AT]  # who looks into it leaves it a backup


@pytest.mark.usefixtures("database")
def test_a_copy_of_a_copy_that_nobody_served_keeps_its_time(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "one.db", taken_at=TAKEN_AT)
    back_up(tmp_path / "one.db", tmp_path / "two.db", taken_at=TAKEN_AT + 5)
    assert ask(tmp_path / "two.db", "SELECT taken_at FROM backups") == [TAKEN_AT]


def test_a_database_that_nobody_has_open_is_copied_with_all_that_its_last_process_left(tmp_path: Path) -> None:
    path = tmp_path / "reelkeeper.db"
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from service.clock import ManualClock\n"
        "from service.db.sqlite import SQLiteDatabase\n"
        "async def main():\n"
        "    database = await SQLiteDatabase.open(Path(sys.argv[1]), ManualClock())\n"
        "    await database.run(lambda tx: tx.do('probe', now=77))\n"
        "    os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(path)], check=False)  # noqa: S603 - our own lines
    assert died.returncode == 9
    assert (tmp_path / "reelkeeper.db-wal").stat().st_size > 0
    back_up(path, tmp_path / "copy.db", taken_at=TAKEN_AT)
    assert ask(tmp_path / "copy.db", "SELECT at FROM probes") == [77]


@pytest.mark.usefixtures("database")
def test_a_file_that_is_there_is_replaced_only_when_that_is_wished(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    with pytest.raises(FileExistsError, match=r"copy\.db is there already; name another file, or replace it with"):
        back_up(path, copy, taken_at=TAKEN_AT)
    assert copy.read_text() == "mine"
    back_up(path, copy, taken_at=TAKEN_AT, overwrite=True)
    assert ask(copy, "SELECT taken_at FROM backups") == [TAKEN_AT]


@pytest.mark.usefixtures("database")
async def test_a_database_is_never_replaced_by_a_copy(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    other = await SQLiteDatabase.open(tmp_path / "other.db", ManualClock())
    for target in (path, link, tmp_path / "other.db"):
        with pytest.raises(FileExistsError, match="in use, or was not closed"):
            back_up(path, target, taken_at=TAKEN_AT, overwrite=True)
    await other.close()
    for beside in ("-wal", "-shm"):
        with pytest.raises(FileExistsError, match="what SQLite keeps beside a database"):
            back_up(path, Path(f"{path}{beside}"), taken_at=TAKEN_AT, overwrite=True)


@pytest.mark.usefixtures("database")
def test_what_is_wrong_with_the_paths_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"no database .*nowhere\.db: .*REELKEEPER_DATABASE"):
        back_up(tmp_path / "nowhere.db", tmp_path / "copy.db", taken_at=TAKEN_AT)
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file in it, for example .*/reelkeeper\.db"):
        back_up(path, tmp_path, taken_at=TAKEN_AT)
    with pytest.raises(NotADirectoryError, match="there is no folder"):
        back_up(path, tmp_path / "not" / "copy.db", taken_at=TAKEN_AT)
    assert {each.name for each in tmp_path.iterdir()} == {"reelkeeper.db", "reelkeeper.db-wal", "reelkeeper.db-shm"}


@pytest.mark.parametrize("ill", ["text", "another program's", "damaged"])
def test_what_is_no_whole_database_of_ours_leaves_nothing_behind(ill: str, tmp_path: Path) -> None:
    path = tmp_path / "reelkeeper.db"
    if ill == "text":
        path.write_text("no database " * 1_000)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE notes (x TEXT)")
            if ill == "damaged":
                connection.execute("CREATE TABLE backups (id INTEGER PRIMARY KEY CHECK (id = 1), taken_at INTEGER)")
            connection.executemany("INSERT INTO notes VALUES (?)", [(os.urandom(500).hex(),) for _ in range(500)])
    if ill == "damaged":
        content = bytearray(path.read_bytes())
        content[5 * 4096 : 5 * 4096 + 100] = os.urandom(100)
        path.write_bytes(content)
    with pytest.raises(StoreUnavailableError):
        back_up(path, tmp_path / "copy.db", taken_at=TAKEN_AT)
    assert [each.name for each in tmp_path.iterdir()] == ["reelkeeper.db"]


@pytest.mark.usefixtures("database")
def test_a_copy_that_is_cut_short_leaves_nothing_behind_and_what_was_there(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "copy.db").write_text("mine")

    def interrupt(_done: int, _pages: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(path, folder / "copy.db", taken_at=TAKEN_AT, overwrite=True, progress=interrupt)
    assert [each.read_text() for each in folder.iterdir()] == ["mine"]


@pytest.mark.usefixtures("database")
def test_a_copy_is_on_disk_before_it_has_its_name_and_its_name_before_it_counts(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    sync, copy = os.fsync, tmp_path / "copy.db"

    def noted(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        synced.append((name, copy.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    back_up(path, copy, taken_at=TAKEN_AT)
    [(part, early), (folder, late)] = synced
    assert part.startswith(".copy.db.")
    assert (folder, early, late) == (tmp_path.name, False, True)


@pytest.mark.usefixtures("database")
def test_what_killed_backups_to_the_same_file_left_is_removed_and_nothing_else(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    old = [".copy.db.abcd_123.part", ".copy.db.abcd_124.part-journal"]
    others = [".copy.db.abcd_12.part", ".copy.db.ABCD_123.part", ".copy-db.abcd_123.part", "copy.db.abcd_123.part"]
    recent = ".copy.db.abcd_125.part"
    for name in (*old, *others, recent):
        (folder / name).write_text("x")
        os.utime(folder / name, (0, 0)) if name != recent else None
    (folder / ".copy.db.abcd_126.part").mkdir()
    os.utime(folder / ".copy.db.abcd_126.part", (0, 0))
    back_up(path, folder / "copy.db", taken_at=TAKEN_AT)
    assert {each.name for each in folder.iterdir()} == {*others, recent, ".copy.db.abcd_126.part", "copy.db"}


@pytest.mark.usefixtures("database")
def test_a_link_to_nothing_is_replaced_only_when_that_is_wished(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "unmounted" / "copy.db")
    with pytest.raises(FileExistsError, match=r"link\.db is there already; name another file, or replace it with"):
        back_up(path, link, taken_at=TAKEN_AT)
    assert link.is_symlink()
    back_up(path, link, taken_at=TAKEN_AT, overwrite=True)
    assert ask(link, "SELECT taken_at FROM backups") == [TAKEN_AT]


@pytest.mark.usefixtures("database")
def test_a_database_that_may_not_be_read_is_told_as_such(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_path: Path, _descriptor: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(backup, "why_not_open", forbidden)  # the tests may be run by somebody who may read everything
    with pytest.raises(StoreUnavailableError, match=r"reelkeeper\.db could not be copied .*denied.*its permissions"):
        back_up(path, tmp_path / "copy.db", taken_at=TAKEN_AT)
