"""The service as `tests.mortal` runs it, with a handicap: for faults that cannot be made from outside.

python -m tests.proofs.handicap HANDICAP python -m tests.mortal LIFE
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from service.clock import Clock
from service.db import Tx, guard, sqlite
from tests import mortal

Work = Callable[[Tx], Any]


@dataclass(frozen=True, slots=True)
class Handicap:
    """What is otherwise than in the service that we ship.

    `pragmas` are set on the connection that writes; `most_pages`, a file, holds how many pages the database may have,
    and is read before each commit; `limits` are given to `guard.Limits`; `sync_videos` False leaves out what makes
    files in a folder durable.
    """

    pragmas: Sequence[str] = ()
    most_pages: str | None = None
    limits: dict[str, int] = field(default_factory=dict)
    sync_videos: bool = True

    def before(self) -> list[str]:
        """Return the command that runs the service so."""
        return [sys.executable, "-m", "tests.proofs.handicap", json.dumps(asdict(self))]


def suffer(handicap: Handicap) -> None:
    """Put the handicap on every database that this process opens."""
    prepare, commit = sqlite._prepare, sqlite._commit

    def prepared(connection: sqlite3.Connection, clock: Clock, log_usual: int) -> None:
        prepare(connection, clock, log_usual)
        for pragma in handicap.pragmas:
            connection.execute(f"PRAGMA {pragma}")

    def committed(connection: sqlite3.Connection, queries: dict[str, str], works: Sequence[Work]) -> list[Any]:
        if handicap.most_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {Path(handicap.most_pages).read_text('ascii')}")
        return commit(connection, queries, works)

    if not handicap.sync_videos:
        os.fsync = lambda fd: None  # noqa: ARG005 - as it is called; SQLite uses its own
    sqlite._prepare = prepared
    sqlite._commit = committed
    setattr(sqlite, "Limits", partial(guard.Limits, **handicap.limits))  # noqa: B010 - not what types allow


def main() -> None:
    """Live with it."""
    suffer(Handicap(**json.loads(sys.argv[1])))
    sys.argv = sys.argv[-2:]
    mortal.main()


if __name__ == "__main__":
    main()
