"""How fast a provider may be asked: one token bucket per provider, shared by everything that asks it.

The buckets of well-known libraries wait inside `acquire`; ours answers how many calls are free *now*, so that a worker
claims no more rows than it may ask for and a job waits in its table, not in a claimed row. That is the reason for code
of our own, which no library replaced.
"""

from __future__ import annotations

import math

from service.clock import Clock

_MINUTE_MS = 60_000


class Pace:
    """Allows `per_minute` calls a minute on average and `burst` at once; `None` means no limit.

    The sliding window of LLM Gateway (120 a minute and organisation, creates, polls and downloads together) is kept
    by `per_minute + burst <= 120`: no minute can hold more than what refills in it and what was saved before it.
    """

    def __init__(self, clock: Clock, per_minute: int | None = None, burst: int = 1) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._burst = burst
        self._level = float(burst)
        self._at = self._seen = clock.now()
        self._closed_until = 0

    def free(self, *, reserve: float = 0.0) -> int:
        """Return how many calls may be made now, leaving the share `reserve` (0 to 1) of a full bucket to others.

        The share is rounded down, so that below 1 it never keeps all of a small bucket.
        """
        now = self._now()
        if now < self._closed_until:
            return 0
        if self._per_minute is None:
            return 1_000_000
        self._refill(now)
        return max(0, int(self._level - int(reserve * self._burst)))

    def wait_ms(self) -> int:
        """Return after how many milliseconds one call will be free, if nobody takes it before; 0: now."""
        now = self._now()
        closed = max(0, self._closed_until - now)
        if self._per_minute is None:
            return closed
        self._refill(now)
        return max(closed, math.ceil((1 - self._level) * _MINUTE_MS / self._per_minute))

    def spend(self, calls: int) -> None:
        """Take `calls` that are being made; the level may go below zero when somebody could not wait.

        Below zero, calls that were taken and not made are given back.
        """
        if self._per_minute is not None:
            self._refill(self._now())
            self._level -= calls

    def close_for(self, milliseconds: int) -> None:
        """Let nothing through for a while: the provider said `Retry-After`."""
        self._closed_until = max(self._closed_until, self._now() + milliseconds)

    def _now(self) -> int:
        """Return the time. When the clock was set back, what is waited for goes back with it."""
        now = self._clock.now()
        self._closed_until -= max(0, self._seen - now)
        self._seen = now
        return now

    def _refill(self, now: int) -> None:
        elapsed = max(0, now - self._at)
        self._at = now
        self._level = min(float(self._burst), self._level + elapsed * (self._per_minute or 0) / _MINUTE_MS)
