"""How seldom rejections are written, however many come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from service.errors import StoreUnavailableError
from service.store import Reason, Rejection, Rejections
from service.web.diagnosis import Diagnosis
from service.web.tally import Tally
from tests.turns import Turn, until
from tests.web.house import House

PLAIN = Diagnosis(Reason.WRONG_SECRET, "at first look")
SAME = Diagnosis(Reason.WRONG_SECRET, "at a close look")
ALTERED = Diagnosis(Reason.BODY_ALTERED, "fits the body as compact JSON")


class Broken(Rejections):
    """A store that cannot be written while it is `full`."""

    full = True
    tried = 0

    async def keep(self, rejections: Sequence[Rejection]) -> None:
        self.tried += 1
        if self.full:
            raise StoreUnavailableError("the disk is full")
        await super().keep(rejections)


@dataclass
class Desk:
    """A tally whose pauses end when the test says so."""

    house: House
    rejections: Rejections
    looks: int = 0
    writes: int = 0
    pauses: list[tuple[float, asyncio.Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tally = Tally(self.rejections, self.house.clock, self._pause)
        keep = self.rejections.keep

        async def counted(rejections: Sequence[Rejection]) -> None:
            self.writes += 1
            await keep(rejections)

        self.rejections.keep = counted  # type: ignore[method-assign]

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        self.pauses.append((seconds, over))
        await over.wait()

    async def add(self, job_id: str, found: Diagnosis = SAME, *, reason: Reason = Reason.WRONG_SECRET) -> None:
        def look() -> Diagnosis:
            self.looks += 1
            return found

        now = self.house.clock.now()
        await self.tally.add(Rejection(job_id, "openrouter", reason, PLAIN.message, 1, now, now, {}, 5), look)

    async def pass_time(self) -> None:
        """Let the seconds pass in which is only counted."""
        await until(lambda: self.pauses)
        [(seconds, over)] = self.pauses
        assert seconds == 10.0
        self.house.clock.advance(10_000)
        before = self.writes
        owed = any(each.owed for each in self.tally._counted.values())
        self.pauses.clear()
        over.set()
        await until(lambda: self.writes > before or not owed)
        await until(lambda: self.pauses or self.tally._writing is None or self.tally._writing.done())

    async def rows(self) -> list[tuple[Reason, str, int]]:
        return [(each.reason, each.message, each.times) for each in await self.house.rejections.page(limit=1_000)]


@pytest.fixture
async def desk(house: House) -> AsyncIterator[Desk]:
    desk = Desk(house, house.rejections)
    yield desk
    await desk.tally.close()


async def test_the_first_is_written_at_once_and_those_that_follow_when_ten_seconds_are_over(
    house: House, desk: Desk
) -> None:
    job = await house.running()
    await desk.add(job.id)
    assert await desk.rows() == [(Reason.WRONG_SECRET, "at a close look", 1)]
    for _ in range(999):
        await desk.add(job.id)
    assert (desk.writes, desk.looks) == (1, 1)
    assert await desk.rows() == [(Reason.WRONG_SECRET, "at a close look", 1)]
    await desk.pass_time()
    assert (desk.writes, desk.looks) == (2, 1)
    assert await desk.rows() == [(Reason.WRONG_SECRET, "at a close look", 1_000)]
    [row] = await house.rejections.page()
    assert (row.first_at, row.last_at) == (house.clock.now() - 10_000, house.clock.now() - 10_000)


async def test_after_ten_seconds_the_next_one_is_looked_at_anew(house: House, desk: Desk) -> None:
    job = await house.running()
    await desk.add(job.id)
    await desk.add(job.id)
    await desk.pass_time()
    await desk.add(job.id, ALTERED)
    await desk.add(job.id)
    assert desk.looks == 2
    await desk.pass_time()
    assert await desk.rows() == [(ALTERED.reason, ALTERED.message, 2), (SAME.reason, SAME.message, 2)]


async def test_a_genuine_one_amid_forgeries_is_found_by_what_is_left_of_the_looks(house: House, desk: Desk) -> None:
    job = await house.running()
    for number in range(400):
        await desk.add(job.id, ALTERED if number % 7 == 4 else SAME)
        house.clock.advance(25)
    assert desk.looks <= 1 + 5 * 10
    assert desk.writes == 1
    await desk.pass_time()
    assert desk.writes == 2
    rows = {reason: (message, times) for reason, message, times in await desk.rows()}
    assert rows[ALTERED.reason][0] == ALTERED.message
    assert rows[ALTERED.reason][1] > 1
    assert sum(times for _, times in rows.values()) == 400


async def test_forgeries_take_no_look_from_those_that_are_the_first_of_theirs(house: House, desk: Desk) -> None:
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(5)]
    for _ in range(200):
        await desk.add(jobs[0].id)
        house.clock.advance(25)
    looks = desk.looks
    for job in jobs[1:]:
        await desk.add(job.id, ALTERED)
    assert desk.looks == looks + 4
    assert [message for _, message, _ in await desk.rows()].count(ALTERED.message) == 4


async def test_what_looks_the_same_from_close_by_is_looked_at_once(house: House, desk: Desk) -> None:
    job = await house.running()
    for _ in range(10):
        await desk.add(job.id, replace(PLAIN, reason=Reason.TOO_SLOW), reason=Reason.TOO_SLOW)
        house.clock.advance(500)
    assert desk.looks == 1


async def test_a_broken_database_loses_none_of_a_jobs_reasons(house: House) -> None:
    broken = Broken(house.rejections._ledger)
    desk = Desk(house, broken)
    job = await house.running()
    for found in (SAME, ALTERED):
        await desk.add(job.id, found)
        house.clock.advance(1_000)
    await desk.pass_time()
    broken.full = False
    await desk.pass_time()
    assert sorted(await desk.rows()) == sorted([(each.reason, each.message, 1) for each in (SAME, ALTERED)])
    await desk.tally.close()


async def test_when_nothing_came_for_ten_seconds_nothing_is_written_and_nothing_runs(house: House, desk: Desk) -> None:
    await desk.add((await house.running()).id)
    await desk.pass_time()
    assert desk.writes == 1
    assert desk.tally._writing is not None
    assert desk.tally._writing.done()


async def test_five_a_second_are_looked_at_and_written_at_once_and_all_are_counted(house: House, desk: Desk) -> None:
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(40)]
    for job in jobs:
        await desk.add(job.id)
        await desk.add(job.id)
    assert (desk.writes, desk.looks) == (5, 5)
    house.clock.advance(1_000)
    for job in jobs:
        await desk.add(job.id)
    assert (desk.writes, desk.looks) == (9, 10)  # one look, while all were to be had, was at one that followed
    await desk.pass_time()
    assert desk.writes == 10
    rows = await desk.rows()
    assert sorted(times for _, _, times in rows) == [3] * 40
    assert [message for _, message, _ in rows].count(PLAIN.message) == 31


async def test_no_more_than_so_many_are_told_apart(house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "most", 3)
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(6)]
    for _ in range(2):
        for job in jobs:
            await desk.add(job.id)
    assert len(desk.tally._counted) == 3
    await desk.pass_time()
    assert [times for _, _, times in await desk.rows()] == [2, 2, 2]
    await desk.add(jobs[5].id)
    assert len(await desk.rows()) == 4


async def test_what_was_counted_is_written_at_the_end(house: House, desk: Desk) -> None:
    job = await house.running()
    for _ in range(7):
        await desk.add(job.id)
    await desk.tally.close()
    assert [times for _, _, times in await desk.rows()] == [7]
    await desk.tally.close()
    assert desk.writes == 2


async def test_a_database_that_takes_nothing_is_tried_again_and_nothing_is_raised(house: House) -> None:
    broken = Broken(house.rejections._ledger)
    desk = Desk(house, broken)
    job = await house.running()
    for _ in range(3):
        await desk.add(job.id)
    await desk.pass_time()
    await desk.add(job.id)
    assert await desk.rows() == []
    assert broken.tried < 5
    broken.full = False
    await desk.pass_time()
    assert [times for _, _, times in await desk.rows()] == [4]
    await desk.tally.close()


async def test_a_broken_database_makes_no_more_of_the_memory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "most", 3)
    desk = Desk(house, Broken(house.rejections._ledger))
    for round_ in range(3):
        for number in range(10):
            await desk.add(f"job_{round_}_{number}")
        await desk.pass_time()
    assert len(desk.tally._counted) <= 3
    await desk.tally.close()


async def test_many_at_the_same_time_are_one_write(house: House, desk: Desk) -> None:
    job = await house.running()
    await asyncio.gather(*(desk.add(job.id) for _ in range(64)))
    assert (desk.writes, desk.looks) == (1, 1)
    await Turn()
    await desk.pass_time()
    assert [times for _, _, times in await desk.rows()] == [64]


async def test_the_reasons_of_a_job_are_told_apart(house: House, desk: Desk) -> None:
    job = await house.running()
    await desk.add(job.id)
    await desk.add(job.id, replace(PLAIN, reason=Reason.TOO_SLOW), reason=Reason.TOO_SLOW)
    assert {reason for reason, _, _ in await desk.rows()} == {Reason.WRONG_SECRET, Reason.TOO_SLOW}
