"""Killed at any hop between a side effect and its record, the service brings one paid job to one true end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.mortal import POINTS
from tests.proofs.cells import wanted
from tests.proofs.hops import CELLS, KILLS, PROVIDERS, Cell
from tests.proofs.kills import BYTES, DOUBLED, LOST, MISSED, STUCK, TOLD, Outcome, report, run

AT = {kill.name: kill for kill in KILLS}
SHORT = [Cell(kill, PROVIDERS[place % 2]) for place, kill in enumerate(KILLS)]
IN_A_BUCKET = [Cell(AT["uploading"], "openrouter", bucket=True)]
NEVER = Cell(
    replace(AT["receiving"], name="never", model="callback-lost", ends="cancelled", made=2, patience=5.0), "openrouter"
)
"""A job whose callback never comes, with wrong expectations."""
ALL = [*SHORT, *IN_A_BUCKET, NEVER]

Outcomes = Mapping[str, Outcome]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """Run at once all that the tests of this run look at: most of the time leases lapse."""
    cells = wanted(request, "cell")
    return {str(outcome.cell): outcome for outcome in run([cell for cell in ALL if cell in cells])}


@pytest.mark.parametrize("cell", SHORT + IN_A_BUCKET, ids=str)
def test_a_job_survives_a_kill(cell: Cell, outcomes: Outcomes) -> None:
    outcome = outcomes[str(cell)]
    assert outcome.wrong == {}, outcome.story


@pytest.mark.parametrize("cell", [NEVER], ids=str)
def test_a_kill_that_never_comes_and_an_end_that_should_not_be_are_told(cell: Cell, outcomes: Outcomes) -> None:
    outcome = outcomes[str(cell)]
    assert outcome.wrong.keys() == {MISSED, LOST, DOUBLED}
    assert "job.completed" in outcome.story


@pytest.mark.parametrize("cell", [cell for cell in SHORT if cell.kill.name == "told"], ids=str)
def test_a_message_whose_answer_was_lost_comes_again_under_its_id(cell: Cell, outcomes: Outcomes) -> None:
    assert (outcomes[str(cell)].told, outcomes[str(cell)].ids) == (2, 1)


def test_every_point_of_death_is_tried_with_every_provider() -> None:
    tried = {(cell.kill.point, cell.provider) for cell in CELLS}
    points = POINTS.keys() - {"halted"}  # nobody dies there
    assert tried >= {(point, provider) for point in points for provider in PROVIDERS}
    assert {cell.kill for cell in SHORT} == set(KILLS)


def test_a_report_counts_what_is_wrong_and_shows_what_differs() -> None:
    well, same, ill = (
        Outcome(Cell(AT["bound"], provider), provider_jobs=1, ended=ended, whole=True, ids=1, told=1)
        for provider, ended in (("openrouter", "completed"), ("llmgateway", "completed"), ("other", "failed"))
    )
    ill.wrong = {LOST: "it should have ended as completed"}
    lines = report([well, same, ill]).splitlines()
    assert [line.split(" | ")[2] for line in lines[2:4]] == ["openrouter, llmgateway", "other"]
    assert lines[-1].startswith(f"3 kills: 1 {LOST}, 0 {STUCK}, 0 {DOUBLED}, 0 {BYTES}, 0 {TOLD}, 0 {MISSED}")
