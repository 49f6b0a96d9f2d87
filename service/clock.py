"""The time, as a thing that is passed in.

Times are integers, unix milliseconds, UTC, everywhere in the project.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the wall-clock time."""

    def now(self) -> int:
        """Return the time as unix milliseconds, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return the time as unix milliseconds, UTC."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until it is moved: for tests, and for anyone who embeds the service."""

    def __init__(self, now: int = 1_790_000_000_000) -> None:
        self._now = now

    def now(self) -> int:
        """Return the time that was last set, unix milliseconds."""
        return self._now

    def advance(self, milliseconds: int) -> None:
        """Move the time forward."""
        self._now += milliseconds
