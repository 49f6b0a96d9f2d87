"""Old numbers go, whatever happens meanwhile."""

from __future__ import annotations

import random

from service.errors import InterruptedWorkError, StoreUnavailableError
from service.workers.forgetter import Forgetter
from service.workers.periodic import Periodic
from tests.workers.stage import Stage, told

HOUR = 3_600_000


def forgetter_of(stage: Stage) -> Periodic:
    chance = random.Random(5)  # noqa: S311 - the same jitter in every run
    return Periodic(Forgetter(stage.world.statistics), stage.clock, chance)


async def outcomes(forgetter: Periodic) -> list[str]:
    said = []
    for item in await forgetter.claim(4):
        assert await forgetter.claim(4) == []  # one round at a time
        said.append(told(await forgetter.handle(item)))
    return said


async def test_what_happened_more_than_eight_days_ago_is_forgotten(stage: Stage) -> None:
    forgetter = forgetter_of(stage)
    await stage.running()
    assert await outcomes(forgetter) == ["forgotten"]
    assert stage.world.sql("SELECT count(*) AS rows FROM activity")[0]["rows"] > 0
    stage.clock.advance(5 * HOUR)
    assert await outcomes(forgetter) == []
    stage.clock.advance(9 * 24 * HOUR)
    assert await outcomes(forgetter) == ["forgotten"]
    assert stage.world.sql("SELECT count(*) AS rows FROM activity")[0]["rows"] == 0


async def test_while_the_database_is_ill_it_is_tried_later_and_after_an_interruption_at_once(stage: Stage) -> None:
    forgetter = forgetter_of(stage)
    [item] = await forgetter.claim(1)
    assert told(await forgetter.failed(item, StoreUnavailableError("the disk is full"))) == "later"
    assert await outcomes(forgetter) == []
    stage.clock.advance(HOUR)
    [item] = await forgetter.claim(1)
    assert told(await forgetter.failed(item, InterruptedWorkError("stopping"))) == "interrupted"
    assert await outcomes(forgetter) == ["forgotten"]
