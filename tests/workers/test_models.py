"""When providers are asked what they offer, and what is kept when they do not say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import structlog

from service.errors import InterruptedWorkError, StoreUnavailableError
from service.model import Model
from service.providers import Unanswered
from service.store import Catalogue
from service.workers import Rhythm, Worker
from service.workers.models import Listing, ModelLister
from tests.turns import until
from tests.workers.stage import Stage, told

SECOND = 1_000
MINUTE = 60 * SECOND


def model(model_id: str, provider: str = "alpha") -> Model:
    return Model(id=model_id, provider=provider, name=model_id)


@dataclass
class Lists:
    """A provider that lists its `offer`, or answers or raises that instead, and counts how often it was asked."""

    offer: Sequence[Model] | Unanswered | Exception
    asked: int = 0
    hold: asyncio.Event | None = None

    async def models(self) -> Sequence[Model] | Unanswered:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.offer, Exception):
            raise self.offer
        return self.offer


@dataclass
class Shop:
    """Two providers, their catalogue and the step that keeps it fresh."""

    stage: Stage
    alpha: Lists = field(default_factory=lambda: Lists([model("a")]))
    beta: Lists = field(default_factory=lambda: Lists([model("b", "beta")]))

    def __post_init__(self) -> None:
        self.catalogue = Catalogue(self.stage.world.database)
        self.start()

    def start(self) -> None:
        """Begin as after a restart: what was in memory is gone."""
        chance = random.Random(5)  # noqa: S311 - the same jitter in every run
        providers = {"alpha": self.alpha, "beta": self.beta}
        self.step = ModelLister(self.catalogue, providers, self.stage.clock, chance)

    async def work(self, limit: int = 10) -> list[str]:
        """Do what is due; return the outcomes."""
        outcomes = []
        for item in await self.step.claim(limit):
            try:
                outcomes.append(f"{item.id}: {told(await self.step.handle(item))}")
            except Exception as error:  # noqa: BLE001 - as the worker does
                outcomes.append(f"{item.id}: {told(await self.step.failed(item, error))}")
        return outcomes

    async def next(self) -> tuple[float, list[str]]:
        """Wait until something is due; return the seconds that took, and the outcomes."""
        for waited in range(3600):
            if outcomes := await self.work():
                return waited, outcomes
            self.stage.clock.advance(SECOND)
        raise AssertionError("nothing was due for an hour")

    async def kept(self) -> list[str]:
        return [each.id for each in await self.catalogue.models()]


@pytest.fixture
def shop(stage: Stage) -> Shop:
    return Shop(stage)


async def test_every_provider_is_asked_at_the_start(shop: Shop) -> None:
    assert await shop.work() == ["alpha: listed: 1 models", "beta: listed: 1 models"]
    assert await shop.catalogue.models() == [model("a"), model("b", "beta")]
    assert await shop.work() == []


async def test_it_is_asked_again_after_ten_minutes_or_so_and_the_new_list_is_kept(shop: Shop) -> None:
    shop.beta.offer = Unanswered("down", retry_after_ms=3600 * SECOND)
    await shop.work()
    shop.alpha.offer = [model("c"), model("d")]
    waits = []
    for _ in range(10):
        waited, outcomes = await shop.next()
        assert outcomes == ["alpha: listed: 2 models"]
        waits.append(waited)
        if sum(waits) > 2000:
            break
    assert all(9 * 60 <= waited <= 11 * 60 + 1 for waited in waits)
    assert len(set(waits)) > 1
    assert await shop.kept() == ["c", "d"]


async def test_the_list_of_a_provider_that_is_down_stays(shop: Shop) -> None:
    await shop.work()
    for trouble in (Unanswered("HTTP 502"), StoreUnavailableError("disk full"), RuntimeError("a fault of ours")):
        shop.alpha.offer = trouble
        shop.stage.clock.advance(12 * MINUTE)
        (outcome, _) = await shop.work()
        assert outcome in ("alpha: unanswered: HTTP 502", "alpha: later")
        assert await shop.kept() == ["a", "b"]
    shop.start()
    await shop.work()
    assert await shop.kept() == ["a", "b"]


async def test_an_empty_list_after_a_full_one_is_a_fault_even_across_a_restart(shop: Shop) -> None:
    await shop.work()
    shop.alpha.offer = []
    shop.start()
    assert await shop.work() == [
        "alpha: unanswered: a list of no models, where there were some",
        "beta: listed: 1 models",
    ]
    assert await shop.kept() == ["a", "b"]
    waited, outcomes = await shop.next()
    assert waited < 60
    assert outcomes[0].startswith("alpha: unanswered")


async def test_an_empty_list_of_a_provider_that_never_had_more_is_an_answer(shop: Shop) -> None:
    shop.alpha.offer = []
    assert (await shop.work())[0] == "alpha: listed: 0 models"
    waited, _ = await shop.next()
    assert waited >= 9 * 60


@pytest.mark.parametrize("trouble", [Unanswered("HTTP 500"), RuntimeError("broken")])
async def test_after_failures_it_is_asked_later_and_later_and_after_a_success_soon_again(
    shop: Shop, trouble: Unanswered | Exception
) -> None:
    shop.alpha.offer, shop.beta.offer = trouble, Unanswered("down", retry_after_ms=10**9)
    await shop.work()
    expected = [30, 60, 120, 240, 480, 600, 600]
    for seconds in expected:
        waited, _ = await shop.next()
        assert 0.8 * seconds <= waited <= 1.2 * seconds + 1
    shop.alpha.offer = [model("a")]
    await shop.next()
    shop.alpha.offer = trouble
    waited, _ = await shop.next()
    assert waited >= 9 * 60
    waited, _ = await shop.next()
    assert waited <= 37


async def test_a_providers_own_advice_is_obeyed(shop: Shop) -> None:
    shop.alpha.offer = shop.beta.offer = Unanswered("HTTP 429", retry_after_ms=200 * SECOND)
    await shop.work()
    waited, _ = await shop.next()
    assert waited == 200


async def test_what_the_service_interrupted_itself_is_due_at_once(shop: Shop) -> None:
    for item in await shop.step.claim(10):
        assert await shop.step.renew(item)
        assert told(await shop.step.failed(item, InterruptedWorkError("stopping"))) == "interrupted"
    assert await shop.work() == ["alpha: listed: 1 models", "beta: listed: 1 models"]


async def test_no_more_are_taken_than_there_is_room_for_and_none_twice(shop: Shop) -> None:
    assert await shop.step.claim(1) == [Listing("alpha")]
    assert await shop.step.claim(5) == [Listing("beta")]
    shop.stage.clock.advance(60 * MINUTE)
    assert await shop.step.claim(5) == []


async def test_a_provider_that_hangs_does_not_keep_the_others_waiting(shop: Shop) -> None:
    shop.alpha.hold = asyncio.Event()
    log = structlog.wrap_logger(shop.stage.logged, processors=[])
    worker = Worker(shop.step, log, concurrency=2, rhythm=Rhythm(idle=0.01))
    running = asyncio.create_task(worker.run())
    await until(lambda: [call.kwargs["provider"] for call in shop.stage.logged.calls] == ["beta"])
    assert (shop.alpha.asked, await shop.kept()) == (1, ["b"])
    await worker.stop(grace=0)
    await running
    assert worker.trouble is None
    shop.alpha.hold.set()
    assert await shop.work() == ["alpha: listed: 1 models"]
