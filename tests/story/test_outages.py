"""The provider or the storage is away for a while: jobs wait in their state, and go on when it is back."""

from __future__ import annotations

import os

from service.model import State
from tests.story.world import MANNERS, MINUTE, TENANT, World


async def test_jobs_stay_queued_while_the_provider_cannot_be_reached(world: World, provider: str) -> None:
    await world.provider_goes_away()
    jobs = [await world.ask(provider, "ok") for _ in range(3)]
    await world.pass_time(2 * MINUTE, step=5_000)
    for job_id in jobs:
        assert (await world.job(job_id)).state == "queued"
    assert sum(world.sandbox.ledger.submissions.values()) == 0
    await world.provider_comes_back()
    await world.settle(*jobs)
    for job_id in jobs:
        job = await world.job(job_id)
        assert (job.state, job.doubts) == ("completed", 0)
        assert len(world.made(job_id)) == 1


async def test_a_provider_that_stays_away_costs_nothing(world: World, provider: str) -> None:
    await world.provider_goes_away()
    job_id = await world.ask(provider, "ok")
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.billable) == ("expired", "expired", "no")
    await world.provider_comes_back()
    await world.pass_time(60 * MINUTE, step=10 * MINUTE)
    assert world.made(job_id) == []


async def test_polls_that_bring_nothing_end_no_job(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "callback-lost")
    await world.run("submit")
    await world.provider_goes_away()
    events = await world.events(job_id)
    await world.pass_time(4 * MINUTE, step=5_000)
    job = await world.job(job_id)
    assert (job.state, await world.events(job_id)) == ("running", events)
    assert job.attempt > 3  # it was asked about, in vain
    await world.provider_comes_back()
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"


async def test_a_download_that_finds_the_provider_away_is_made_later(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "ok")
    await world.until(job_id, State.MIRRORING)
    await world.provider_goes_away()
    await world.pass_time(10 * MINUTE, step=30_000)
    assert (await world.job(job_id)).state == "mirroring"
    await world.provider_comes_back()
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"


async def test_a_job_waits_for_storage_however_long_it_is_away(world: World, provider: str) -> None:
    world.videos.mkdir(exist_ok=True)
    in_the_way = world.videos / TENANT
    in_the_way.write_text("a file where a folder must be")
    job_id = await world.ask(provider, "ok")
    await world.pass_time(MANNERS.retention_ms + 60 * MINUTE, step=2 * MINUTE)
    job = await world.job(job_id)
    assert (job.state, job.error, job.artifacts) == ("mirroring", None, ())
    in_the_way.unlink()
    await world.settle(job_id)
    assert (await world.job(job_id)).state == "completed"


async def test_what_a_dead_process_left_in_storage_is_collected_when_it_is_a_day_old(world: World) -> None:
    left = world.videos / TENANT / "2026" / "09" / f"job_{'01ab':0<26}"
    left.mkdir(parents=True)
    then = world.clock.now() / 1000 - 25 * 3600
    for name, written_at in (("0.mp4.0123abcd.part", then), ("1.mp4.0123abcd.part", then + 7200)):
        (left / name).write_bytes(b"half a video")
        os.utime(left / name, (written_at, written_at))
    assert await world.run("sweep") == 1
    assert [path.name for path in left.iterdir()] == ["1.mp4.0123abcd.part"]
    world.clock.advance(7 * 3_600_000)
    assert await world.run("sweep") == 1
    assert world.stored() == set()
