"""A copy of a database that is in use: one moment of it, whole and checked, that stands under its name only then."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.db import load_queries
from service.db.guard import why_absent, why_not_open
from service.disk import sync
from service.errors import StoreUnavailableError

Progress = Callable[[int, int], None]
"""Told after each step how many pages are copied, and of how many."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy has."""

    bytes: int
    jobs: int


_PAGES = 1_000  # in one step
_BUSY_S = 5.0
_BESIDE = ("-wal", "-shm", "-journal")
_REMAINS_S = 3600  # a part that nobody wrote to for so long is of a backup that was killed


def back_up(
    database: Path, target: Path, *, taken_at: int, overwrite: bool = False, progress: Progress | None = None
) -> Copied:
    """Copy the `database` to `target`, readable by its owner alone.

    It may be served meanwhile, also by other processes: nobody waits for the copy. The copy carries `taken_at` (unix
    ms), by which a service that opens it knows that it is one. Raises OSError for what the target's folder does not
    allow, FileExistsError when something is there and is not to be replaced, StoreUnavailableError for a database that
    cannot be read.
    """
    _check(database, target, overwrite=overwrite)
    _remove_remains(target)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)  # mode 0600
    os.close(descriptor)
    part = Path(name)
    try:
        with _blame(database):
            _copy(database, part, progress or (lambda _done, _all: None))
            jobs = _note(part, taken_at)
        sync(part)
        _check(database, target, overwrite=overwrite)  # it took a while
        size = part.stat().st_size
        part.replace(target)
        sync(target.parent)
    except BaseException:
        for each in (part, *(Path(f"{part}{beside}") for beside in _BESIDE)):
            each.unlink(missing_ok=True)
        raise
    return Copied(size, jobs)


def _check(database: Path, target: Path, *, overwrite: bool) -> None:
    absent = why_absent(database)
    if absent is not None:
        raise StoreUnavailableError(absent)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; name a file in it, for example {target / 'reelkeeper.db'}")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"there is no folder {target.parent}; make it, or name a file elsewhere")
    if any(Path(f"{target}{beside}").exists() for beside in _BESIDE) or (target.exists() and target.samefile(database)):
        # Whoever opens it next would play the old journal into the new file.
        raise FileExistsError(f"{target} is a database that is in use, or was not closed; name another file")
    if target.name.endswith(_BESIDE):
        raise FileExistsError(f"{target} has the name of what SQLite keeps beside a database; name another file")
    if not overwrite and os.path.lexists(target):  # a link to nothing is something, too
        raise FileExistsError(f"{target} is there already; name another file, or replace it with --force")


def _remove_remains(target: Path) -> None:
    """Remove what backups to `target` that were killed left: each is as large as the database."""
    part = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.part(?:{'|'.join(_BESIDE)})?")
    for each in target.parent.iterdir():
        with suppress(OSError):  # somebody else's, or gone by now
            if part.fullmatch(each.name) and time.time() - each.lstat().st_mtime > _REMAINS_S:
                each.unlink()


def _copy(database: Path, part: Path, progress: Progress) -> None:
    descriptor = os.open(database, os.O_RDONLY)  # closed last: that drops the locks which we have on the file
    try:
        reason = why_not_open(database, descriptor)
        if reason is not None:
            raise StoreUnavailableError(reason)
        _copy_pages(database, part, progress)
    finally:
        os.close(descriptor)


def _copy_pages(database: Path, part: Path, progress: Progress) -> None:
    # Opened for reading: a copy changes nothing, not even the form of a database that is older than this program.
    source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S)
    with closing(source), closing(sqlite3.connect(part, isolation_level=None)) as copy:
        for setting in ("journal_mode = OFF", "synchronous = OFF"):  # it counts only when it is whole, and is synced
            copy.execute(f"PRAGMA {setting}")
        # SQLite's backup begins anew whenever somebody writes between two of its steps: under load it never ended.
        # A transaction that has read holds one moment for all of them, and in WAL mode no writer waits for it.
        source.execute("BEGIN")
        source.execute("PRAGMA schema_version").fetchone()
        source.backup(copy, pages=_PAGES, progress=lambda _, left, pages: progress(pages - left, pages))
        source.execute("ROLLBACK")


def _note(part: Path, taken_at: int) -> int:
    """Make it a file that stands alone, write into it what it is, see that it is whole; return how many jobs it has."""
    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
        try:
            copy.execute(load_queries()["note_backup"], {"taken_at": taken_at})
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            raise StoreUnavailableError(
                "the database is no Reelkeeper's, or of one that could not be copied while it runs: stop it and copy "
                "the file, or bring it up to date with `reelkeeper migrate`"
            ) from error
        [found, *_] = [row[0] for row in copy.execute("PRAGMA quick_check")]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is not whole: {found}")
        [jobs] = copy.execute(load_queries()["count_jobs"]).fetchone()
        return int(jobs)


@contextmanager
def _blame(database: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, PermissionError) as error:
        raise StoreUnavailableError(
            f"{database} could not be copied ({error}): check that it is a database, its permissions, and the room on "
            "the disk of the copy"
        ) from error
