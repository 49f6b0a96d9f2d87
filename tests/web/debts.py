"""Messages that are owed in a house: given up, waiting, or really sent."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from service.model import DeliveryAttempt, Job, VideoRequest
from service.outbound import public_client
from service.store import Created, NewJob
from service.web.deliveries import Composer
from service.web.views import Views
from service.workers.notifier import Notifier
from tests.web.house import PUBLIC_URL, House

HOOK = "https://hooks.example.com/videos?token=canary"
RECEIVER = "https://hooks.example.com:443"


async def owed(house: House, url: str = HOOK, *, tenant: str = "acme", prompt: str = "a fox") -> Job:
    """End a job whose caller wants to be told at `url`."""
    request = VideoRequest(model="google/veo-3.1", prompt=prompt)
    created = await house.store.create_job(NewJob(tenant, "openrouter", request, notify_url=url))
    assert isinstance(created, Created)
    job = await house.store.cancel(created.job.id)
    assert job is not None
    return job


async def given_up(
    house: House,
    url: str = HOOK,
    *,
    tenant: str = "acme",
    times: int = 1,
    status: int | None = 502,
    error: str | None = None,
    answer: str | None = "Bad Gateway",
    prompt: str = "a fox",
) -> list[Job]:
    """End `times` jobs whose messages were tried once and given up."""
    jobs = [await owed(house, url, tenant=tenant, prompt=prompt) for _ in range(times)]
    await _try(house, DeliveryAttempt(house.clock.now(), 41, status, error, answer), {job.id for job in jobs}, None)
    return jobs


async def tried(house: House, url: str = HOOK, *, tenant: str = "acme", wait_ms: int = 300_000) -> Job:
    """End a job whose message was tried once, and is tried again in `wait_ms`."""
    job = await owed(house, url, tenant=tenant)
    refused = DeliveryAttempt(house.clock.now(), 8, None, "the connection was refused", None)
    await _try(house, refused, {job.id}, house.clock.now() + wait_ms)
    return job


async def _try(house: House, attempt: DeliveryAttempt, job_ids: set[str], again_at: int | None) -> None:
    while job_ids:
        claimed = await house.deliveries.claim(100, each=100)
        assert claimed
        for delivery in claimed:
            assert delivery.job_id in job_ids, "somebody is owed something already"
            if again_at is None:
                assert await house.deliveries.gave_up(delivery, attempt)
            else:
                assert await house.deliveries.try_again(delivery, attempt, again_at)
            job_ids.discard(delivery.job_id)


@asynccontextmanager
async def sending(house: House, url: str) -> AsyncIterator[Notifier]:
    """Yield what sends, as the service does, to the host of `url` alone."""
    views = Views(PUBLIC_URL)
    compose = Composer(house.vault, native=views.job, openrouter=views.job, openai=views.job).compose
    async with public_client({urlsplit(url).netloc}) as client:
        chance = random.Random(5)  # noqa: S311 - the same jitter in every run
        yield Notifier(house.store, house.deliveries, compose, client, house.clock, chance)


async def sent(notifier: Notifier) -> list[str]:
    """Send all that is due, and return what came of each, in a word."""
    outcomes: list[str] = []
    while claimed := await notifier.claim(100):
        outcomes += [(await notifier.handle(delivery)).name for delivery in claimed]
    return outcomes
