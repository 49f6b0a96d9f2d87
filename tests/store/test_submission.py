from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from service.model import Billable, ErrorCode, Job, OnUnknown, Source, Status
from tests.store.world import FIRST_POLL_MS, REFUSED, TIMING, UNKNOWN, World, held, report, sure


async def test_a_new_job_is_due_at_once_and_nothing_is_spent(world: World) -> None:
    job = await world.queued()
    assert (job.due_at, job.attempt, job.submitted_at) == (world.clock.now(), 0, None)
    assert job.deadline_at == world.clock.now() + TIMING.job_deadline


async def test_a_job_that_was_turned_away_waits_as_long_as_it_was_told(world: World) -> None:
    job = await world.submitting()
    back = sure(await world.claims.turned_away(job, world.clock.now() + 30_000, "Retry-After: 30"))
    assert back.due_at == world.clock.now() + 30_000
    world.clock.advance(29_999)
    assert await world.claims.claim_queued("alpha", 10) == []
    world.clock.advance(1)
    assert len(await world.claims.claim_queued("alpha", 10)) == 1


async def test_a_job_that_was_turned_away_for_longer_than_its_deadline_expires_at_its_deadline(world: World) -> None:
    job = await world.submitting()
    back = sure(await world.claims.turned_away(job, world.clock.now() + 10 * TIMING.job_deadline, "come tomorrow"))
    assert back.due_at == job.deadline_at
    world.clock.advance(TIMING.job_deadline)
    assert await world.claims.claim_queued("alpha", 10) == []
    expired = await world.now(job)
    assert expired.error is not None
    assert (expired.state, expired.error.code, expired.error.billable) == ("expired", ErrorCode.EXPIRED, Billable.NO)
    assert expired.error.retryable
    assert expired.finished_at == world.clock.now()


async def test_a_job_is_submitted_until_the_last_millisecond_before_its_deadline(world: World) -> None:
    job = await world.queued()
    world.clock.advance(TIMING.job_deadline - 1)
    assert [found.id for found in await world.claims.claim_queued("alpha", 10)] == [job.id]


async def test_only_as_many_late_jobs_expire_as_may_be_claimed_at_once(world: World) -> None:
    for _ in range(5):
        await world.queued()
    world.clock.advance(TIMING.job_deadline)
    await world.claims.claim_queued("alpha", 2)
    assert (await world.statistics.overview()).jobs["alpha"] == {"queued": 3, "expired": 2}


async def test_late_jobs_take_no_place_from_those_in_time_nor_from_other_providers(world: World) -> None:
    await world.queued("beta")
    world.clock.advance(1)
    for _ in range(5):
        await world.queued()
    world.clock.advance(TIMING.job_deadline)
    in_time = [await world.queued() for _ in range(2)]
    assert {job.id for job in await world.claims.claim_queued("alpha", 2)} == {job.id for job in in_time}
    assert (await world.statistics.overview()).jobs["beta"] == {"queued": 1}


# Doubt


async def test_a_doubted_submission_waits_for_a_callback_until_its_deadline(world: World) -> None:
    queued = await world.queued()
    world.clock.advance(100_000)
    job = held(queued, await world.claims.claim_queued("alpha", 10))
    world.clock.advance(40_000)
    doubted = sure(await world.claims.in_doubt(job, "read timeout"))
    assert doubted.submitted_at is not None
    assert (doubted.state, doubted.lease, doubted.doubts) == ("submitting", None, 1)
    assert doubted.doubted_at == world.clock.now()
    assert doubted.submitted_at == queued.created_at + 100_000
    assert doubted.due_at == doubted.deadline_at == doubted.submitted_at + TIMING.job_deadline
    assert await world.claims.in_doubt(job, "told twice") is None
    world.clock.advance(doubted.due_at - world.clock.now() - 1)
    assert await world.claims.claim_doubtful(10) == []
    world.clock.advance(1)
    assert [found.id for found in await world.claims.claim_doubtful(10)] == [job.id]


async def test_a_doubted_submission_is_repeated_once_when_its_caller_chose_so(world: World) -> None:
    job = await world.submitting(on_unknown=OnUnknown.RESUBMIT)
    doubted = sure(await world.claims.in_doubt(job, "reset"))
    assert doubted.due_at == world.clock.now() + TIMING.resubmit_after
    world.clock.advance(TIMING.resubmit_after)
    queued = sure(await world.claims.resubmit(held(job, await world.claims.claim_doubtful(10))))
    assert (queued.state, queued.due_at) == ("queued", world.clock.now())
    assert queued.deadline_at == world.clock.now() + TIMING.job_deadline

    second = held(job, await world.claims.claim_queued("alpha", 10))
    assert (second.attempt, second.doubted_at, second.submitted_at) == (2, None, world.clock.now())
    doubted = sure(await world.claims.in_doubt(second, "reset again"))
    assert doubted.doubts == 2
    assert doubted.due_at == world.clock.now() + TIMING.job_deadline
    world.clock.advance(TIMING.job_deadline)
    claimed = held(job, await world.claims.claim_doubtful(10))
    assert await world.claims.resubmit(claimed) is None
    sure(await world.claims.give_up_submission(claimed, UNKNOWN))


async def test_a_second_submission_whose_worker_died_is_not_repeated(world: World) -> None:
    job = await world.resubmitted()
    world.clock.advance(TIMING.lease)
    taken = held(job, await world.claims.claim_doubtful(10))
    assert (taken.doubts, taken.doubted_at) == (1, None)
    assert await world.claims.resubmit(taken) is None


async def test_a_doubted_submission_is_never_repeated_when_its_caller_wants_to_wait(world: World) -> None:
    job = await world.doubted(on_unknown=OnUnknown.WAIT)
    assert await world.claims.resubmit(job) is None


async def test_a_submission_whose_worker_died_is_found_when_its_lease_ends(world: World) -> None:
    job = await world.submitting()
    world.clock.advance(TIMING.lease)
    taken = held(job, await world.claims.claim_doubtful(10))
    assert taken.doubted_at is None
    assert sure(await world.claims.in_doubt(taken, "the service stopped")).doubts == 1


# Cancelling


@pytest.mark.parametrize("place", [World.queued, World.queued_again])
async def test_cancelling_what_was_not_accepted_costs_nothing(
    world: World, place: Callable[[World], Awaitable[Job]]
) -> None:
    job = await place(world)
    cancelled = sure(await world.store.cancel(job.id))
    assert cancelled.error is not None
    assert (cancelled.error.code, cancelled.error.billable) == (ErrorCode.CANCELLED, Billable.NO)
    assert cancelled.due_at is None
    assert await world.store.cancel(job.id) is None


async def test_cancelling_before_the_second_submission_does_not_promise_that_the_first_is_free(world: World) -> None:
    job = sure(await world.claims.resubmit(await world.doubted()))
    cancelled = sure(await world.store.cancel(job.id))
    assert cancelled.error is not None
    assert (cancelled.error.billable, cancelled.error.message) == ("unknown", "cancelled before it was submitted again")


async def test_expiring_before_the_second_submission_does_not_promise_that_the_first_is_free(world: World) -> None:
    job = sure(await world.claims.resubmit(await world.doubted()))
    world.clock.advance(TIMING.job_deadline)
    assert await world.claims.claim_queued("alpha", 10) == []
    expired = await world.now(job)
    assert expired.error is not None
    assert (expired.state, expired.error.billable) == ("expired", "unknown")


async def test_cancelling_a_job_that_is_not_there_changes_nothing(world: World) -> None:
    assert await world.store.cancel("job_none") is None


# The first poll


async def test_the_first_poll_comes_at_the_providers_time_until_the_models_own_is_known(world: World) -> None:
    job = sure(await world.submitted(await world.submitting(), "p1"))
    assert (job.due_at, job.provider_status) == (world.clock.now() + FIRST_POLL_MS, "pending")


async def test_the_first_poll_comes_when_a_job_of_that_model_usually_is_done(world: World) -> None:
    for number, took in enumerate((100_000, 200_000)):
        job = sure(await world.submitted(await world.submitting(), f"p{number}"))
        world.clock.advance(took)
        await world.apply(job, report(Status.COMPLETED, f"p{number}"))
    job = sure(await world.submitted(await world.submitting(), "p9"))
    assert job.due_at == world.clock.now() + 120_000  # a fifth of the way from 100 to 200 s
    for provider in ("alpha", "beta"):
        other = await world.queued(provider, model="m" if provider == "beta" else "another")
        claimed = held(other, await world.claims.claim_queued(provider, 10))
        assert sure(await world.submitted(claimed, f"other-{provider}")).due_at == world.clock.now() + FIRST_POLL_MS


async def test_a_poll_teaches_nothing_about_how_long_a_model_takes(world: World) -> None:
    job = await world.running()
    world.clock.advance(3_000_000)  # nobody looked for long
    await world.apply(job, report(Status.COMPLETED, f"at-{job.id}"), Source.POLL)
    job = sure(await world.submitted(await world.submitting(), "p2"))
    assert job.due_at == world.clock.now() + FIRST_POLL_MS


async def test_the_first_poll_is_not_later_than_the_deadline(world: World) -> None:
    job = sure(await world.submitted(await world.submitting(), "p1", first_poll_ms=10 * TIMING.job_deadline))
    assert job.due_at == job.deadline_at


@pytest.mark.parametrize(
    "adopt",
    [
        lambda world, job: world.submitted(job, "theirs"),
        lambda world, job: world.apply(job, report(Status.RUNNING, "theirs")),
    ],
)
async def test_a_job_gets_its_whole_deadline_from_its_submission_on(
    world: World, adopt: Callable[[World, Job], Awaitable[object]]
) -> None:
    await world.queued()
    world.clock.advance(TIMING.job_deadline // 2)
    [claimed] = await world.claims.claim_queued("alpha", 10)
    at = world.clock.now()
    world.clock.advance(5_000)
    await adopt(world, claimed)
    assert (await world.now(claimed)).deadline_at == at + TIMING.job_deadline


# Hints


async def test_a_hint_makes_a_running_job_due_at_once(world: World) -> None:
    job = sure(await world.submitted(await world.submitting(), "p1"))
    world.announced.clear()
    await world.store.hint(job.id)
    assert (await world.now(job)).due_at == world.clock.now()
    assert world.announced == ["running"]


async def test_hints_cause_at_most_one_poll_in_the_gap(world: World) -> None:
    job = await world.running()
    polled = world.clock.now()
    await world.claims.poll_again(job, polled + 60_000, answered=True)
    for _ in range(3):
        await world.store.hint(job.id)
        assert (await world.now(job)).due_at == polled + TIMING.hint_gap
        world.clock.advance(1_000)


async def test_a_hint_never_makes_a_poll_later(world: World) -> None:
    job = await world.running()
    await world.claims.poll_again(job, world.clock.now() + 1, answered=True)
    world.announced.clear()
    await world.store.hint(job.id)
    assert (await world.now(job)).due_at == world.clock.now() + 1
    assert world.announced == []


async def waiting_in_the_queue(world: World) -> Job:
    return sure(await world.claims.turned_away(await world.submitting(), world.clock.now() + 60_000, "busy"))


async def waiting_for_a_copy(world: World) -> Job:
    job = await world.mirroring()
    assert await world.claims.mirror_again(job, world.clock.now() + 60_000)
    return job


@pytest.mark.parametrize(
    "place",
    [waiting_in_the_queue, waiting_for_a_copy, World.submitting, World.running, World.completed, World.expired],
)
async def test_a_hint_about_a_job_that_does_not_wait_for_a_poll_changes_nothing(
    world: World, place: Callable[[World], Awaitable[Job]]
) -> None:
    job = await place(world)
    before = await world.now(job)
    await world.store.hint(job.id)
    assert await world.now(job) == before


async def test_a_refusal_keeps_the_providers_words(world: World) -> None:
    failed = sure(await world.claims.refused(await world.submitting(), REFUSED))
    assert failed.error == REFUSED
    assert (failed.finished_at, failed.due_at, failed.lease) == (world.clock.now(), None, None)


async def test_a_refusal_after_a_doubt_says_that_nobody_knows_what_is_billed(world: World) -> None:
    free = replace(REFUSED, billable=Billable.NO)
    refused = sure(await world.claims.refused(await world.resubmitted(), free))
    assert refused.error == replace(free, billable=Billable.UNKNOWN)
    refused = sure(await world.claims.refused(await world.submitting(), free))
    assert refused.error == free
