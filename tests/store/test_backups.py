"""A service that goes on from a backup: what may have been paid for since is never paid for unasked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.model import Job, OnUnknown, Status
from service.store import Backups, Restoration, Verdict
from tests.store.world import TIMING, World, report, sure

Way = Callable[[World], Awaitable[Job]]


async def restored(world: World, *, after_ms: int = 1_000) -> Restoration:
    """Open the database as a backup that was taken just now, some time later."""
    taken_at = world.clock.now()
    world.sql("INSERT INTO backups VALUES (1, :taken_at)", taken_at=taken_at)
    world.clock.advance(after_ms)
    found = await Backups(world.ledger).restore()
    assert found is not None
    assert found.taken_at == taken_at
    return found


async def test_a_database_that_is_no_backup_is_left_alone(world: World) -> None:
    job = await world.queued()
    assert await Backups(world.ledger).restore() is None
    assert await world.now(job) == job


async def test_a_backup_is_gone_on_from_once(world: World) -> None:
    await world.queued()
    assert (await restored(world)).in_doubt == 1
    later = await world.queued()
    assert await Backups(world.ledger).restore() is None
    assert (await world.now(later)).state == "queued"


@pytest.mark.parametrize("way", [World.queued, World.queued_again])
@pytest.mark.parametrize("after_ms", [1_000, 10 * TIMING.resubmit_after])
async def test_what_was_queued_is_in_doubt_and_never_submitted(world: World, way: Way, after_ms: int) -> None:
    before = await way(world)
    assert (await restored(world, after_ms=after_ms)).in_doubt == 1
    job, now = await world.now(before), world.clock.now()
    assert (job.state, job.submitted_at, job.doubted_at) == ("submitting", now, now)
    assert job.due_at == job.deadline_at == now + TIMING.job_deadline
    assert (job.lease, job.attempt) == (None, before.attempt + 1)
    assert (await world.history(job))[-2:] == ["submitting", "in_doubt"]
    assert await world.claims.claim_queued("alpha", 10) == []
    world.clock.advance(TIMING.job_deadline - 1)
    assert await world.claims.claim_doubtful(10) == []
    world.clock.advance(1)
    assert [each.id for each in await world.claims.claim_doubtful(10)] == [job.id]
    assert await world.claims.resubmit(job) is None


async def test_its_callback_adopts_it(world: World) -> None:
    job = await world.queued()
    await restored(world)
    assert await world.receive(job, report(Status.COMPLETED, "gen-1")) is Verdict.APPLIED
    assert (await world.now(job)).state == "mirroring"


async def test_its_caller_may_prefer_a_second_bill_while_there_can_have_been_one_submission_alone(world: World) -> None:
    job = await world.queued(on_unknown=OnUnknown.RESUBMIT)
    await restored(world, after_ms=TIMING.resubmit_after - 1)
    doubted = await world.now(job)
    assert (doubted.doubts, doubted.due_at) == (1, world.clock.now() + TIMING.resubmit_after)
    world.clock.advance(TIMING.resubmit_after)
    [held] = await world.claims.claim_doubtful(10)
    assert sure(await world.claims.resubmit(held)).state == "queued"


@pytest.mark.parametrize("after_ms", [TIMING.resubmit_after, 100 * TIMING.resubmit_after, -1])
async def test_nobody_pays_for_a_third(world: World, after_ms: int) -> None:
    """The service that went on may have submitted it a second time; a clock that was set back proves nothing."""
    job = await world.queued(on_unknown=OnUnknown.RESUBMIT)
    await restored(world, after_ms=after_ms)
    doubted = await world.now(job)
    assert (doubted.doubts, doubted.due_at) == (2, world.clock.now() + TIMING.job_deadline)
    world.clock.advance(TIMING.job_deadline)
    [held] = await world.claims.claim_doubtful(10)
    assert await world.claims.resubmit(held) is None


async def test_a_second_submission_that_was_queued_is_not_made(world: World) -> None:
    before = sure(await world.claims.resubmit(await world.doubted()))
    assert (before.state, before.doubts) == ("queued", 1)
    await restored(world)
    job = await world.now(before)
    assert (job.state, job.doubts, job.due_at) == ("submitting", 2, world.clock.now() + TIMING.job_deadline)


@pytest.mark.parametrize(("after_ms", "doubts"), [(1_000, 0), (TIMING.resubmit_after, 2)])
async def test_a_submission_under_way_may_have_been_repeated_only_if_there_was_time(
    world: World, after_ms: int, doubts: int
) -> None:
    job = await world.submitting(on_unknown=OnUnknown.RESUBMIT)
    found = await restored(world, after_ms=after_ms)
    assert found.in_doubt == (1 if doubts else 0)
    assert (await world.now(job)).doubts == doubts


async def test_a_silent_submission_that_was_due_to_be_repeated_is_not_repeated(world: World) -> None:
    before = sure(await world.claims.in_doubt(await world.submitting(on_unknown=OnUnknown.RESUBMIT), "reset"))
    world.clock.advance(TIMING.resubmit_after - 2_000)
    await restored(world, after_ms=3_000)
    job = await world.now(before)
    assert (job.state, job.doubts, job.lease) == ("submitting", 2, None)
    assert (await world.history(job))[-2:] == ["in_doubt", "in_doubt"]


@pytest.mark.parametrize("kept", [World.doubted, World.resubmitted])
async def test_a_worker_that_was_about_to_repeat_one_when_the_backup_was_taken_counts_as_having_done_so(
    world: World, kept: Way
) -> None:
    before = await kept(world)
    await restored(world)
    job = await world.now(before)
    if kept is World.doubted:
        assert (job.doubts, job.lease) == (2, None)
    else:
        assert job == before


async def test_a_silent_submission_that_was_not_due_is_left_to_its_time(world: World) -> None:
    before = sure(await world.claims.in_doubt(await world.submitting(on_unknown=OnUnknown.RESUBMIT), "reset"))
    assert (await restored(world)).in_doubt == 0
    assert await world.now(before) == before


@pytest.mark.parametrize(
    "way",
    [
        World.submitting,
        World.running,
        World.mirroring,
        World.completed,
        World.failed,
        World.failed_unknown,
        World.cancelled,
        World.expired,
    ],
)
async def test_jobs_in_every_other_state_go_on(world: World, way: Way) -> None:
    before = await way(world)
    assert (await restored(world, after_ms=10 * TIMING.resubmit_after)).in_doubt == 0
    assert await world.now(before) == before
