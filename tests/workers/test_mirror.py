"""What becomes of a job's outputs for each way in which a download can go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from service.errors import (
    BadOutputError,
    InterruptedWorkError,
    OutputError,
    OutputGoneError,
    OutputNotReadyError,
    OutputTooLargeError,
)
from service.media import Examiner
from service.model import Artifact, Billable, ErrorCode, Footage, Output, Report, Status
from service.providers import Manners
from service.storage import Storage
from tests.servers import answer
from tests.store.world import RETENTION_MS, TIMING
from tests.workers.shop import GONE, GOOD, LATER, PAGE, VIDEO, Shop, mirror_of
from tests.workers.stage import Scripted, Stage, told


async def test_a_whole_output_completes_the_job(shop: Shop, stage: Stage) -> None:
    shop.sells([GOOD])
    job = await shop.mirroring()
    assert await shop.copies() == ["completed"]
    now = await stage.world.now(job)
    assert now.state == "completed"
    assert [artifact.key for artifact in now.artifacts] == shop.stored() == [f"acme/2026/09/{job.id}/0.mp4"]


async def test_one_bad_output_keeps_no_other_back_and_what_was_kept_is_not_fetched_again(
    shop: Shop, stage: Stage
) -> None:
    shop.sells([GOOD, PAGE, GOOD])
    job = await shop.mirroring(outputs=3)
    assert await shop.copies() == ["later"]
    assert [artifact.index for artifact in (await stage.world.now(job)).artifacts] == [0, 2]
    stage.clock.advance(await stage.wait(job))
    assert await shop.copies() == ["completed"]
    asked = [head.split()[1] for head in shop.server.requests]
    assert asked == ["/0?index=0", "/0?index=1", "/0?index=2", "/0?index=1"]
    assert [artifact.index for artifact in (await stage.world.now(job)).artifacts] == [0, 1, 2]


async def test_every_output_is_a_call_that_the_providers_pace_counts(shop: Shop, stage: Stage) -> None:
    stage.providers["alpha"] = Scripted("alpha", Manners(1, 1, 1, per_minute=60, burst=6))
    stage.wire()
    async with AsyncExitStack() as stack:
        shop.mirror = mirror_of(stage, shop.server, shop.videos, stack)
        shop.sells([GOOD])
        await shop.mirroring(outputs=4)
        assert await shop.copies() == ["completed"]
        for _ in range(5):
            await stage.world.queued()
        assert len(await stage.step(stage.submitter)) == 1  # of two that are left, one is reserved


# What it shows


async def test_what_a_copy_shows_is_noted_with_it(shop: Shop, stage: Stage) -> None:
    shop.sells([GOOD])
    async with AsyncExitStack() as stack:
        examiner = Examiner(Storage.open(str(shop.videos)))
        shop.mirror = mirror_of(stage, shop.server, shop.videos, stack, examiner.examine)
        job = await shop.mirroring()
        assert await shop.copies() == ["completed"]
    stem = f"acme/2026/09/{job.id}"
    [artifact] = (await stage.world.now(job)).artifacts
    assert artifact.footage == Footage(2000, 320, 180, "h264", f"{stem}/0.jpg")
    assert shop.stored() == [f"{stem}/0.jpg", f"{stem}/0.mp4"]


async def test_only_what_is_stored_and_not_yet_kept_is_examined(shop: Shop, stage: Stage) -> None:
    seen: list[tuple[int, list[str], int]] = []

    async def examine(artifact: Artifact) -> Footage | None:
        seen.append((artifact.index, shop.stored(), len((await stage.world.now(job)).artifacts)))
        return None

    shop.sells([GOOD, PAGE, GOOD])
    async with AsyncExitStack() as stack:
        shop.mirror = mirror_of(stage, shop.server, shop.videos, stack, examine)
        job = await shop.mirroring(outputs=3)
        assert await shop.copies() == ["later"]
    first, last = (f"acme/2026/09/{job.id}/{index}.mp4" for index in (0, 2))
    assert seen == [(0, [first], 0), (2, [first, last], 1)]


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OutputError("no"), TimeoutError(), None])
async def test_a_video_that_is_not_understood_is_kept_all_the_same(
    shop: Shop, stage: Stage, error: Exception | None
) -> None:
    async def examine(_: Artifact) -> Footage | None:
        if error is not None:
            raise error
        return None

    shop.sells([GOOD])
    async with AsyncExitStack() as stack:
        shop.mirror = mirror_of(stage, shop.server, shop.videos, stack, examine)
        job = await shop.mirroring()
        assert await shop.copies() == ["completed"]
    [artifact] = (await stage.world.now(job)).artifacts
    assert artifact.footage is None


# Later


async def test_what_is_no_video_is_asked_for_ever_more_rarely(shop: Shop, stage: Stage) -> None:
    shop.sells([PAGE])
    job = await shop.mirroring()
    for meant in [5, 10, 20, 40, 80, 160, 320, 600, 600]:
        assert await shop.copies() == ["later"]
        wait = await stage.wait(job)
        assert meant * 800 <= wait <= meant * 1_200
        stage.clock.advance(wait)
    now = await stage.world.now(job)
    assert (now.state, now.lease, shop.stored()) == ("mirroring", None, [])


async def test_what_is_not_ready_is_asked_for_sooner(shop: Shop, stage: Stage) -> None:
    shop.sells([LATER])
    job = await shop.mirroring()
    for meant in [1, 2, 4, 8]:
        assert await shop.copies() == ["later"]
        wait = await stage.wait(job)
        assert meant * 800 <= wait <= meant * 1_200
        stage.clock.advance(wait)


async def test_a_source_that_says_when_to_come_back_is_obeyed(shop: Shop, stage: Stage) -> None:
    shop.sells([answer(b"", "Retry-After: 120", status=503)])
    job = await shop.mirroring()
    assert await shop.copies() == ["later"]
    assert await stage.wait(job) == 120_000


async def test_a_copy_that_our_stopping_cuts_short_is_made_again_at_once(shop: Shop, stage: Stage) -> None:
    job = await shop.mirroring()
    stage.clock.advance(RETENTION_MS)
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, InterruptedWorkError("stopping"))) == "interrupted"
    assert (await stage.world.now(job)).state == "mirroring"
    assert await stage.wait(job) == 0


async def test_a_copy_whose_lease_was_lost_is_nobodys(shop: Shop, stage: Stage) -> None:
    shop.sells([GOOD])
    job = await shop.mirroring()
    [late] = await shop.mirror.claim(1)
    stage.clock.advance(TIMING.lease)
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.handle(late)) == "lease lost"
    assert not await shop.mirror.renew(late)
    assert (await stage.world.now(job)).artifacts == ()
    assert await shop.mirror.renew(claimed)
    assert told(await shop.mirror.handle(claimed)) == "completed"


# Several places


async def test_an_output_that_is_gone_at_one_place_is_taken_from_the_other(shop: Shop, stage: Stage) -> None:
    shop.sells([GONE], [GOOD])
    job = await shop.mirroring()
    assert await shop.copies() == ["completed"]
    assert [head.split()[1] for head in shop.server.requests] == ["/0?index=0", "/1?index=0"]
    assert (await stage.world.now(job)).state == "completed"


async def test_an_output_that_is_good_at_the_first_place_is_not_looked_for_at_others(shop: Shop) -> None:
    shop.sells([GOOD], [GOOD])
    await shop.mirroring()
    assert await shop.copies() == ["completed"]
    assert [head.split()[1] for head in shop.server.requests] == ["/0?index=0"]


@pytest.mark.parametrize("places", [(GONE, LATER), (LATER, GONE), (GONE, PAGE)])
async def test_as_long_as_one_place_gives_hope_the_output_is_not_gone(
    shop: Shop, stage: Stage, places: Sequence[bytes]
) -> None:
    shop.sells(*([place] for place in places))
    job = await shop.mirroring()
    for _ in range(5):
        assert await shop.copies() == ["later"]
        stage.clock.advance(await stage.wait(job))


# The end


async def test_a_place_that_only_a_poll_shows_is_tried_at_last(shop: Shop, stage: Stage) -> None:
    shop.sells([GONE], [GOOD])
    content, link = stage.alpha.places
    stage.alpha.places = [content]
    job = await shop.mirroring()
    shown = (Output(0, link.url),)
    stage.alpha.answers = [Report(Status.COMPLETED, "completed", job.provider_job_id, shown)]
    assert await shop.copies() == ["completed"]
    assert [head.split()[1] for head in shop.server.requests] == ["/0?index=0", "/0?index=0", "/1?index=0"]


async def test_a_poll_is_asked_for_other_places_from_the_second_failure_on(shop: Shop, stage: Stage) -> None:
    shop.sells([LATER], [GOOD])
    content, link = stage.alpha.places
    stage.alpha.places = [content]
    job = await shop.mirroring()
    assert await shop.copies() == ["later"]
    assert stage.alpha.calls == []
    stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [Report(Status.COMPLETED, "completed", job.provider_job_id, (Output(0, link.url),))]
    assert await shop.copies() == ["completed"]
    assert stage.alpha.calls == [job.provider_job_id]


async def test_gone_is_believed_at_the_fifth_time(shop: Shop, stage: Stage) -> None:
    shop.sells([GONE], [GONE])
    job = await shop.mirroring()
    for _ in range(4):
        assert await shop.copies() == ["later"]
        stage.clock.advance(await stage.wait(job))
    [outcome] = await shop.copies()
    assert outcome.startswith("gave up: ")
    now = await stage.world.now(job)
    assert now.error is not None
    assert (now.state, now.error.code, now.error.billable) == ("failed", ErrorCode.OUTPUT_UNAVAILABLE, Billable.YES)


async def test_gone_once_may_be_a_mistake(shop: Shop, stage: Stage) -> None:
    shop.sells([GONE, GONE, GOOD])
    job = await shop.mirroring()
    for outcome in ("later", "later", "completed"):
        assert await shop.copies() == [outcome]
        if outcome == "later":
            stage.clock.advance(await stage.wait(job))


async def test_what_is_too_large_is_given_up_at_once(shop: Shop, stage: Stage) -> None:
    shop.sells([answer(VIDEO, length=1_000_001)])
    job = await shop.mirroring()
    [outcome] = await shop.copies()
    assert outcome.startswith("gave up: the video is 1,000,001 bytes; REELKEEPER_MAX_VIDEO_BYTES allows 1,000,000")
    assert (await stage.world.now(job)).state == "failed"
    assert len(shop.server.requests) == 1


@pytest.mark.parametrize(
    "error",
    [OutputError("reset"), BadOutputError("HTML"), OutputNotReadyError("409"), OutputGoneError("410")],
)
async def test_the_end_of_the_retention_ends_the_hope(shop: Shop, stage: Stage, error: OutputError) -> None:
    job = await shop.mirroring()
    stage.clock.advance(RETENTION_MS - 1)
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, error)) == "later"
    stage.clock.advance(max(1, await stage.wait(job)))
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, error)) == f"gave up: {error}"
    now = await stage.world.now(job)
    assert now.error is not None
    assert now.error.message == str(error)


async def test_an_error_that_nobody_expected_ends_a_job_when_the_retention_does(shop: Shop, stage: Stage) -> None:
    job = await shop.mirroring()
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, ValueError("no such name"))) == "later"
    stage.clock.advance(RETENTION_MS + await stage.wait(job))
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, ValueError("no such name"))).startswith("gave up: ")
    now = await stage.world.now(job)
    assert now.error is not None
    assert (now.error.code, now.error.message) == (
        ErrorCode.OUTPUT_UNAVAILABLE,
        "the service could not copy it; its log says why",
    )


async def test_what_the_provider_drops_first_is_copied_first(shop: Shop, stage: Stage) -> None:
    shop.sells([GOOD])
    jobs = []
    for minutes in (50, 30, 40):
        job = await stage.running()
        shown = (Output(0, expires_at=stage.clock.now() + RETENTION_MS + minutes * 60_000),)
        await stage.world.apply(job, Report(Status.COMPLETED, "completed", f"at-{job.id}", shown))
        jobs.append(job.id)
    claimed = [(await shop.mirror.claim(1))[0].id for _ in jobs]
    assert claimed == [jobs[1], jobs[2], jobs[0]]


async def test_a_job_that_was_given_up_is_copied_when_an_operator_wants_it(shop: Shop, stage: Stage) -> None:
    job = await shop.mirroring()
    [claimed] = await shop.mirror.claim(1)
    await shop.mirror.failed(claimed, OutputTooLargeError("too large"))
    shop.sells([PAGE, GOOD])
    assert await stage.world.store.remirror(job.id, RETENTION_MS) is not None
    assert await shop.copies() == ["later"]
    stage.clock.advance(await stage.wait(job))
    assert await shop.copies() == ["completed"]
