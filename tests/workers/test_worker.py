"""The one loop: claiming, leases, interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import InterruptedWorkError, StoreUnavailableError
from service.workers import About, Outcome, Rhythm, Supervisor, Worker
from tests.turns import until


@dataclass(frozen=True)
class Row:
    id: str


@dataclass
class Rows:
    """A step over rows in a list; what happens to each is written down."""

    due: list[Row]
    name: str = "rows"
    handled: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    broken: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    claims: list[int] = field(default_factory=list)
    unavailable: Exception | None = None

    async def claim(self, limit: int) -> Sequence[Row]:
        self.claims.append(limit)
        if self.unavailable:
            raise self.unavailable
        taken, self.due = self.due[:limit], self.due[limit:]
        return taken

    async def renew(self, item: Row) -> bool:
        return item.id not in self.lost

    def about(self, item: Row) -> About:
        return About(f"job_{item.id}", "alpha", attempt=1)

    async def handle(self, item: Row) -> Outcome:
        if self.gate:
            await self.gate.wait()
        if item.id in self.broken:
            raise self.broken[item.id]
        self.handled.append(item.id)
        return Outcome("completed")

    async def failed(self, item: Row, error: Exception) -> Outcome:
        self.failures.append((item.id, type(error).__name__))
        return Outcome("later")


@pytest.fixture
def log() -> FilteringBoundLogger:
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def rows(*names: str) -> Rows:
    return Rows([Row(name) for name in names])


async def never(_: float) -> None:
    await asyncio.Event().wait()


async def test_run_once_handles_everything_that_it_claims_and_says_how_much_that_was(log: FilteringBoundLogger) -> None:
    step = rows("a", "b", "c")
    worker = Worker(step, log, concurrency=2)
    assert await worker.run_once() == 2
    assert await worker.run_once() == 1
    assert await worker.run_once() == 0
    assert sorted(step.handled) == ["a", "b", "c"]


async def test_no_more_is_claimed_than_there_is_room_for(log: FilteringBoundLogger) -> None:
    step = rows("a", "b", "c")
    step.gate = asyncio.Event()
    worker = Worker(step, log, concurrency=2)
    first = asyncio.create_task(worker.run_once())
    await until(lambda: len(step.due) == 1)
    assert await worker.run_once() == 0
    step.gate.set()
    assert await first == 2
    assert step.claims == [2]


async def test_what_handle_raises_is_given_to_failed_and_stops_nobody_else(log: FilteringBoundLogger) -> None:
    step = rows("a", "b", "c")
    step.broken = {"b": ValueError("a fault of ours"), "c": StoreUnavailableError("the disk is full")}
    await Worker(step, log, concurrency=3).run_once()
    assert step.handled == ["a"]
    assert sorted(step.failures) == [("b", "ValueError"), ("c", "StoreUnavailableError")]


async def test_work_whose_lease_was_lost_is_cut_off_and_nothing_is_stored_for_it(log: FilteringBoundLogger) -> None:
    step = rows("a", "b")
    step.gate = asyncio.Event()
    step.lost = {"a"}
    renewals = 0

    async def pause(_: float) -> None:
        nonlocal renewals
        renewals += 1
        if renewals > 2:  # each lease was looked at once
            await asyncio.Event().wait()

    worker = Worker(step, log, concurrency=2, pause=pause)
    running = asyncio.create_task(worker.run_once())
    await until(lambda: renewals > 2)
    step.gate.set()
    await running
    assert step.handled == ["b"]
    assert step.failures == []


async def test_stopping_lets_work_finish_within_its_grace(log: FilteringBoundLogger) -> None:
    step = rows("a")
    step.gate = asyncio.Event()
    worker = Worker(step, log, concurrency=1, pause=never)
    running = asyncio.create_task(worker.run())
    await until(lambda: step.claims)
    stopping = asyncio.create_task(worker.stop(grace=60))
    await until(lambda: worker._stopping)
    step.gate.set()
    await stopping
    await running
    assert step.handled == ["a"]


async def test_work_that_outlasts_the_grace_is_interrupted_and_rescheduled(log: FilteringBoundLogger) -> None:
    step = rows("a")
    step.gate = asyncio.Event()
    worker = Worker(step, log, concurrency=1, pause=never)
    running = asyncio.create_task(worker.run())
    await until(lambda: step.claims)
    await worker.stop(grace=0)
    await running
    assert step.failures == [("a", InterruptedWorkError.__name__)]


async def test_what_is_being_claimed_when_the_service_stops_is_done_within_its_grace(log: FilteringBoundLogger) -> None:
    step = rows("a")
    claimed = asyncio.Event()
    claim = step.claim

    async def claim_slowly(limit: int) -> Sequence[Row]:
        taken = await claim(limit)
        await claimed.wait()
        return taken

    step.claim = claim_slowly  # type: ignore[method-assign]
    worker = Worker(step, log, concurrency=1, pause=never)
    running = asyncio.create_task(worker.run())
    await until(lambda: step.claims)
    stopping = asyncio.create_task(worker.stop(grace=60))
    await until(lambda: worker._stopping)
    claimed.set()
    await stopping
    assert step.handled == ["a"]
    await running


async def test_a_store_that_is_away_is_said_and_waited_for(log: FilteringBoundLogger) -> None:
    step = rows("a")
    step.unavailable = StoreUnavailableError("the disk is full")
    worker = Worker(step, log, concurrency=1, rhythm=Rhythm(idle=0), pause=never)
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.trouble)
    assert worker.trouble == "the disk is full"
    step.unavailable = None
    await until(lambda: worker.trouble is None and step.handled)
    await worker.stop(grace=0)
    await running


async def test_a_worker_that_dies_is_started_again_and_meanwhile_said_to_be_ill(log: FilteringBoundLogger) -> None:
    step = rows("a")
    step.unavailable = ZeroDivisionError("a fault of ours")
    worker = Worker(step, log, concurrency=1, pause=never)
    seen: list[str | None] = []

    async def pause(_: float) -> None:
        seen.append(supervisor.trouble()["rows"])
        step.unavailable = None

    supervisor = Supervisor([worker], log, pause=pause)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: step.handled)
    await supervisor.stop(grace=0)
    await running
    assert seen == ["died of ZeroDivisionError, is being started again"]
    assert supervisor.trouble() == {"rows": None}
