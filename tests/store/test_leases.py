from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

import pytest

from service.model import Job, State, Status
from tests.store.world import GONE, REFUSED, TIMED_OUT, TIMING, UNKNOWN, World, artifact, held, report, sure

Write = Callable[[World, Job], Awaitable[Any]]
Place = Callable[[World], Awaitable[Job]]
Anywhere = Callable[..., Awaitable[Job]]  # takes the provider's name
Claim = Callable[[World, int], Awaitable[list[Job]]]


def claim_queued(world: World, limit: int) -> Awaitable[list[Job]]:
    return world.claims.claim_queued("alpha", limit)


def claim_doubtful(world: World, limit: int) -> Awaitable[list[Job]]:
    return world.claims.claim_doubtful(limit)


def claim_polls(world: World, limit: int) -> Awaitable[list[Job]]:
    return world.claims.claim_polls("alpha", limit)


def claim_mirrors(world: World, limit: int) -> Awaitable[list[Job]]:
    return world.claims.claim_mirrors("alpha", limit)


FENCED: list[tuple[Place, Claim, Write]] = [
    (World.submitting, claim_doubtful, lambda world, job: world.claims.renew(job)),
    (World.submitting, claim_doubtful, lambda world, job: world.claims.give_up_submission(job, UNKNOWN)),
    (World.doubted, claim_doubtful, lambda world, job: world.claims.resubmit(job)),
    (World.running, claim_polls, lambda world, job: world.claims.renew(job)),
    (World.running, claim_polls, lambda world, job: world.claims.poll_again(job, 1, answered=True)),
    (World.running, claim_polls, lambda world, job: world.claims.expire(job, TIMED_OUT, None)),
    (World.expired, claim_polls, lambda world, job: world.claims.poll_again(job, None, answered=True)),
    (World.failed_attached, claim_polls, lambda world, job: world.claims.poll_again(job, None, answered=True)),
    (World.mirrored, claim_mirrors, lambda world, job: world.claims.renew(job)),
    (World.mirrored, claim_mirrors, lambda world, job: world.claims.keep_artifact(job, artifact())),
    (World.mirrored, claim_mirrors, lambda world, job: world.claims.mirrored(job)),
    (World.mirrored, claim_mirrors, lambda world, job: world.claims.mirror_again(job, 1)),
    (World.mirrored, claim_mirrors, lambda world, job: world.claims.give_up_mirror(job, GONE)),
]


@pytest.mark.parametrize(("place", "claim", "write"), FENCED)
async def test_a_worker_whose_lease_was_taken_over_writes_nothing(
    world: World, place: Place, claim: Claim, write: Write
) -> None:
    slow = await place(world)
    world.clock.advance(TIMING.lease)
    taken = held(slow, await claim(world, 10))
    history = await world.history(slow)

    assert not await write(world, slow)
    assert await world.now(slow) == taken
    assert await world.history(slow) == history
    assert await write(world, taken)


CLAIMED: list[tuple[Place, Claim]] = [
    (World.submitting, claim_doubtful),
    (World.doubted, claim_doubtful),
    (World.running, claim_polls),
    (World.failed_attached, claim_polls),
    (World.expired, claim_polls),
    (World.mirroring, claim_mirrors),
]


@pytest.mark.parametrize(("place", "claim"), CLAIMED)
async def test_a_lease_is_taken_over_after_its_end_and_not_before(world: World, place: Place, claim: Claim) -> None:
    job = await place(world)
    assert job.due_at == job.leased_until == world.clock.now() + TIMING.lease
    world.clock.advance(TIMING.lease - 1)
    assert await claim(world, 10) == []
    world.clock.advance(1)
    [taken] = await claim(world, 10)
    assert taken.id == job.id
    assert taken.lease != job.lease
    assert taken.due_at == taken.leased_until == world.clock.now() + TIMING.lease


@pytest.mark.parametrize(("place", "claim"), CLAIMED)
async def test_a_renewed_lease_lasts_its_time_again(world: World, place: Place, claim: Claim) -> None:
    job = await place(world)
    world.clock.advance(TIMING.lease - 1)
    assert await world.claims.renew(job)
    renewed = await world.now(job)
    assert renewed.due_at == renewed.leased_until == world.clock.now() + TIMING.lease
    world.clock.advance(TIMING.lease - 1)
    assert await claim(world, 10) == []
    world.clock.advance(1)
    assert len(await claim(world, 10)) == 1


@pytest.mark.parametrize(
    ("place", "status"),
    [
        (World.submitting, Status.RUNNING),
        (World.running, Status.FAILED),
        (World.running, Status.COMPLETED),
        (World.failed_attached, Status.COMPLETED),
        (World.expired, Status.COMPLETED),
    ],
)
async def test_a_report_that_moves_a_job_takes_it_from_its_worker(world: World, place: Place, status: Status) -> None:
    job = await place(world)
    assert job.lease is not None
    await world.apply(job, report(status, f"at-{job.id}"))
    assert (await world.now(job)).lease is None
    assert not await world.claims.renew(job)


# Many claimers


@pytest.mark.parametrize(
    ("place", "claim"),
    [
        (World.queued, claim_queued),
        (World.submitting, claim_doubtful),
        (World.running, claim_polls),
        (World.mirroring, claim_mirrors),
    ],
)
async def test_concurrent_claimers_never_get_the_same_job(world: World, place: Place, claim: Claim) -> None:
    jobs = [await place(world) for _ in range(30)]
    world.clock.advance(TIMING.lease)
    batches = await asyncio.gather(*(claim(world, 4) for _ in range(12)))
    claimed = Counter(job.id for job in chain.from_iterable(batches))
    assert claimed == Counter(job.id for job in jobs)
    assert all(len({job.lease for job in batch}) <= 1 for batch in batches)


async def test_what_is_due_longest_is_claimed_first(world: World) -> None:
    waits = [5_000, 1_000, 4_000, 2_000, 3_000]
    jobs = [await world.submitting() for _ in waits]
    for job, wait in zip(jobs, waits, strict=True):
        sure(await world.claims.turned_away(job, world.clock.now() + wait, "busy"))
    world.clock.advance(4_000)
    first, second = await claim_queued(world, 2), await claim_queued(world, 10)
    assert {job.id for job in first} == {jobs[1].id, jobs[3].id}
    assert {job.id for job in second} == {jobs[4].id, jobs[2].id}  # the last one is not due yet


@pytest.mark.parametrize(
    ("place", "claim"),
    [
        (World.queued, World.submitting),
        (World.running, World.running),
        (World.mirroring, World.mirroring),
    ],
)
async def test_a_claim_takes_jobs_of_its_provider_only(world: World, place: Anywhere, claim: Anywhere) -> None:
    theirs = await place(world, provider="beta")
    world.clock.advance(TIMING.lease)
    before = await world.now(theirs)
    ours = await claim(world, provider="alpha")
    assert ours.id != theirs.id
    assert await world.now(theirs) == before


async def test_a_copy_that_did_not_work_is_tried_again_when_it_is_told(world: World) -> None:
    job = await world.mirroring()
    assert await world.claims.mirror_again(job, world.clock.now() + 5_000)
    world.clock.advance(4_999)
    assert await claim_mirrors(world, 10) == []
    world.clock.advance(1)
    [again] = await claim_mirrors(world, 10)
    assert (job.attempt, again.attempt) == (1, 2)


async def test_a_claim_counts_the_attempt(world: World) -> None:
    job = await world.queued_again()
    [again] = await claim_queued(world, 1)
    assert (job.attempt, again.attempt) == (1, 2)


async def test_an_answered_poll_starts_counting_attempts_anew_and_an_unanswered_one_does_not(world: World) -> None:
    job = await world.running()
    assert job.attempt == 1
    await world.claims.poll_again(job, world.clock.now(), answered=False)
    [job] = await claim_polls(world, 1)
    assert job.attempt == 2
    await world.claims.poll_again(job, world.clock.now(), answered=True)
    [job] = await claim_polls(world, 1)
    assert job.attempt == 1


async def test_a_running_job_is_never_left_without_a_next_look(world: World) -> None:
    job = await world.running()
    assert not await world.claims.poll_again(job, None, answered=True)
    assert (await world.now(job)).lease == job.lease


async def test_a_given_up_job_can_be_left_alone_for_good(world: World) -> None:
    job = await world.expired()
    assert await world.claims.poll_again(job, None, answered=True)
    world.clock.advance(10 * TIMING.job_deadline)
    assert await claim_polls(world, 10) == []


# The fence of a submission is its attempt: its worker may answer after its lease, and is believed


@pytest.mark.parametrize(
    "say",
    [
        lambda world, job: world.claims.turned_away(job, world.clock.now(), "busy"),
        lambda world, job: world.claims.refused(job, REFUSED),
        lambda world, job: world.claims.in_doubt(job, "reset"),
    ],
)
async def test_an_older_submission_says_nothing_about_a_newer_one(world: World, say: Write) -> None:
    older = await world.submitting()
    await world.claims.turned_away(older, world.clock.now(), "busy")
    [newer] = await claim_queued(world, 1)
    assert await say(world, older) is None
    assert await world.now(older) == newer
    assert await say(world, newer) is not None


@pytest.mark.parametrize(
    "say",
    [
        lambda world, job: world.claims.turned_away(job, world.clock.now(), "busy"),
        lambda world, job: world.claims.refused(job, REFUSED),
        lambda world, job: world.submitted(job, "theirs"),
    ],
)
async def test_a_submission_that_answers_after_its_lease_is_believed(world: World, say: Write) -> None:
    slow = await world.submitting()
    world.clock.advance(TIMING.lease)
    [taken] = await claim_doubtful(world, 1)
    sure(await world.claims.in_doubt(taken, "its worker died"))
    assert await say(world, slow) is not None
    assert (await world.now(slow)).state is not State.SUBMITTING


async def test_a_submission_that_was_provably_turned_away_was_not_doubtful_after_all(world: World) -> None:
    slow = await world.submitting()
    sure(await world.claims.in_doubt(slow, "no answer"))
    back = sure(await world.claims.turned_away(slow, world.clock.now(), "busy"))
    assert (back.doubts, back.doubted_at) == (0, None)


@pytest.mark.parametrize("place", [World.queued_again, World.submitting, World.doubted, World.resubmitted])
async def test_whoever_knows_the_id_of_a_paid_job_binds_it(world: World, place: Place) -> None:
    job = await place(world)
    bound = sure(await world.submitted(job, "theirs"))
    assert (bound.state, bound.provider_job_id, bound.lease, bound.attempt) == (State.RUNNING, "theirs", None, 0)


async def test_an_id_that_comes_after_we_gave_up_is_bound_and_looked_at(world: World) -> None:
    job = await world.failed_unknown()
    bound = sure(await world.submitted(job, "theirs"))
    assert (bound.state, bound.provider_job_id, bound.due_at) == (State.FAILED, "theirs", world.clock.now())
    assert [found.id for found in await claim_polls(world, 1)] == [job.id]


async def test_an_id_that_comes_after_the_queue_gave_up_is_bound_and_looked_at(world: World) -> None:
    job = await world.queued_again()
    world.clock.advance(TIMING.job_deadline)
    assert await claim_queued(world, 1) == []
    bound = sure(await world.submitted(job, "theirs"))
    assert (bound.state, bound.provider_job_id) == (State.EXPIRED, "theirs")
    assert [found.id for found in await claim_polls(world, 1)] == [job.id]


async def test_an_id_is_bound_to_one_job_and_a_job_to_one_id(world: World) -> None:
    first, second = await world.submitting(), await world.submitting()
    sure(await world.submitted(first, "theirs"))
    assert await world.submitted(first, "another") is None
    assert await world.submitted(second, "theirs") is None
    assert (await world.now(second)).state is State.SUBMITTING
    elsewhere = await world.submitting("beta")
    sure(await world.submitted(elsewhere, "theirs"))  # another provider's ids are other ids
