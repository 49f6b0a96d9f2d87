from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.places import open_place
from tests.proofs.abuse import flood
from tests.proofs.abuse.__main__ import probe, raise_open_files
from tests.proofs.abuse.target import Finding, Target


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    raise_open_files()
    async with open_place(tmp_path) as place:
        yield Target(place)
    assert [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"level": "error"' in line] == []


def broken(found: list[Finding]) -> list[Finding]:
    return [each for each in found if not each.kept]


async def test_nothing_that_a_stranger_sends_is_believed_or_fills_the_memory_or_holds_the_service_up(
    target: Target,
) -> None:
    found = await probe(target, short=True)
    assert broken(found) == []
    assert len(found) > 100


async def test_a_flood_of_strangers_writes_no_rows_and_keeps_no_genuine_callback_out(target: Target) -> None:
    _, judged = await flood.floods(target, rounds=1, each=40)
    assert broken(judged) == []
