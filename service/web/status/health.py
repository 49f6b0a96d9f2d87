"""How the service is: for process managers, load balancers and operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import metadata

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.errors import ReelkeeperError
from service.logs import redact
from service.model import Source, State
from service.storage import Storage
from service.store import Rejections, Store
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.views import rfc3339

Troubles = Callable[[], Mapping[str, str | None]]
"""Returns, for each worker, what is wrong with it in words; None when it is well."""

_STORAGE_CHECK_MS = 30_000
_PROBE_SECONDS = 5.0
_STEPS = {"submit": State.QUEUED, "resolve": State.SUBMITTING, "poll": State.RUNNING, "mirror": State.MIRRORING}


class Status:
    """Tells whether the process is up, whether it can work, and (to operators) how it goes.

    `callers` None shows the status to anybody, for a demonstration on loopback.
    """

    def __init__(
        self,
        *,
        store: Store,
        rejections: Rejections,
        storage: Storage,
        clock: Clock,
        providers: Collection[str],
        workers: Troubles,
        callers: Callers | None,
    ) -> None:
        self._store = store
        self._rejections = rejections
        self._storage = storage
        self._clock = clock
        self._providers = providers
        self._workers = workers
        self._callers = callers
        self._started_at = clock.now()
        self._probing: asyncio.Task[dict[str, str]] | None = None
        self._storage_checked_at: int | None = None
        self._storage_trouble: str | None = None

    async def health(self, _request: Request) -> Response:
        """Say that the process is up; a process manager that hears nothing may restart it."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Say whether a job could be accepted and kept now, by trying; requests at the same time share one try."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        troubles = await asyncio.shield(self._probing)
        return (
            JSONResponse({"status": "ill", "troubles": troubles}, 503) if troubles else JSONResponse({"status": "ok"})
        )

    async def status(self, request: Request) -> Response:
        """Show operators the numbers: jobs by provider and state, what is overdue, and how the last words came."""
        if self._callers is not None:
            await self._callers.operator(request)
        overview = await self._store.overview()
        rejected = await self._rejections.totals()
        now = self._clock.now()
        providers = sorted({*self._providers, *overview.jobs, *overview.reports})
        return JSONResponse(
            {
                "object": "status",
                "version": version(),
                "now": rfc3339(now),
                "uptime_seconds": (now - self._started_at) // 1000,
                "jobs": {
                    name: {state: overview.jobs.get(name, {}).get(state, 0) for state in State} for name in providers
                },
                "overdue_seconds": {
                    step: max(0, now - overview.oldest_due.get(state, now)) / 1000 for step, state in _STEPS.items()
                },
                "unknown_words": overview.unknown_words,
                "reports": {name: _shares(overview.reports.get(name, {})) for name in providers},
                "rejected_callbacks": rejected,
                # Jobs of a provider that was removed from the settings: they end at their deadline if it stays away.
                "unserved": {
                    name: waiting
                    for name in providers
                    if name not in self._providers and (waiting := _open(overview.jobs.get(name, {})))
                },
                "workers": {name: trouble or "ok" for name, trouble in self._workers().items()},
            }
        )

    async def _probe(self) -> dict[str, str]:
        """Return what is ill, each with why."""
        store, storage = await asyncio.gather(_trouble(self._store.probe), self._check_storage())
        found = {"database": store, "storage": storage}
        # Workers that cannot claim say what the database says: once is enough.
        found |= {f"worker {name}": trouble for name, trouble in self._workers().items() if trouble != store}
        return {part: str(redact(trouble)) for part, trouble in found.items() if trouble is not None}

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


def _open(jobs: Mapping[str, int]) -> int:
    return sum(count for state, count in jobs.items() if not State(state).final)


def _shares(reports: Mapping[str, int]) -> dict[str, float | None]:
    settled = sum(reports.values())
    share = round(reports.get(Source.CALLBACK, 0) / settled, 4) if settled else None
    return {**{source: reports.get(source, 0) for source in Source}, "callback_share": share}


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("reelkeeper")
    except metadata.PackageNotFoundError:
        return "not installed"
