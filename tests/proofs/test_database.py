"""An ill database refuses rather than loses, says what ails it, and goes on when it is well."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.proofs.database import Outcome, measured
from tests.proofs.faults import FAULTS, Fault

_LOCKED = next(fault for fault in FAULTS if "lock" in fault.name)
_WRONG = replace(_LOCKED, name="expected to take creates, and to say another thing", refuses=False, ready="nothing")
_ALL = [*FAULTS, _WRONG]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome | str]:
    """Run at once all that the tests of this run look at."""
    here = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    wanted = [item.callspec.params["fault"] for item in here]
    faults = [fault for fault in _ALL if fault in wanted]
    found = asyncio.run(measured(faults, tmp_path_factory.mktemp("database"), jobs=4))
    return {fault.name: outcome for fault, outcome in zip(faults, found, strict=True)}


def outcome_of(fault: Fault, outcomes: Mapping[str, Outcome | str]) -> Outcome:
    outcome = outcomes[fault.name]
    if isinstance(outcome, str):
        pytest.skip(outcome)
    return outcome


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_or_paid_twice_while_the_database_is_ill(
    fault: Fault, outcomes: Mapping[str, Outcome | str]
) -> None:
    outcome = outcome_of(fault, outcomes)
    assert outcome.wrong == [], outcome.story
    assert outcome.jobs >= 4
    assert sum(outcome.creates.values()) >= 3


@pytest.mark.parametrize("fault", [_WRONG], ids=lambda fault: fault.name)
def test_what_is_not_as_it_should_be_is_told(fault: Fault, outcomes: Mapping[str, Outcome | str]) -> None:
    wrong = outcome_of(fault, outcomes).wrong
    assert [sentence.partition(" s")[0] for sentence in wrong] == ["/readyz did not", "creates"]
