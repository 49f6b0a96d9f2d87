"""What a soak draws from its seed: who asks for what and how, and which troubles come when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.model import Face
from service.sandbox import BEHAVIOURS
from service.sandbox.behaviours import PREFIX
from tests.mortal import POINTS

FACES: Final = (Face.NATIVE, Face.OPENROUTER, Face.OPENAI)
PROVIDERS: Final = ("openrouter", "llmgateway")
RECEIVERS: Final = 6  # addresses that callers want to be told at; of one, four messages at most are under way
DIES_AT: Final = tuple(name for name in POINTS if name not in {"halted", "overtaken", "answered", "uploading"})
"""Named points of death that need nobody's help, and that the service comes to with whatever job."""

_NAMES: Final = [model.removeprefix(PREFIX) for model in BEHAVIOURS]
_LASTING: Final = {"never-ends", "html-forever", "gone"}  # until a deadline; dealt first, they end while others begin
_MOODS: Final = ((), (), (), ("500",), ("hang",), ("500", "500"), ("hang", "500"))


@dataclass(frozen=True, slots=True)
class Wish:
    """One video that a backend wants, and how it behaves until it has it.

    `key` is its idempotency key; `receiver` the number of the address that is told (None: it polls), which answers
    every message with its `moods` first; `cancels` says that it changes its mind at once.
    """

    number: int
    face: Face
    provider: str
    behaviour: str
    key: str | None
    receiver: int | None
    moods: tuple[str, ...]
    cancels: bool

    @property
    def prompt(self) -> str:
        """Names the wish in every request."""
        return f"a red kite, the {self.number}th"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that goes wrong as soon as the soak has come so far, for so many seconds.

    `at` counts jobs: each one when it is accepted, and again when it has ended. `point` is where the life after a kill
    dies as well (None: nowhere).
    """

    at: int
    kind: str  # kill, outage, storage or lock
    seconds: float = 0.0
    point: str | None = None


def wishes(seed: int, jobs: int) -> list[Wish]:
    """Deal every behaviour to every face and provider; the first 111 hold each with all faces and both providers."""
    chance = random.Random(f"{seed} wishes")  # noqa: S311 - the seed makes the run
    dealt: list[tuple[str, Face, str]] = []
    while len(dealt) < jobs:
        for half in _halves(chance):
            chance.shuffle(half)
            dealt += sorted(half, key=lambda card: card[0] not in _LASTING)
    return [_wish(chance, number, *card) for number, card in enumerate(dealt[:jobs])]


def troubles(seed: int, jobs: int, kills: int) -> list[Trouble]:
    """Draw when the service is killed, and when provider, storage and database are out of order."""
    chance = random.Random(f"{seed} troubles")  # noqa: S311 - the seed makes the run
    others = max(2, jobs // 200)
    found = [Trouble(at, "kill", point=_point(chance, at < 1.5 * jobs)) for at in _moments(chance, kills, jobs)]
    for kind, longest in (("outage", 2.0), ("storage", 2.0), ("lock", 4.0)):
        found += [Trouble(at, kind, chance.uniform(0.5, longest)) for at in _moments(chance, others, jobs)]
    return sorted(found, key=lambda trouble: trouble.at)


def _halves(chance: random.Random) -> tuple[list[tuple[str, Face, str]], list[tuple[str, Face, str]]]:
    """Return all behaviours with all faces and providers, as two halves in which both providers have all of them."""
    halves: tuple[list[tuple[str, Face, str]], list[tuple[str, Face, str]]] = ([], [])
    for name in _NAMES:
        alone = chance.randrange(len(FACES))
        first = chance.randrange(len(PROVIDERS))
        for place, face in enumerate(FACES):
            provider = first if place == alone else 1 - first
            halves[0].append((name, face, PROVIDERS[provider]))
            halves[1].append((name, face, PROVIDERS[1 - provider]))
    return halves


def _wish(chance: random.Random, number: int, behaviour: str, face: Face, provider: str) -> Wish:
    told = chance.random() < 0.75
    return Wish(
        number,
        face,
        provider,
        behaviour,
        key=f"{chance.getrandbits(64):016x}" if face is Face.NATIVE else None,
        receiver=chance.randrange(RECEIVERS) if told else None,
        moods=chance.choice(_MOODS) if told else (),
        cancels=face is Face.NATIVE and chance.random() < 0.1,
    )


def _moments(chance: random.Random, count: int, jobs: int) -> Sequence[int]:
    """Return so many counts of progress, one in each of as many equal parts, the last one well before the end."""
    part = 1.7 * jobs / count
    return [round((place + chance.random()) * part) for place in range(count)]


def _point(chance: random.Random, early: bool) -> str | None:  # noqa: FBT001 - its one caller says what it is
    return chance.choice(DIES_AT) if early and chance.random() < 0.5 else None
