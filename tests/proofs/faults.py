"""What befalls a database while it is served, each with its cure."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.db.disks import MIB, Image, fill, read_only, small_disk
from tests.db.holding import EXCLUSIVE, READ, held
from tests.places import Place
from tests.proofs.handicap import Handicap

_PAGE = 4096


@dataclass(slots=True)
class Illness:
    """One fault at one database: `begin` and `end` are called while the service runs."""

    database: Path
    begin: Callable[[], None]
    end: Callable[[Place], None]
    handicap: Handicap = field(default_factory=Handicap)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `ready` is what /readyz must say of the database, a regular expression (None: that it is ready).

    `refuses` tells whether creates are refused before long, `reads` whether reads go on, and `lives` how many lives the
    service has.
    """

    name: str
    ready: str | None
    catch: Callable[[Path], AbstractContextManager[Illness]]
    refuses: bool = True
    reads: bool = True
    lives: int = 1


@contextmanager
def _full(scratch: Path) -> Iterator[Illness]:
    with small_disk(scratch / "disk", 16 * MIB) as folder:
        # The reserve of a disk of this size is not that of a server's.
        handicap = Handicap(limits={"reserve": MIB})
        yield Illness(
            folder / "reelkeeper.db", lambda: _ignore(fill(folder)), lambda _: (folder / "filler").unlink(), handicap
        )


@contextmanager
def _nearly_full(scratch: Path) -> Iterator[Illness]:
    # What is left must not become full meanwhile: the log takes a quarter of a MiB for each job, and more on a machine
    # that is slow, up to 40 MiB.
    with small_disk(scratch / "disk", 128 * MIB) as folder:
        filler = folder / "filler"
        handicap = Handicap(limits={"reserve": 112 * MIB})
        yield Illness(
            folder / "reelkeeper.db",
            lambda: _ignore(filler.write_bytes(bytes(32 * MIB))),
            lambda _: filler.unlink(),
            handicap,
        )


@contextmanager
def _page_limit(scratch: Path) -> Iterator[Illness]:
    limit = scratch / "most_pages"
    limit.write_text("1000000", "ascii")
    yield Illness(
        scratch / "place" / "reelkeeper.db",
        lambda: _ignore(limit.write_text("1", "ascii")),  # SQLite reads it as: no more than there are
        lambda _: _ignore(limit.write_text("1000000", "ascii")),
        Handicap(most_pages=str(limit)),
    )


@contextmanager
def _read_only(scratch: Path) -> Iterator[Illness]:
    image = Image(scratch / "disk")
    with image.mounted():
        path = image.folder / "reelkeeper.db"
        files = path, Path(f"{path}-wal")
        try:
            yield Illness(
                path,
                lambda: read_only(*files, on=True),
                lambda _: read_only(*files, on=False),
                Handicap(limits={"reserve": MIB}),
            )
        finally:
            read_only(*(file for file in files if file.exists()), on=False)


@contextmanager
def _locked(scratch: Path) -> Iterator[Illness]:
    with _holding(scratch, EXCLUSIVE, Handicap()) as illness:
        yield illness


@contextmanager
def _long_reader(scratch: Path) -> Iterator[Illness]:
    limits = {"log_usual": MIB // 2, "log_warned": MIB, "log_refused": 2 * MIB}
    with _holding(scratch, READ, Handicap(limits=limits)) as illness:
        yield illness


@contextmanager
def _holding(scratch: Path, statements: tuple[str, ...], handicap: Handicap) -> Iterator[Illness]:
    path = scratch / "place" / "reelkeeper.db"
    with ExitStack() as other:
        yield Illness(
            path,
            lambda: _ignore(other.enter_context(held(path, statements))),
            lambda _: other.close(),
            handicap,
        )


@contextmanager
def _moved_away(scratch: Path) -> Iterator[Illness]:
    path = scratch / "place" / "reelkeeper.db"
    away = scratch / "away.db"
    yield Illness(path, lambda: _ignore(path.rename(away)), lambda _: _ignore(away.rename(path)))


@contextmanager
def _damaged(scratch: Path) -> Iterator[Illness]:
    """Overwrite where the jobs are; an operator ends it by putting back what was there, and restarting the service."""
    path = scratch / "place" / "reelkeeper.db"
    good: dict[int, bytes] = {}

    def begin() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as beside:
            while beside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                pass  # what is in the log only would be read from there
            roots = beside.execute(
                "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'jobs' AND rootpage > 0"
            ).fetchall()
        for (root,) in roots:
            good[root] = _overwrite(path, root, os.urandom(_PAGE))

    def end(place: Place) -> None:
        place.signal(signal.SIGSTOP)
        for root, page in good.items():
            _overwrite(path, root, page)
        place.signal(signal.SIGKILL)

    yield Illness(path, begin, end)


def _overwrite(path: Path, page: int, content: bytes) -> bytes:
    with path.open("r+b") as file:
        file.seek((page - 1) * _PAGE)
        before = file.read(_PAGE)
        file.seek((page - 1) * _PAGE)
        file.write(content)
    return before


@contextmanager
def _copied(scratch: Path) -> Iterator[Illness]:
    path = scratch / "place" / "reelkeeper.db"

    def copy() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as source:
            source.execute("VACUUM INTO ?", (str(scratch / "vacuumed.db"),))
            with closing(sqlite3.connect(scratch / "copied.db")) as target:
                source.backup(target)

    with contextlib.suppress(FileNotFoundError):
        yield Illness(path, copy, lambda _: None)


def _ignore(_: object) -> None:
    """Make a statement of an expression."""


FAULTS: Final = (
    Fault("the disk is full", r"disk is full\): make room|make room before it is full", _full),
    Fault("the disk is nearly full", r"less than the reserve of 112 MiB: make room", _nearly_full, refuses=False),
    Fault("`PRAGMA max_page_count` is reached", None, _page_limit),
    Fault("the files become read-only", r"broken, read-only or full; the kernel's log", _read_only),
    Fault("another process holds the lock", r"holds it locked \(python\S*, process \d+\)", _locked),
    Fault("another process reads for long", r"because a reader holds it \(python\S*, process \d+\)", _long_reader),
    Fault("copied by `VACUUM INTO` and `.backup`", None, _copied, refuses=False),
    Fault("the file is moved away", r"was removed or replaced while the service runs", _moved_away),
    Fault("pages are overwritten", r"the file is damaged, and nothing more is written", _damaged, reads=False, lives=2),
)
