"""Files of deleted jobs: leased, removed, and never forgotten before they are gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.store import Erasure, Erasures
from tests.store.world import TIMING, World

Write = Callable[[Erasures, Erasure], Awaitable[bool]]


@pytest.fixture
def erasures(world: World) -> Erasures:
    return Erasures(world.ledger, world.ids)


async def deleted(world: World) -> set[str]:
    """Delete a completed job; return the keys of its files: the video, and a poster that may be there."""
    job = await world.completed()
    assert await world.store.delete(job)
    return {job.artifacts[0].key, job.artifacts[0].key.replace(".mp4", ".jpg")}


async def test_the_files_of_a_deleted_job_are_to_be_removed(world: World, erasures: Erasures) -> None:
    keys = await deleted(world)
    taken = await erasures.claim(10)
    assert {(erasure.id, erasure.attempt) for erasure in taken} == {(key, 1) for key in keys}
    assert await erasures.claim(10) == []


async def test_a_job_without_files_leaves_nothing_to_remove(world: World, erasures: Erasures) -> None:
    assert await world.store.delete(await world.cancelled())
    assert await erasures.claim(10) == []


async def test_a_file_that_is_gone_is_forgotten(world: World, erasures: Erasures) -> None:
    await deleted(world)
    (erasure, other) = await erasures.claim(10)
    assert await erasures.erased(erasure)
    assert [row["id"] for row in world.sql("SELECT id FROM erasures")] == [other.id]


async def test_a_file_that_could_not_be_removed_is_due_again_when_said(world: World, erasures: Erasures) -> None:
    await deleted(world)
    (erasure,) = await erasures.claim(1)
    assert await erasures.erase_again(erasure, world.clock.now() + 5_000)
    await erasures.claim(1)  # the other one
    world.clock.advance(4_999)
    assert await erasures.claim(10) == []
    world.clock.advance(1)
    (again,) = await erasures.claim(10)
    assert (again.id, again.attempt) == (erasure.id, 2)


async def test_no_more_are_leased_than_were_asked_for_and_the_longest_waiting_comes_first(
    world: World, erasures: Erasures
) -> None:
    for number, due in ((1, 30), (2, 10), (3, 20)):
        at = world.clock.now() - due
        world.sql("INSERT INTO erasures (id, due_at, job_id) VALUES (:id, :at, 'job_x')", id=f"k{number}", at=at)
    assert {erasure.id for erasure in await erasures.claim(2)} == {"k1", "k3"}
    assert [erasure.id for erasure in await erasures.claim(2)] == ["k2"]


WRITES: list[Write] = [
    lambda erasures, erasure: erasures.renew(erasure),
    lambda erasures, erasure: erasures.erased(erasure),
    lambda erasures, erasure: erasures.erase_again(erasure, 1),
]


@pytest.mark.parametrize("write", WRITES)
async def test_a_worker_whose_lease_was_taken_over_writes_nothing(
    world: World, erasures: Erasures, write: Write
) -> None:
    await deleted(world)
    (slow, _) = await erasures.claim(10)
    world.clock.advance(TIMING.lease - 1)
    assert await erasures.claim(10) == []
    world.clock.advance(1)
    taken = next(each for each in await erasures.claim(10) if each.id == slow.id)
    rows = world.sql("SELECT * FROM erasures")
    assert not await write(erasures, slow)
    assert world.sql("SELECT * FROM erasures") == rows
    assert await write(erasures, taken)


async def test_a_renewed_lease_is_not_taken_over(world: World, erasures: Erasures) -> None:
    await deleted(world)
    erasure, lost = await erasures.claim(10)
    world.clock.advance(TIMING.lease - 1)
    assert await erasures.renew(erasure)
    world.clock.advance(TIMING.lease - 1)
    assert [each.id for each in await erasures.claim(10)] == [lost.id]
