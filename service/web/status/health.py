"""Whether the service can work: for process managers, load balancers and whoever looks after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.errors import ReelkeeperError
from service.logs import redact
from service.storage import Storage
from service.store import Store
from service.web.answers import JSONResponse

Troubles = Callable[[], Mapping[str, str | None]]
"""Returns, for each worker, what is wrong with it in words; None when it is well."""

_STORAGE_CHECK_MS = 30_000
_PROBE_SECONDS = 5.0
_WORKER = "worker "
_FRESH_MS, _STALE_MS = 5_000, 60_000  # of a try, for those who only look


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the service: well, or what is wrong with it and what to do."""

    name: str  # "database", "storage", "worker submit:openrouter"
    trouble: str | None

    @property
    def worker(self) -> bool:
        """Whether it is one of the workers."""
        return self.name.startswith(_WORKER)

    def serves(self, provider: str) -> bool:
        """Tell whether it is a worker for one provider alone, which is this one."""
        return self.worker and self.name.endswith(f":{provider}")


class Health:
    """Tells whether the process is up, and whether it can work."""

    def __init__(self, *, store: Store, storage: Storage, clock: Clock, workers: Troubles) -> None:
        self._store = store
        self._storage = storage
        self._clock = clock
        self._workers = workers
        self._started_at = clock.now()
        self._probing: asyncio.Task[dict[str, str]] | None = None
        self._known: tuple[int, dict[str, str]] | None = None  # when the last try ended, and what was ill
        self._storage_checked_at: int | None = None
        self._storage_trouble: str | None = None

    @property
    def uptime_ms(self) -> int:
        """For how long the service has been up."""
        return self._clock.now() - self._started_at

    async def health(self, _request: Request) -> Response:
        """Say that the process is up; a process manager that hears nothing may restart it."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Say whether a job could be accepted and kept now, by trying; requests at the same time share one try."""
        troubles = await asyncio.shield(self._probe_once())
        return (
            JSONResponse({"status": "ill", "troubles": troubles}, 503) if troubles else JSONResponse({"status": "ok"})
        )

    async def parts(self) -> tuple[Part, ...]:
        """Return every part; of database and storage what the last try found, while the next one is under way.

        Nobody waits for a part that hangs, but when nothing is known from the last minute.
        """
        if self._known is None or not 0 <= self._clock.now() - self._known[0] < _STALE_MS:
            await asyncio.shield(self._probe_once())
        elif self._clock.now() - self._known[0] >= _FRESH_MS:
            self._probe_once()
        _, tried = self._known or (0, {})
        found = [Part(name, tried.get(name)) for name in ("database", "storage")]
        for name, trouble in self._workers().items():
            said = None if trouble is None else str(redact(trouble))
            found.append(Part(f"{_WORKER}{name}", None if said == tried.get("database") else said))
        return tuple(found)

    def _probe_once(self) -> asyncio.Task[dict[str, str]]:
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        return self._probing

    async def _probe(self) -> dict[str, str]:
        """Return what is ill, each with why."""
        store, storage = await asyncio.gather(_trouble(self._store.probe), self._check_storage())
        found = {"database": store, "storage": storage}
        # Workers that cannot claim say what the database says: once is enough.
        found |= {f"{_WORKER}{name}": trouble for name, trouble in self._workers().items() if trouble != store}
        troubles = {part: str(redact(trouble)) for part, trouble in found.items() if trouble is not None}
        self._known = (self._clock.now(), troubles)
        return troubles

    async def _check_storage(self) -> str | None:
        # It is written to, and may be far away and billed by the request: not more often than this, whoever asks.
        now = self._clock.now()
        if self._storage_checked_at is None or now - self._storage_checked_at >= _STORAGE_CHECK_MS:
            self._storage_trouble = await _trouble(self._storage.check)
            self._storage_checked_at = now
        return self._storage_trouble


async def _trouble(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {_PROBE_SECONDS:g} seconds"
    except ReelkeeperError as error:
        return str(error)
    return None


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("reelkeeper")
    except metadata.PackageNotFoundError:
        return "not installed"
