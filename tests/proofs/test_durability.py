from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.durability import SERVICES, prove


async def test_what_was_acknowledged_is_on_a_disk_whose_plug_was_pulled(tmp_path: Path) -> None:
    found = await prove(tmp_path, SERVICES["as it is"], jobs=10, subsets=1, seed=11)
    assert found.wrong == []
    assert (found.creates, found.callbacks, found.completed) == (10, 10, 10)
    assert found.rebuilt > found.instants > 40


@pytest.mark.parametrize(
    ("service", "wrong"),
    [
        ("if it had `synchronous = NORMAL`", ("early", "missing")),
        ("if it had `synchronous = OFF`", ("early", "missing", "damaged")),
        ("if it did not sync videos", ("early", "not_whole")),
    ],
)
async def test_a_service_that_does_not_keep_the_promise_is_found_out(
    tmp_path: Path, service: str, wrong: tuple[str, ...]
) -> None:
    found = await prove(tmp_path, SERVICES[service], jobs=3, subsets=1, seed=11)
    for what in ("early", "missing", "damaged", "not_whole"):
        assert bool(getattr(found, what)) is (what in wrong), what
