"""What an operator names by hand: bound at once, and given up for whatever is better known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.model import Job, Source, State, Status
from service.store import Verdict
from tests.store.recount import counted, kept
from tests.store.world import POLL_MS, TIMED_OUT, TIMING, World, report, sure

Place = Callable[[World], Awaitable[Job]]
APPLIED, DUPLICATE, MISMATCHED = Verdict.APPLIED, Verdict.DUPLICATE, Verdict.MISMATCHED
UNCONFIRMED = (World.attached, World.failed_attached, World.expired_attached)


async def test_an_operator_binds_an_id_and_the_job_is_polled_at_once(world: World) -> None:
    earlier = sure(await world.submitted(await world.submitting(), "earlier"))
    world.clock.advance(100_000)
    await world.apply(earlier, report(Status.COMPLETED, "earlier"))  # it is known how long the model takes
    job = sure(await world.claims.in_doubt(await world.submitting(), "reset"))
    attached = sure(await world.store.attach(job.id, "found"))
    assert (attached.state, attached.due_at) == (State.RUNNING, world.clock.now())
    assert [found.id for found in await world.claims.claim_polls("alpha", 10)] == [job.id]


async def test_an_operator_binds_an_id_to_a_job_that_we_gave_up_on(world: World) -> None:
    job = await world.failed_unknown()
    world.announced.clear()
    attached = sure(await world.store.attach(job.id, "found"))
    assert (attached.state, attached.due_at) == (State.FAILED, world.clock.now())
    assert (await world.history(job))[-1] == "bound"
    assert world.announced == [State.RUNNING]
    assert [found.id for found in await world.claims.claim_polls("alpha", 10)] == [job.id]


async def test_an_id_of_another_job_cannot_be_attached(world: World) -> None:
    other = await world.running()
    for place in (World.doubted, World.failed_unknown, *UNCONFIRMED):
        job = await place(world)
        assert await world.store.attach(job.id, f"at-{other.id}") is None
        assert await world.now(job) == job


async def test_no_id_is_attached_while_the_paid_call_is_under_way_whose_answer_will_tell(world: World) -> None:
    job = await world.submitting()
    assert await world.store.attach(job.id, "found") is None
    assert await world.now(job) == job
    world.clock.advance(TIMING.lease)  # its worker is gone
    assert sure(await world.store.attach(job.id, "found")).state is State.RUNNING


# An id that was attached, and perhaps mistaken


async def ids(world: World, job: Job) -> list[tuple[object, object]]:
    """Return which ids took the place of which."""
    found = [event.data for event in await world.store.events(job.id) if event.type == "job.bound"]
    return [(data.get("instead_of"), data["provider_job_id"]) for data in found if "instead_of" in data]


@pytest.mark.parametrize("status", Status)
async def test_a_genuine_callback_is_believed_where_a_wrong_id_was_attached(world: World, status: Status) -> None:
    job = await world.attached()
    assert await world.receive(job, report(status, "right")) is APPLIED
    after = await world.now(job)
    expected = State.MIRRORING if status is Status.COMPLETED else State(status)
    assert (after.state, after.provider_job_id, after.provider_status) == (expected, "right", status)
    assert (after.lease, after.attempt) == (None, 0)
    assert await ids(world, job) == [(job.provider_job_id, "right")]


@pytest.mark.parametrize("place", [World.failed_attached, World.expired_attached])
@pytest.mark.parametrize("status", Status)
async def test_of_a_job_that_we_gave_up_on_a_genuine_callback_rights_the_id_at_least(
    world: World, place: Place, status: Status
) -> None:
    job = await place(world)
    world.announced.clear()
    assert await world.receive(job, report(status, "right")) is APPLIED
    after = await world.now(job)
    assert after.provider_job_id == "right"
    if status is Status.COMPLETED:
        assert after.state is State.MIRRORING
        assert State.MIRRORING in world.announced
    else:
        assert (after.state, after.error, after.lease) == (job.state, job.error, None)
        assert (after.due_at, after.deadline_at, world.announced) == (
            world.clock.now(),
            world.clock.now(),
            [State.RUNNING],
        )
    assert await world.receive(job, report(status, "right")) is DUPLICATE


async def test_an_adopted_id_is_polled_in_its_time_and_the_right_one_at_the_deadline_at_the_latest(
    world: World,
) -> None:
    late = await world.attached("beta")
    job = sure(await world.claims.in_doubt(await world.submitting(), "reset"))
    await world.store.attach(job.id, "wrong")
    await world.apply(job, report(Status.RUNNING, "right"))
    assert (await world.now(job)).due_at == world.clock.now() + POLL_MS
    assert late.deadline_at <= world.clock.now()
    await world.apply(late, report(Status.RUNNING, "right"))
    after = await world.now(late)
    assert (after.due_at, after.deadline_at) == (world.clock.now(), late.deadline_at)


@pytest.mark.parametrize("place", UNCONFIRMED)
async def test_the_answer_to_the_paid_call_wins_over_an_id_that_was_attached(world: World, place: Place) -> None:
    job = await place(world)
    bound = sure(await world.submitted(job, "right"))
    assert (bound.state, bound.provider_job_id, bound.provider_status) == (job.state, "right", "pending")
    assert await ids(world, job) == [(job.provider_job_id, "right")]
    assert await world.store.attach(job.id, "another") is None
    assert await world.apply(job, report(Status.COMPLETED, "another")) is MISMATCHED


async def test_the_answer_to_the_paid_call_confirms_an_id_that_was_attached(world: World) -> None:
    job = await world.attached()
    sure(await world.submitted(job, f"at-{job.id}"))
    assert await world.store.attach(job.id, "another") is None
    assert await world.submitted(job, f"at-{job.id}") is None


@pytest.mark.parametrize("place", UNCONFIRMED)
async def test_an_id_is_attached_instead_of_a_wrong_one_and_asked_about_at_once(world: World, place: Place) -> None:
    job = await place(world)
    world.announced.clear()
    assert await world.store.attach(job.id, f"at-{job.id}") is None  # the same, which is no news
    assert await world.now(job) == job
    again = sure(await world.store.attach(job.id, "right"))
    assert (again.state, again.provider_job_id, again.due_at) == (job.state, "right", world.clock.now())
    assert world.announced == [State.RUNNING]
    assert [found.id for found in await world.claims.claim_polls("alpha", 10)] == [job.id]


@pytest.mark.parametrize("place", UNCONFIRMED)
async def test_whoever_asks_about_the_wrong_job_is_not_believed_any_more(world: World, place: Place) -> None:
    job = await place(world)
    sure(await world.store.attach(job.id, "right"))
    before = await world.now(job)
    for status in Status:
        assert await world.apply(job, report(status, f"at-{job.id}"), Source.POLL) is MISMATCHED
    assert not await world.claims.renew(job)
    assert not await world.claims.poll_again(job, world.clock.now(), answered=True)
    assert await world.claims.expire(job, TIMED_OUT, None) is None
    assert await world.now(job) == before


@pytest.mark.parametrize("status", Status)
async def test_an_attached_id_of_which_a_report_spoke_is_as_good_as_any(world: World, status: Status) -> None:
    job = await world.attached()
    await world.apply(job, report(Status.RUNNING, f"at-{job.id}"), Source.POLL)
    confirmed = await world.now(job)
    assert not confirmed.unconfirmed
    assert await world.receive(job, report(status, "another")) is MISMATCHED
    assert await world.store.attach(job.id, "another") is None
    assert await world.submitted(job, "another") is None
    assert await world.now(job) == confirmed


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("place", UNCONFIRMED)
async def test_what_was_attached_does_not_yield_to_an_id_that_another_job_has(
    world: World, place: Place, status: Status
) -> None:
    other = await world.running()
    job = await place(world)
    assert await world.receive(job, report(status, f"at-{other.id}")) is MISMATCHED
    assert await world.submitted(job, f"at-{other.id}") is None
    assert await world.now(job) == job


@pytest.mark.parametrize("place", UNCONFIRMED)
async def test_another_id_is_no_other_job_and_is_paid_for_once(world: World, place: Place) -> None:
    job = await place(world)
    await world.store.attach(job.id, "second")
    await world.receive(job, report(Status.COMPLETED, "third", cost=0.5))
    numbers = kept(world)
    assert {key: numbers["spend"][key][:3] for key in numbers["spend"]} == dict.fromkeys(numbers["spend"], (1, 1, 0.5))
    assert numbers == counted(world)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_the_first_of_two_submissions_does_not_end_a_job_whose_second_one_was_attached(
    world: World, status: Status
) -> None:
    job = await world.resubmitted()
    world.clock.advance(TIMING.lease)
    job = sure(await world.store.attach(job.id, "second"))
    assert await world.receive(job, report(status, "first")) is MISMATCHED
    assert await world.now(job) == job
    assert await world.receive(job, report(Status.COMPLETED, "first")) is APPLIED


async def test_an_id_cannot_be_attached_to_a_job_that_was_never_submitted(world: World) -> None:
    job = await world.queued()
    assert await world.store.attach(job.id, "found") is None
    world.clock.advance(TIMING.job_deadline)
    await world.claims.claim_queued("alpha", 10)
    assert await world.store.attach(job.id, "found") is None
    assert (await world.now(job)).provider_job_id is None
