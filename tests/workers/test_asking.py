"""How fast providers are asked: no faster than each allows, and none at the cost of another."""

from __future__ import annotations

import asyncio

import pytest

from service.clock import ManualClock
from service.model import Job
from service.providers import Manners
from service.workers.asking import PacedProviders
from tests.store.world import World
from tests.turns import until
from tests.workers.stage import Scripted, Stage


def manners(per_minute: int | None, burst: int = 1) -> Manners:
    return Manners(first_poll_ms=1, poll_every_ms=1, retention_ms=1, per_minute=per_minute, burst=burst)


class Backlog:
    """Endless work of every provider; `claimed` says how much was taken of each, and when."""

    def __init__(self, job: Job) -> None:
        self.claimed: list[tuple[str, int]] = []
        self.gate: asyncio.Event | None = None
        self._job = job

    async def claim(self, provider: str, limit: int) -> list[Job]:
        self.claimed.append((provider, limit))
        if self.gate:
            await self.gate.wait()
        return [self._job] * limit

    def of(self, provider: str) -> int:
        return sum(count for name, count in self.claimed if name == provider)


@pytest.fixture
async def backlog(stage: Stage) -> Backlog:
    return Backlog(await stage.world.queued())


def paced(clock: ManualClock, alpha: Manners, beta: Manners | None = None) -> PacedProviders:
    providers = [Scripted("alpha", alpha)] + ([Scripted("beta", beta)] if beta else [])
    return PacedProviders(providers, clock)


async def test_no_more_is_claimed_than_may_be_asked(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=5))
    assert len(await asking.claim(backlog.claim, 100)) == 5
    assert await asking.claim(backlog.claim, 100) == []
    stage.clock.advance(3_000)
    assert len(await asking.claim(backlog.claim, 100)) == 3
    assert backlog.claimed == [("alpha", 5), ("alpha", 3)]  # nothing is asked of the store in between


async def test_what_was_not_there_to_be_claimed_is_not_spent(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=5))

    async def nothing(_: str, __: int) -> list[Job]:
        return []

    assert await asking.claim(nothing, 100) == []
    assert len(await asking.claim(backlog.claim, 100)) == 5


async def test_a_provider_without_a_limit_is_asked_as_much_as_there_is_room_for(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(None))
    for _ in range(3):
        assert len(await asking.claim(backlog.claim, 100)) == 100


async def test_all_providers_together_get_no_more_than_there_is_room_for(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=5), manners(60, burst=5))
    assert len(await asking.claim(backlog.claim, 7)) == 7
    assert len(await asking.claim(backlog.claim, 7)) == 3
    assert (backlog.of("alpha"), backlog.of("beta")) == (5, 5)


async def test_two_workers_never_find_the_same_room(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=5))
    backlog.gate = asyncio.Event()
    claims = [asyncio.create_task(asking.claim(backlog.claim, 100)) for _ in range(3)]
    await until(lambda: backlog.claimed)
    backlog.gate.set()
    assert sorted([len(jobs) for jobs in await asyncio.gather(*claims)]) == [0, 0, 5]


async def test_a_reserve_is_left_to_those_who_claim_without_one(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=8))
    assert len(await asking.claim(backlog.claim, 100, reserve=0.25)) == 6
    assert await asking.claim(backlog.claim, 100, reserve=0.25) == []
    assert len(await asking.claim(backlog.claim, 100)) == 2


async def test_calls_beyond_the_claimed_ones_are_made_up_for(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(60, burst=5))
    asking.spend("alpha", 7)
    stage.clock.advance(2_000)
    assert await asking.claim(backlog.claim, 100) == []
    stage.clock.advance(1_000)
    assert len(await asking.claim(backlog.claim, 100)) == 1


@pytest.mark.parametrize("per_minute", [None, 6_000])
async def test_retry_after_closes_one_provider_for_that_long(
    stage: Stage, backlog: Backlog, per_minute: int | None
) -> None:
    asking = paced(stage.clock, manners(per_minute, burst=5), manners(60, burst=5))
    asking.close_for("alpha", 10_000)
    asking.close_for("alpha", 1_000)  # a shorter one does not open it
    stage.clock.advance(9_999)
    await asking.claim(backlog.claim, 100)
    assert backlog.of("alpha") == 0
    assert backlog.of("beta") > 0
    stage.clock.advance(1)
    await asking.claim(backlog.claim, 100)
    assert backlog.of("alpha") > 0


async def test_no_retry_after_closes_nothing(stage: Stage, backlog: Backlog) -> None:
    asking = paced(stage.clock, manners(None))
    asking.close_for("alpha", None)
    assert len(await asking.claim(backlog.claim, 3)) == 3


async def test_a_provider_that_is_not_configured_is_not_there(stage: Stage) -> None:
    asking = paced(stage.clock, manners(None))
    assert asking["alpha"].name == "alpha"
    with pytest.raises(KeyError):
        asking["gamma"]


async def test_jobs_are_claimed_of_the_provider_that_they_are_for(stage: Stage) -> None:
    world: World = stage.world
    jobs = {await_provider: await world.queued(await_provider) for await_provider in ("alpha", "beta")}
    claimed = await stage.paced.claim(world.claims.claim_queued, 10)
    assert {job.provider: job.id for job in claimed} == {name: job.id for name, job in jobs.items()}


async def test_a_view_of_one_provider_claims_of_it_alone_and_spends_the_pace_of_all(
    stage: Stage, backlog: Backlog
) -> None:
    asking = paced(stage.clock, manners(60, burst=5), manners(60, burst=7))
    views = asking.each()
    assert len(await views["alpha"].claim(backlog.claim, 3)) == 3
    assert len(await asking.each()["alpha"].claim(backlog.claim, 100)) == 2
    assert await asking.claim(backlog.claim, 5) != []
    assert (backlog.of("alpha"), backlog.of("beta")) == (5, 5)
    views["beta"].close_for("beta", 60_000)
    assert await asking.claim(backlog.claim, 100) == []
