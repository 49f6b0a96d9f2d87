"""How long what runs on a connection may take."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import LookTooLongError

_STEPS = 1_000  # of SQLite's machine between two looks at the clock: a fraction of a millisecond


class Patience:
    """Ends what runs on a connection after some seconds, or (`over`) when nobody waits for it any more."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._seconds = seconds

    @contextmanager
    def lasts(self, connection: sqlite3.Connection) -> Iterator[None]:
        """End the block with LookTooLongError in time; it begins when the connection is free."""
        until = time.monotonic() + self._seconds
        connection.set_progress_handler(lambda: self.over or time.monotonic() > until, _STEPS)
        try:
            if self.over:
                raise LookTooLongError("whoever asked is gone")
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_INTERRUPT":
                raise
            raise LookTooLongError(
                f"it took longer than {self._seconds:g} s and was ended: narrow it down, for example by state, model "
                "or time, or ask again in a few seconds"
            ) from error
        finally:
            connection.set_progress_handler(None, 0)
