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

# What byte 18 and 19 of a database with a log are: a backup's are 1.
# https://www.sqlite.org/fileformat.html#file_format_version_numbers
_FORM_AT, _WITH_LOG = 18, b"\2\2"
_MIB = 1024 * 1024
_EMPTYING_MS = 100  # for so long an attempt to empty the log waits for readers that are about to end
# Where SQLite locks the -shm file, byte by byte: https://www.sqlite.org/walformat.html#locks
_WRITERS_LOCKS = range(120, 123)
_READERS_LOCKS = range(123, 128)
# Where it locks the database as long as it is open, SHARED_FIRST: https://www.sqlite.org/src/doc/trunk/src/os.h
_OPENERS_LOCKS = range(0x40000002, 0x40000002 + 510)
_SETTLED_S = 2.0  # for so long an opening or closing by another process may look like a fault
_LOCK = re.compile(
    r"POSIX +\w+ +(?:READ|WRITE) +(?P<pid>[1-9]\d*) +(?P<device>\w+:\w+):(?P<inode>\d+) +(?P<first>\d+) "
)


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
    """Watches over the file at `path`, its log and its index, which must all be there when it is made.

    `descriptor` is the file's, opened before SQLite opened it, and closed only after SQLite closed it: closing any
    descriptor of a file drops the locks that this process holds on it.
    """

    def __init__(self, path: Path, descriptor: int, limits: Limits) -> None:
        self._path = path
        self._descriptor = descriptor
        self._limits = limits
        self._log, self._index = _beside(path)
        self._files = [_identity(_look(each)) for each in (path, self._log)]
        self._indexed = _identity(_look(self._index))
        self._damage: str | None = None
        self._overwritten = self._alone = False
        self._emptied_at = -limits.empty_every

    def admit(self, connection: sqlite3.Connection) -> None:
        """Let a transaction begin on the writer's connection, or raise StoreUnavailableError; empty a large log first.

        It is on the way of every commit, and costs a look at three files.
        """
        log = _look(self._log)
        reason = self._lost(log)
        if reason is not None:
            raise StoreUnavailableError(reason)
        if log is None or log.st_size <= self._limits.log_warned:
            return
        if time.monotonic() - self._emptied_at >= self._limits.empty_every:
            _empty_log(connection)
            self._emptied_at = time.monotonic()
        if self._log_size() > self._limits.log_refused:
            raise StoreUnavailableError(
                f"{self._held()}; until then nothing is written, so that the disk does not fill up"
            )

    def admit_reader(self) -> None:
        """Raise StoreUnavailableError when what would be read is a mixture of two databases."""
        self._look_inside()
        if self._overwritten:
            raise StoreUnavailableError(str(self._damage))

    def trouble(self) -> str | None:
        """Say what will keep the file from being written if nobody acts; None when all is well."""
        reason = self._lost(_look(self._log))
        if reason is not None:
            return reason
        if self._log_size() > self._limits.log_warned:
            return self._held()
        return lack_of_room(self._path.parent, self._limits.reserve)

    def keeps_log(self) -> bool:
        """Tell whether the log must stay when we close: it does not belong to the file, or others wrote into it."""
        log = _look(self._log)
        self._lost(log)
        alone = self._alone or _identity(_look(self._index)) != self._indexed
        return self._overwritten or (alone and log is not None)

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

    def _lost(self, log: os.stat_result | None) -> str | None:
        """Say why what is written now would not be found again; `log` is how the log looks."""
        self._look_inside()
        if self._damage is not None:
            return self._damage
        if [_identity(_look(self._path)), _identity(log)] != self._files:
            return (
                f"{self._path} or its log {self._log} was removed or replaced while the service runs: nothing is "
                "written any more. Put it back, or restart the service on the file that it shall have; stop it before "
                "you restore a backup"
            )
        if _identity(_look(self._index)) != self._indexed:
            # Not taken back when the file is: who opened the database meanwhile has another one.
            self._alone = True
            self._damage = (
                f"{self._index}, through which processes see each other, was removed or replaced while the service "
                f"runs: nothing is written any more. End what else uses {self._path}, then restart the service"
            )
        return self._damage

    def _look_inside(self) -> None:
        if not self._overwritten and not _goes_with_log(self._descriptor):
            self._overwritten = True
            self._damage = (
                f"{self._path} was overwritten while the service runs, by a backup for example: nothing is read or "
                f"written any more. Stop the service, move {self._log} and {self._index} away, restore the backup "
                "again and start the service"
            )

    def _log_size(self) -> int:
        return _size(self._log)

    def _held(self) -> str:
        return (
            f"the log {self._log} has grown to {self._log_size() // _MIB:,} MiB, because a reader holds it"
            f"{_holders(self._index, _READERS_LOCKS)}: end long-running sqlite3 shells and backups of {self._path}"
        )


def why_not_create(path: Path) -> str | None:
    """Say why no new database may be made at `path`, where none is; None when one may."""
    log, index = _beside(path)
    if not _size(log) and _look(index) is None:
        return None
    # SQLite would delete them, and with them what was written last, which is in the log alone.
    return (
        f"{path} is away, but what belongs to it is there ({log}, {index}): put the file back beside them; or, if it "
        "is gone for good, move those away, too"
    )


def why_absent(path: Path) -> str | None:
    """Say that there is no file at `path`, and what to do; None when there is one."""
    if path.is_file():
        return None
    return why_not_create(path) or (
        f"there is no database {path.absolute()}: name the service's own in REELKEEPER_DATABASE, for example "
        "sqlite:////var/lib/reelkeeper/reelkeeper.db, or make a new one with `reelkeeper migrate`"
    )


def why_not_open(path: Path, descriptor: int) -> str | None:
    """Say why SQLite must not open the file at `path`, looked at through its `descriptor`; None when it may.

    It blocks for two seconds before it says that another process is in the way.
    """
    log, index = _beside(path)
    if _size(log) and not _goes_with_log(descriptor):
        return (
            f"{path} was replaced, by a backup for example, and the log {log} belongs to the file that was there: move "
            f"{log} and {index} away first"
        )
    deadline = time.monotonic() + _SETTLED_S
    while (users := _holders(path, _OPENERS_LOCKS)) and _look(index) is None and _goes_with_log(descriptor):
        if time.monotonic() > deadline:
            return (
                f"another process uses {path}{users}, and {index}, through which processes see each other, was "
                "removed: end that process first"
            )
        time.sleep(0.01)
    return None


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


def _size(path: str) -> int:
    found = _look(path)
    return 0 if found is None else found.st_size


def _beside(path: Path) -> tuple[str, str]:
    """Return where SQLite has the log and the index of a database: beside the file itself, not beside a link to it."""
    file = os.path.realpath(path)
    return f"{file}-wal", f"{file}-shm"


def _goes_with_log(descriptor: int) -> bool:
    try:
        return os.pread(descriptor, len(_WITH_LOG), _FORM_AT) == _WITH_LOG
    except OSError:
        return True  # a disk that is broken: whoever reads or writes next says it


def _holders(file: Path | str, locks: range) -> str:
    """Name the other processes that hold certain locks of a file, as Linux tells it; nothing where it does not."""
    try:
        inode = os.stat(file).st_ino  # noqa: PTH116 - of a Path and of a name
        held = [_LOCK.search(line) for line in Path("/proc/locks").read_text("ascii").splitlines()]
        pids = {
            int(lock["pid"])
            for lock in held
            if lock and int(lock["inode"]) == inode and int(lock["first"]) in locks and lock["device"] == _device(file)
        }
        names = [
            f"{Path(f'/proc/{pid}/comm').read_text('utf-8').strip()}, process {pid}" for pid in pids - {os.getpid()}
        ]
    except OSError:
        return ""
    return f" ({'; '.join(sorted(names))})" if names else ""


def _device(file: Path | str) -> str | None:
    """Return the disk that a file is on, as /proc/locks names it: on some (btrfs) stat has another name for it."""
    descriptor = os.open(file, os.O_PATH)  # closing one of this kind drops no lock
    try:
        about = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    finally:
        os.close(descriptor)
    mount = about.partition("mnt_id:")[2].split()[0]
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        number, _, device, *_ = line.split()
        if number == mount:
            return ":".join(f"{int(part):02x}" for part in device.split(":"))
    return None


def _check_everything(path: Path) -> str:
    return f"check the disk of {path.parent}, its permissions and who else holds the file locked"


_ADVICE: dict[str, Callable[[Path], str]] = {
    "SQLITE_FULL": lambda path: f"make room on the disk of {path.parent}; what waits then goes on by itself",
    "SQLITE_BUSY": lambda path: (
        f"another process holds it locked{_holders(_beside(path)[1], _WRITERS_LOCKS)}; end sqlite3 shells that write, "
        "and copy it with `reelkeeper backup`, which locks nobody out"
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
