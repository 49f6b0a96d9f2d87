"""Rejected callbacks are written so seldom that a flood of them is no flood of writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from service.clock import Clock
from service.errors import StoreUnavailableError
from service.pace import Pace
from service.store import Reason, Rejection, Rejections
from service.web.diagnosis import Diagnosis

Pause = Callable[[float], Awaitable[object]]

_LEFT = 0.8  # of the close looks, to those that are the first of theirs

_Key = tuple[str, Reason]


@dataclass(slots=True)
class _Counted:
    """Those of a job that had one reason at first look.

    `found` is what a close look at the first said; `owed` is not written yet, by the reason that was found.
    """

    found: Diagnosis | None = None
    owed: dict[Reason, Rejection] = field(default_factory=dict)


class Tally:
    """Writes the first rejection of a job and a reason at once, and counts those that follow within `seconds`.

    What was counted is written when they are over, in one transaction. No more than `most` are told apart in that time,
    and no more than five a second are looked at closely and written at once. What the first of others leave of these
    looks is for those that follow, so that a forger who was first does not hide a genuine one; who is not looked at is
    counted with the first. It is all best effort: what was answered stays answered when the database takes nothing.
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
        found = counted.found
        # From close by nothing but a wrong secret looks different.
        again = found is not None and key[1] is Reason.WRONG_SECRET and self._pace.free(reserve=_LEFT) > 0
        if first or again:
            self._pace.spend(1)
            found = look()
            counted.found = counted.found or found
        if found is not None:
            rejection = replace(rejection, reason=found.reason, message=found.message)
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
        owed = [(key, rejection) for key, each in counted.items() for rejection in each.owed.values()]
        for each in counted.values():
            each.owed = {}
        if not owed:
            return
        try:
            await self._rejections.keep([rejection for _, rejection in owed])
        except StoreUnavailableError:
            for key, rejection in owed:
                if key in self._counted or len(self._counted) < self.most:
                    self._owe(key, rejection)

    def _owe(self, key: _Key, rejection: Rejection) -> None:
        counted = self._counted.setdefault(key, _Counted())
        before = counted.owed.get(rejection.reason)
        counted.owed[rejection.reason] = rejection if before is None else _together(before, rejection)


def _together(one: Rejection, other: Rejection) -> Rejection:
    newer = max(one, other, key=lambda each: each.last_at)
    first_at = min(one.first_at, other.first_at)
    return replace(newer, times=one.times + other.times, first_at=first_at)
