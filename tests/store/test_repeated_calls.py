"""Which calls are one call: what the store knows of calls that came before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from service.model import ErrorCode, JobError, VideoRequest
from service.store import Call, Created, Creation, Idempotency, NewJob, OutOfCredits
from tests.store.world import TIMING, World, sure

FOX = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"))
CALL = Call("call_1", "key_1", "jobs.create", "aaaa")
NO_CREDITS = JobError(ErrorCode.PROVIDER_CREDITS, "none left")


def again(**changes: object) -> Call:
    """Return the same call made again."""
    return replace(CALL, **{"id": "call_2", **changes})  # type: ignore[arg-type] # each test names what it changes


async def make(world: World, call: Call = CALL) -> Created:
    return sure_created(await world.store.create_job(FOX, call=call))


def sure_created(creation: Creation) -> Created:
    assert isinstance(creation, Created)
    return creation


# Without any mark


async def test_a_call_whose_answer_was_never_sent_is_answered_with_its_job_when_it_comes_again(world: World) -> None:
    first = await make(world)
    second = await make(world, again())
    assert second == Created(first.job, replayed=True)
    assert await world.history(first.job) == ["queued"]


async def test_a_call_whose_answer_was_sent_is_a_new_wish_when_it_comes_again(world: World) -> None:
    first = await make(world)
    await world.store.answered("call_1")
    second = await make(world, again())
    assert not second.replayed
    assert second.job.id != first.job.id


async def test_a_call_whose_caller_still_waits_is_not_the_same_as_another_just_like_it(world: World) -> None:
    first = await make(world)
    second = await make(world, again(waiting={"call_1", "call_2"}))
    assert second.job.id != first.job.id


async def test_concurrent_calls_just_alike_are_as_many_jobs(world: World) -> None:
    waiting = {f"call_{number}" for number in range(50)}
    calls = [replace(CALL, id=call, waiting=waiting) for call in sorted(waiting)]
    made = await asyncio.gather(*(make(world, call) for call in calls))
    assert len({each.job.id for each in made}) == 50


async def test_each_of_several_lost_answers_finds_a_job_of_its_own(world: World) -> None:
    waiting = {"call_1", "call_2", "call_3", "call_4"}
    lost = [await make(world, replace(CALL, id=call, waiting=waiting)) for call in ("call_1", "call_2")]
    waiting -= {"call_1", "call_2"}  # we were killed, or they hung up
    found = [await make(world, replace(CALL, id=call, waiting=waiting)) for call in ("call_3", "call_4")]
    assert [each.job.id for each in found] == [each.job.id for each in lost]


async def test_a_lost_answer_is_remembered_for_a_quarter_of_an_hour_after_the_last_call(world: World) -> None:
    first = await make(world)
    world.clock.advance(TIMING.repeat - 1)
    assert (await make(world, again())).job.id == first.job.id
    world.clock.advance(TIMING.repeat - 1)
    assert (await make(world, again(id="call_3"))).job.id == first.job.id
    world.clock.advance(TIMING.repeat)
    assert (await make(world, again(id="call_4"))).job.id != first.job.id


async def test_an_answer_that_is_sent_late_counts_for_the_call_that_it_answered(world: World) -> None:
    first = await make(world)
    await make(world, again())  # the same job, for another call
    await world.store.answered("call_1")
    assert (await make(world, again(id="call_3"))).job.id == first.job.id


@pytest.mark.parametrize(
    "other",
    [{"api_key_id": "key_2"}, {"operation": "other.create"}, {"fingerprint": "bbbb"}],
    ids=lambda other: next(iter(other)),
)
async def test_another_key_operation_or_body_is_another_call(world: World, other: dict[str, str]) -> None:
    first = await make(world)
    assert (await make(world, again(**other))).job.id != first.job.id


# With the mark of a retry


async def test_a_marked_retry_finds_its_job_even_if_an_answer_was_sent(world: World) -> None:
    first = await make(world)
    await world.store.answered("call_1")
    assert (await make(world, again(marked=True))).job.id == first.job.id


async def test_a_marked_retry_is_of_the_call_that_was_never_answered_rather_than_of_one_that_was(world: World) -> None:
    lost = await make(world)
    answered = await make(world, again(waiting={"call_1", "call_2"}))
    await world.store.answered("call_2")
    found = await make(world, again(id="call_3", marked=True))
    assert found.job.id == lost.job.id != answered.job.id


async def test_a_marked_retry_is_of_the_newest_of_several_that_were_answered(world: World) -> None:
    made = []
    for call in ("call_1", "call_2"):
        made.append(await make(world, replace(CALL, id=call)))
        await world.store.answered(call)
        world.clock.advance(1_000)
    assert (await make(world, again(id="call_3", marked=True))).job.id == made[1].job.id


async def test_a_marked_retry_of_something_long_past_is_a_new_wish(world: World) -> None:
    first = await make(world)
    await world.store.answered("call_1")
    world.clock.advance(TIMING.repeat)
    assert (await make(world, again(marked=True))).job.id != first.job.id


async def test_a_marked_retry_without_anything_before_it_is_accepted(world: World) -> None:
    assert not (await make(world, again(marked=True))).replayed


async def test_marked_retries_of_two_calls_that_were_answered_find_a_job_each(world: World) -> None:
    made = []
    for call in ("call_1", "call_2"):
        made.append(await make(world, replace(CALL, id=call, waiting={"call_1", "call_2"})))
        await world.store.answered(call)
        world.clock.advance(1_000)
    found = [await make(world, again(id=call, marked=True)) for call in ("call_3", "call_4")]
    assert {each.job.id for each in found} == {each.job.id for each in made}


async def test_a_marked_retry_takes_no_job_of_a_caller_on_the_line_if_there_is_another(world: World) -> None:
    waiting = {"call_1", "call_2", "call_3"}
    answered = await make(world, replace(CALL, id="call_1", waiting=waiting))
    await world.store.answered("call_1")
    await make(world, replace(CALL, id="call_2", waiting=waiting))
    found = await make(world, again(id="call_3", marked=True, waiting=waiting))
    assert found.job.id == answered.job.id


# In another process


async def test_a_call_that_another_process_is_about_to_answer_is_not_the_same(world: World) -> None:
    other = replace(CALL, id="there_1", process="there")
    first = await make(world, other)
    assert (await make(world, again())).job.id != first.job.id
    world.clock.advance(TIMING.answering)
    found = await make(world, again(id="call_3"))
    assert found.replayed


async def test_a_call_of_another_process_whose_clock_is_ahead_is_not_the_same(world: World) -> None:
    world.clock.advance(2)
    first = await make(world, replace(CALL, id="there_1", process="there"))
    world.clock.advance(-2)
    assert (await make(world, again())).job.id != first.job.id


# With a window


async def test_in_the_window_of_its_key_the_same_call_is_the_same_job(world: World) -> None:
    strict = replace(CALL, dedupe_window_ms=60_000)
    first = await make(world, strict)
    await world.store.answered("call_1")
    world.clock.advance(59_999)
    assert (await make(world, replace(strict, id="call_2"))).job.id == first.job.id
    await world.store.answered("call_2")
    world.clock.advance(1)  # counted from the job, not from the last call: a daily wish is a daily job
    assert (await make(world, replace(strict, id="call_3"))).job.id != first.job.id


async def test_a_window_may_be_longer_than_lost_answers_are_remembered(world: World) -> None:
    strict = replace(CALL, dedupe_window_ms=10 * TIMING.repeat)
    first = await make(world, strict)
    await world.store.answered("call_1")
    world.clock.advance(9 * TIMING.repeat)
    assert (await make(world, replace(strict, id="call_2"))).job.id == first.job.id


# When there is nothing to be made


async def refused_for_want_of_credits(world: World) -> None:
    sure(await world.claims.refused(await world.submitting(), NO_CREDITS))


async def test_a_provider_without_credits_is_not_asked_to_spend_for_a_minute(world: World) -> None:
    await refused_for_want_of_credits(world)
    assert await world.store.create_job(FOX, call=CALL) == OutOfCredits("alpha")
    assert sure_created(await world.store.create_job(replace(FOX, provider="beta"))).job.provider == "beta"
    world.clock.advance(TIMING.poor)
    assert not (await make(world)).replayed


async def test_a_provider_that_accepts_a_job_has_credits(world: World) -> None:
    job = await world.submitting()
    await refused_for_want_of_credits(world)
    await world.submitted(job, "gen-1")
    assert not (await make(world)).replayed


async def test_what_was_made_before_is_found_though_there_are_no_credits(world: World) -> None:
    key = Idempotency("k", "jobs.create", "aaaa")
    by_key = sure_created(await world.store.create_job(FOX, key))
    by_call = await make(world)
    await refused_for_want_of_credits(world)
    assert sure_created(await world.store.create_job(FOX, key)).job.id == by_key.job.id
    assert (await make(world, again())).job.id == by_call.job.id


async def test_a_key_that_found_no_credits_can_be_used_when_there_are_some(world: World) -> None:
    await refused_for_want_of_credits(world)
    key = Idempotency("k", "jobs.create", "aaaa")
    assert isinstance(await world.store.create_job(FOX, key), OutOfCredits)
    world.clock.advance(TIMING.poor)
    assert not sure_created(await world.store.create_job(FOX, key)).replayed
