"""Where Prometheus reads the numbers: `GET /metrics`, with an operator's key."""

from __future__ import annotations

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.errors import LookTooLongError, StoreUnavailableError
from service.metrics import Metrics, Reading
from service.store import Deliveries, Statistics
from service.web.callers import Callers
from service.web.refusals import RefusalError
from service.web.status.health import Troubles

_REMEMBERED_MS = 3_600_000
_MOST_RECEIVERS = 100


class Scrape:
    """Answers with what this process counted, and what the database holds if it says so within `seconds`.

    When it does not, that is a number too, for which the same key is good that was an operator's within the last hour:
    monitoring must not go blind when the database does.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        statistics: Statistics,
        deliveries: Deliveries,
        workers: Troubles,
        callers: Callers,
        clock: Clock,
        seconds: float,
    ) -> None:
        self._metrics = metrics
        self._statistics = statistics
        self._deliveries = deliveries
        self._workers = workers
        self._callers = callers
        self._clock = clock
        self._seconds = seconds
        self._believed: dict[bytes, int] = {}  # hash of what an operator sent -> unix ms
        self._reading: asyncio.Task[Reading] | None = None

    async def read(self, request: Request) -> Response:
        """Write all numbers. Raises RefusalError (401, 403) and StoreUnavailableError."""
        key = _key(request)
        reading = None
        try:
            async with asyncio.timeout(self._seconds):
                await self._callers.operator(request)
                self._believed[key] = self._clock.now()
                reading = await asyncio.shield(self._read())
        except RefusalError:
            self._believed.pop(key, None)
            raise
        except (LookTooLongError, StoreUnavailableError, TimeoutError):
            believed_at = self._believed.get(key)
            if believed_at is None or self._clock.now() - believed_at > _REMEMBERED_MS:
                raise StoreUnavailableError("the database did not say whose key it is") from None
        body, content_type = self._metrics.exposition(request.headers.get("accept", ""), reading, self._workers())
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    def _read(self) -> asyncio.Task[Reading]:
        # A database that hangs is asked by one at a time, however often it is scraped.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._take())
        return self._reading

    async def _take(self) -> Reading:
        overview = await self._statistics.overview()
        failing = await self._deliveries.failing(limit=_MOST_RECEIVERS)
        now = self._clock.now()
        return Reading(
            jobs=overview.jobs,
            overdue={(each.step, each.provider): max(0, now - each.due_at) / 1000 for each in overview.waiting},
            deliveries=overview.deliveries,
            receivers_failing=len(failing),
            files=overview.storage.files,
            bytes=overview.storage.bytes,
        )


def _key(request: Request) -> bytes:
    said = [value for name, value in request.scope["headers"] if name in (b"authorization", b"x-api-key")]
    return hashlib.sha256(b"\n".join(said)).digest()
