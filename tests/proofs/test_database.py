"""An ill database refuses rather than loses, says what ails it, and goes on when it is well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.places import Place
from tests.proofs.cells import wanted
from tests.proofs.database import Outcome, run
from tests.proofs.faults import FAULTS, Fault, Illness

_LOCKED = next(fault for fault in FAULTS if "lock" in fault.name)
_WRONG = replace(_LOCKED, name="expected to take creates, and to say another thing", refuses=False, ready="nothing")
_COPIED = next(fault for fault in FAULTS if "VACUUM" in fault.name)


@contextlib.contextmanager
def _incurable(scratch: Path) -> Iterator[Illness]:
    def end(_: Place) -> None:
        raise RuntimeError("nobody knows a cure")

    with _COPIED.catch(scratch) as illness:
        illness.end = end
        yield illness


_BROKEN = replace(_COPIED, name="the proof itself breaks", catch=_incurable)
_ALL = [*FAULTS, _WRONG, _BROKEN]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Mapping[str, Outcome]:
    """Run at once all that the tests of this run look at."""
    faults = wanted(request, "fault")
    return {outcome.fault.name: outcome for outcome in run([fault for fault in _ALL if fault in faults], jobs=4)}


def outcome_of(fault: Fault, outcomes: Mapping[str, Outcome]) -> Outcome:
    outcome = outcomes[fault.name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    return outcome


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_or_paid_twice_while_the_database_is_ill(fault: Fault, outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcome_of(fault, outcomes)
    assert outcome.wrong == [], outcome.story
    assert outcome.jobs >= 4
    assert sum(outcome.creates.values()) >= 3


@pytest.mark.parametrize("fault", [_WRONG], ids=lambda fault: fault.name)
def test_what_is_not_as_it_should_be_is_told_with_the_story_of_every_job(
    fault: Fault, outcomes: Mapping[str, Outcome]
) -> None:
    outcome = outcome_of(fault, outcomes)
    assert [sentence.partition(" s")[0] for sentence in outcome.wrong] == ["/readyz did not", "creates"]
    assert outcome.story.count("job.completed") == outcome.jobs > 0


@pytest.mark.parametrize("fault", [_BROKEN], ids=lambda fault: fault.name)
def test_a_fault_whose_proof_breaks_is_told_as_well(fault: Fault, outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcome_of(fault, outcomes)
    assert outcome.wrong == ["RuntimeError('nobody knows a cure')"]
    assert outcome.story.count("job.queued") >= 4
