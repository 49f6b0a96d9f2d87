"""When to try again: a delay that grows, with jitter so that what failed together does not come back together."""

from __future__ import annotations

import random
from dataclasses import dataclass


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
