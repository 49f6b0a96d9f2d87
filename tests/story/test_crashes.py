"""The service dies at every step of a job and is started again on the same files: one paid job, and the right end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from service.model import State
from service.sandbox import BEHAVIOURS
from service.sandbox.behaviours import Tell
from tests.story.world import MINUTE, World
from tests.turns import until

Crash = Callable[[World, pytest.MonkeyPatch, str], Awaitable[str]]


class Reached:
    """Stands where a method was, and never returns: the place where the service is when it dies."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self, *_: object, **__: object) -> NoReturn:
        self.times += 1
        await asyncio.Event().wait()
        raise AssertionError


async def during(worker: str, world: World, condition: Callable[[], object]) -> None:
    """Start what a worker has to do, and crash when the condition holds."""
    running = asyncio.create_task(world.run(worker))
    await until(condition)
    await world.crash()
    await running
    await world.start()


async def after_the_commit_before_the_call(world: World, _: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "ok", on_unknown="resubmit")
    await world.service.records.claims.claim_queued(provider, 1)
    await world.crash()
    await world.start()
    return job_id


async def during_the_paid_call(world: World, _: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "accepted-then-hangs")
    await during("submit", world, lambda: world.made(job_id))
    return job_id


async def with_the_answer_in_hand(world: World, patch: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "ok")
    storing = Reached()
    patch.setattr(world.service.records.store, "submitted", storing)
    await during("submit", world, lambda: storing.times)
    return job_id


async def with_a_polls_answer_in_hand(world: World, patch: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "callback-lost")
    await world.run("submit")
    world.clock.advance(MINUTE)
    applying = Reached()
    patch.setattr(world.service.records.store, "apply", applying)
    await during("poll", world, lambda: applying.times)
    return job_id


async def after_the_callbacks_commit(world: World, _: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "ok")
    await world.run("submit")
    world.clock.advance(2_000)
    assert await world.sandbox.run_once() == 1
    assert (await world.job(job_id)).state == "mirroring"
    await world.crash()
    await world.start()
    return job_id


async def in_the_middle_of_a_download(world: World, patch: pytest.MonkeyPatch, provider: str) -> str:
    patch.setitem(BEHAVIOURS, "sandbox/slow", replace(BEHAVIOURS["sandbox/slow"], servings=1))
    job_id = await world.ask(provider, "slow")
    await world.until(job_id, State.MIRRORING)
    [made] = world.made(job_id)
    await during("mirror", world, lambda: made.downloads and made.downloads[0].bytes)
    assert world.stored() == set()
    return job_id


async def after_the_upload_before_its_record(world: World, patch: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "several-outputs")
    await world.until(job_id, State.MIRRORING)
    recording = Reached()
    patch.setattr(world.service.records.claims, "keep_artifact", recording)
    await during("mirror", world, lambda: recording.times)
    assert len(world.stored()) == 1
    return job_id


async def after_the_last_record_before_the_end(world: World, patch: pytest.MonkeyPatch, provider: str) -> str:
    job_id = await world.ask(provider, "ok")
    await world.until(job_id, State.MIRRORING)
    ending = Reached()
    patch.setattr(world.service.records.claims, "mirrored", ending)
    await during("mirror", world, lambda: ending.times)
    assert len((await world.job(job_id)).artifacts) == 1
    return job_id


@pytest.mark.parametrize(
    "crash",
    [
        after_the_commit_before_the_call,
        during_the_paid_call,
        with_the_answer_in_hand,
        with_a_polls_answer_in_hand,
        after_the_callbacks_commit,
        in_the_middle_of_a_download,
        after_the_upload_before_its_record,
        after_the_last_record_before_the_end,
    ],
)
async def test_a_job_survives_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str, crash: Crash
) -> None:
    job_id = await crash(world, monkeypatch, provider)
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed", await world.tell(job_id)
    assert len(world.made(job_id)) == 1
    assert sum(world.sandbox.ledger.submissions.values()) == 1


async def test_a_job_whose_call_was_never_made_is_not_guessed_about(world: World, provider: str) -> None:
    """Nobody can know whether the call went out before the crash: the default is to spend nothing more."""
    job_id = await world.ask(provider, "ok")
    await world.service.records.claims.claim_queued(provider, 1)
    await world.crash()
    await world.start()
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.billable) == ("failed", "submission_unknown", "unknown")
    assert await world.history(job_id) == "queued submitting in_doubt failed"
    assert world.made(job_id) == []


async def test_a_callback_that_finds_the_service_dead_comes_again(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "ok")
    await world.run("submit")
    await world.crash()
    world.clock.advance(2_000)
    assert await world.sandbox.run_once() == 1
    await world.start()
    world.clock.advance(30_000 - 1)
    assert await world.sandbox.run_once() == 0
    world.clock.advance(1)
    assert await world.sandbox.run_once() == 1
    [made] = world.made(job_id)
    assert [sent.status for sent in made.callbacks] == [None, 204]
    assert await world.told_by(job_id) == "callback"
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"


async def test_a_job_whose_answer_died_with_the_service_needs_nothing_but_its_callback(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    job_id = await with_the_answer_in_hand(world, monkeypatch, provider)
    assert (await world.job(job_id)).provider_job_id is None
    world.clock.advance(2_000)
    assert await world.sandbox.run_once() == 1  # before the service has even found the job that it left behind
    job = await world.job(job_id)
    assert (job.state, job.provider_job_id) == ("mirroring", world.made(job_id)[0].id)
    await world.settle(job_id)
    assert await world.history(job_id) == "queued submitting mirroring completed"


async def test_without_its_callback_such_a_job_is_given_up_at_its_deadline_and_kept_for_an_operator(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setitem(BEHAVIOURS, "sandbox/ok", replace(BEHAVIOURS["sandbox/ok"], tell=Tell.NEVER))
    job_id = await with_the_answer_in_hand(world, monkeypatch, provider)
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert job.error.code == "submission_unknown"
    [made] = world.made(job_id)
    assert await world.service.records.store.attach(job_id, made.id) is not None
    await world.until(job_id, State.COMPLETED)
    assert await world.history(job_id) == ("queued submitting in_doubt failed bound recovered mirroring completed")
