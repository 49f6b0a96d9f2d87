"""How long things took, counted in buckets: a few dozen numbers tell the median of millions within a few per cent."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

_FIRST_MS = 500
_LONGEST_MS = 2 * 86_400_000


def _bounds() -> tuple[int, ...]:
    # In whole numbers, so that the migration, which counts what there was before, has the very same ones.
    bounds = [_FIRST_MS]
    while bounds[-1] < _LONGEST_MS:
        bounds.append(bounds[-1] * 115 // 100)
    return tuple(bounds)


BOUNDS = _bounds()
"""The longest time of each bucket, in ms; what took longer than the last one is in a bucket of its own."""


def bucket_of(milliseconds: int) -> int:
    """Return the number of the bucket for what took so long."""
    return bisect_left(BOUNDS, milliseconds)


def quantile(counts: Mapping[int, int], share: float) -> int | None:
    """Return the time in ms that `share` (0 to 1) of what was counted did not exceed; None when there is nothing.

    `counts` are by bucket. Within one they are taken to lie evenly, so it is wrong by less than the bucket's width.
    """
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        if counts[bucket] >= left and counts[bucket] > 0:
            low = BOUNDS[bucket - 1] if bucket else 0
            high = BOUNDS[bucket] if bucket < len(BOUNDS) else low
            return round(low + (high - low) * left / counts[bucket])
        left -= counts[bucket]
    return None
