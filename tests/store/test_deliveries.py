"""What callers are owed: written with the end of a job, sent few at once to each, noted down attempt by attempt."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from service.model import Delivery, DeliveryAttempt, DeliveryState, Face, Job, State, Status, VideoRequest
from service.store import Deliveries, NewJob
from tests.store.world import REFUSED, TIMED_OUT, TIMING, World, artifact, held, report, sure

HOOK = "https://caller.example/hook?key=1"
REFUSAL = DeliveryAttempt(1_000, 20, 500, None, "oh no")
THANKS = DeliveryAttempt(2_000, 30, 204, None, "")

Write = Callable[[Deliveries, Delivery], Awaitable[bool]]
WRITES: list[Write] = [
    lambda deliveries, delivery: deliveries.renew(delivery),
    lambda deliveries, delivery: deliveries.delivered(delivery, THANKS),
    lambda deliveries, delivery: deliveries.gave_up(delivery, REFUSAL),
    lambda deliveries, delivery: deliveries.try_again(delivery, REFUSAL, 1),
    lambda deliveries, delivery: deliveries.interrupted(delivery),
]


@pytest.fixture
def deliveries(world: World) -> Deliveries:
    return Deliveries(world.ledger, world.ids)


async def ended(world: World, url: str | None = HOOK, tenant: str = "acme") -> Job:
    """Return a job that has ended, the fastest way."""
    job = await world.create(NewJob(tenant, "alpha", VideoRequest(model="m", prompt="a fox"), notify_url=url))
    return sure(await world.store.cancel(job.id))


async def only(deliveries: Deliveries) -> Delivery:
    (delivery,) = await deliveries.claim(100, each=100)
    return delivery


async def owed(deliveries: Deliveries, job: Job) -> list[tuple[DeliveryState, State, list[DeliveryAttempt]]]:
    return [(delivery.state, delivery.ended, attempts) for delivery, attempts in await deliveries.of(job.id)]


# When there is one


async def test_a_job_that_names_nobody_to_tell_owes_nothing(world: World, deliveries: Deliveries) -> None:
    job = await ended(world, None)
    assert await deliveries.of(job.id) == []
    assert await deliveries.claim(100, each=100) == []
    assert await deliveries.redeliver(job.id) is None


async def test_the_end_of_a_job_and_what_is_owed_of_it_are_one_transaction(
    world: World, deliveries: Deliveries, refused: type[Exception]
) -> None:
    world.sql("CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'x'); END")
    job = await world.create(NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"), notify_url=HOOK))
    with pytest.raises(refused, match="x"):
        await world.store.cancel(job.id)
    assert (await world.now(job)).state is State.QUEUED
    world.sql("DROP TRIGGER full")
    sure(await world.store.cancel(job.id))
    assert (await only(deliveries)).ended is State.CANCELLED


async def test_a_job_that_has_not_ended_owes_nothing(world: World, deliveries: Deliveries) -> None:
    await world.create(NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"), notify_url=HOOK))
    assert await deliveries.claim(100, each=100) == []


async def test_a_message_says_what_is_owed_to_whom(world: World, deliveries: Deliveries) -> None:
    job = await ended(world, "https://user:secret@Caller.Example/hook?key=1")
    assert await only(deliveries) == Delivery(
        id=f"evt_{job.id}",
        state=DeliveryState.PENDING,
        attempt=1,
        due_at=world.clock.now() + TIMING.lease,
        lease=world.sql("SELECT lease FROM deliveries")[0]["lease"],
        leased_until=world.clock.now() + TIMING.lease,
        job_id=job.id,
        receiver="https://caller.example:443",
        ended=State.CANCELLED,
        error=job.error,
        created_at=world.clock.now(),
        finished_at=None,
    )


async def test_a_recovered_job_owes_a_second_message_and_the_first_stays_true(
    world: World, deliveries: Deliveries
) -> None:
    job = await world.running()
    world.sql("UPDATE jobs SET notify_url = :url", url=HOOK)
    sure(await world.claims.expire(job, TIMED_OUT, None))
    world.clock.advance(5_000)
    assert job.provider_job_id is not None
    await world.apply(job, report(Status.COMPLETED, job.provider_job_id))
    mirroring = held(job, await world.claims.claim_mirrors("alpha", 10))
    assert await world.claims.keep_artifact(mirroring, artifact())
    sure(await world.claims.mirrored(mirroring))

    first, second = [delivery for delivery, _ in await deliveries.of(job.id)]
    assert (first.id, first.ended, first.error) == (f"evt_{job.id}", State.EXPIRED, TIMED_OUT)
    assert (second.id, second.ended, second.error) == (f"evt_{job.id}_2", State.COMPLETED, None)
    assert second.created_at == first.created_at + 5_000
    assert {each.id for each in await deliveries.claim(10, each=10)} == {first.id, second.id}


async def test_the_face_of_a_job_and_its_sealed_secret_are_read_back(world: World) -> None:
    new = NewJob("acme", "alpha", VideoRequest(model="m"), face=Face.OPENAI, notify_url=HOOK, notify_secret="seal1.x.y")
    job = await world.create(new)
    assert (job.face, job.notify_url, job.notify_secret) == (Face.OPENAI, HOOK, "seal1.x.y")
    assert "seal1" not in repr(job)


# Whom it is sent to


async def test_each_receiver_has_few_under_way_however_much_it_is_owed(world: World, deliveries: Deliveries) -> None:
    for _ in range(20):
        await ended(world, "https://dead.example/")
    world.clock.advance(1)
    await ended(world, "https://quick.example/")
    claimed = await deliveries.claim(64, each=4)
    assert Counter(each.receiver for each in claimed) == {"https://dead.example:443": 4, "https://quick.example:443": 1}
    assert await deliveries.claim(64, each=4) == []


async def test_a_place_that_is_free_again_is_taken_again(world: World, deliveries: Deliveries) -> None:
    for _ in range(9):
        await ended(world)
    first = await deliveries.claim(64, each=4)
    assert await deliveries.delivered(first[0], THANKS)
    assert await deliveries.try_again(first[1], REFUSAL, world.clock.now() + 5_000)
    second = await deliveries.claim(64, each=4)
    assert len(second) == 2
    assert not {each.id for each in first} & {each.id for each in second}


async def test_whoever_has_nothing_under_way_comes_before_receivers_that_hang(
    world: World, deliveries: Deliveries
) -> None:
    for _ in range(6):
        await ended(world, "https://dead.example/")
    assert len(await deliveries.claim(7, each=4)) == 2
    world.clock.advance(1_000)
    await ended(world, "https://quick.example/")
    (next_one,) = await deliveries.claim(9, each=4)
    assert next_one.receiver == "https://quick.example:443"


async def test_places_are_shared_out_evenly(world: World, deliveries: Deliveries) -> None:
    for number in range(5):
        for _ in range(9):
            await ended(world, f"https://caller{number}.example/")
    assert sorted(Counter(each.receiver for each in await deliveries.claim(64, each=4)).values()) == [2, 2, 3, 3, 3]
    assert sorted(Counter(each.receiver for each in await deliveries.claim(99, each=4)).values()) == [1, 1, 1, 2, 2]


async def test_never_more_are_leased_than_were_asked_for(world: World, deliveries: Deliveries) -> None:
    for number in range(9):
        for _ in range(3):
            await ended(world, tenant=f"tenant{number}")
    assert len(await deliveries.claim(7, each=2)) == 7
    assert len(await deliveries.claim(100, each=2)) == 11


async def test_a_tenant_that_is_owed_much_by_many_leaves_most_places_to_others(
    world: World, deliveries: Deliveries
) -> None:
    for number in range(70):
        for _ in range(2):
            await ended(world, f"https://dead{number}.example/")
    assert len(await deliveries.claim(64, each=4)) == 13
    assert len(await deliveries.claim(51, each=4)) == 0
    world.clock.advance(1)
    for tenant in ("globex", "initech"):
        for number in range(70):
            await ended(world, f"https://dead{number}.example/", tenant)
    claimed = await deliveries.claim(51, each=4)
    assert sorted(Counter(await tenants(world, claimed)).values()) == [9, 9]
    await ended(world, tenant="umbrella")
    assert await tenants(world, await deliveries.claim(33, each=4)) == ["umbrella"]


async def test_the_last_place_is_for_a_tenant_that_has_none(world: World, deliveries: Deliveries) -> None:
    await ended(world)
    assert len(await deliveries.claim(64, each=4)) == 1
    await ended(world, "https://another.example/")
    assert await deliveries.claim(1, each=4) == []
    world.clock.advance(1)
    await ended(world, tenant="globex")
    assert await tenants(world, await deliveries.claim(1, each=4)) == ["globex"]


async def test_a_tenant_that_waits_longer_comes_first(world: World, deliveries: Deliveries) -> None:
    for tenant in ("globex", "acme", "initech"):
        await ended(world, tenant=tenant)
        world.clock.advance(1)
    for tenant in ("globex", "acme", "initech"):
        assert await tenants(world, await deliveries.claim(1, each=4)) == [tenant]


async def test_tenants_that_tell_the_same_receiver_do_not_share_its_places(
    world: World, deliveries: Deliveries
) -> None:
    for tenant in ("acme", "globex"):
        for _ in range(9):
            await ended(world, tenant=tenant)
    assert Counter(await tenants(world, await deliveries.claim(64, each=4))) == {"acme": 4, "globex": 4}


async def test_receivers_that_take_their_messages_keep_places_beside_many_that_do_not(
    world: World, deliveries: Deliveries
) -> None:
    for number in range(9):
        await ended(world, f"https://well{number}.example/")
    for delivery in await deliveries.claim(64, each=4):
        assert await deliveries.delivered(delivery, THANKS)
    for number in range(70):
        await ended(world, f"https://dead{number}.example/")
    assert len(await deliveries.claim(64, each=4)) == 13
    world.clock.advance(1)
    for number in range(9):
        for _ in range(9):
            await ended(world, f"https://well{number}.example/")
    claimed = await deliveries.claim(51, each=4)
    assert len(claimed) == 9
    assert all("well" in each.receiver for each in claimed)


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_receiver_that_took_no_message_has_to_take_one_before_it_counts_as_well(
    world: World, deliveries: Deliveries, *, given_up: bool
) -> None:
    async def healthy() -> bool:
        (row,) = world.sql("SELECT healthy FROM receivers")
        return bool(row["healthy"])

    job = await ended(world)
    assert not await healthy()
    assert await deliveries.delivered(await only(deliveries), THANKS)
    assert await healthy()
    assert await deliveries.redeliver(job.id)
    delivery = await only(deliveries)
    assert await healthy()
    if given_up:
        assert await deliveries.gave_up(delivery, REFUSAL)
    else:
        assert await deliveries.try_again(delivery, REFUSAL, world.clock.now() + 5_000)
    assert not await healthy()


async def test_tenants_whose_receivers_are_full_hide_nobody(world: World, deliveries: Deliveries) -> None:
    for tenant in "abcdef":
        for _ in range(2):
            await ended(world, tenant=tenant)
    assert len(await deliveries.claim(64, each=1)) == 6
    world.clock.advance(1)
    await ended(world, "https://another.example/", tenant="f")
    assert await tenants(world, await deliveries.claim(5, each=1)) == ["f"]


async def test_a_tenant_with_fewer_under_way_comes_first_whatever_its_receivers_did(
    world: World, deliveries: Deliveries
) -> None:
    await ended(world, tenant="acme")
    (delivery,) = await deliveries.claim(1, each=4)
    assert await deliveries.delivered(delivery, THANKS)
    for _ in range(3):
        await ended(world, tenant="acme")
    await ended(world, tenant="globex")
    assert len(await deliveries.claim(64, each=4)) == 4
    await ended(world, "https://another.example/", tenant="acme")
    world.clock.advance(1)
    await ended(world, "https://another.example/", tenant="globex")
    claimed = await deliveries.claim(7, each=4)
    assert await tenants(world, claimed) == ["globex"]


async def tenants(world: World, claimed: Sequence[Delivery]) -> list[str]:
    return [sure(await world.store.job(each.job_id)).tenant for each in claimed]


@pytest.mark.parametrize("seed", range(5))
async def test_when_a_receiver_is_due_is_always_when_the_first_of_its_deliveries_is(
    world: World, deliveries: Deliveries, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - chance that repeats
    jobs: list[Job] = []
    held: list[Delivery] = []
    for _ in range(120):
        deed = chance.randrange(6)
        if deed <= 1:
            jobs.append(
                await ended(world, f"https://{chance.choice('ab')}.example/", chance.choice(["acme", "globex"]))
            )
        elif deed == 2:
            held += await deliveries.claim(chance.randint(1, 9), each=chance.randint(1, 4))
        elif deed == 3 and held:
            await chance.choice(WRITES)(deliveries, held.pop(chance.randrange(len(held))))
        elif deed == 4 and jobs:
            job = chance.choice(jobs)
            if chance.random() < 0.5:
                await deliveries.redeliver(job.id)
            else:
                jobs.remove(job)
                assert await world.store.delete(job)
        else:
            world.clock.advance(chance.randint(0, TIMING.lease))
        owed = "SELECT tenant, receiver, min(due_at) AS due_at FROM deliveries GROUP BY tenant, receiver"
        assert world.sql("SELECT tenant, receiver, due_at FROM receivers ORDER BY 1, 2") == world.sql(owed)
    for job in jobs:
        assert await world.store.delete(job)
    assert world.sql("SELECT * FROM receivers") == []


async def test_receivers_differ_by_scheme_host_and_port_alone(world: World, deliveries: Deliveries) -> None:
    for url in (
        "https://a.example/one",
        "https://A.example:443/two?x=1",
        "http://a.example/",
        "https://a.example:8443/",
        "https://b.example/",
    ):
        await ended(world, url)
    claimed = await deliveries.claim(100, each=100)
    assert sorted(Counter(each.receiver for each in claimed).values()) == [1, 1, 1, 2]


async def test_nothing_is_claimed_before_it_is_due(world: World, deliveries: Deliveries) -> None:
    await ended(world)
    delivery = await only(deliveries)
    assert await deliveries.try_again(delivery, REFUSAL, world.clock.now() + 5_000)
    world.clock.advance(4_999)
    assert await deliveries.claim(100, each=4) == []
    world.clock.advance(1)
    again = await only(deliveries)
    assert (again.id, again.attempt, again.created_at) == (delivery.id, 2, delivery.created_at)


# Leases


@pytest.mark.parametrize("write", WRITES)
async def test_a_sender_whose_lease_was_taken_over_decides_nothing(
    world: World, deliveries: Deliveries, write: Write
) -> None:
    await ended(world)
    slow = await only(deliveries)
    world.clock.advance(TIMING.lease - 1)
    assert await deliveries.claim(100, each=4) == []
    world.clock.advance(1)
    taken = await only(deliveries)
    assert not await write(deliveries, slow)
    ((now, _),) = await deliveries.of(slow.job_id)
    assert now == taken
    assert await write(deliveries, taken)


async def test_a_renewed_lease_is_not_taken_over(world: World, deliveries: Deliveries) -> None:
    await ended(world)
    delivery = await only(deliveries)
    world.clock.advance(TIMING.lease - 1)
    assert await deliveries.renew(delivery)
    world.clock.advance(TIMING.lease - 1)
    assert await deliveries.claim(100, each=4) == []
    world.clock.advance(1)
    assert (await only(deliveries)).id == delivery.id


async def test_what_a_dead_process_had_under_way_is_the_same_attempt(world: World, deliveries: Deliveries) -> None:
    await ended(world)
    for _ in range(12):
        delivery = await only(deliveries)
        assert delivery.attempt == 1
        world.clock.advance(TIMING.lease)
    assert await deliveries.try_again(await only(deliveries), REFUSAL, world.clock.now())
    assert (await only(deliveries)).attempt == 2


async def test_an_interrupted_delivery_is_due_at_once_and_counts_as_no_attempt(
    world: World, deliveries: Deliveries
) -> None:
    await ended(world)
    delivery = await only(deliveries)
    assert await deliveries.interrupted(delivery)
    again = await only(deliveries)
    assert (again.id, again.attempt) == (delivery.id, 1)
    ((_, attempts),) = await deliveries.of(delivery.job_id)
    assert attempts == []


# What came of it


async def test_every_attempt_is_kept_with_what_came_of_it(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    assert await deliveries.try_again(await only(deliveries), REFUSAL, world.clock.now())
    silence = DeliveryAttempt(1_500, 30_000, None, "no whole answer within 30 s", None)
    assert await deliveries.try_again(await only(deliveries), silence, world.clock.now())
    assert await deliveries.delivered(await only(deliveries), THANKS)
    attempts = [replace(REFUSAL, number=1), replace(silence, number=2), replace(THANKS, number=3)]
    assert await owed(deliveries, job) == [(DeliveryState.DELIVERED, State.CANCELLED, attempts)]
    ((delivery, _),) = await deliveries.of(job.id)
    assert delivery.finished_at == world.clock.now()
    assert (delivery.due_at, delivery.lease, delivery.leased_until) == (None, None, None)
    world.clock.advance(86_400_000)
    assert await deliveries.claim(100, each=4) == []


async def test_of_many_attempts_the_newest_are_shown_and_how_many_there_were(
    world: World, deliveries: Deliveries
) -> None:
    job = await ended(world)
    for _ in range(53):
        delivery = await only(deliveries)
        assert await deliveries.gave_up(delivery, REFUSAL)
        assert await deliveries.redeliver(job.id)
    [(_, attempts)] = await deliveries.of(job.id)
    assert [attempt.number for attempt in attempts] == list(range(4, 54))
    assert await deliveries.attempts(delivery.id) == attempts
    last = await deliveries.last_attempts([delivery.id])
    assert last == {delivery.id: attempts[-1]}


async def test_of_many_messages_about_a_job_the_newest_are_shown(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    for number in range(2, 24):
        world.sql(
            "INSERT INTO deliveries (id, state, tenant, job_id, receiver, ended, created_at, finished_at)"
            " VALUES (:id, 'failed', 'acme', :job_id, 'there', 'failed', 1, 1)",
            id=f"evt_{job.id}_{number}",
            job_id=job.id,
        )
    shown = [delivery.id for delivery, _ in await deliveries.of(job.id)]
    assert shown == [f"evt_{job.id}_{number}" for number in range(4, 24)]


async def test_what_was_given_up_is_never_sent_again_by_itself(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    assert await deliveries.gave_up(await only(deliveries), REFUSAL)
    world.clock.advance(86_400_000)
    assert await deliveries.claim(100, each=4) == []
    assert await owed(deliveries, job) == [
        (DeliveryState.FAILED, State.CANCELLED, [replace(REFUSAL, number=1)]),
    ]


@pytest.mark.parametrize("end", [WRITES[1], WRITES[2]], ids=["delivered", "given up"])
async def test_a_message_is_sent_once_more_on_demand_and_keeps_its_name_and_history(
    world: World, deliveries: Deliveries, end: Write
) -> None:
    job = await ended(world)
    delivery = await only(deliveries)
    assert await end(deliveries, delivery)
    world.announced.clear()
    world.clock.advance(1_000)

    again = await deliveries.redeliver(job.id)
    assert again is not None
    assert (again.id, again.state, again.due_at) == (delivery.id, DeliveryState.PENDING, world.clock.now())
    assert world.announced == [State.CANCELLED]  # which wakes whoever sends it
    claimed = await only(deliveries)
    assert (claimed.attempt, claimed.created_at) == (1, delivery.created_at)
    assert await deliveries.delivered(claimed, THANKS)
    ((_, attempts),) = await deliveries.of(job.id)
    assert [attempt.number for attempt in attempts] == [1, 2]


async def test_a_message_that_waits_for_its_next_attempt_is_sent_now_on_demand(
    world: World, deliveries: Deliveries
) -> None:
    job = await ended(world)
    assert await deliveries.try_again(await only(deliveries), REFUSAL, world.clock.now() + 3_600_000)
    assert await deliveries.redeliver(job.id)
    assert (await only(deliveries)).attempt == 1


async def test_a_message_that_is_on_its_way_is_not_sent_twice(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    delivery = await only(deliveries)
    assert await deliveries.redeliver(job.id) is None
    assert await deliveries.delivered(delivery, THANKS)


async def test_only_the_newest_message_about_a_job_is_sent_once_more(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    assert await deliveries.delivered(await only(deliveries), THANKS)
    world.sql(
        "INSERT INTO deliveries (id, state, job_id, tenant, receiver, ended, created_at, finished_at)"
        " SELECT id || '_2', state, job_id, tenant, receiver, ended, created_at, finished_at FROM deliveries"
    )
    again = await deliveries.redeliver(job.id)
    assert again is not None
    assert again.id == f"evt_{job.id}_2"
    assert [each.id for each in await deliveries.claim(10, each=10)] == [again.id]


async def test_a_deleted_job_owes_nothing_and_its_sender_notes_nothing(world: World, deliveries: Deliveries) -> None:
    job = await ended(world)
    assert await deliveries.try_again(await only(deliveries), REFUSAL, world.clock.now())
    delivery = await only(deliveries)
    assert await world.store.delete(job)
    assert not await deliveries.delivered(delivery, THANKS)
    assert not await deliveries.try_again(delivery, REFUSAL, 1)
    assert await deliveries.claim(100, each=4) == []
    assert world.sql("SELECT count(*) AS n FROM delivery_attempts")[0]["n"] == 0


async def test_the_reason_of_a_failed_job_goes_with_its_message(world: World, deliveries: Deliveries) -> None:
    job = await world.create(NewJob("acme", "alpha", VideoRequest(model="m"), notify_url=HOOK))
    held(job, await world.claims.claim_queued("alpha", 10))
    sure(await world.claims.refused(await world.now(job), REFUSED))
    assert (await only(deliveries)).error == REFUSED
