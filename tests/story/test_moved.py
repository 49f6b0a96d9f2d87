"""A provider's key or address was changed while jobs were under way, by mistake or for good: no job pays for that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.model import State
from tests.story.world import DEADLINE, MINUTE, World

Change = Callable[[World, str], dict[str, str]]


def another_account(_: World, provider: str) -> dict[str, str]:
    """Return the setting with which every call is answered 401."""
    return {f"{provider.upper()}_API_KEY": "sk-another-account"}


def another_address(world: World, provider: str) -> dict[str, str]:
    """Return the setting with which every call is answered 404."""
    return {f"{provider.upper()}_BASE_URL": f"{world.sandbox.base_url}/elsewhere/v1"}


async def restart(world: World, settings: dict[str, str]) -> None:
    await world.crash()
    world._settings = settings
    await world.start()


@pytest.mark.parametrize("change", [another_account, another_address])
@pytest.mark.parametrize("state", [State.RUNNING, State.MIRRORING])
async def test_a_job_waits_while_its_provider_does_not_know_us(
    world: World, provider: str, state: State, change: Change
) -> None:
    world.callbacks_arrive = state is State.MIRRORING
    job_id = await world.ask(provider, "ok" if state is State.MIRRORING else "callback-lost")
    await world.until(job_id, state)
    events = await world.events(job_id)
    await restart(world, change(world, provider))
    await world.pass_time(DEADLINE // 2, step=MINUTE // 4)
    job = await world.job(job_id)
    assert (job.state, job.error, await world.events(job_id)) == (state, None, events)
    assert job.attempt > 3  # it was asked for, in vain
    await restart(world, {})
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"
    assert len(world.made(job_id)) == 1


@pytest.mark.parametrize("change", [another_account, another_address])
async def test_a_job_that_waited_in_vain_for_its_provider_comes_back_when_it_does(
    world: World, provider: str, change: Change
) -> None:
    job_id = await world.ask(provider, "callback-lost")
    await world.run("submit")
    await restart(world, change(world, provider))
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.billable) == ("expired", "timed_out", "unknown")
    await restart(world, {})
    await world.until(job_id, State.COMPLETED)
    assert await world.history(job_id) == "queued submitting running expired recovered mirroring completed"
