"""Waiting for what other coroutines do, turn by turn of the event loop and never by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator


class Turn:
    """Awaited, it lets every other coroutine that is ready go first."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Let others go first until `condition` holds; TimeoutError after `seconds`, when it never will."""
    async with asyncio.timeout(seconds):
        while not condition():
            await Turn()
