"""The short form of the proof: one backup under load, gone on from."""

from __future__ import annotations

from tests.proofs.backup import KINDS, measure, report


async def test_a_service_that_goes_on_from_a_backup_breaks_no_promise() -> None:
    found = await measure(2, jobs=60)
    assert found.states["queued"], report([found])  # else nothing could have been paid for twice
    assert found.ends.total() == found.states.total()
    assert found.ends["completed"] > found.states["completed"], report([found])  # else no video had to come
    assert not any(found.wrong[kind] for kind in KINDS), "\n".join([report([found]), *found.stories])
