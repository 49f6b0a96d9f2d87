"""Lists, searches and the overview may take long; what calls and callbacks need is never behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.model import VideoRequest
from service.store import Deliveries, KeyStore, NewJob, Rejections, Statistics, Wanted
from tests.store.world import World

FOX = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"))
Sentence = Callable[[World, str], Awaitable[object]]


def deliveries(world: World) -> Deliveries:
    return Deliveries(world.ledger, world.ids)


LOOKS: dict[str, Sentence] = {
    "find": lambda world, _: world.store.find("acme", Wanted(text="fox"), index=False),
    "jobs": lambda world, _: world.store.jobs("acme"),
    "jobs_oldest_first": lambda world, _: world.store.jobs_oldest_first("acme"),
    "receipts": lambda world, job_id: world.store.receipts(job_id),
    "overview": lambda world, _: Statistics(world.ledger).overview("acme"),
    "rejections": lambda world, _: Rejections(world.ledger).page("acme"),
    "totals": lambda world, _: Rejections(world.ledger).totals(),
    "deliveries": lambda world, job_id: deliveries(world).of(job_id),
    "last_attempts": lambda world, job_id: deliveries(world).last_attempts([f"evt_{job_id}"]),
    "failing": lambda world, _: deliveries(world).failing("acme"),
    "tenants_failing": lambda world, _: deliveries(world).tenants_failing("there", limit=1),
    "later": lambda world, _: deliveries(world).later("acme", "there"),
    "failed": lambda world, _: deliveries(world).failed("acme", "there"),
}
READS: dict[str, Sentence] = {
    "job": lambda world, job_id: world.store.job(job_id, "acme"),
    "events": lambda world, job_id: world.store.events(job_id),
    "retries": lambda world, job_id: world.store.retries(job_id),
    "attempts": lambda world, job_id: deliveries(world).attempts(f"evt_{job_id}"),
    "receiver": lambda world, _: deliveries(world).receiver("acme", "there"),
    "key": lambda world, _: KeyStore(world.database, world.clock, world.ids).authenticate("rk_nobody"),
    "create": lambda world, _: world.create(FOX),
    "cancel": lambda world, job_id: world.store.cancel(job_id),
    "redeliver": lambda world, job_id: deliveries(world).redeliver(job_id),
}


async def never(*_: object) -> None:
    raise AssertionError("it would wait for others")


@pytest.mark.parametrize("name", LOOKS)
async def test_what_may_take_long_is_looked_up_where_nobody_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job = await world.create(FOX)
    monkeypatch.setattr(world.database, "read", never)
    await LOOKS[name](world, job.id)


@pytest.mark.parametrize("name", READS)
async def test_what_calls_need_does_not_wait_for_those_who_look(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job = await world.create(FOX)
    monkeypatch.setattr(world.database, "look", never)
    await READS[name](world, job.id)


@pytest.mark.parametrize("name", ["find", "overview", "rejections", "failing", "later", "failed"])
async def test_the_looks_of_a_tenant_take_turns(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whose: list[str] = []

    async def noting(_: object, who: str = "") -> list[object]:
        whose.append(who)
        return []

    monkeypatch.setattr(world.database, "look", noting)
    await LOOKS[name](world, "job_none")
    assert whose == ["acme"]
