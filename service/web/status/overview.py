"""The overview: how everything goes, for people as a page and for programs as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.model import DeliveryState, Source
from service.store import Deliveries, FailingReceiver, Overview, Rejection, Rejections, Statistics, Store
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.status import numbers, sparks
from service.web.status.asking import wants_html
from service.web.status.health import Health, Part, version
from service.web.status.pages import Pages, Visitor
from service.web.streams import BY_ACCEPT, wants_stream
from service.web.views import rfc3339

_LASTS_MS = 900  # so that a look every second finds another one
_REJECTIONS = 50
_UNSURE = {
    "callbacks_stopped": "callbacks stopped",
    "callbacks_rejected": "callbacks rejected",
    "unserved": "not configured",
    "failing": "most jobs fail",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known at one moment."""

    at: int  # unix ms
    overview: Overview
    rejected: tuple[Rejection, ...]  # in the last day, the last 50
    failing: tuple[FailingReceiver, ...]
    errors: numbers.Errors
    totals: Mapping[str, Mapping[str, int]]  # of rejected callbacks: provider -> reason -> times; operators only


class Snapshots:
    """Asks the database once for all who look within a second."""

    def __init__(
        self, statistics: Statistics, rejections: Rejections, deliveries: Deliveries, store: Store, clock: Clock
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._rejections = rejections
        self._deliveries = deliveries
        self._clock = clock
        self._taken: dict[str | None, tuple[int, asyncio.Task[Snapshot]]] = {}

    async def of(self, tenant: str | None) -> Snapshot:
        """Return what is known about a tenant, None: about all, to programs and pages alike: at most 0.9 s old."""
        now = self._clock.now()
        self._taken = {
            whose: (at, task)
            for whose, (at, task) in self._taken.items()
            if 0 <= now - at < _LASTS_MS or not task.done()  # a slow database is asked once at a time
        }
        if tenant not in self._taken:
            self._taken[tenant] = (now, asyncio.create_task(self._take(tenant, now)))
        return await asyncio.shield(self._taken[tenant][1])

    async def _take(self, tenant: str | None, now: int) -> Snapshot:
        overview, page, failing = await asyncio.gather(
            self._statistics.overview(tenant),
            self._rejections.page(tenant, limit=_REJECTIONS),
            self._deliveries.failing(tenant, limit=numbers.MOST_RECEIVERS),
        )
        errors = await numbers.errors_of_the_last_hour(self._store, overview, tenant, now)
        totals = await self._rejections.totals() if tenant is None else {}
        return Snapshot(now, overview, tuple(numbers.of_the_last_day(page, now)), tuple(failing), errors, totals)


class OverviewPage:
    """Shows how everything goes: operators the whole service, tenants what is theirs."""

    def __init__(
        self,
        *,
        pages: Pages,
        callers: Callers,
        snapshots: Snapshots,
        health: Health,
        providers: Collection[str],
    ) -> None:
        self._pages = pages
        self._callers = callers
        self._snapshots = snapshots
        self._health = health
        self._providers = providers

    async def page(self, request: Request) -> Response:
        """Show it to browsers as a page, and to all others as JSON."""
        if wants_html(request) or wants_stream(request):
            return await self._pages.show(request, "overview.html", self._fill)
        return await self.json(request)

    async def json(self, request: Request) -> Response:
        """Show it to programs with an API key, and to whoever has a session."""
        visitor = None if "authorization" in request.headers else await self._pages.visitor(request)
        key = visitor.key if visitor else await self._callers.caller(request)
        tenant = None if key.operator else key.tenant
        snapshot = await self._snapshots.of(tenant)
        return JSONResponse(await self._as_json(tenant, snapshot), headers=BY_ACCEPT)

    async def _fill(self, visitor: Visitor) -> Mapping[str, Any]:
        snapshot = await self._snapshots.of(visitor.tenant)
        overview = snapshot.overview
        shown = self._shown(visitor.tenant, overview)
        courses = numbers.courses(overview)
        parts = await self._health.parts() if visitor.operator else ()
        concerns = self._concerns(visitor.tenant, snapshot)
        return {
            "version": version(),
            "started_at": snapshot.at - self._health.uptime_ms,
            "parts": parts,
            "concerns": concerns,
            "tiles": [
                (state, sum(each.jobs[state] for each in shown), sparks.stacked([course])[0], sparks.in_words(course))
                for state, course in courses.items()
            ],
            "providers": [
                (
                    each,
                    sparks.stacked([each.settled[source] for source in Source]),
                    overview.kept.get(each.name),
                    _word(each.name, parts, concerns),
                )
                for each in shown
            ],
            "waiting": sorted(overview.waiting, key=lambda each: (numbers.STEPS.index(each.step), each.due_at)),
            "spend": overview.spend,
            "spent_at": numbers.by_provider(overview.spend),
            "spent": numbers.together(overview.spend),
            "storage": overview.storage,
            "deliveries": {state: overview.deliveries.get(state, 0) for state in DeliveryState},
            "unknown_words": overview.unknown_words,
        }

    async def _as_json(self, tenant: str | None, snapshot: Snapshot) -> dict[str, Any]:
        now, overview = snapshot.at, snapshot.overview
        shown = self._shown(tenant, overview)
        found: dict[str, Any] = {
            "object": "status",
            "tenant": tenant,
            "version": version(),
            "now": rfc3339(now),
            "uptime_seconds": self._health.uptime_ms // 1000,
            "jobs": {each.name: dict(each.jobs) for each in shown},
            "entered": overview.entered,
            "ended": {each.name: {**each.ended, "success_rate": _rounded(each.success_rate)} for each in shown},
            "overdue_seconds": {step: ms / 1000 for step, ms in numbers.overdue_ms(overview, now).items()},
            "waiting": [
                {
                    "step": each.step,
                    "provider": each.provider,
                    "id": each.id,
                    "job": each.job_id,
                    "due_at": rfc3339(each.due_at),
                    "since": rfc3339(each.since),
                }
                for each in overview.waiting
            ],
            "reports": {each.name: _reports(each) for each in shown},
            "kept": {
                name: {"jobs": kept.jobs, "p50_seconds": kept.p50_ms / 1000, "p95_seconds": kept.p95_ms / 1000}
                for name, kept in overview.kept.items()
            },
            "spend": [
                {
                    "provider": each.provider,
                    "model": each.model,
                    "jobs": each.jobs,
                    "priced": each.priced,
                    "cost": each.cost if each.priced else None,
                }
                for each in overview.spend
            ],
            "storage": {"files": overview.storage.files, "bytes": overview.storage.bytes},
            "deliveries": {state: overview.deliveries.get(state, 0) for state in DeliveryState},
            "concerns": [
                {"kind": each.kind, "provider": each.provider, "message": each.message, "mended": each.mended}
                for each in self._concerns(tenant, snapshot)
            ],
        }
        if tenant is None:
            parts = await self._health.parts()
            found |= {
                "parts": {part.name: part.trouble or "ok" for part in parts},
                "workers": {part.name.removeprefix("worker "): part.trouble or "ok" for part in parts if part.worker},
                "unserved": {each.name: each.open for each in shown if each.name not in self._providers and each.open},
                "rejected_callbacks": snapshot.totals,
                "unknown_words": overview.unknown_words,
            }
        return found

    def _shown(self, tenant: str | None, overview: Overview) -> list[numbers.Numbers]:
        return numbers.of_providers(overview, self._providers if tenant is None else ())

    def _concerns(self, tenant: str | None, snapshot: Snapshot) -> list[numbers.Concern]:
        shown = self._shown(tenant, snapshot.overview)
        return [
            *numbers.concerns(snapshot.overview, shown, self._providers if tenant is None else None, snapshot.errors),
            *numbers.rejections(shown, snapshot.rejected, snapshot.at),
            *numbers.receivers(snapshot.failing, snapshot.at),
            *numbers.overdue(snapshot.overview, snapshot.at),
        ]


def _word(provider: str, parts: Collection[Part], concerns: Collection[numbers.Concern]) -> str:
    """Return how a provider is: "ok", "ill", what is unsure about it, or nothing when nobody here knows."""
    if any(part.trouble for part in parts if part.serves(provider)):
        return "ill"
    unsure = [each.kind for each in concerns if each.provider == provider and not each.mended]
    if unsure:
        return ", ".join(dict.fromkeys(_UNSURE[kind] for kind in unsure))
    return "ok" if parts else ""


def _reports(provider: numbers.Numbers) -> dict[str, object]:
    return {
        **{source: sum(course) for source, course in provider.settled.items()},
        "callback_share": _rounded(provider.callback_share),
        "course": provider.settled,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
