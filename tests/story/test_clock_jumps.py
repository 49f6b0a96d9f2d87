"""The machine's clock is set right by an hour while jobs are under way: they take longer, and that is all."""

from __future__ import annotations

import pytest

from service.model import State
from tests.story import world as story
from tests.story.world import MINUTE, World


@pytest.mark.parametrize("jump", [-60 * MINUTE, 60 * MINUTE], ids=["back", "forth"])
@pytest.mark.parametrize("state", [State.SUBMITTING, State.RUNNING, State.MIRRORING])
async def test_a_clock_that_jumps_loses_no_job_and_pays_for_none_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str, state: State, jump: int
) -> None:
    monkeypatch.setattr(story, "_check_history", lambda _: None)  # the times of a job's events go back with the clock
    job_id = await world.ask(provider, "accepted-then-502" if state is State.SUBMITTING else "ok")
    await world.until(job_id, state)
    world.clock.advance(jump)
    await world.until(job_id, State.COMPLETED)
    assert len(world.made(job_id)) == sum(world.sandbox.ledger.submissions.values()) == 1


@pytest.mark.parametrize("jump", [-60 * MINUTE, 60 * MINUTE], ids=["back", "forth"])
async def test_a_job_that_waits_to_be_submitted_is_submitted_or_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str, jump: int
) -> None:
    monkeypatch.setattr(story, "_check_history", lambda _: None)
    job_id = await world.ask(provider, "ok")
    world.clock.advance(jump)
    await world.settle(job_id)
    job = await world.job(job_id)
    if jump < 0:
        assert (job.state, len(world.made(job_id))) == ("completed", 1)
    else:
        assert job.error is not None
        assert (job.state, job.error.code, job.error.billable) == ("expired", "expired", "no")
        assert world.made(job_id) == []
