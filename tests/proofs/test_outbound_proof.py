from __future__ import annotations

from pathlib import Path

from tests.proofs.outbound.__main__ import SHORT, prove


async def test_strangers_lead_the_service_nowhere_and_what_they_answer_is_cut(tmp_path: Path) -> None:
    found = await prove(tmp_path, SHORT)
    assert [finding for each in found.values() for finding in each if not finding.kept] == []
    assert sum(len(each) for each in found.values()) > 100
