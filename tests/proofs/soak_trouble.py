"""What goes wrong in a soak while the provider misbehaves: deaths, outages, a broken storage, a locked database."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from tests.places import until
from tests.proofs.soak_mix import Trouble
from tests.proofs.soak_world import World

_LOOK_S = 0.05
_LOCKED_WITHIN_S = 10.0


class Troubles:
    """Makes each trouble when its time has come, also while another kind lasts."""

    def __init__(self, world: World, planned: Sequence[Trouble]) -> None:
        self._world = world
        self._planned = planned
        self._one = {kind: asyncio.Lock() for kind in ("kill", "outage", "storage", "lock")}

    async def run(self) -> None:
        """Make all of them; return when everything is in order again."""
        async with asyncio.TaskGroup() as group:
            for trouble in self._planned:
                while self._world.progress < trouble.at:  # noqa: ASYNC110 - another process makes it grow
                    await asyncio.sleep(_LOOK_S)
                group.create_task(self._make(trouble))

    async def _make(self, trouble: Trouble) -> None:
        async with self._one[trouble.kind]:
            match trouble.kind:
                case "kill":
                    await self._kill()
                case "outage":
                    await self._outage(trouble.seconds)
                case "storage":
                    await self._break_storage(trouble.seconds)
                case _:
                    await self._lock(trouble.seconds)
            self._world.seen[trouble.kind] += 1

    async def _kill(self) -> None:
        place = self._world.place
        while True:
            lives = len(place.lives)
            with contextlib.suppress(ProcessLookupError):  # it died by itself, and its next life has not begun
                place.signal(signal.SIGKILL)
                break
            await until(lambda lives=lives: len(place.lives) > lives)  # type: ignore[misc] # the count of this turn
        await until(lambda: len(place.lives) > lives)

    async def _outage(self, seconds: float) -> None:
        began = self._world.clock.now()
        await self._world.door.close()
        await asyncio.sleep(seconds)
        await self._world.door.open(self._world.place.sandbox)
        self._world.outages.append((began, self._world.clock.now()))

    async def _break_storage(self, seconds: float) -> None:
        """Put a file where the folder was: modes would not keep root from it."""
        videos = self._world.videos
        away = videos.with_name("videos.away")
        videos.rename(away)
        videos.touch()
        await asyncio.sleep(seconds)
        videos.unlink()
        away.rename(videos)

    async def _lock(self, seconds: float) -> None:
        path = self._world.place.folder / "reelkeeper.db"
        opening = sqlite3.connect(path, timeout=_LOCKED_WITHIN_S, isolation_level=None, check_same_thread=False)
        with closing(opening) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
            other.execute("ROLLBACK")
