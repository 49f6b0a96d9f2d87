"""No callback ever comes: polls bring every job home, no faster than the provider allows."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from service.clock import ManualClock
from tests.story.world import MANNERS, MINUTE, World, open_world

LIMIT = 120  # requests of all kinds in any minute, as LLM Gateway allows an organisation


class Counted:
    """Notes when each request reaches the provider."""

    def __init__(self, app: ASGIApp, clock: ManualClock, times: list[int]) -> None:
        self._app = app
        self._clock = clock
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._times.append(self._clock.now())
        await self._app(scope, receive, send)


def busiest_minute(times: list[int]) -> int:
    """Return the most requests that came within any minute."""
    window: deque[int] = deque()
    most = 0
    for at in times:
        window.append(at)
        while window[0] <= at - MINUTE:
            window.popleft()
        most = max(most, len(window))
    return most


async def test_twenty_jobs_without_a_callback_all_end_by_polls(world: World, provider: str) -> None:
    jobs = [await world.ask(provider, "callback-lost") for _ in range(20)]
    await world.settle(*jobs)
    for job_id in jobs:
        assert (await world.job(job_id)).state == "completed"
        assert await world.told_by(job_id) == "poll"
        assert len(world.made(job_id)) == 1


async def test_a_provider_that_limits_all_calls_together_is_never_asked_faster(tmp_path: Path) -> None:
    clock = ManualClock()
    times: list[int] = []
    async with open_world(tmp_path, clock=clock, manners=None, before=lambda app: Counted(app, clock, times)) as world:
        jobs = [await world.ask("llmgateway", "callback-lost") for _ in range(110)]
        await world.settle(*jobs, rounds=2_000)
        assert len(times) >= 3 * len(jobs)  # created, asked about, fetched
        assert LIMIT // 2 < busiest_minute(times) <= LIMIT
        for job_id in jobs:
            assert (await world.job(job_id)).state == "completed"
            assert await world.told_by(job_id) == "poll"


async def test_a_backlog_of_new_jobs_keeps_no_job_that_runs_from_its_end(tmp_path: Path) -> None:
    scarce = replace(MANNERS, per_minute=20, burst=8)
    async with open_world(tmp_path, manners=scarce) as world:
        job_id = await world.ask("llmgateway", "callback-lost")
        await world.run("submit")
        backlog = [await world.ask("llmgateway", "refused-400") for _ in range(60)]
        await world.pass_time(MINUTE, step=1_000)
        assert (await world.job(job_id)).state == "completed"
        assert (await world.job(backlog[-1])).state == "queued"
