"""What keeps a database file from being written, in words that say who must act; and when to stop writing in time."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.disk import RESERVE, lack_of_room
from service.errors import StoreUnavailableError

_MIB = 1024 * 1024
_EMPTYING_MS = 100  # for so long an attempt to empty the log waits for readers that are about to end
# Where SQLite locks the -shm file, byte by byte: https://www.sqlite.org/walformat.html#locks
_WRITERS_LOCKS = range(120, 123)
_READERS_LOCKS = range(123, 128)
_LOCK = re.compile(r"POSIX +\w+ +(?:READ|WRITE) +(?P<pid>[1-9]\d*) +\S+:(?P<inode>\d+) +(?P<first>\d+) ")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large things beside the database may become, in bytes.

    The log (the `-wal` file) is emptied again and again, unless a reader stays in it. It shrinks to `log_usual`; from
    `log_warned` on the service is not ready, and from `log_refused` on nothing is written. With less than `reserve`
    free on its disk the service is not ready either. `empty_every` (s) is how often we try to empty a large log.
    """

    log_usual: int = 64 * _MIB
    log_warned: int = 256 * _MIB
    log_refused: int = 1024 * _MIB
    reserve: int = RESERVE
    empty_every: float = 1.0


class Guard:
    """Watches over the file at `path` and its log, both of which must be there when it is made."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._log = f"{path}-wal"
        self._files = [_identity(_look(each)) for each in (path, self._log)]
        self._damage: str | None = None
        self._emptied_at = -limits.empty_every

    def admit(self, connection: sqlite3.Connection) -> None:
        """Let a transaction begin on the writer's connection, or raise StoreUnavailableError; empty a large log first.

        It is on the way of every commit, and costs a look at two files.
        """
        if self._damage is not None:
            raise StoreUnavailableError(self._damage)
        log = _look(self._log)
        if [_identity(_look(self._path)), _identity(log)] != self._files:
            raise StoreUnavailableError(
                f"{self._path} or its log {self._log} was removed or replaced while the service runs: nothing is "
                "written any more. Put it back, or restart the service on the file that it shall have; stop it before "
                "you restore a backup"
            )
        if log is None or log.st_size <= self._limits.log_warned:
            return
        if time.monotonic() - self._emptied_at >= self._limits.empty_every:
            _empty_log(connection)
            self._emptied_at = time.monotonic()
        if self._log_size() > self._limits.log_refused:
            raise StoreUnavailableError(
                f"{self._held()}; until then nothing is written, so that the disk does not fill up"
            )

    def trouble(self) -> str | None:
        """Say what will keep the file from being written if nobody acts; None when all is well."""
        if self._damage is not None:
            return self._damage
        if self._log_size() > self._limits.log_warned:
            return self._held()
        return lack_of_room(self._path.parent, self._limits.reserve)

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Raise StoreUnavailableError for what the disk, the file or a lock did; a broken rule stays what it is."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise
        except sqlite3.DatabaseError as error:
            unavailable = unusable_now(self._path, error)
            if _kind(error) in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
                # What is written into a damaged file may not be found again: no more is promised until somebody looked.
                self._damage = str(unavailable)
            raise unavailable from error

    def _log_size(self) -> int:
        log = _look(self._log)
        return log.st_size if log is not None else 0

    def _held(self) -> str:
        return (
            f"the log {self._log} has grown to {self._log_size() // _MIB:,} MiB, because a reader holds it"
            f"{_holders(self._path, _READERS_LOCKS)}: end long-running sqlite3 shells and backups of {self._path}"
        )


def unusable_now(path: Path, error: sqlite3.DatabaseError) -> StoreUnavailableError:
    """Return what an error of SQLite means for the file at `path`, and what to do."""
    advice = _ADVICE.get(_kind(error), _check_everything)
    return StoreUnavailableError(f"the database {path} could not be used ({error}): {advice(path)}")


def _empty_log(connection: sqlite3.Connection) -> None:
    """Move all of the log into the file and make it small, if no reader is in the way."""
    [waiting] = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_EMPTYING_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        pass  # a disk that is full or broken: the write that follows says it
    finally:
        connection.execute(f"PRAGMA busy_timeout = {waiting}")


def _kind(error: sqlite3.Error) -> str:
    """Return the class of an error: SQLITE_IOERR of SQLITE_IOERR_WRITE."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])


def _look(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - on the way of every commit, where a Path costs more
    except OSError:
        return None


def _identity(found: os.stat_result | None) -> tuple[int, int] | None:
    return None if found is None else (found.st_dev, found.st_ino)


def _holders(path: Path, locks: range) -> str:
    """Name the other processes that hold certain locks, as Linux tells it; nothing where it does not."""
    try:
        inode = Path(f"{path}-shm").stat().st_ino
        held = [_LOCK.search(line) for line in Path("/proc/locks").read_text("ascii").splitlines()]
        pids = {
            int(lock["pid"]) for lock in held if lock and int(lock["inode"]) == inode and int(lock["first"]) in locks
        }
        names = [
            f"{Path(f'/proc/{pid}/comm').read_text('utf-8').strip()}, process {pid}" for pid in pids - {os.getpid()}
        ]
    except OSError:
        return ""
    return f" ({'; '.join(sorted(names))})" if names else ""


def _check_everything(path: Path) -> str:
    return f"check the disk of {path.parent}, its permissions and who else holds the file locked"


_ADVICE: dict[str, Callable[[Path], str]] = {
    "SQLITE_FULL": lambda path: f"make room on the disk of {path.parent}; what waits then goes on by itself",
    "SQLITE_BUSY": lambda path: (
        f"another process holds it locked{_holders(path, _WRITERS_LOCKS)}; end sqlite3 shells that write, and copy it "
        "with `reelkeeper backup`, which locks nobody out"
    ),
    "SQLITE_READONLY": lambda path: f"let the service write {path} and its folder, on a disk that is not read-only",
    "SQLITE_IOERR": lambda path: (
        f"the disk of {path.parent} is broken, read-only or full; the kernel's log (dmesg) tells which"
    ),
    "SQLITE_CORRUPT": lambda _: _DAMAGED,
    "SQLITE_NOTADB": lambda _: _DAMAGED,
}
_DAMAGED = (
    "the file is damaged, and nothing more is written to it. Stop the service and restore a backup, or save what can "
    "be read with `sqlite3 FILE .recover`"
)
