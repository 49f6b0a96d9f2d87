"""What is told of each item that was handled: one line of log, and whoever observes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import structlog
from structlog.testing import CapturingLogger

from service.clock import ManualClock
from service.errors import BadOutputError, StoreUnavailableError
from service.model import Output, Report, Status
from service.observer import Handled, Observers
from service.providers import InDoubt, TurnedAway, Unanswered
from service.workers import Name, Outcome, Pause, Step, Worker
from tests.turns import Turn, until
from tests.workers.shop import PAGE, Shop
from tests.workers.stage import Stage
from tests.workers.test_worker import Row, Rows, rows


class Witness(Observers):
    """An observer that writes down which work it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Handled] = []

    def handled(self, work: Handled) -> None:
        self.seen.append(work)


@dataclass
class Office:
    """A worker, and what is told of its work."""

    logged: CapturingLogger
    witness: Witness
    clock: ManualClock

    def worker(self, step: Step[Any], pause: Pause = asyncio.sleep) -> Worker[Any]:
        log = structlog.wrap_logger(self.logged, processors=[])
        return Worker(step, log, concurrency=9, clock=self.clock, observer=self.witness, pause=pause)

    @property
    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        return [(call.method_name, dict(call.kwargs)) for call in self.logged.calls]

    async def line(self, step: Step[Any]) -> tuple[str, dict[str, Any]]:
        """Have one item handled; return how bad its line is and what it says."""
        self.logged.calls.clear()
        assert await self.worker(step).run_once() == 1
        [(level, line)] = self.lines
        assert line.pop("event") == "worker.handled"
        assert line.pop("step") == step.name == self.witness.seen[-1].step
        assert line.pop("ms") >= 0
        assert line["outcome"] == self.witness.seen[-1].outcome
        return level, line


@pytest.fixture
def office() -> Office:
    return Office(CapturingLogger(), Witness(), ManualClock())


# The line


async def test_what_went_well_is_one_line_with_its_job_and_provider(office: Office) -> None:
    told = await office.line(rows("a"))
    assert told == ("info", {"job": "job_a", "provider": "alpha", "attempt": 1, "outcome": "completed"})
    [work] = office.witness.seen
    assert (work.provider, work.job, work.kind, work.begun_at) == ("alpha", "job_a", None, office.clock.now())


async def test_what_failed_is_one_line_too_with_what_became_of_it_and_why(office: Office) -> None:
    step = rows("a")
    step.broken = {"a": BadOutputError("HTML instead of a video")}
    level, line = await office.line(step)
    assert level == "warning"
    assert (line["outcome"], line["kind"], line["error"]) == ("later", "BadOutputError", "HTML instead of a video")
    assert "exc_info" not in line
    assert office.witness.seen[0].kind == "BadOutputError"


async def test_a_fault_of_ours_has_its_traceback_in_the_same_line(office: Office) -> None:
    step, fault = rows("a"), ZeroDivisionError("a fault of ours")
    step.broken = {"a": fault}
    level, line = await office.line(step)
    assert (level, line["exc_info"], line["outcome"], line["kind"]) == ("error", fault, "later", "ZeroDivisionError")


class Deaf(Rows):
    """Rows of which nothing can be noted."""

    async def failed(self, item: Row, error: Exception) -> Outcome:
        raise StoreUnavailableError(f"the disk is full: {item.id} {type(error).__name__}")


@pytest.mark.parametrize("fault", [BadOutputError("HTML"), ZeroDivisionError("a fault of ours")])
async def test_what_could_not_be_stored_is_one_line_that_says_both_errors(office: Office, fault: Exception) -> None:
    step = Deaf(rows("a").due)
    step.broken = {"a": fault}
    level, line = await office.line(step)
    assert (level, line["outcome"]) == ("error", "not stored")
    assert line["reason"] == f"StoreUnavailableError: the disk is full: a {type(fault).__name__}"
    assert line.get("exc_info") == (None if isinstance(fault, BadOutputError) else fault)


async def test_work_that_was_interrupted_or_lost_its_lease_says_so(office: Office) -> None:
    step = rows("a")
    step.gate = asyncio.Event()
    step.lost = {"a"}

    async def at_once(_: float) -> None:
        await Turn()

    await office.worker(step, pause=at_once).run_once()
    [(level, line)] = office.lines
    assert (level, line["job"], line["outcome"]) == ("warning", "job_a", "lease lost")
    office.logged.calls.clear()
    step = rows("b")
    step.gate = asyncio.Event()
    worker = office.worker(step)
    running = asyncio.create_task(worker.run_once())
    await until(lambda: step.claims)
    await worker.stop(grace=0)
    await running
    [(level, line)] = office.lines
    assert (level, line["job"], line["kind"]) == ("info", "job_b", "InterruptedWorkError")


async def test_an_observer_with_a_mistake_in_it_costs_no_item(office: Office) -> None:
    class Broken(Witness):
        def handled(self, work: Handled) -> None:
            raise ZeroDivisionError(work.step)

    complaints: list[Exception] = []
    step = rows("a", "b")
    log = structlog.wrap_logger(office.logged, processors=[])
    assert await Worker(step, log, concurrency=9, observer=Observers([Broken()], complaints.append)).run_once() == 2
    assert sorted(step.handled) == ["a", "b"]
    assert [type(each) for each in complaints] == [ZeroDivisionError]


# Each step


async def test_a_submission_tells_what_the_provider_did_and_keeps_the_reason_apart(
    stage: Stage, office: Office
) -> None:
    stage.alpha.answers = [TurnedAway("busy: canary"), InDoubt("HTTP 502: canary")]
    job = await stage.world.queued()
    stage.clock.advance(1_500)
    level, line = await office.line(stage.submitter)
    about = {"job": job.id, "provider": "alpha"}
    assert (level, line.pop("overdue_ms")) == ("info", 1_500)
    assert line == {**about, "attempt": 1, "outcome": "turned away", "reason": "busy: canary"}
    stage.clock.advance(600_000)
    level, line = await office.line(stage.submitter)
    assert (level, line) == ("warning", {**about, "attempt": 2, "outcome": "in doubt", "reason": "HTTP 502: canary"})


async def test_a_poll_tells_the_status_in_our_words(stage: Stage, office: Office) -> None:
    job = await stage.running()
    outputs = (Output(0),)
    for answer, name, reason in (
        (Report(Status.RUNNING, "rendering", job.provider_job_id), "running", "rendering"),
        (Report(Status.RUNNING, "dreaming", job.provider_job_id, understood=False), "unknown word", "dreaming"),
        (Unanswered("HTTP 500"), "unanswered", "HTTP 500"),
        (Report(Status.COMPLETED, "completed", job.provider_job_id, outputs), "completed", None),
    ):
        stage.alpha.answers = [answer]
        _, line = await office.line(stage.poller)
        assert (line["job"], line["provider"], line["outcome"], line.get("reason")) == (job.id, "alpha", name, reason)
        stage.clock.advance(600_000)


async def test_a_copy_tells_the_kind_of_what_went_wrong(shop: Shop, office: Office) -> None:
    shop.sells([PAGE])
    job = await shop.mirroring()
    level, line = await office.line(shop.mirror)
    assert (level, line["job"], line["outcome"], line["kind"]) == ("warning", job.id, "later", "BadOutputError")
    assert "HTML instead of a video" in line["error"]


# Names


def test_the_names_of_outcomes_are_few_and_hold_nothing_else() -> None:
    names: Sequence[str] = get_args(Name)
    assert len(names) == len(set(names)) <= 25
    assert all(name.replace(" ", "").isalpha() and name.islower() for name in names)
