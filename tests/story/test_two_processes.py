"""Two services on one database, as when a new version starts before the old one has stopped: each job is one's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service.assembly import Service, Tuning, open_service
from service.config import Config
from tests.story.world import MANNERS, WEBHOOK_SECRET, World, open_world

JOBS = 24
BEHAVIOURS = ("ok", "callback-lost", "accepted-then-502", "several-outputs")


@asynccontextmanager
async def another(world: World, log: CapturingLogger) -> AsyncIterator[Service]:
    """Open a second service on what the world's own one has."""
    url = world.sandbox.base_url
    config = Config.read(
        {
            "REELKEEPER_PUBLIC_URL": str(world.http.base_url).rstrip("/"),
            "REELKEEPER_SECRET_KEY": "00112233445566778899aabbccddeeff" * 2,
            "REELKEEPER_DATABASE": f"sqlite:///{world.videos.parent / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(world.videos),
            "REELKEEPER_ALLOWED_PRIVATE_HOSTS": url.partition("://")[2],
            "OPENROUTER_BASE_URL": f"{url}/api/v1",
            "OPENROUTER_API_KEY": "sk-sandbox",
            "OPENROUTER_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "LLMGATEWAY_BASE_URL": f"{url}/v1",
            "LLMGATEWAY_API_KEY": "sk-sandbox",
        }
    )
    bound: FilteringBoundLogger = structlog.wrap_logger(
        log, processors=[], wrapper_class=structlog.make_filtering_bound_logger(20)
    )
    tuning = Tuning(manners=MANNERS, look_inside=False)
    async with open_service(config, bound, clock=world.clock, tuning=tuning) as service:
        yield service


def handled(log: CapturingLogger, step: str) -> Counter[str]:
    """Count how often a service did a step for each job."""
    lines = [call.kwargs for call in log.calls if call.kwargs["event"] == "worker.handled"]
    return Counter(line["job"] for line in lines if line["step"] == step)


async def test_two_services_on_one_database_share_the_work_and_do_nothing_twice(tmp_path: Path) -> None:
    log = CapturingLogger()
    async with open_world(tmp_path) as world, another(world, log) as second:
        both = [*world.service.workers.values(), *second.workers.values()]
        for worker in both:
            worker._concurrency = 2  # so that no one of them takes everything that is due
        asked = [(number, ("openrouter", "llmgateway")[number % 2]) for number in range(JOBS)]
        jobs = [await world.ask(provider, BEHAVIOURS[number % len(BEHAVIOURS)]) for number, provider in asked]
        for _ in range(200):
            if all([(await world.job(job_id)).state.final for job_id in jobs]):
                break
            for step in ("submit", "resolve", "poll", "mirror", "notify", "erase"):
                await asyncio.gather(*(worker.run_once() for worker in both if worker.step == step))
            await world.sandbox.run_once()
            world.clock.advance(2_000)
        for job_id in jobs:
            assert (await world.job(job_id)).state == "completed", await world.tell(job_id)
            assert len(world.made(job_id)) == 1
            assert [event.type for event in await world.events(job_id)].count("job.completed") == 1
        assert sum(world.sandbox.ledger.submissions.values()) == JOBS
        for step in ("submit", "mirror"):
            ours, theirs = handled(world.logged, step), handled(log, step)
            assert min(len(ours), len(theirs)) > JOBS // 8, (ours, theirs)
            assert ours + theirs == Counter(jobs)  # each by one of them, once
