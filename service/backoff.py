"""When to try again: a delay that grows, with jitter so that what failed together does not come back together."""

from __future__ import annotations

import random
from dataclasses import dataclass

_S, _MIN, _H = 1_000, 60_000, 3_600_000
DELIVERY_WAITS_MS = (5 * _S, 1 * _MIN, 5 * _MIN, 30 * _MIN, 2 * _H, 5 * _H, 8 * _H, 12 * _H)
"""How long to wait after each failed attempt at a delivery but the last."""

DELIVERY_ATTEMPTS = len(DELIVERY_WAITS_MS) + 1
DELIVERY_HOURS = round(sum(DELIVERY_WAITS_MS) / _H)
"""About how long all attempts at a delivery take."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays of `first_ms`, doubled with each attempt up to `most_ms`, each spread by ±`jitter` (0 to 1)."""

    first_ms: int
    most_ms: int
    jitter: float = 0.2

    def delay_ms(self, attempt: int, chance: random.Random) -> int:
        """Return the milliseconds to wait after failed attempt number `attempt`, counted from 1."""
        doubled = self.first_ms << min(max(attempt - 1, 0), 30)
        return spread_ms(min(doubled, self.most_ms), self.jitter, chance)


def spread_ms(milliseconds: int, jitter: float, chance: random.Random) -> int:
    """Return `milliseconds` moved by a random share of at most ±`jitter` (0 to 1)."""
    return round(milliseconds * (1 + jitter * (2 * chance.random() - 1)))
