"""What a soak runs in: the numbers of its clock, a provider whose callbacks are overheard, and how far it has come."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.assembly import Tuning
from service.clock import SystemClock
from service.providers import Manners
from service.store import Timing
from service.workers import Rhythm
from tests.clocks import FastClock
from tests.mortal import Life
from tests.places import Door, Place
from tests.proofs.soak_mix import Trouble

MAX_VIDEO_BYTES = 2**20  # an endless video ends here
_S, _MINUTE = 1_000, 60_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How much faster than the machine's the clock goes, and how long things last on it, in ms."""

    rate: float
    deadline: int = 20 * _MINUTE
    retention: int = 40 * _MINUTE

    @property
    def clock(self) -> FastClock:
        """A clock that begins now."""
        return FastClock(self.rate, SystemClock().now())

    def life(self, clock: FastClock, planned: Sequence[Trouble]) -> Life:
        """Return how the service lives: all that it waits for, on that clock."""
        then: list[str | None] = []
        for kill in (trouble for trouble in planned if trouble.kind == "kill"):
            then += [None] if kill.point is None else [kill.point, None]
        timing = Timing(job_deadline=self.deadline)
        return Life(
            rate=clock.rate,
            since=clock.since,
            tuning=Tuning(
                manners=Manners(first_poll_ms=10 * _S, poll_every_ms=10 * _S, retention_ms=self.retention),
                timing=timing,
                rhythm=Rhythm(idle=0.2, renew_every=timing.lease / _S / self.rate / 3),
                look_inside=False,
            ),
            submit_seconds=240 / self.rate,
            stubborn=True,
            then=tuple(then),
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """A genuine callback as it left the provider."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class World:
    """One soak. `accepted` are the ids that callers were given, by the number of their wish.

    `seen` counts what happened, under names that the table shows; `outages` of the provider begin and end in unix ms of
    the clock.
    """

    place: Place
    door: Door
    clock: FastClock
    heard: list[Heard]
    accepted: dict[int, str] = field(default_factory=dict)
    ended: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    outages: list[tuple[int, int]] = field(default_factory=list)
    peaks: dict[int, int] = field(default_factory=dict)  # KiB, by process id
    began: float = field(default_factory=time.monotonic)

    @property
    def progress(self) -> int:
        """How far it has come: each job counts when it is accepted, and again when it has ended."""
        return len(self.accepted) + self.ended

    @property
    def under_way(self) -> int:
        """How many jobs are accepted and have not ended."""
        return len(self.accepted) - self.ended

    @property
    def videos(self) -> Path:
        """Where the service keeps the videos."""
        return self.place.folder / "videos"

    def look(self) -> tuple[int, int]:
        """Look into the database: how many jobs go on, and how many messages are owed. Notes the service's memory."""
        with self.reading() as database:
            states = Counter({row["state"]: row["jobs"] for row in database.execute(_STATES)})
            [(owed,)] = database.execute("SELECT count(*) FROM deliveries WHERE state = 'pending'")
        self.ended = sum(states[state] for state in ("completed", "failed", "cancelled", "expired"))
        self._weigh()
        return states.total() - self.ended, owed

    def parts(self) -> list[Path]:
        """Return the files of copies that were never finished."""
        return [path for path in self.videos.rglob("*") if _PART.search(path.name)]

    async def tell(self, job_ids: Sequence[str]) -> str:
        """Return all that is known of some jobs."""
        return "\n".join([await self.place.tell(job_id) for job_id in job_ids])

    def going_on(self) -> list[str]:
        """Return the jobs that have not ended."""
        with self.reading() as database:
            return [row["id"] for row in database.execute(_GOING_ON)]

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection of our own, which cannot write."""
        with closing(
            sqlite3.connect(f"{(self.place.folder / 'reelkeeper.db').as_uri()}?mode=ro", uri=True)
        ) as database:
            database.row_factory = sqlite3.Row
            yield database

    def _weigh(self) -> None:
        living = self.place.lives[-1]
        with contextlib.suppress(OSError):  # it has just died
            for line in Path(f"/proc/{living}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    self.peaks[living] = int(line.split()[1])


_PART = re.compile(r"\.part(#\d+)?$")
_GOING_ON = "SELECT id FROM jobs WHERE state NOT IN ('completed', 'failed', 'cancelled', 'expired')"
_STATES = "SELECT state, count(*) AS jobs FROM jobs GROUP BY state"


class Overhearing:
    """Listens on the line between the provider and the service, and keeps what is genuine."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def __call__(self, request: httpx.Request) -> None:
        self.heard.append(Heard(str(request.url), dict(request.headers), request.content))


def job_of(url: str) -> str:
    """Return our id of the job that an address to call back belongs to."""
    return httpx.URL(url).path.split("/")[3]
