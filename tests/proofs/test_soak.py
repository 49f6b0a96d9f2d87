"""A short soak, of which every behaviour is part in both dialects and through all faces."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from service.sandbox import BEHAVIOURS
from service.sandbox.behaviours import PREFIX
from tests.proofs.soak import Plan, soak
from tests.proofs.soak_mix import FACES, PROVIDERS, Wish, troubles, wishes
from tests.proofs.soak_world import Pace

MINUTE = 60_000  # ms
SHORT = Plan(
    jobs=150,
    seed=8,
    kills=3,
    most_under_way=50,
    pace=Pace(30, deadline=10 * MINUTE, retention=10 * MINUTE),
    patience=40,
)
NAMES = [model.removeprefix(PREFIX) for model in BEHAVIOURS]


async def test_nothing_is_lost_doubled_stuck_or_told_wrong_whatever_happens_at_once(tmp_path: Path) -> None:
    outcome = await soak(SHORT, tmp_path)
    table = "\n".join(f"{name}: {value}" for name, value in outcome.rows)
    assert outcome.findings.well, f"{SHORT}\n{table}\n{outcome.told}"
    assert int(dict(outcome.rows)["deaths of the service, from outside"]) >= SHORT.kills


def test_the_short_soak_has_every_behaviour_in_each_dialect_and_through_each_face() -> None:
    made = wishes(SHORT.seed, SHORT.jobs)
    assert {(wish.behaviour, wish.provider) for wish in made} == set(product(NAMES, PROVIDERS))
    assert {(wish.behaviour, wish.face) for wish in made} == set(product(NAMES, FACES))


@pytest.mark.parametrize("draw", [lambda seed: wishes(seed, 300), lambda seed: troubles(seed, 300, 5)])
def test_the_seed_alone_decides_what_is_asked_for_and_what_goes_wrong(draw: Callable[[int], list[Wish]]) -> None:
    assert draw(1) == draw(1) != draw(2)
