"""One call of an unmodified SDK is one paid job, whatever goes wrong, and its caller gets the video."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.sdk.faults import CLAIMED, FAULTS, SDKS, Outcome, behind, measured

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # of everything in videos.*

ALL = {fault.name: fault for fault in FAULTS}
TWO_WISHES = ("proxy", "openrouter")
CELLS = [(name, sdk) for name in ALL if name != CLAIMED for sdk in SDKS if (name, sdk) != TWO_WISHES]

Outcomes = Mapping[tuple[str, str], Outcome]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """Measure at once all that the tests of this run look at: most of the time is the SDKs' own waiting."""
    here = [item for item in request.session.items if item.path == request.path]
    wanted = [item.callspec.params["cell"] for item in here if isinstance(item, pytest.Function)]
    cells = [(ALL[name], sdk) for name, sdk in [*CELLS, TWO_WISHES] if (name, sdk) in wanted]
    return asyncio.run(measured(cells, behind))


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_one_call_is_one_paid_job_and_its_video_comes_back(cell: tuple[str, str], outcomes: Outcomes) -> None:
    outcome = outcomes[cell]
    assert outcome.made == 1, outcome
    assert (outcome.states, outcome.status, outcome.whole) == (("completed",), "completed", True), outcome


@pytest.mark.parametrize("cell", [TWO_WISHES], ids="-".join)
def test_a_repeated_call_without_a_mark_whose_answer_was_sent_is_a_second_wish(
    cell: tuple[str, str], outcomes: Outcomes
) -> None:
    """What was lost behind us looks no different from a wish for another video; a dedupe window tells that it is."""
    assert outcomes[cell].made == 2


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[1] == "openai"], ids="-".join)
def test_the_retries_of_openai_alone_are_enough(cell: tuple[str, str], outcomes: Outcomes) -> None:
    assert (outcomes[cell].calls, outcomes[cell].error) == (1, None)
