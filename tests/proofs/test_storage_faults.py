"""However the storage is ill, its jobs wait, the callbacks are taken, and every video is kept when it is well again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.proofs.storage import CASES, Case, Outcome, run

AT = {case.name: case for case in CASES}
SHORT = [
    AT[name]
    for name in (
        "403 AccessDenied",
        "refuses parts, and to abort",
        "answers of completions lost",
        "disk full",
        "disk not mounted",
    )
]


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Outcome]:
    """Run all at once: most of the time processes start, and jobs wait."""
    wrong = Case("never", "what nobody says", AT["403 AccessDenied"].fault)
    return {outcome.case.name: outcome for outcome in run([*SHORT, wrong])}


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_jobs_wait_until_the_storage_is_well(case: Case, outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes[case.name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.wrong == [], outcome.story
    assert all(attempts > 1 for attempts in outcome.attempts)


def test_what_only_a_sweep_can_find_is_left_until_then(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["refuses parts, and to abort"]
    assert outcome.left
    assert outcome.swept == []


def test_a_sentence_that_helps_nobody_is_found(outcomes: Mapping[str, Outcome]) -> None:
    [wrong] = outcomes["never"].wrong
    assert "without 'what nobody says'" in wrong
    assert "job.completed" in outcomes["never"].story
