"""SQLite through aiosqlite: one connection writes, two read, and commits are shared.

Works of concurrent requests run one after another, each in its savepoint, inside one `BEGIN IMMEDIATE … COMMIT` that is
one call on the writer's thread; each caller is answered after that commit's fsync (`synchronous=FULL`).

What people look at may take long, and has the second reader for itself: keys and single jobs are read at once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import aiosqlite

from service.clock import Clock
from service.db import Row, Tx, load_queries
from service.db.guard import Guard, Limits, unusable_now, why_not_create, why_not_open
from service.db.patience import Patience
from service.disk import make_folder
from service.errors import ConfigurationError, LookTooLongError, StoreUnavailableError

T = TypeVar("T")

_OLDEST = (3, 37, 0)  # STRICT tables
_BATCH = 256
_BUSY_MS = 2_000  # a caller may try again, and stopping must not wait long
_LOOK_S = 1.0
_TURN_S = 5.0


class SQLiteDatabase:
    """A `Database` in one file. Open it with `open`, which also migrates it."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        looker: aiosqlite.Connection,
        limits: Limits,
    ) -> None:
        self.path = path
        self._descriptor = descriptor
        self._guard = Guard(path, descriptor, limits)
        self._writer = writer
        self._reader = reader
        self._looker = looker
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._queries = load_queries()
        self._waiting: deque[tuple[Callable[[Tx], Any], asyncio.Future[Any]]] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, clock: Clock, limits: Limits | None = None) -> Self:
        """Create the file if need be (readable by its owner alone), migrate it, and connect.

        `limits` are those of the disk. Raises ConfigurationError when the path cannot be a database, and
        StoreUnavailableError when it is locked, or its disk is full, read-only or broken.
        """
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigurationError([f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed"])
        limits = limits or Limits()
        uri, descriptor = _file(path)
        connections = []
        try:
            await asyncio.to_thread(_allow, path, descriptor)
            connections.append(writer := await _connect(path))
            await _on_thread(writer, lambda connection: _prepare(connection, clock, limits.log_usual))
            connections.append(reader := await _connect(f"{uri}?mode=ro"))
            await _on_thread(reader, _begin_reading)
            connections.append(looker := await _connect(f"{uri}?mode=ro"))
            await _on_thread(looker, _begin_reading)
        except BaseException as error:
            for connection in connections:
                await connection.close()
            os.close(descriptor)
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CANTOPEN")):
                raise _unusable(path, str(error)) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise unusable_now(path, error) from error
            raise
        return cls(path, descriptor, writer, reader, looker, limits)

    async def run(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction that waiting works share; return its value after the commit is durable."""
        if self._closed:
            raise StoreUnavailableError(f"the database {self.path} is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        with self._guard.blame():
            return await future

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a snapshot, on a connection that cannot write."""
        return await self._snapshot(self._reader, work)

    async def look(self, work: Callable[[Tx], T], whose: str = "") -> T:
        """Run `work` on a snapshot, on the connection of those who look, when it is the turn of `whose`."""
        turn = self._turns.setdefault(whose, asyncio.Lock())
        try:
            async with asyncio.timeout(_TURN_S):
                await turn.acquire()
        except TimeoutError:
            raise LookTooLongError(f"it had no turn within {_TURN_S:g} s, after others: ask again in a while") from None
        patience = Patience(_LOOK_S)
        try:
            return await self._snapshot(self._looker, work, patience)
        finally:
            patience.over = True
            turn.release()

    async def _snapshot(self, on: aiosqlite.Connection, work: Callable[[Tx], T], patience: Patience | None = None) -> T:
        if self._closed:
            raise StoreUnavailableError(f"the database {self.path} is closed")

        def snapshot(connection: sqlite3.Connection) -> T:
            self._guard.admit_reader()
            connection.execute("BEGIN")
            try:
                with patience.lasts(connection) if patience else nullcontext():
                    return work(_SQLiteTx(connection, self._queries))
            finally:
                connection.execute("ROLLBACK")

        with self._guard.blame():
            return await _on_thread(on, snapshot)

    async def check(self) -> None:
        """Raise StoreUnavailableError for what will keep us from writing if nobody acts."""
        trouble = await self.read(lambda _: self._guard.trouble())
        if trouble is not None:
            raise StoreUnavailableError(trouble)

    async def close(self) -> None:
        """Commit what is waiting, then close every connection."""
        self._closed = True
        try:
            if self._committing is not None:
                await asyncio.shield(self._committing)
        finally:
            # Who closes last empties the log into the file and deletes it, unless it cannot write.
            last_reads = self._guard.keeps_log()
            readers = (self._reader, self._looker)
            for connection in (self._writer, *readers) if last_reads else (*readers, self._writer):
                await connection.close()
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            works = [work for work, _ in batch]

            def commit(connection: sqlite3.Connection, works: Sequence[Callable[[Tx], Any]] = works) -> list[Any]:
                self._guard.admit(connection)
                return _commit(connection, self._queries, works)

            try:
                outcomes = await _on_thread(self._writer, commit)
            except Exception as error:  # noqa: BLE001 - whatever it was, every caller in the batch must hear of it
                outcomes = [_Raised(error)] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue  # its caller is gone; what it asked for is committed all the same
                if isinstance(outcome, _Raised):
                    future.set_exception(outcome.error)
                else:
                    future.set_result(outcome)


class _SQLiteTx:
    """Runs named queries on a connection."""

    def __init__(self, connection: sqlite3.Connection, queries: dict[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def one(self, query: str, /, **parameters: object) -> Row | None:
        rows = self.all(query, **parameters)
        return rows[0] if rows else None

    def all(self, query: str, /, **parameters: object) -> list[Row]:
        return [dict(row) for row in self._connection.execute(self._queries[query], parameters).fetchall()]

    def do(self, query: str, /, **parameters: object) -> int:
        return self._connection.execute(self._queries[query], parameters).rowcount


class _Raised:
    """What a work of a batch raised, carried to its caller."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _commit(
    connection: sqlite3.Connection, queries: dict[str, str], works: Sequence[Callable[[Tx], Any]]
) -> list[Any | _Raised]:
    """Run works in one transaction; an error in one rolls back its savepoint alone."""
    tx = _SQLiteTx(connection, queries)
    outcomes: list[Any | _Raised] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            connection.execute("SAVEPOINT work")
            try:
                outcomes.append(work(tx))
            except Exception as error:
                if not connection.in_transaction:
                    raise  # SQLite itself rolled back all of the batch
                connection.execute("ROLLBACK TO work")
                outcomes.append(_Raised(error))
            connection.execute("RELEASE work")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return outcomes


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # else SQLite itself did it: after a full disk, for example
        connection.execute("ROLLBACK")


async def _connect(database: Path | str) -> aiosqlite.Connection:
    uri = isinstance(database, str)
    connection = aiosqlite.connect(database, uri=uri, isolation_level=None, timeout=_BUSY_MS / 1000)
    # A process that dies before it closes must end, or nobody restarts it; what is committed is safe at any instant.
    connection._thread.daemon = True  # noqa: SLF001 - aiosqlite has no public name for it
    try:
        return await connection
    except BaseException:
        # Its thread is told to stop and not waited for: it would speak to a loop that is closed by then.
        connection._thread.join()  # noqa: SLF001 - see above
        raise


async def _on_thread(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    # A whole transaction as one call on aiosqlite's thread, where its own methods would make one call a statement:
    # measured twice as fast, and no other coroutine can come between. aiosqlite has no public name for it.
    result: T = await connection._execute(lambda: work(connection._conn))  # type: ignore[no-untyped-call] # noqa: SLF001 - see above
    return result


def _file(path: Path) -> tuple[str, int]:
    """Make sure that the file is there; return its URI, and a descriptor, to be closed after SQLite closed the file."""
    try:
        make_folder(path.absolute().parent)  # SQLite itself syncs only the folder that the file is in
        uri = path.absolute().as_uri()
        for _ in range(2):  # somebody may make it between our looks
            with suppress(FileNotFoundError):
                return uri, os.open(path, os.O_RDONLY)
            reason = why_not_create(path)
            if reason is None:
                return uri, os.open(path.resolve(), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    raise ConfigurationError([f"REELKEEPER_DATABASE: {reason}"])


def _allow(path: Path, descriptor: int) -> None:
    reason = why_not_open(path, descriptor)
    if reason is not None:
        raise ConfigurationError([f"REELKEEPER_DATABASE: {reason}"])


def _unusable(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        [f"REELKEEPER_DATABASE: {path} cannot be used ({reason}); for example sqlite:///var/reelkeeper.db"]
    )


def _prepare(connection: sqlite3.Connection, clock: Clock, log_usual: int) -> None:
    """Set what durability and speed need, then bring the schema up to date."""
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 10000")  # pages: fewer pauses, measured a third faster
    connection.execute(f"PRAGMA journal_size_limit = {log_usual}")  # what the log shrinks to, once it was larger
    _dress(connection)
    _migrate(connection, clock)
    # Each work has a savepoint, which keeps what the pages were that it changes; many are more than stay in memory by
    # default, and a file is written for them: measured, a create took half as long again.
    connection.execute("PRAGMA temp_store = MEMORY")


def _use_wal(connection: sqlite3.Connection) -> None:
    # Here SQLite does not wait for a lock of its own accord, and two who open a new file at once would be in each
    # other's way.
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_reading(connection: sqlite3.Connection) -> None:
    _dress(connection)
    connection.execute("PRAGMA schema_version").fetchone()  # from now on it has the file open


def _dress(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row


def _migrate(connection: sqlite3.Connection, clock: Clock) -> None:
    """Apply each migration that is missing, in its own transaction: interrupted anywhere, it goes on from there."""
    files = sorted(
        (file for file in resources.files("service.db").joinpath("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    known = {file.name for file in files}
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT"
    )
    connection.execute("COMMIT")
    newer = [row["name"] for row in connection.execute("SELECT name FROM migrations") if row["name"] not in known]
    if newer:
        raise ConfigurationError(
            [f"the database was made by a newer Reelkeeper (it has {', '.join(newer)}): upgrade, or restore a backup"]
        )
    for file in files:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not connection.execute("SELECT 1 FROM migrations WHERE name = ?", (file.name,)).fetchone():
                for statement in _statements(file.read_text("utf-8")):
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?)", (file.name, clock.now()))
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise


def _statements(script: str) -> list[str]:
    """Split a script: `executescript` would commit the transaction that makes a migration all or nothing."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return [*statements, current]  # what is left over is blank, or a mistake that SQLite shall name
