"""Which secret key was current, and how many jobs wait for a callback that needs one which is missing."""

from __future__ import annotations

import pytest

from service.store import Eras
from tests.store.world import World


@pytest.fixture
def eras(world: World) -> Eras:
    return Eras(world.ledger)


async def test_jobs_that_wait_for_a_callback_count_and_no_others(world: World, eras: Eras) -> None:
    assert await eras.begin(["old"]) == 0
    for way in (World.submitting, World.running, World.mirroring, World.completed, World.failed, World.queued):
        await way(world)
    assert await eras.begin(["old"]) == 0
    world.clock.advance(1)
    assert await eras.begin(["new", "old"]) == 0
    assert await eras.begin(["new"]) == 2  # submitting and running
    assert await eras.begin(["old", "new"]) == 0


async def test_what_is_submitted_after_a_rotation_needs_the_old_key_no_more(world: World, eras: Eras) -> None:
    await eras.begin(["old"])
    world.clock.advance(1)
    await eras.begin(["new", "old"])
    await world.submitting()
    assert await eras.begin(["new"]) == 0
    assert await eras.begin(["old"]) == 1


async def test_of_what_was_submitted_before_anybody_counted_nothing_is_said(world: World, eras: Eras) -> None:
    await world.submitting()
    world.clock.advance(1)
    assert await eras.begin(["new"]) == 0
    assert await eras.begin(["new"]) == 0
    assert len(world.sql("SELECT * FROM key_eras")) == 1
