from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from service.errors import InterruptedWorkError, StorageError
from service.storage import Storage, Swept
from service.workers.periodic import Periodic
from service.workers.sweeper import Sweeper
from tests.workers.stage import Stage, told

HOUR = 3_600_000


class Dusty(Storage):
    """A storage that says what a test wants, and when it was swept up to which time."""

    def __init__(self, answers: list[Swept | StorageError]) -> None:
        self.answers = answers
        self.before: list[datetime] = []

    async def sweep(self, before: datetime) -> Swept:
        self.before.append(before)
        answer = self.answers.pop(0) if self.answers else Swept()
        if isinstance(answer, StorageError):
            raise answer
        return answer


def sweeper_of(stage: Stage, *answers: Swept | StorageError) -> tuple[Periodic, Dusty]:
    storage = Dusty(list(answers))
    chance = random.Random(5)  # noqa: S311 - the same jitter in every run
    return Periodic(Sweeper(storage, stage.clock, stage._log), stage.clock, chance), storage


async def outcomes(sweeper: Periodic) -> list[str]:
    said = []
    for item in await sweeper.claim(4):
        assert await sweeper.claim(4) == []  # one round at a time
        assert await sweeper.renew(item)
        try:
            said.append(told(await sweeper.handle(item)))
        except StorageError as error:
            said.append(told(await sweeper.failed(item, error)))
    return said


async def test_a_service_sweeps_when_it_starts_and_every_six_hours(stage: Stage) -> None:
    sweeper, storage = sweeper_of(stage, Swept(2, 3))
    assert await outcomes(sweeper) == ["swept: aborted 2 uploads, removed 3 files"]
    stage.clock.advance(5 * HOUR)
    assert await outcomes(sweeper) == []
    stage.clock.advance(2 * HOUR)
    assert await outcomes(sweeper) == ["swept: aborted 0 uploads, removed 0 files"]
    now = datetime.fromtimestamp(stage.clock.now() / 1000, UTC)
    assert storage.before == [now - timedelta(hours=31), now - timedelta(hours=24)]


async def test_a_storage_that_is_ill_is_swept_later_and_later(stage: Stage) -> None:
    sweeper, _ = sweeper_of(stage, *[StorageError("away")] * 12)
    waits = []
    [item] = await sweeper.claim(1)
    for _ in range(12):
        with pytest.raises(StorageError):
            await sweeper.handle(item)
        assert told(await sweeper.failed(item, StorageError("away"))) == "later"
        begun = stage.clock.now()
        while not (claimed := await sweeper.claim(1)):
            stage.clock.advance(30_000)
        [item] = claimed
        waits.append(stage.clock.now() - begun)
    assert waits[0] <= 90_000
    assert 4 * HOUR <= waits[-1] <= 8 * HOUR
    assert told(await sweeper.handle(item)) == "swept: aborted 0 uploads, removed 0 files"


async def test_a_round_that_our_stopping_cuts_short_is_made_again_at_once(stage: Stage) -> None:
    sweeper, storage = sweeper_of(stage)
    [item] = await sweeper.claim(1)
    assert told(await sweeper.failed(item, InterruptedWorkError("stopping"))) == "interrupted"
    assert len(await outcomes(sweeper)) == len(storage.before) == 1


@pytest.mark.parametrize("often", [1, 3])
async def test_what_stays_for_ever_is_said_once(stage: Stage, often: int) -> None:
    sweeper, _ = sweeper_of(stage, *[Swept(left="uploads stay; give it a rule")] * often, Swept(left="another"))
    for _ in range(often + 2):
        await outcomes(sweeper)
        stage.clock.advance(7 * HOUR)
    said = [call.kwargs["reason"] for call in stage.logged.calls if call.kwargs["event"] == "storage.not_swept"]
    assert said == ["uploads stay; give it a rule", "another"]
