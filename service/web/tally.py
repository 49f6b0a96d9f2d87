"""Rejected callbacks are written so seldom that a flood of them is no flood of writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from service.clock import Clock
from service.errors import StoreUnavailableError
from service.pace import Pace
from service.store import Reason, Rejection, Rejections
from service.web.diagnosis import Diagnosis

Pause = Callable[[float], Awaitable[object]]

_Key = tuple[str, Reason]


@dataclass(slots=True)
class _Counted:
    """Those of a job that had one reason at first look: `found` is what a close look said, `owed` is not written."""

    found: Diagnosis | None = None
    owed: Rejection | None = None


class Tally:
    """Writes the first rejection of a job and a reason at once, and counts those that follow within `seconds`.

    What was counted is written when they are over, in one transaction. No more than `most` are told apart in that time,
    and no more than five a second are looked at closely and written at once. It is all best effort: what was answered
    stays answered when the database takes nothing.
    """

    seconds = 10.0
    most = 256

    def __init__(self, rejections: Rejections, clock: Clock, pause: Pause = asyncio.sleep) -> None:
        self._rejections = rejections
        self._pause = pause
        self._pace = Pace(clock, per_minute=300, burst=5)
        self._counted: dict[_Key, _Counted] = {}
        self._writing: asyncio.Task[None] | None = None

    async def add(self, rejection: Rejection, look: Callable[[], Diagnosis]) -> None:
        """Count a rejection as it is at first look; `look` looks closely, if it is its turn."""
        key = (rejection.job_id, rejection.reason)
        if key not in self._counted and len(self._counted) >= self.most:
            return
        counted = self._counted.setdefault(key, _Counted())
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_later())
        first = counted.found is None and self._pace.free() > 0
        if first:
            self._pace.spend(1)
            counted.found = look()
        if counted.found is not None:
            rejection = replace(rejection, reason=counted.found.reason, message=counted.found.message)
        self._owe(key, rejection)
        if first:
            await self._write({key: counted})

    async def flush(self) -> None:
        """Write what was counted, and begin anew."""
        counted, self._counted = self._counted, {}
        await self._write(counted)

    async def close(self) -> None:
        """Write what was counted, for the last time."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        await self.flush()

    async def _write_later(self) -> None:
        while self._counted:
            await self._pause(self.seconds)
            await self.flush()

    async def _write(self, counted: Mapping[_Key, _Counted]) -> None:
        owed = {key: each.owed for key, each in counted.items() if each.owed is not None}
        for each in counted.values():
            each.owed = None
        if not owed:
            return
        try:
            await self._rejections.keep(list(owed.values()))
        except StoreUnavailableError:
            for key, rejection in owed.items():
                if key in self._counted or len(self._counted) < self.most:
                    self._owe(key, rejection)

    def _owe(self, key: _Key, rejection: Rejection) -> None:
        counted = self._counted.setdefault(key, _Counted())
        counted.owed = rejection if counted.owed is None else _together(counted.owed, rejection)


def _together(one: Rejection, other: Rejection) -> Rejection:
    newer = max(one, other, key=lambda each: each.last_at)
    first_at = min(one.first_at, other.first_at)
    return replace(newer, times=one.times + other.times, first_at=first_at)
