"""Every hop between a side effect and its record where the service is killed, and what must become of the job then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any, Final

from service.store import Timing
from tests.clocks import FastClock
from tests.mortal import POINTS
from tests.places import Place, bytes_of, until
from tests.proofs.shelves import Shelf
from tests.receiver import Receiver, Told

PROVIDERS: Final = ("openrouter", "llmgateway")
_RESUBMIT_MS = 60_000
_DEADLINE_S = 120
_SLOW: Final = 0.02  # the provider's speed: it brings no callback before who would submit again could do so
_LOST: Final = "callback-lost"


class Scene:
    """What happens in one cell: the place with its clock, where its videos are kept and who is told."""

    def __init__(self, place: Place, shelf: Shelf, receiver: Receiver, clock: FastClock) -> None:
        self.place = place
        self.shelf = shelf
        self.receiver = receiver
        self.clock = clock
        self.killed_at = 0  # on that clock, if it was killed from outside

    def kill(self) -> None:
        self.killed_at = self.clock.now()
        self.place.signal(SIGKILL)


async def _once_the_provider_has_it(scene: Scene) -> None:
    await until(lambda: scene.place.made)
    scene.kill()


async def _once_half_is_there(scene: Scene) -> None:
    await until(lambda: scene.place.reached and scene.shelf.begun())
    scene.kill()


async def _as_the_receiver_reads_it(scene: Scene) -> None:
    def killing(_: Told) -> int:
        if len(scene.receiver.told) == 1:
            scene.kill()
        return 204

    scene.receiver.answer = killing


def _no_callback_had_come(scene: Scene) -> bool:
    made = scene.place.made[0]
    return made.told_at is None or made.told_at > scene.killed_at


def _more_was_to_come(scene: Scene) -> bool:
    made = scene.place.made[0]
    return 0 < made.downloads[0].bytes < len(bytes_of(made))


@dataclass(frozen=True)
class Kill:
    """Where the service dies, and what must become of the job.

    `point` is one of `tests.mortal`; None, and for `uploading`, the service is killed by `outside`; `in_time` tells
    afterwards whether that was where it should be. `model` is how the provider behaves and `speed` how fast. `copying`
    means that it is about storage, so that each kind is tried.
    """

    name: str
    says: str
    point: str | None = None
    outside: Callable[[Scene], Awaitable[None]] | None = None
    in_time: Callable[[Scene], bool] = lambda _: True
    model: str = "ok"
    speed: float = 0.5
    on_unknown: str = "wait"
    ends: str = "completed"
    made: int = 1
    deadline: int = 7200  # s
    timing: Timing | None = None
    copying: bool = False
    patience: float = 60.0  # s of the machine until it must have died


def _at(point: str, **fields: Any) -> Kill:  # noqa: ANN401 - the fields of a Kill
    return Kill(point, POINTS[point].says, point, **fields)


KILLS: Final = (
    _at("accepting"),
    _at("committed"),
    _at("overtaken", speed=_SLOW),
    _at("answered"),
    _at("claiming"),
    _at("claimed", ends="failed/submission_unknown", made=0, deadline=_DEADLINE_S),
    Kill(
        "claimed, resubmit",
        f'{POINTS["claimed"].says}, with on_unknown: "resubmit"',
        "claimed",
        on_unknown="resubmit",
        timing=Timing(resubmit_after=_RESUBMIT_MS),
    ),
    Kill(
        "calling",
        "the provider has accepted, and not answered",
        model="accepted-then-hangs",
        speed=_SLOW,
        outside=_once_the_provider_has_it,
        in_time=_no_callback_had_come,
    ),
    _at("called", speed=_SLOW),
    _at("binding", speed=_SLOW),
    _at("bound", speed=_SLOW),
    _at("verified"),
    _at("receiving"),
    _at("received"),
    _at("polled", model=_LOST),
    _at("applying", model=_LOST),
    _at("applied", model=_LOST),
    _at("downloading", model="slow", speed=2, in_time=_more_was_to_come, copying=True),
    _at("uploading", outside=_once_half_is_there, copying=True),
    _at("uploaded", copying=True),
    _at("keeping", copying=True),
    _at("kept", copying=True),
    _at("completing", copying=True),
    _at("completed", copying=True),
    _at("telling"),
    Kill("posting", "a delivery is received, and not answered", outside=_as_the_receiver_reads_it),
    _at("told"),
    _at("noting"),
    _at("noted"),
)
"""Every hop, in the order in which a job comes by."""


@dataclass(frozen=True)
class Cell:
    """One kill, of a job at one provider, whose video is kept in one kind of storage."""

    kill: Kill
    provider: str
    bucket: bool = False

    @property
    def storage(self) -> str:
        """The kind of storage, in a word."""
        return "bucket" if self.bucket else "folder"

    def __str__(self) -> str:
        """Name the cell, also as a part of a path."""
        return f"{self.kill.name.replace(', ', '-')}-{self.provider}-{self.storage}"


CELLS: Final = tuple(
    Cell(kill, provider, bucket)
    for bucket in (False, True)
    for kill in KILLS
    if kill.copying or not bucket
    for provider in PROVIDERS
)
