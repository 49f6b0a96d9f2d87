"""The provider took the job and its answer was lost: never a second bill, unless the caller prefers one to no video."""

from __future__ import annotations

import asyncio

import pytest

from service.model import State
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.sandbox import BEHAVIOURS
from tests.story.world import DEADLINE, MINUTE, World
from tests.turns import until

LOST = ["accepted-then-502", "accepted-then-hangs", "accepted-then-reset"]
DAY = 24 * 60 * MINUTE


async def test_a_callback_ends_a_submission_that_still_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for adapter in (OpenRouter, LLMGateway):
        monkeypatch.setattr(adapter, "submit_seconds", 60)
    job_id = await world.ask(provider, "accepted-then-hangs")
    submitting = asyncio.create_task(world.run("submit"))
    await until(lambda: world.made(job_id))
    world.clock.advance(2_000)
    assert await world.sandbox.run_once() == 1
    assert await world.run("mirror") == 1
    assert not submitting.done()
    assert (await world.job(job_id)).state == "completed"
    await world.provider_goes_away()  # which resets the connection that hangs
    await submitting
    assert await world.history(job_id) == "queued submitting mirroring completed"


@pytest.mark.parametrize("name", LOST)
async def test_without_a_callback_the_job_is_given_up_at_its_deadline_and_not_before(
    world: World, name: str, provider: str
) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, name)
    await world.pass_time(DEADLINE - 1_000, step=MINUTE // 4)
    assert (await world.job(job_id)).state == "submitting"
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.billable) == ("failed", "submission_unknown", "unknown")
    assert len(world.made(job_id)) == 1
    assert sum(world.sandbox.ledger.submissions.values()) == 1


@pytest.mark.parametrize("name", LOST)
async def test_a_job_that_was_given_up_is_kept_when_an_operator_attaches_it(
    world: World, name: str, provider: str
) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, name)
    await world.settle(job_id)
    await world.pass_time(60 * MINUTE, step=10 * MINUTE)
    [made] = world.made(job_id)
    assert made.polls == 0
    assert await world.service.records.store.attach(job_id, made.id) is not None
    await world.until(job_id, State.COMPLETED)
    assert made.polls == 1
    assert await world.history(job_id) == ("queued submitting in_doubt failed bound recovered mirroring completed")
    job = await world.job(job_id)
    assert (job.error, job.provider_job_id) == (None, made.id)


@pytest.mark.parametrize("name", LOST)
async def test_a_video_is_kept_by_its_callback_although_an_operator_attached_a_wrong_id(
    world: World, name: str, provider: str
) -> None:
    job_id = await world.ask(provider, name)
    await world.run("submit")
    [made] = world.made(job_id)
    assert await world.service.records.store.attach(job_id, "wrong-id") is not None
    await world.run("poll")  # nobody knows of such a job there, which is no verdict
    job = await world.job(job_id)
    assert (job.state, job.provider_job_id, job.provider_status) == ("running", "wrong-id", "attached")
    await world.until(job_id, State.COMPLETED)
    assert (await world.job(job_id)).provider_job_id == made.id
    assert await world.told_by(job_id) == "callback"
    assert await world.history(job_id) == "queued submitting in_doubt running bound mirroring completed"
    assert sum(world.sandbox.ledger.submissions.values()) == 1


async def test_a_video_is_kept_by_a_poll_once_an_operator_has_put_a_wrong_id_right(world: World, provider: str) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, "accepted-then-502")
    await world.run("submit")
    for provider_job_id in ("wrong-id", world.made(job_id)[0].id):
        assert await world.service.records.store.attach(job_id, provider_job_id) is not None
        await world.run("poll")
    await world.until(job_id, State.COMPLETED)
    assert await world.told_by(job_id) == "poll"


async def test_no_id_is_attached_while_the_paid_call_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for adapter in (OpenRouter, LLMGateway):
        monkeypatch.setattr(adapter, "submit_seconds", 60)
    job_id = await world.ask(provider, "accepted-then-hangs")
    submitting = asyncio.create_task(world.run("submit"))
    await until(lambda: world.made(job_id))
    assert await world.service.records.store.attach(job_id, "wrong-id") is None
    assert (await world.job(job_id)).state == "submitting"
    await world.provider_goes_away()
    await submitting


@pytest.mark.parametrize("name", LOST)
async def test_a_job_that_was_given_up_is_kept_when_its_callback_comes_after_all(
    world: World, name: str, provider: str
) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, name)
    await world.settle(job_id)
    world.callbacks_arrive = True
    await world.until(job_id, State.COMPLETED)
    assert await world.told_by(job_id) == "callback"
    assert await world.history(job_id) == "queued submitting in_doubt failed recovered mirroring completed"


@pytest.mark.parametrize("name", LOST)
async def test_a_caller_who_prefers_a_second_bill_gets_the_video_for_at_most_two(
    world: World, name: str, provider: str
) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, name, on_unknown="resubmit")
    while len(world.made(job_id)) < 2:
        await world.pass_time(MINUTE, step=MINUTE)
        assert (await world.job(job_id)).state in {"submitting", "queued"}
    world.callbacks_arrive = True
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"
    await world.pass_time(20 * MINUTE, step=MINUTE)
    assert len(world.made(job_id)) == sum(world.sandbox.ledger.submissions.values()) == 2
    assert (await world.history(job_id)).startswith("queued submitting in_doubt queued submitting in_doubt mirroring")


async def test_a_second_submission_is_the_last(world: World, provider: str) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, "accepted-then-502", on_unknown="resubmit")
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert job.error.code == "submission_unknown"
    assert len(world.made(job_id)) == 2


async def test_a_first_callback_before_the_second_submission_saves_the_second_bill(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "accepted-then-502", on_unknown="resubmit")
    await world.settle(job_id)
    await world.pass_time(60 * MINUTE, step=10 * MINUTE)
    assert (await world.job(job_id)).state == "completed"
    assert len(world.made(job_id)) == 1


async def test_a_job_that_never_ends_expires_at_its_deadline_and_recovers_when_it_ends_after_all(
    world: World, provider: str
) -> None:
    job_id = await world.ask(provider, "never-ends")
    began = world.clock.now()
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == ("expired", "timed_out")
    assert job.finished_at is not None
    assert DEADLINE <= job.finished_at - began <= DEADLINE + MINUTE // 2

    world.clock.advance(60 * MINUTE)
    await world.round()
    assert (await world.job(job_id)).state == "expired"
    [made] = world.made(job_id)
    made.behaviour = BEHAVIOURS["sandbox/callback-lost"]
    await world.until(job_id, State.COMPLETED)
    job = await world.job(job_id)
    assert (job.error, await world.told_by(job_id)) == (None, "poll")
    assert await world.history(job_id) == "queued submitting running expired recovered mirroring completed"


async def test_a_job_that_was_given_up_is_asked_about_ever_more_rarely_and_for_a_day(world: World) -> None:
    job_id = await world.ask("openrouter", "never-ends")
    await world.settle(job_id)
    [made] = world.made(job_id)
    before = made.polls
    await world.pass_time(DAY + 60 * MINUTE, step=2 * MINUTE)
    during = made.polls - before
    assert 100 < during < 260
    await world.pass_time(3 * DAY, step=60 * MINUTE)
    assert made.polls - before == during
    assert (await world.job(job_id)).due_at is None
