"""What a deleted job leaves behind: the name that its key made, and files on their way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model import DeliveryAttempt, Footage, Job, Status, VideoRequest
from service.store import Call, Deliveries, Erasures, Idempotency, JobDeleted, NewJob, Reason, Rejection, Rejections
from tests.store.world import GONE, TIMING, World, artifact, held, report, sure

PICTURE = "data:image/png;base64," + "A" * 5_000
FOX = NewJob(
    "acme",
    "alpha",
    VideoRequest(model="m", prompt="a fox", first_frame=PICTURE),
    notify_url="https://caller.example/done",
)
CALL = Call("call_1", "key_1", "jobs.create", "aaaa")
ABOUT_A_JOB = ("events", "artifacts", "receipts", "inputs", "creates", "deliveries", "rejections")


@pytest.fixture
def erasures(world: World) -> Erasures:
    return Erasures(world.ledger, world.ids)


def left(world: World) -> set[str]:
    """Name the tables that hold anything about a job."""
    return {
        table
        for table in (*ABOUT_A_JOB, "delivery_attempts", "jobs")
        if world.sql(f"SELECT * FROM {table}")  # noqa: S608 - our own names
    }


async def with_everything(world: World) -> Job:
    """Return a job about which every table knows something: one of its two videos was copied, and its caller told."""
    await world.store.create_job(FOX, call=CALL)
    [job] = await world.claims.claim_queued("alpha", 1)
    sure(await world.submitted(job, "theirs"))
    await world.receive(job, report(Status.COMPLETED, "theirs", outputs=2))
    [job] = await world.claims.claim_mirrors("alpha", 1)
    await world.claims.keep_artifact(job, artifact())
    sure(await world.claims.give_up_mirror(job, GONE))
    deliveries = Deliveries(world.ledger, world.ids)
    [owed] = await deliveries.claim(1, each=1)
    assert await deliveries.delivered(owed, DeliveryAttempt(1_000, 20, 204, None, ""))
    rejection = Rejection(job.id, job.provider, Reason.TOO_SLOW, "too slow", 1, 1_000, 1_000, {}, None)
    await Rejections(world.ledger).keep([rejection])
    return await world.now(job)


async def test_the_key_of_a_deleted_job_makes_no_second_one(world: World) -> None:
    key = Idempotency("k", "jobs.create", "aaaa")
    job = sure(await world.store.cancel((await world.create(FOX, key)).id))
    assert await world.store.delete(job)
    assert await world.store.create_job(FOX, key) == JobDeleted(job.id)


async def test_a_deleted_job_leaves_nothing_but_the_files_to_be_removed(world: World) -> None:
    job = await with_everything(world)
    assert left(world) == {*ABOUT_A_JOB, "delivery_attempts", "jobs"}
    assert await world.store.delete(job)
    assert left(world) == set()
    assert await world.store.job(job.id) is None
    assert world.sql("SELECT id FROM erasures") != []


async def test_a_deleted_job_takes_nothing_of_another_with_it(world: World) -> None:
    await with_everything(world)
    other = sure(await world.store.cancel((await world.create(FOX)).id))
    assert await world.store.delete(other)
    assert left(world) == {*ABOUT_A_JOB, "delivery_attempts", "jobs"}


@pytest.mark.parametrize("state", ["queued", "submitting", "running", "mirroring"])
async def test_a_job_that_goes_on_is_not_deleted(world: World, state: str) -> None:
    job: Job = await getattr(world, state)()
    assert not await world.store.delete(job)
    assert (await world.now(job)).state == state


async def test_a_job_that_is_looked_at_just_now_is_not_deleted(world: World) -> None:
    job = await world.expired()  # the poller holds it
    assert not await world.store.delete(job)
    world.clock.advance(TIMING.lease)
    assert await world.store.delete(job)


async def test_another_tenants_job_is_not_deleted(world: World) -> None:
    job = await world.cancelled()
    assert not await world.store.delete(replace(job, tenant="umbrella"))


# Files


@pytest.mark.parametrize(
    ("footage", "poster"),
    [
        (None, "acme/2026/09/0.jpg"),  # stored, perhaps, by somebody who died before it was noted
        (Footage(5_000, 1280, 720, "h264", None), "acme/2026/09/0.jpg"),
        (Footage(5_000, 1280, 720, "h264", "acme/2026/09/noted.jpg"), "acme/2026/09/noted.jpg"),
    ],
)
async def test_with_a_video_its_poster_goes_whether_it_was_noted_or_not(
    world: World, erasures: Erasures, footage: Footage | None, poster: str
) -> None:
    job = await world.mirroring()
    await world.claims.keep_artifact(job, replace(artifact(), footage=footage))
    assert await world.store.delete(sure(await world.claims.mirrored(job)))
    assert {erasure.id for erasure in await erasures.claim(10)} == {"acme/2026/09/0.mp4", poster}


async def recovered_by_another_video(world: World) -> Job:
    """Return a job that was paid for twice: of the first's videos one was copied, and now the second's come."""
    job = sure(await world.submitted(await world.resubmitted(), "second"))
    await world.apply(job, report(Status.COMPLETED, "first", outputs=2))
    job = held(job, await world.claims.claim_mirrors("alpha", 10))
    await world.claims.keep_artifact(job, artifact(1))
    sure(await world.claims.give_up_mirror(job, GONE))
    await world.apply(job, report(Status.COMPLETED, "second", outputs=2))
    return held(job, await world.claims.claim_mirrors("alpha", 10))


async def test_files_of_another_submission_are_removed_when_the_job_is_completed_without_them(
    world: World, erasures: Erasures
) -> None:
    job = await recovered_by_another_video(world)
    for index in (0, 1):
        await world.claims.keep_artifact(job, replace(artifact(index), key=f"acme/2026/09/{index}.webm"))
        assert await erasures.claim(10) == []
    assert await world.claims.mirrored(job) is not None
    assert [erasure.id for erasure in await erasures.claim(10)] == ["acme/2026/09/1.mp4"]  # its poster's name is in use


async def test_a_file_that_is_written_anew_under_its_old_name_is_not_removed(world: World, erasures: Erasures) -> None:
    job = await recovered_by_another_video(world)
    world.clock.advance(TIMING.lease - 1)
    assert await erasures.claim(10) == []  # it may be half written by now
    for index in (0, 1):
        await world.claims.keep_artifact(job, artifact(index))
    assert await world.claims.mirrored(job) is not None
    assert await erasures.claim(10) == []
    assert world.sql("SELECT * FROM erasures") == []


async def test_files_of_another_submission_wait_while_the_job_may_be_recovered_and_go_when_it_is_deleted(
    world: World, erasures: Erasures
) -> None:
    job = await recovered_by_another_video(world)
    failed = sure(await world.claims.give_up_mirror(job, GONE))
    assert await erasures.claim(10) == []
    assert await world.store.delete(failed)
    assert {erasure.id for erasure in await erasures.claim(10)} == {"acme/2026/09/1.mp4", "acme/2026/09/1.jpg"}


async def test_a_worker_that_lost_its_lease_saves_no_file(world: World) -> None:
    job = await recovered_by_another_video(world)
    assert not await world.claims.keep_artifact(replace(job, lease="another"), artifact(1))
    assert len(world.sql("SELECT * FROM erasures")) == 2
