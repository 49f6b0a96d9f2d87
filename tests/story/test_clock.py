"""Our machine's clock jumps by an hour while the provider's goes on: jobs in every state end as they would have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.model import ErrorCode, Event, State
from service.providers import Manners
from service.sandbox import Sandbox
from tests.story import world as module
from tests.story.world import MINUTE, World, open_world
from tests.turns import until

HOUR = 60 * MINUTE
MANNERS = Manners(first_poll_ms=MINUTE, poll_every_ms=30_000, retention_ms=24 * HOUR)


class JumpingClock(ManualClock):
    """Goes as it is moved, and is `wrong` by some milliseconds."""

    wrong = 0

    def now(self) -> int:
        """Return the time that this machine believes."""
        return super().now() + self.wrong


class TrueClock:
    """The time of everybody else."""

    def __init__(self, clock: JumpingClock) -> None:
        self._clock = clock

    def now(self) -> int:
        """Return the time."""
        return self._clock.now() - self._clock.wrong


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """Give the service a clock that can be wrong, and the provider one that cannot."""
    clock, check = JumpingClock(), module._check_history

    def check_all_but_times(events: list[Event]) -> None:
        check([replace(event, at=0) for event in events])

    monkeypatch.setattr(module, "_check_history", check_all_but_times)
    monkeypatch.setattr(module, "Sandbox", lambda **given: Sandbox(**{**given, "clock": TrueClock(clock)}))
    return clock


async def in_every_state(world: World, provider: str, jump: Callable[[], None]) -> dict[str, str]:
    """Bring jobs into every state, jump while a paid call is under way, and return each by what it was."""
    ended = await world.ask(provider, "ok")
    await world.until(ended, State.COMPLETED)
    mirroring = await world.ask(provider, "short-body")
    await world.until(mirroring, State.MIRRORING)
    silent = await world.ask(provider, "callback-lost")
    told_late = await world.ask(provider, "callback-late")
    lost = await world.ask(provider, "accepted-then-reset")
    await world.run("submit")
    called = await world.ask(provider, "accepted-then-hangs")
    calling = asyncio.create_task(world.run("submit"))
    await until(lambda: world.made(called))
    queued = await world.ask(provider, "rate-limited")
    jump()
    await calling
    jobs = {
        "completed": ended,
        "mirroring": mirroring,
        "running, and no callback comes": silent,
        "running, and its callback is late": told_late,
        "in doubt": lost,
        "queued, and turned away twice": queued,
        "submitting": called,
    }
    states = [(await world.job(job_id)).state.value for job_id in jobs.values()]
    assert states == ["completed", "mirroring", "running", "running", "submitting", "queued", "submitting"]
    return jobs


async def ends(
    folder: Path, clock: JumpingClock, provider: str, wrong: int, then: int
) -> tuple[dict[str, int], set[str]]:
    """Let our clock be `wrong` by that much from a moment on, and by `then` ten minutes later.

    Return when jobs were completed, by the true clock and from the jump on, and which were given up before.
    """
    settings = {"REELKEEPER_JOB_DEADLINE": "7200"}
    async with open_world(folder, clock=clock, settings=settings, manners=MANNERS) as world:
        jobs = await in_every_state(world, provider, lambda: setattr(clock, "wrong", wrong))
        jumped_at = clock.now() - clock.wrong
        found: dict[str, int] = {}
        given_up: set[str] = set()
        for _ in range(1_000):
            for what, job_id in jobs.items():
                job = await world.job(job_id)
                if what not in found and job.state is State.COMPLETED:
                    found[what] = clock.now() - clock.wrong - jumped_at
                if job.error is not None and job.error.code is ErrorCode.SUBMISSION_UNKNOWN:
                    given_up.add(what)  # and an operator looks for it at the provider
                    await world.service.records.store.attach(job_id, world.made(job_id)[0].id)
            if len(found) == len(jobs):
                break
            await world.round()
            clock.advance(30_000)
            if clock.now() - clock.wrong - jumped_at >= 10 * MINUTE:
                clock.wrong = then
        assert len(found) == len(jobs), "\n".join([await world.tell(job_id) for job_id in jobs.values()])
        for job_id in jobs.values():
            assert len(world.made(job_id)) == 1, await world.tell(job_id)
        return found, given_up


@pytest.mark.parametrize(
    ("wrong", "then", "most_late"),
    [
        (HOUR, HOUR, 2 * MINUTE),
        (HOUR, 0, 20 * MINUTE),
        (-HOUR, -HOUR, HOUR + 2 * MINUTE),
        (-HOUR, 0, 20 * MINUTE),
    ],
    ids=["an hour on", "an hour on, and right again", "an hour back", "an hour back, and right again"],
)
async def test_a_clock_that_jumps_makes_jobs_late_and_loses_none(
    tmp_path: Path, clock: JumpingClock, provider: str, wrong: int, then: int, most_late: int
) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    usual, lost = await ends(tmp_path / "right", clock, provider, 0, 0)
    assert not lost
    late, given_up = await ends(tmp_path / "wrong", clock, provider, wrong, then)
    # A lost answer is made up for by a signed callback alone, and no signature is believed while the clock is wrong.
    assert given_up == ({"in doubt", "submitting"} if then else set())
    assert max(late[what] - usual[what] for what in {*usual} - given_up) <= most_late
