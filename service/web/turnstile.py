"""Callbacks that are rejected wait their turn: who sends many waits for many, and the valid ones never do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from service.clock import Clock
from service.pace import Pace

Pause = Callable[[float], Awaitable[object]]

_PER_SECOND = 50
_BURST = 100


class Turnstile:
    """Answers 100 rejections at once, then 50 a second, and keeps nobody waiting for more than `longest_ms`.

    A client that waits for its answers can thereby send no more than that, and with many connections no more than one
    every two seconds on each. At most `most` wait: beyond that who sends to an address at which some wait already is
    to be turned away unread, and the others are answered at once.
    """

    longest_ms = 2_000
    most = 1_000

    def __init__(self, clock: Clock, pause: Pause = asyncio.sleep) -> None:
        self._pace = Pace(clock, per_minute=_PER_SECOND * 60, burst=_BURST)
        self._pause = pause
        self._waiting: Counter[str] = Counter()
        self._all_waiting = 0

    def crowded(self, address: str) -> bool:
        """Tell whether as many wait as there may be, some of them at this address."""
        return address in self._waiting and self._all_waiting >= self.most

    async def wait(self, address: str) -> None:
        """Wait for the turn of one rejection at `address`."""
        wait_ms = self._pace.wait_ms()
        if wait_ms < self.longest_ms:
            self._pace.spend(1)  # a debt beyond that would be paid by those who come when all is over
        if not wait_ms or self._all_waiting >= self.most:
            return
        self._waiting[address] += 1
        self._all_waiting += 1
        try:
            await self._pause(min(wait_ms, self.longest_ms) / 1000)
        finally:
            self._all_waiting -= 1
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
