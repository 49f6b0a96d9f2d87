"""Everything that a provider can do to a job, in both dialects: how it ends, what it cost, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.model import State
from service.sandbox import BEHAVIOURS
from service.sandbox.behaviours import PREFIX, Serve, Tell
from tests.endings import ENDINGS, RUINED, ending_of
from tests.story.world import MANNERS, MINUTE, TENANT, open_world

MAX_BYTES = 2**20
NAMES = [model.removeprefix(PREFIX) for model in BEHAVIOURS]


def test_every_behaviour_has_its_ending() -> None:
    assert set(ENDINGS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
async def test_a_job_ends_as_it_should_whatever_the_provider_does(tmp_path: Path, name: str, provider: str) -> None:
    ending = ending_of(name, provider)
    speed = 50 if name == "slow" else 1  # its bytes drip in real time
    async with open_world(tmp_path, speed=speed, settings={"REELKEEPER_MAX_VIDEO_BYTES": str(MAX_BYTES)}) as world:
        job_id = await world.ask(provider, name)
        await world.settle(job_id)

        job, story = await world.job(job_id), await world.tell(job_id)
        assert await world.history(job_id) == "queued submitting " + ending.history, story
        assert job.state is ending.state
        assert (job.error and job.error.code) == ending.code, story
        assert await world.told_by(job_id) == ending.told, story
        made = world.made(job_id)
        assert len(made) == ending.paid, story
        assert sum(world.sandbox.ledger.submissions.values()) == ending.history.split().count("submitting") + 1
        outputs = BEHAVIOURS[PREFIX + name].outputs if provider == "openrouter" else 1
        assert [artifact.index for artifact in job.artifacts] == list(range(outputs if job.state == "completed" else 0))
        assert all(artifact.key.startswith(f"{TENANT}/2026/09/{job_id}/") for artifact in job.artifacts)
        if ending.downloads is not None:
            assert sum(len(one.downloads) for one in made) == ending.downloads, story

        # Whatever comes late, or again, changes nothing.
        events = await world.events(job_id)
        await world.pass_time(10 * MINUTE, step=MINUTE // 2)
        assert await world.events(job_id) == events
        assert (await world.job(job_id)).artifacts == job.artifacts
        assert [f"{sent.kind} {sent.status}" for one in made for sent in one.callbacks] == list(ending.callbacks), story


@pytest.mark.parametrize("name", ["callback-forged", "callback-stale"])
async def test_a_callback_that_is_not_believed_is_rejected_and_changes_nothing(
    tmp_path: Path, name: str, provider: str
) -> None:
    async with open_world(tmp_path) as world:
        job_id = await world.ask(provider, name)
        await world.run("submit")
        world.clock.advance(2_000)
        before, events = await world.job(job_id), await world.events(job_id)
        assert await world.sandbox.run_once() == 1
        [made] = world.made(job_id)
        assert [sent.status for sent in made.callbacks] == [401]
        assert before.state == "running"
        assert await world.job(job_id) == before
        assert await world.events(job_id) == events


async def test_an_endless_output_is_cut_off_at_the_limit(tmp_path: Path, provider: str) -> None:
    async with open_world(tmp_path, settings={"REELKEEPER_MAX_VIDEO_BYTES": str(MAX_BYTES)}) as world:
        job_id = await world.ask(provider, "endless-body")
        await world.settle(job_id)
        error = (await world.job(job_id)).error
        assert error is not None
        assert error.code == RUINED
        assert "REELKEEPER_MAX_VIDEO_BYTES" in error.message
        [fetch] = world.made(job_id)[0].downloads  # to try again would bring the same
        assert MAX_BYTES < fetch.bytes < 32 * MAX_BYTES  # what the sockets' buffers hold is on its way already


@pytest.mark.parametrize("name", ["html-forever", "gone"])
async def test_an_output_that_never_comes_is_asked_for_until_the_provider_forgets_it(tmp_path: Path, name: str) -> None:
    async with open_world(tmp_path) as world:
        job_id = await world.ask("llmgateway", name)
        await world.until(job_id, State.MIRRORING)
        began = world.clock.now()
        await world.settle(job_id)
        job = await world.job(job_id)
        assert job.mirror_until is not None
        assert job.finished_at is not None
        assert abs(job.mirror_until - began - MANNERS.retention_ms) < MINUTE
        assert job.mirror_until <= job.finished_at < job.mirror_until + 13 * MINUTE


async def test_a_job_is_kept_although_no_callback_can_be_verified(tmp_path: Path) -> None:
    """Without a secret a callback is a hint: it makes the provider be asked, long before it would have been."""
    async with open_world(tmp_path, settings={"OPENROUTER_WEBHOOK_SECRET": ""}) as world:
        job_id = await world.ask("openrouter", "ok")
        await world.run("submit")
        world.clock.advance(2_000)
        assert await world.sandbox.run_once() == 1
        assert [sent.status for sent in world.made(job_id)[0].callbacks] == [204]
        assert (await world.job(job_id)).state == "running"
        await world.settle(job_id)
        assert await world.told_by(job_id) == "poll"
        assert (await world.job(job_id)).state == "completed"


async def test_a_signed_link_is_used_when_the_providers_own_address_has_lost_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Polls tell the links, callbacks do not. They lead to another origin, which the audit finds to see no key.
    linked = replace(BEHAVIOURS["sandbox/urls"], serve=Serve.GONE, tell=Tell.NEVER)
    monkeypatch.setitem(BEHAVIOURS, "sandbox/urls", linked)
    async with open_world(tmp_path) as world:
        job_id = await world.ask("openrouter", "urls")
        await world.settle(job_id)
        assert (await world.job(job_id)).state == "completed"
        [made] = world.made(job_id)
        assert [(fetch.via, fetch.status) for fetch in made.downloads] == [("content", 410), ("elsewhere", 200)]


async def test_a_redirect_takes_the_download_to_another_origin_without_the_key(tmp_path: Path, provider: str) -> None:
    async with open_world(tmp_path) as world:
        job_id = await world.ask(provider, "redirect")
        await world.settle(job_id)
        [made] = world.made(job_id)
        assert [(fetch.via, fetch.authorization) for fetch in made.downloads] == [
            ("content", True),
            ("elsewhere", False),
        ]
        assert made.downloads[0].host != made.downloads[1].host
