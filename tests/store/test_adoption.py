"""What a verified report may do to a job, in whatever state and however bound it finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from service.model import Job, OnUnknown, Output, Report, Source, State, Status
from service.store import Verdict
from tests.store.world import (
    GONE,
    POLL_MS,
    REFUSED,
    RETENTION_MS,
    TIMED_OUT,
    TIMING,
    World,
    artifact,
    held,
    report,
    sure,
)

Place = Callable[[World], Awaitable[Job]]
DAY_MS = 86_400_000
APPLIED, DUPLICATE, MISMATCHED = Verdict.APPLIED, Verdict.DUPLICATE, Verdict.MISMATCHED


@pytest.mark.parametrize("status", Status)
async def test_a_report_about_a_job_that_was_never_submitted_does_nothing(world: World, status: Status) -> None:
    job = await world.queued()
    assert await world.apply(job, report(status, "theirs")) is DUPLICATE
    assert await world.now(job) == job
    assert await world.history(job) == ["queued"]


@pytest.mark.parametrize("place", [World.queued_again, World.submitting, World.doubted])
async def test_a_report_adopts_the_job_whose_answer_was_lost(world: World, place: Place) -> None:
    job = await place(world)
    world.clock.advance(3_000)
    assert job.submitted_at is not None
    assert await world.apply(job, report(Status.RUNNING, "theirs")) is APPLIED
    adopted = await world.now(job)
    assert (adopted.state, adopted.provider_job_id, adopted.provider_status) == (State.RUNNING, "theirs", "running")
    assert (adopted.lease, adopted.attempt, adopted.due_at) == (None, 0, world.clock.now() + POLL_MS)
    assert adopted.deadline_at == job.submitted_at + TIMING.job_deadline


@pytest.mark.parametrize("place", [World.queued_again, World.submitting, World.doubted, World.running])
async def test_a_completed_report_says_what_to_copy_and_until_when(world: World, place: Place) -> None:
    job = await place(world)
    said = report(Status.COMPLETED, f"at-{job.id}", outputs=2, cost=0.5)
    assert await world.apply(job, said) is APPLIED
    found = await world.now(job)
    assert (found.state, found.outputs, found.cost) == (State.MIRRORING, said.outputs, 0.5)
    assert (found.due_at, found.mirror_until) == (world.clock.now(), world.clock.now() + RETENTION_MS)
    assert (found.provider_job_id, found.provider_status, found.attempt) == (f"at-{job.id}", "completed", 0)


@pytest.mark.parametrize(("days", "kept"), [(0, RETENTION_MS), (20, 20 * DAY_MS), (30_000, 30 * DAY_MS)])
async def test_a_provider_is_believed_for_how_long_it_serves_an_output_within_reason(
    world: World, days: int, kept: int
) -> None:
    job = await world.running()
    outputs = (Output(0, "https://cdn.example/v.mp4", world.clock.now() + days * DAY_MS), Output(1))
    await world.apply(job, Report(Status.COMPLETED, "completed", job.provider_job_id, outputs))
    assert (await world.now(job)).mirror_until == world.clock.now() + kept


async def test_a_second_word_of_the_same_kind_changes_nothing(world: World) -> None:
    job = await world.running()
    pid = f"at-{job.id}"
    assert await world.apply(job, report(Status.COMPLETED, pid)) is APPLIED
    before = await world.now(job)
    for status in Status:
        assert await world.apply(job, report(status, pid)) is DUPLICATE
    assert await world.now(job) == before


async def test_a_running_job_keeps_its_newest_status_word(world: World) -> None:
    job = await world.running()
    history = await world.history(job)
    assert await world.apply(job, report(Status.RUNNING, f"at-{job.id}")) is APPLIED
    assert await world.apply(job, report(Status.RUNNING, f"at-{job.id}")) is DUPLICATE
    assert (await world.now(job)).provider_status == "running"
    assert (await world.now(job)).lease == job.lease
    assert await world.history(job) == history


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_an_end_at_the_provider_is_kept_with_its_error_and_its_cost(world: World, status: Status) -> None:
    job = await world.running()
    said = report(status, f"at-{job.id}", cost=0.25)
    assert await world.apply(job, said) is APPLIED
    ended = await world.now(job)
    assert (ended.state, ended.error, ended.cost) == (State(status), said.error, 0.25)
    assert (ended.finished_at, ended.due_at) == (world.clock.now(), None)
    assert (ended.provider_status, ended.attempt) == (status, 0)


async def test_an_end_adopts_the_job_whose_answer_was_lost(world: World) -> None:
    job = await world.doubted()
    assert await world.apply(job, report(Status.FAILED, "theirs")) is APPLIED
    assert (await world.now(job)).provider_job_id == "theirs"


# Ids


@pytest.mark.parametrize("status", Status)
async def test_a_report_about_another_provider_job_is_not_about_this_one(world: World, status: Status) -> None:
    job = await world.running()
    assert await world.apply(job, report(status, "another")) is MISMATCHED
    assert await world.now(job) == job


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("place", [World.submitting, World.doubted, World.failed_unknown])
async def test_an_id_of_another_job_is_not_taken_from_it(world: World, status: Status, place: Place) -> None:
    other = await world.running()
    job = await place(world)
    assert await world.apply(job, report(status, f"at-{other.id}")) is MISMATCHED
    assert await world.now(job) == job


async def test_another_providers_id_is_another_id(world: World) -> None:
    other = await world.running("beta")
    job = await world.submitting("alpha")
    assert await world.apply(job, report(Status.RUNNING, f"at-{other.id}")) is APPLIED


async def test_old_news_is_old_news_whatever_other_jobs_there_are(world: World) -> None:
    await world.running()
    job, elsewhere = await world.completed(), await world.submitting("beta")
    sure(await world.submitted(elsewhere, f"at-{job.id}"))  # another provider's id, of the same letters
    assert await world.apply(job, report(Status.COMPLETED, f"at-{job.id}")) is DUPLICATE


@pytest.mark.parametrize("place", [World.failed_unavailable, World.expired])
async def test_another_video_does_not_recover_a_job_that_was_paid_for_once(world: World, place: Place) -> None:
    job = await place(world)
    assert await world.apply(job, report(Status.COMPLETED, "another")) is MISMATCHED
    assert await world.now(job) == job


# Two submissions on the caller's wish


async def twin(world: World) -> Job:
    """Return a running job whose first submission was lost, and which is bound to the second one's id."""
    job = await world.resubmitted()
    sure(await world.submitted(job, "second"))
    return await world.now(job)


async def test_either_video_completes_a_job_that_was_paid_for_twice(world: World) -> None:
    job = await twin(world)
    assert await world.apply(job, report(Status.COMPLETED, "first")) is APPLIED
    found = await world.now(job)
    assert (found.state, found.provider_job_id) == (State.MIRRORING, "first")
    assert await world.apply(job, report(Status.COMPLETED, "second")) is MISMATCHED


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_the_lost_submission_cannot_end_a_job_whose_second_one_runs(world: World, status: Status) -> None:
    job = await twin(world)
    assert await world.apply(job, report(status, "first")) is MISMATCHED
    assert await world.now(job) == job


async def test_another_id_is_not_believed_when_there_was_no_doubt(world: World) -> None:
    job = sure(await world.submitted(await world.submitting(on_unknown=OnUnknown.RESUBMIT), "only"))
    assert await world.apply(job, report(Status.COMPLETED, "another")) is MISMATCHED
    assert (await world.now(job)).state is State.RUNNING


async def test_another_id_is_not_believed_when_the_caller_wanted_to_wait(world: World) -> None:
    doubted = await world.doubted(on_unknown=OnUnknown.WAIT)
    job = sure(await world.submitted(doubted, "only"))
    assert await world.apply(job, report(Status.COMPLETED, "another")) is MISMATCHED
    assert (await world.now(job)).state is State.RUNNING


async def test_the_first_video_is_kept_although_the_second_submission_was_refused(world: World) -> None:
    job = sure(await world.claims.refused(await world.resubmitted(), REFUSED))
    assert await world.apply(job, report(Status.COMPLETED, "first")) is APPLIED
    assert (await world.now(job)).state is State.MIRRORING


async def test_the_second_video_is_kept_although_the_first_submission_failed(world: World) -> None:
    job = await world.resubmitted()
    assert await world.apply(job, report(Status.FAILED, "first")) is APPLIED
    assert await world.apply(job, report(Status.COMPLETED, "second")) is APPLIED
    assert (await world.now(job)).provider_job_id == "second"


async def test_a_video_that_could_not_be_copied_is_made_up_for_by_the_other_one(world: World) -> None:
    job = await twin(world)
    await world.apply(job, report(Status.COMPLETED, "first", outputs=2))
    job = held(job, await world.claims.claim_mirrors("alpha", 10))
    await world.claims.keep_artifact(job, artifact(1))
    sure(await world.claims.give_up_mirror(job, GONE))
    assert await world.apply(job, report(Status.COMPLETED, "second", outputs=2)) is APPLIED
    assert (await world.now(job)).artifacts == ()  # what was copied of the first is no part of the second


# We had given up


@pytest.mark.parametrize(
    "place", [World.failed_unknown, World.failed_attached, World.failed_unavailable, World.expired]
)
async def test_a_video_that_comes_after_we_gave_up_is_copied_after_all(world: World, place: Place) -> None:
    job = await place(world)
    world.clock.advance(50_000)
    assert await world.apply(job, report(Status.COMPLETED, f"at-{job.id}", cost=0.5), Source.POLL) is APPLIED
    found = await world.now(job)
    assert (found.state, found.finished_at, found.error, found.cost) == (State.MIRRORING, None, None, 0.5)
    assert (found.provider_status, found.attempt) == ("completed", 0)
    assert (found.due_at, found.mirror_until) == (world.clock.now(), world.clock.now() + RETENTION_MS)
    assert (await world.history(job))[-2:] == ["recovered", "mirroring"]
    found = held(job, await world.claims.claim_mirrors("alpha", 10))
    await world.claims.keep_artifact(found, artifact())
    assert sure(await world.claims.mirrored(found)).state is State.COMPLETED


async def test_a_job_that_expired_in_the_queue_is_recovered_if_it_was_submitted_before(world: World) -> None:
    job, never = await world.queued_again(), await world.queued("beta")
    world.clock.advance(TIMING.job_deadline)
    await world.claims.claim_queued("alpha", 10)
    await world.claims.claim_queued("beta", 10)
    assert await world.apply(job, report(Status.COMPLETED, "theirs")) is APPLIED
    assert await world.apply(never, report(Status.COMPLETED, "forged")) is DUPLICATE
    assert (await world.now(never)).state is State.EXPIRED


@pytest.mark.parametrize("place", [World.failed, World.cancelled, World.completed])
async def test_a_job_that_really_ended_stays_as_it_is(world: World, place: Place) -> None:
    job = await place(world)
    for status in Status:
        assert await world.apply(job, report(status, f"at-{job.id}")) is DUPLICATE
    assert await world.now(job) == job


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED, Status.CANCELLED, Status.EXPIRED])
@pytest.mark.parametrize("place", [World.failed_unknown, World.failed_attached, World.expired])
async def test_only_a_video_changes_a_job_that_we_gave_up_on(world: World, place: Place, status: Status) -> None:
    job = await place(world)
    assert await world.apply(job, report(status, f"at-{job.id}")) is DUPLICATE
    assert await world.now(job) == job


async def test_what_a_callback_said_before_does_not_recover_a_job_again(world: World) -> None:
    job = await world.failed_unavailable()
    said = report(Status.COMPLETED, f"at-{job.id}")
    assert await world.receive(job, said) is APPLIED
    again = held(job, await world.claims.claim_mirrors("alpha", 10))
    ended = sure(await world.claims.give_up_mirror(again, GONE))
    for _ in range(3):
        assert await world.receive(job, said) is DUPLICATE
    assert await world.now(job) == ended
    fresh = replace(said, outputs=(Output(0, "https://cdn.example/fresh"),))
    assert await world.receive(job, fresh) is APPLIED
    assert (await world.history(job)).count("recovered") == 2


async def test_what_was_copied_before_we_gave_up_need_not_be_copied_again(world: World) -> None:
    job = await world.mirroring(outputs=2)
    await world.claims.keep_artifact(job, artifact(0))
    sure(await world.claims.give_up_mirror(job, GONE))
    await world.apply(job, report(Status.COMPLETED, f"at-{job.id}", outputs=2))
    assert (await world.now(job)).artifacts == (artifact(0),)


# Copying


async def test_a_job_is_complete_when_every_output_has_its_artifact(world: World) -> None:
    job = await world.mirroring(outputs=2)
    assert await world.claims.mirrored(job) is None
    await world.claims.keep_artifact(job, artifact(1))
    await world.claims.keep_artifact(job, artifact(1))
    assert await world.claims.mirrored(job) is None
    await world.claims.keep_artifact(job, artifact(2))
    assert await world.claims.mirrored(job) is None
    await world.claims.keep_artifact(job, artifact(0))
    done = sure(await world.claims.mirrored(job))
    assert (done.state, done.finished_at, done.lease, done.due_at) == (State.COMPLETED, world.clock.now(), None, None)
    assert done.artifacts == (artifact(0), artifact(1), artifact(2))


async def test_an_operator_has_a_given_up_copy_tried_again(world: World) -> None:
    job = await world.failed_unavailable()
    assert job.due_at is None
    world.clock.advance(10 * RETENTION_MS)
    again = sure(await world.store.remirror(job.id, RETENTION_MS))
    assert (again.mirror_until, again.attempt, again.error) == (world.clock.now() + RETENTION_MS, 0, None)
    assert (await world.history(job))[-2:] == ["recovered", "mirroring"]


@pytest.mark.parametrize("source", ["operator", "caller"])
async def test_whoever_wants_it_a_copy_is_tried_again_for_a_day_and_the_history_says_who(
    world: World, source: str
) -> None:
    job = await world.failed_unavailable()
    again = sure(await world.store.remirror(job.id, source=source))
    assert again.mirror_until == world.clock.now() + DAY_MS
    told = [event.data for event in await world.store.events(job.id) if event.type == "job.recovered"]
    assert told == [{"source": source}]


async def test_a_job_that_went_silent_can_be_expired_and_never_looked_at_again(world: World) -> None:
    job = sure(await world.claims.expire(await world.running(), TIMED_OUT, None))
    assert (job.state, job.error, job.due_at, job.attempt) == (State.EXPIRED, TIMED_OUT, None, 0)
