"""The time."""

from __future__ import annotations

import time

from service.clock import ManualClock, SystemClock


def test_the_machines_clock_is_unix_milliseconds() -> None:
    before = time.time()
    now = SystemClock().now()
    assert before - 0.001 <= now / 1000 <= time.time()


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    assert (clock.now(), clock.now()) == (5, 5)
    clock.advance(7)
    assert clock.now() == 12
