"""One cell that breaks, or cannot be tried here, does not end the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.proofs.cells import measured
from tests.turns import Turn


@dataclass
class Outcome:
    name: str
    ended: bool = False
    skipped: str = ""
    wrong: list[str] = field(default_factory=list)
    story: str = ""

    def complain(self, sentence: str) -> None:
        self.wrong.append(sentence)


async def test_the_others_go_on_and_what_was_found_before_something_broke_is_kept() -> None:
    here: set[str] = set()
    most = 0

    async def measure(outcome: Outcome) -> None:
        nonlocal most
        here.add(outcome.name)
        most = max(most, len(here))
        await Turn()
        here.remove(outcome.name)
        match outcome.name:
            case "breaks":
                outcome.complain("it began badly")
                raise TimeoutError("it stands still")
            case "fails":
                pytest.fail("something is missing")
            case "skipped":
                pytest.skip("nobody can here")
        outcome.ended = True

    outcomes = [Outcome(name) for name in ("breaks", "skipped", "fails", "well", "well, too")]
    found = await measured(outcomes, measure, 2)
    assert [each.name for each in found] == ["breaks", "skipped", "fails", "well", "well, too"]
    assert [each.ended for each in found] == [False, False, False, True, True]
    assert [each.skipped for each in found] == ["", "nobody can here", "", "", ""]
    assert [each.wrong for each in found] == [
        ["it began badly", "TimeoutError('it stands still')"], [], ["something is missing"], [], [],
    ]  # fmt: skip
    assert "in measure" in found[0].story
    assert most == 2
