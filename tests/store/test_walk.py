"""A random walk: whatever workers, providers, callers and the clock do, in whatever order, the promises hold.

Workers know no more than what they were given when they claimed; what they say may come late, twice, or after somebody
else said something else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import pytest

from service.model import TRANSITIONS, Job, OnUnknown, Source, State, Status
from tests.store.world import GONE, POLL_MS, REFUSED, RETENTION_MS, TIMED_OUT, TIMING, UNKNOWN, World, artifact, report

T = TypeVar("T")
WAITS = [1_000, 20_000, TIMING.lease, TIMING.resubmit_after, TIMING.job_deadline]
AT_ONCE = 4
ENDS = [Status.FAILED, Status.CANCELLED, Status.EXPIRED]


class Walk:
    """The newest jobs of one store, and the last things that workers claimed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)  # noqa: S311 - a walk that can be repeated
        self.jobs: list[str] = []
        self.claimed: dict[str, list[Job]] = {name: [] for name in ("submit", "doubt", "poll", "mirror")}
        self.paid: Counter[str] = Counter()
        self.walked: set[tuple[State, State]] = set()

    def one(self, things: Sequence[T]) -> T:
        return self.chance.choice(things)

    def remembered(self, kind: str) -> Job | None:
        """Return what a worker holds, or once held: mostly the newest."""
        held = self.claimed[kind][-3:]
        return self.one([*held, *held[-1:] * 4]) if held else None

    async def step(self) -> None:
        moves = [self.claim] * 4 + [self.submit] * 4 + [self.poll] * 3 + [self.mirror] * 4 + [self.resolve] * 2
        await self.one([*moves, self.call_back, self.call_back, self.wait, self.create, self.operate, self.operate])()
        await self.check()

    # Callers, operators and the clock

    async def create(self) -> None:
        job = await self.world.queued(on_unknown=self.one(list(OnUnknown)))
        self.jobs = [*self.jobs, job.id][-AT_ONCE:]

    async def operate(self) -> None:
        job_id, store = self.one(self.jobs), self.world.store
        match self.chance.randrange(4):
            case 0:
                await store.cancel(job_id)
            case 1:
                await store.hint(job_id)
            case 2:
                await store.attach(job_id, self.some_id(job_id))
            case _:
                await store.remirror(job_id, RETENTION_MS)

    async def wait(self) -> None:
        self.world.clock.advance(self.chance.choices(WAITS, [20, 20, 10, 5, 2])[0])

    # Workers

    async def claim(self) -> None:
        claims, limit = self.world.claims, self.chance.randint(1, 9)
        submitting = await claims.claim_queued("alpha", limit)
        self.paid.update(job.id for job in submitting)
        self.claimed["submit"] += submitting
        self.claimed["doubt"] += await claims.claim_doubtful(limit)
        self.claimed["poll"] += await claims.claim_polls("alpha", limit)
        self.claimed["mirror"] += await claims.claim_mirrors("alpha", limit)

    async def submit(self) -> None:
        if (job := self.remembered("submit")) is None:
            return
        claims = self.world.claims
        match self.chance.randrange(8):
            case 0:
                await claims.refused(job, REFUSED)
            case 1:
                await claims.turned_away(job, self.world.clock.now() + self.one(WAITS), "busy")
            case 2 | 3 | 4:
                await claims.in_doubt(job, "reset")
            case _:
                await self.world.submitted(job, f"{job.id}-{self.chance.randint(1, self.paid[job.id])}")

    async def resolve(self) -> None:
        if (job := self.remembered("doubt")) is None:
            return
        claims = self.world.claims
        match self.chance.randrange(4):
            case 0:
                await claims.in_doubt(job, "its worker died")
            case 1:
                await claims.give_up_submission(job, UNKNOWN)
            case _:
                await claims.resubmit(job)

    async def poll(self) -> None:
        if (job := self.remembered("poll")) is None:
            return
        claims, now = self.world.claims, self.world.clock.now()
        match self.chance.randrange(6):
            case 0:
                await claims.expire(job, TIMED_OUT, now + POLL_MS)
            case 1 | 2:
                await claims.poll_again(job, self.one([now, None]), answered=self.one([True, False]))
            case _:
                status = self.one([Status.COMPLETED, Status.COMPLETED, Status.RUNNING, *ENDS])
                await self.world.apply(job, report(status, job.provider_job_id or ""), Source.POLL)

    async def mirror(self) -> None:
        if (job := self.remembered("mirror")) is None:
            return
        claims = self.world.claims
        match self.chance.randrange(8):
            case 0:
                await claims.mirror_again(job, self.world.clock.now())
            case 1:
                await claims.give_up_mirror(job, GONE)
            case 2:
                await claims.renew(job)
            case 3:
                await claims.keep_artifact(job, artifact(self.one(job.outputs).index))
            case _:
                for output in job.outputs:
                    await claims.keep_artifact(job, artifact(output.index))
                await claims.mirrored(job)

    # Providers

    async def call_back(self) -> None:
        job_id = self.one(self.jobs)
        status = self.one([Status.COMPLETED, Status.COMPLETED, Status.RUNNING, self.one(ENDS)])
        said = report(status, self.some_id(job_id), outputs=self.chance.randint(1, 2))
        job = await self.world.store.job(job_id)
        assert job is not None
        await self.world.receive(job, said)

    def some_id(self, job_id: str) -> str:
        """Return an id that the provider gave to the job, now and then one that it did not."""
        if self.chance.random() < 0.1:
            job_id = self.one(self.jobs)
        return f"{job_id}-{self.chance.randint(1, max(1, self.paid[job_id]))}"

    # Promises

    async def check(self) -> None:
        for job_id in self.jobs:
            job = await self.world.store.job(job_id)
            assert job is not None
            events = await self.world.store.events(job_id)
            told = [event.type.removeprefix("job.") for event in events]
            states = [State(word) for word in told if word in set(State)]
            self.walked |= set(pairwise(states))
            assert states[-1] is job.state
            assert all(after in TRANSITIONS[before] for before, after in pairwise(states))

            # One paid call for each time that the job was put into the queue, and after a doubt only if its caller
            # chose so, once.
            assert self.paid[job_id] == states.count(State.SUBMITTING) <= states.count(State.QUEUED)
            resubmitted = sum(event.data.get("reason") == "resubmit" for event in events)
            assert resubmitted <= (job.on_unknown is OnUnknown.RESUBMIT)
            assert job.doubts <= 1 + resubmitted

            # What is final stays so, but for a video.
            assert sum(state.final for state in states[:-1]) == told.count("recovered")
            assert [after for before, after in pairwise(told) if before == "recovered"] == ["mirroring"] * told.count(
                "recovered"
            )

            # Complete means that all of it is here, and everything that is not final waits for something.
            if job.state is State.COMPLETED:
                assert {output.index for output in job.outputs} <= {kept.index for kept in job.artifacts}
            assert job.due_at is not None or job.state.final
        bound = self.world.sql(
            "SELECT count(*) AS n, count(DISTINCT provider_job_id) AS ids FROM jobs WHERE provider_job_id <> ''"
        )
        assert bound[0]["n"] == bound[0]["ids"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_promises_hold_whatever_happens_in_whatever_order(world: World, seed: int) -> None:
    walk = Walk(world, seed)
    await walk.create()
    for _ in range(2_000):
        await walk.step()
    missed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters} - walk.walked
    assert len(missed) <= 3, "the walk was too short to say much"
