"""Receivers that do not take what they are told: how they are found, and how all is sent to one of them once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from service.model import FINAL, Delivery, DeliveryAttempt, DeliveryState, VideoRequest
from service.store import FailingReceiver, NewJob, Redelivery, deliveries
from tests.store.world import World, sure

RECEIVER = "https://caller.example:443"
REFUSAL = DeliveryAttempt(1_000, 20, 500, None, "oh no")
SILENCE = DeliveryAttempt(2_000, 30, None, "no answer", None)
THANKS = DeliveryAttempt(3_000, 30, 204, None, "")


async def owed(world: World, jobs: int = 1, tenant: str = "acme", receiver: str = RECEIVER) -> Sequence[Delivery]:
    """Return messages that a worker has just claimed."""
    for _ in range(jobs):
        world.clock.advance(1)
        new = NewJob(tenant, "alpha", VideoRequest(model="m", prompt="a fox"), notify_url=f"{receiver}/hook")
        sure(await world.store.cancel((await world.create(new)).id))
    claimed: list[Delivery] = []
    while len(claimed) < jobs:
        claimed += await world.deliveries.claim(1_000, each=1_000)
    return claimed


async def given_up(world: World, jobs: int = 1, tenant: str = "acme", receiver: str = RECEIVER) -> list[str]:
    """Return the ids of messages that were given up, oldest first."""
    messages = await owed(world, jobs, tenant, receiver)
    for each in messages:
        assert await world.deliveries.gave_up(each, REFUSAL)
    return sorted(each.id for each in messages)


async def test_a_receiver_that_takes_what_it_is_told_does_not_fail(world: World) -> None:
    [first] = await owed(world)
    assert await world.deliveries.failing() == []  # nobody has tried yet
    await world.deliveries.delivered(first, THANKS)
    assert await world.deliveries.failing() == []


async def test_a_receiver_fails_from_the_first_attempt_that_it_did_not_take(world: World) -> None:
    [first] = await owed(world)
    await world.deliveries.try_again(first, SILENCE, world.clock.now())
    assert await world.deliveries.failing("acme") == [
        FailingReceiver("acme", RECEIVER, 0, 1, 1, last_error="no answer", last_status=None, last_at=2_000)
    ]
    [first] = await world.deliveries.claim(9, each=9)
    await world.deliveries.gave_up(first, REFUSAL)
    assert await world.deliveries.failing() == [FailingReceiver("acme", RECEIVER, 1, 0, 0, None, 500, 1_000)]


async def test_a_receiver_that_takes_messages_again_fails_as_long_as_some_are_given_up(world: World) -> None:
    first, second = await owed(world, 2)
    await world.deliveries.gave_up(first, REFUSAL)
    await world.deliveries.delivered(second, THANKS)
    [failing] = await world.deliveries.failing()
    assert (failing.failed, failing.pending) == (1, 0)
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(given_up=1, waiting=0)
    [failing] = await world.deliveries.failing()
    assert (failing.failed, failing.pending, failing.waiting) == (0, 1, 0), "it has not taken it yet"
    [first] = await world.deliveries.claim(9, each=9)
    await world.deliveries.delivered(first, THANKS)
    assert await world.deliveries.failing() == []


async def test_receivers_are_each_tenants_own_and_the_newest_trouble_comes_first(world: World) -> None:
    for at, tenant in ((5, "acme"), (9, "umbrella"), (7, "acme-2")):
        [message] = await owed(world, tenant=tenant)
        await world.deliveries.gave_up(message, DeliveryAttempt(at, 1, 500, None, None))
    assert [each.tenant for each in await world.deliveries.failing()] == ["umbrella", "acme-2", "acme"]
    assert [each.tenant for each in await world.deliveries.failing(limit=2)] == ["umbrella", "acme-2"]
    assert [each.tenant for each in await world.deliveries.failing("acme")] == ["acme"]


async def test_what_was_given_up_is_listed_newest_first_page_by_page(world: World) -> None:
    ids = await given_up(world, 5)
    other = await given_up(world, receiver="https://elsewhere.example:443")
    await given_up(world, tenant="umbrella")
    page = await world.deliveries.failed("acme", RECEIVER, limit=3)
    assert [each.id for each in page] == ids[:1:-1]
    assert all(each.state is DeliveryState.FAILED for each in page)
    rest = await world.deliveries.failed("acme", RECEIVER, before_id=page[-1].id, limit=3)
    assert [each.id for each in rest] == ids[1::-1]
    assert [each.id for each in await world.deliveries.failed("acme", "https://elsewhere.example:443")] == other


async def test_all_that_was_given_up_for_a_receiver_is_owed_again(world: World) -> None:
    ids = await given_up(world, 3)
    await given_up(world, tenant="umbrella")
    await given_up(world, receiver="https://elsewhere.example:443")
    world.announced.clear()
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(given_up=3, waiting=0)
    assert set(world.announced) & FINAL, "nobody is woken"
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(0, 0)
    again = await world.deliveries.claim(100, each=100)
    assert sorted(each.id for each in again) == ids
    assert {each.attempt for each in again} == {1}
    assert {(each.tenant, each.failed) for each in await world.deliveries.failing()} == {
        ("acme", 1),
        ("umbrella", 1),
        ("acme", 0),
    }


async def test_what_waits_after_a_failed_attempt_is_due_at_once_from_the_first_attempt_on(world: World) -> None:
    waiting = await owed(world, 3)
    for number, each in enumerate(waiting):
        await world.deliveries.try_again(each, REFUSAL, world.clock.now() + (number + 1) * 3_600_000)
    elsewhere = await owed(world, receiver="https://elsewhere.example:443")
    await world.deliveries.try_again(elsewhere[0], REFUSAL, world.clock.now() + 3_600_000)
    [lost] = await given_up(world)
    assert await world.deliveries.claim(100, each=100) == []
    world.announced.clear()
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(given_up=1, waiting=3)
    assert set(world.announced) & FINAL, "nobody is woken"
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(0, 0)
    again = await world.deliveries.claim(100, each=100)
    assert {each.id for each in again} == {lost, *(each.id for each in waiting)}
    assert {each.attempt for each in again} == {1}


async def test_what_is_on_its_way_or_was_not_tried_yet_or_was_taken_is_not_sent_twice(world: World) -> None:
    under_way, taken, tried = await owed(world, 3)
    await world.deliveries.delivered(taken, THANKS)
    await world.deliveries.try_again(tried, REFUSAL, world.clock.now() + 5)
    world.clock.advance(5)
    [tried] = await world.deliveries.claim(100, each=100)  # its second attempt is on its way
    new = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"), notify_url=f"{RECEIVER}/hook")
    untried = sure(await world.store.cancel((await world.create(new)).id))
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(0, 0)
    assert [each.job_id for each in await world.deliveries.claim(100, each=100)] == [untried.id]
    for each in (under_way, tried):
        assert await world.deliveries.renew(each), "its lease is kept"


async def test_a_receiver_fails_until_it_took_all_that_it_did_not_take_once(world: World) -> None:
    messages = await owed(world, 4)
    for each in messages[1:]:
        await world.deliveries.try_again(each, REFUSAL, world.clock.now() + 3_600_000)
    await world.deliveries.delivered(messages[0], THANKS)

    async def figures() -> list[tuple[int, int, int]]:
        return [(each.failed, each.pending, each.waiting) for each in await world.deliveries.failing("acme")]

    assert await figures() == [(0, 3, 3)]
    assert await world.deliveries.redeliver(messages[1].job_id)
    [again] = await world.deliveries.claim(100, each=100)
    assert await figures() == [(0, 3, 2)]
    await world.deliveries.delivered(again, THANKS)
    assert await figures() == [(0, 2, 2)], "one was taken, and two wait"
    await world.deliveries.redeliver_all("acme", RECEIVER)
    assert await figures() == [(0, 2, 0)]
    first, second = await world.deliveries.claim(100, each=100)
    await world.deliveries.delivered(first, THANKS)
    assert await figures() == [(0, 1, 0)], "one was taken, and one is on its way"
    await world.deliveries.delivered(second, THANKS)
    assert await figures() == []
    assert await world.deliveries.redeliver(messages[0].job_id)
    assert await figures() == [], "it took this one before"


async def test_many_are_owed_again_some_at_a_time_and_none_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_AT_ONCE", 2)
    for number, each in enumerate(await owed(world, 5)):
        if number % 2:
            await world.deliveries.gave_up(each, REFUSAL)
        else:
            await world.deliveries.try_again(each, REFUSAL, world.clock.now() + 3_600_000)
    transactions = 0
    write = world.ledger.write

    async def counted(work: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - whatever a transaction returns
        nonlocal transactions
        transactions += 1
        done = await write(work)
        if transactions == 1:  # a receiver that says 410 at once, and one that is down again
            first, second = await world.deliveries.claim(100, each=2)
            await world.deliveries.gave_up(first, REFUSAL)
            await world.deliveries.try_again(second, REFUSAL, world.clock.now() + 3_600_000)
        return done

    monkeypatch.setattr(world.ledger, "write", counted)
    assert await world.deliveries.redeliver_all("acme", RECEIVER) == Redelivery(given_up=2, waiting=3)
    assert transactions >= 3


async def test_the_tenants_whose_receiver_fails_are_named_however_many_others_fail(world: World) -> None:
    for tenant in ("initech", "globex"):
        await given_up(world, 2, tenant=tenant)
    await given_up(world, receiver="https://other.example:443")
    [message] = await owed(world, tenant="hooli")
    await world.deliveries.delivered(message, THANKS)
    assert await world.deliveries.tenants_failing(RECEIVER, limit=9) == ["globex", "initech"]
    assert await world.deliveries.tenants_failing(RECEIVER, limit=1) == ["globex"]
    assert await world.deliveries.tenants_failing("https://nobody.example:443", limit=9) == []


async def test_the_last_attempt_at_each_message_tells_how_many_there_were(world: World) -> None:
    first, second, untried = await owed(world, 3)
    await world.deliveries.try_again(first, REFUSAL, world.clock.now())
    [again] = await world.deliveries.claim(9, each=9)
    await world.deliveries.gave_up(again, SILENCE)
    await world.deliveries.delivered(second, THANKS)
    found = await world.deliveries.last_attempts([first.id, second.id, untried.id, "evt_unknown"])
    assert found == {first.id: replace(SILENCE, number=2), second.id: replace(THANKS, number=1)}
    assert await world.deliveries.last_attempts([]) == {}
