"""Numbers that are kept while things happen equal those that are counted afterwards, whatever has happened."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from service.model import DeliveryAttempt, OnUnknown, State, Status, VideoRequest
from service.store import NewJob
from tests.store.recount import Numbers, added, counted, kept, searchable, taken_away
from tests.store.test_walk import ENDS, Walk
from tests.store.world import TIMING, World, artifact, report, sure

TENANTS = ["acme", "umbrella", "acme-2"]
HOOKS = [None, "https://one.example/hook", "https://two.example/hook"]
PROMPTS = ["a fox", "ein Fuchs \U0001f98a", '"*" OR \0 NEAR(', ""]
ATTEMPT = DeliveryAttempt(1_000, 20, 500, "no", None)
STAY = ("activity", "spend", "kept_times")  # what happened has happened, and money is spent, whatever is deleted


class BusyWalk(Walk):
    """A walk of several tenants, whose jobs cost something, are told about, and are deleted."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed)
        self.past: Numbers = {table: {} for table in STAY}
        self.deleted = self.given_up = self.waiting = 0

    async def create(self) -> None:
        request = VideoRequest(self.one(["m", "n"]), prompt=self.one(PROMPTS))
        on_unknown, metadata = self.one(list(OnUnknown)), {"order": self.chance.random(), "paid": True}
        new = NewJob(self.one(TENANTS), "alpha", request, on_unknown, metadata, notify_url=self.one(HOOKS))
        self.jobs = [*self.jobs, (await self.world.create(new)).id][-4:]

    async def step(self) -> None:
        more = [self.tell, self.tell, self.pay, self.pay, self.redeliver, self.delete]
        await (self.one(more)() if self.chance.random() < 0.4 else super().step())

    async def check(self) -> None:
        """Check nothing after each step: here it is about numbers."""

    async def mirror(self) -> None:
        job = self.remembered("mirror")
        if job is not None and self.chance.random() < 0.3:
            await self.world.claims.keep_artifact(job, replace(artifact(0), bytes=self.chance.randrange(1, 9_000)))
        await super().mirror()

    async def tell(self) -> None:
        deliveries = self.world.deliveries
        for owed in await deliveries.claim(4, each=2):
            match self.chance.randrange(4):
                case 0:
                    await deliveries.delivered(owed, replace(ATTEMPT, status=204))
                case 1:
                    await deliveries.gave_up(owed, ATTEMPT)
                case 2:
                    await deliveries.try_again(owed, ATTEMPT, self.world.clock.now() + self.one([5, 5_000]))
                case _:
                    await deliveries.interrupted(owed)

    async def pay(self) -> None:
        job_id = self.one(self.jobs)
        status = self.one([Status.COMPLETED, Status.COMPLETED, *ENDS])
        said = report(status, self.some_id(job_id), cost=self.one([None, 0.25, 1.5]))
        job = await self.world.store.job(job_id)
        assert job is not None
        await self.world.receive(job, said)

    async def redeliver(self) -> None:
        if self.chance.random() < 0.5:
            await self.world.deliveries.redeliver(self.one(self.jobs))
        else:
            receiver = f"https://{self.one(['one', 'two'])}.example:443"
            done = await self.world.deliveries.redeliver_all(self.one(TENANTS), receiver)
            self.given_up += done.given_up
            self.waiting += done.waiting

    async def delete(self) -> None:
        job = await self.world.store.job(self.one(self.jobs))
        assert job is not None
        before = counted(self.world)
        if len(self.jobs) > 1 and await self.world.store.delete(job):
            self.deleted += 1
            self.jobs.remove(job.id)
            after = counted(self.world)
            gone = {table: taken_away(before[table], after[table]) for table in STAY}
            self.past = {table: added(self.past[table], gone[table]) for table in STAY}
            for kind, held in self.claimed.items():
                self.claimed[kind] = [each for each in held if each.id != job.id]


async def test_a_job_that_is_there_from_elsewhere_is_counted_too(world: World) -> None:
    await world.queued()
    world.sql(
        "INSERT INTO jobs (id, tenant, state, due_at, provider, provider_job_id, model, request, on_unknown, metadata,"
        " created_at, submitted_at, deadline_at, cost) SELECT 'job_z', tenant, 'running', 1, provider, 'theirs', model,"
        " request, on_unknown, metadata, created_at, created_at, 1, 0.5 FROM jobs"
    )
    assert kept(world)["spend"] == counted(world)["spend"] != {}
    assert searchable(world) == {row["id"] for row in world.sql("SELECT id FROM jobs")}


async def test_jobs_are_found_by_their_provider_although_numbers_are_lost_and_other_jobs_are_deleted(
    world: World,
) -> None:
    gone = sure(await world.store.cancel((await world.queued("gone")).id))
    assert await world.store.delete(gone)
    doubted, unserved = await world.submitting("alpha"), await world.queued("gone")
    world.sql("DELETE FROM job_counts")
    world.clock.advance(TIMING.job_deadline)
    assert [job.id for job in await world.claims.claim_doubtful(10)] == [doubted.id]
    await world.claims.give_up_unserved(["alpha"], 10)
    assert (await world.now(unserved)).state is State.EXPIRED


async def test_no_provider_that_had_jobs_is_forgotten(world: World) -> None:
    job = sure(await world.store.cancel((await world.queued()).id))
    assert await world.store.delete(job)
    with pytest.raises(sqlite3.IntegrityError, match="never forgotten"):
        world.sql("DELETE FROM providers")
    assert world.sql("SELECT provider FROM providers") == [{"provider": "alpha"}]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_was_counted_while_it_happened_is_what_there_is(world: World, seed: int) -> None:
    walk = BusyWalk(world, seed)
    await walk.create()
    for number in range(1_500):
        await walk.step()
        if number % 250 == 0:
            expected = counted(world)
            expected = {**expected, **{table: added(expected[table], walk.past[table]) for table in STAY}}
            found = kept(world)
            for table in expected:
                assert (table, found[table]) == (table, expected[table])
    assert searchable(world) == {row["id"] for row in world.sql("SELECT id FROM jobs")}
    assert min(walk.deleted, walk.given_up, walk.waiting, *map(len, kept(world).values())) > 0, (
        "the walk was too short to say much"
    )
