"""What may put a submission in doubt: a death or an outage that cut it off, at a time that is known from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from tests.proofs.soak_world import World

AT_ONCE: Final = 2 * 16  # submissions that the service makes, of two providers: no death or outage cuts off more

_DIED: Final = ("the service stopped during the submission", "the submission was cut short")
_CUT: Final = "the exchange broke before its answer"
_STARTED: Final = "Started server process"  # uvicorn's words, the first of every life
_MOMENT_S: Final = 1.0  # by which a life may work before it says so


@dataclass(frozen=True, slots=True)
class Cuts:
    """When submissions were cut off, in unix ms of the soak's clock.

    `births` are those of lives that followed a death, `outages` begin and end. A life that could not start has none.
    """

    births: Sequence[int]
    outages: Sequence[tuple[int, int]]
    moment: int = 0

    @classmethod
    def of(cls, world: World) -> Self:
        """Read the log, and what was noted of outages."""
        clock = world.clock
        started = [clock.since + round((at - clock.since) * clock.rate) for at in _started(world.place.folder)]
        return cls(started[1:], world.outages, round(_MOMENT_S * 1_000 * clock.rate))

    @property
    def most(self) -> int:
        """How many submissions they can have cut off."""
        return (len(self.births) + len(self.outages)) * AT_ONCE

    def explain(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether the last doubt among a job's events is of something that was there between call and doubt."""
        doubt = next(event for event in reversed(events) if event["type"] == "job.in_doubt")
        calls = [each for each in events if each["type"] == "job.submitting" and each["seq"] < doubt["seq"]]
        if not calls:
            return False
        called, doubted = calls[-1]["at"], doubt["at"]
        reason = json.loads(doubt["data"])["reason"]
        if reason.startswith(_DIED):
            return any(called <= birth <= doubted + self.moment for birth in self.births)
        return reason.startswith(_CUT) and any(begin <= doubted and called <= end for begin, end in self.outages)


def _started(folder: Path) -> list[int]:
    """Return when each life started, in unix ms of the machine."""
    with (folder / "log.jsonl").open(encoding="utf-8") as log:
        said = [json.loads(line) for line in log if _STARTED in line]
    return [round(datetime.fromisoformat(line["timestamp"]).timestamp() * 1_000) for line in said]
