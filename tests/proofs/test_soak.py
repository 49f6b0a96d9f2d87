"""A short soak, of which every behaviour is part in both dialects and through all faces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from service.sandbox import BEHAVIOURS
from service.sandbox.behaviours import PREFIX
from tests.clocks import share_of_processor
from tests.proofs.soak import Plan, soak
from tests.proofs.soak_attack import KINDS, Strangers
from tests.proofs.soak_audit import spared, unsaid
from tests.proofs.soak_doubts import Cuts
from tests.proofs.soak_mix import FACES, PROVIDERS, Wish, troubles, wishes
from tests.proofs.soak_world import Pace

MINUTE = 60_000  # ms
NAMES = [model.removeprefix(PREFIX) for model in BEHAVIOURS]
PACE = Pace(30, deadline=10 * MINUTE, retention=10 * MINUTE)
SLOWEST = 0.25  # of that pace, or nobody would wait for it
SHORT = Plan(jobs=len(NAMES) * len(FACES), seed=8, kills=3, most_under_way=50, pace=PACE)


async def test_nothing_is_lost_doubled_stuck_or_told_wrong_whatever_happens_at_once(tmp_path: Path) -> None:
    # On a machine that others use, too, all takes longer but the clock: videos were gone before they were copied.
    pace = replace(PACE, rate=PACE.rate * max(SLOWEST, share_of_processor()))
    outcome = await soak(replace(SHORT, pace=pace), tmp_path)
    table = "\n".join(f"{name}: {value}" for name, value in outcome.rows)
    assert outcome.findings.well, f"{SHORT}, {pace}\n{table}\n{outcome.told}"


async def test_strangers_who_fail_end_the_soak_with_all_that_is_needed_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(strangers: Strangers) -> None:
        raise RuntimeError(f"{strangers} know nobody")

    monkeypatch.setattr(Strangers, "_target", fails)
    with pytest.raises(ExceptionGroup) as raised:
        await soak(Plan(jobs=3, seed=77, kills=1, patience=20), tmp_path)
    [note] = raised.value.__notes__
    assert note.startswith("--seed 77 --jobs 3 --rate 30 --kills 1;")
    assert "job.queued" in note


def test_kinds_of_callbacks_that_nobody_answered_are_named() -> None:
    answers = Counter({f"{kind} 401": 1 for kind in KINDS})
    assert unsaid(answers) == []
    for kind in KINDS[1:]:
        assert unsaid(answers - Counter([f"{kind} 401"]) + Counter([f"{kind} none"])) == [kind]
    assert unsaid(answers - Counter(["forged 401"])) == ["forged", "forged, answered 401"]
    assert unsaid(answers - Counter(["forged 401"]) + Counter(["forged 404"])) == ["forged, answered 401"]


def test_troubles_that_never_came_are_counted() -> None:
    planned = troubles(1, 300, 5)
    seen = Counter(trouble.kind for trouble in planned)
    assert not spared(planned, seen)
    assert spared(planned, seen - Counter(["kill", "lock"])) == {"kill": 1, "lock": 1}


DIED, CUT = "the service stopped during the submission", "the exchange broke before its answer (ReadError)"


@pytest.mark.parametrize(
    ("reason", "births", "outages", "explained"),
    [
        (DIED, [150], [], True),
        (DIED, [90], [], False),
        (DIED, [220], [], False),
        (DIED, [], [(120, 130)], False),
        (CUT, [], [(90, 110)], True),
        (CUT, [], [(80, 90)], False),
        (CUT, [], [(210, 220)], False),
        (CUT, [150], [], False),
        ("HTTP 502", [150], [(90, 210)], False),
    ],
)
def test_a_doubt_is_explained_by_what_came_between_call_and_doubt(
    reason: str, births: list[int], outages: list[tuple[int, int]], *, explained: bool
) -> None:
    events = [
        {"type": "job.submitting", "seq": 2, "at": 100, "data": "{}"},
        {"type": "job.in_doubt", "seq": 3, "at": 200, "data": json.dumps({"reason": reason})},
    ]
    assert Cuts(births, outages).explain(events) is explained
    assert not Cuts(births, outages).explain(events[1:])


def test_the_short_soak_has_every_behaviour_in_each_dialect_and_through_each_face() -> None:
    made = wishes(SHORT.seed, SHORT.jobs)
    assert {(wish.behaviour, wish.provider) for wish in made} == set(product(NAMES, PROVIDERS))
    assert {(wish.behaviour, wish.face) for wish in made} == set(product(NAMES, FACES))


@pytest.mark.parametrize("draw", [lambda seed: wishes(seed, 300), lambda seed: troubles(seed, 300, 5)])
def test_the_seed_alone_decides_what_is_asked_for_and_what_goes_wrong(draw: Callable[[int], list[Wish]]) -> None:
    assert draw(1) == draw(1) != draw(2)
