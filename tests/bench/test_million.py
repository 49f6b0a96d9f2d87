"""The measurement with few jobs: everything is answered. How quick it is depends on who else uses the machine."""

from __future__ import annotations

from pathlib import Path

from tests.bench.million import measure, table


async def test_every_page_is_answered_with_what_was_seeded(tmp_path: Path) -> None:
    answers = await measure(tmp_path, 2_500, times=2)
    assert len(answers) > 20
    assert len(table(answers).splitlines()) == len(answers) + 2
    again = await measure(tmp_path, 2_500, times=2)  # on the same database
    assert [each.question.says for each in again] == [each.question.says for each in answers]
    log = (tmp_path / "log.jsonl").read_text("utf-8")
    assert '"level": "error"' not in log
