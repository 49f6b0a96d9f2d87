"""The pace at which rejections are answered."""

from __future__ import annotations

import asyncio

import pytest

from service.clock import ManualClock
from service.web.turnstile import Turnstile
from tests.turns import Turn, until


class Waits:
    """A turnstile whose pauses, in seconds, end when the test says so."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pauses: list[float] = []
        self.go = asyncio.Event()
        self.turnstile = Turnstile(self.clock, self._pause)
        self._waiting: set[asyncio.Task[None]] = set()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.go.wait()

    async def come(self, times: int, address: str = "here") -> None:
        """Let rejections come, and see who waits."""
        self._waiting |= {asyncio.create_task(self.turnstile.wait(address)) for _ in range(times)}
        await Turn()
        await Turn()

    async def leave(self) -> None:
        self.go.set()
        await asyncio.gather(*self._waiting)
        self._waiting.clear()
        self.go.clear()


@pytest.fixture
async def waits() -> Waits:
    return Waits()


async def test_a_hundred_at_once_do_not_wait_and_the_next_wait_in_turn(waits: Waits) -> None:
    await waits.come(100)
    assert waits.pauses == []
    await waits.come(3)
    assert waits.pauses == [0.02, 0.04, 0.06]
    await waits.leave()


async def test_after_some_quiet_seconds_a_hundred_more_do_not_wait(waits: Waits) -> None:
    await waits.come(150)
    await waits.leave()
    waits.pauses.clear()
    waits.clock.advance(3_000)
    await waits.come(100)
    assert waits.pauses == []
    await waits.come(1)
    assert waits.pauses == [0.02]
    await waits.leave()


async def test_nobody_waits_longer_than_two_seconds_and_nobody_pays_for_that_later(waits: Waits) -> None:
    await waits.come(900)
    assert max(waits.pauses) == 2.0
    assert waits.pauses.count(2.0) == 701
    await waits.leave()
    waits.clock.advance(4_000)
    waits.pauses.clear()
    await waits.come(100)
    assert waits.pauses == []


async def test_who_comes_when_a_thousand_wait_is_answered_at_once(waits: Waits) -> None:
    await waits.come(1_100)
    assert len(waits.pauses) == 1_000
    await waits.turnstile.wait("elsewhere")
    assert len(waits.pauses) == 1_000
    await waits.leave()


async def test_an_address_is_crowded_when_a_thousand_wait_and_some_of_them_there(waits: Waits) -> None:
    await waits.come(1_098)
    await waits.come(1, "there")
    assert not waits.turnstile.crowded("here")
    await waits.come(1, "there")
    assert waits.turnstile.crowded("here")
    assert waits.turnstile.crowded("there")
    assert not waits.turnstile.crowded("elsewhere")
    await waits.leave()
    assert not waits.turnstile.crowded("here")


async def test_who_hangs_up_while_waiting_leaves_a_place(waits: Waits) -> None:
    await waits.come(1_100)
    assert waits.turnstile.crowded("here")
    waiting = list(waits._waiting)
    for each in waiting:
        each.cancel()
    await until(lambda: all(each.done() for each in waiting))
    assert not waits.turnstile.crowded("here")
    assert not waits.turnstile._waiting
