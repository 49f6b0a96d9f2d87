"""Takes backups of a service under load, goes on from each in a new place, and audits what became of its jobs.

    python -m tests.proofs.backup [--rounds N] [--jobs N] [--ballast MB] [--seed N]

Each round is a place of its own: a sandbox, the service as a process, a backend that asks for videos and is told of
their ends. At a moment that the seed chooses, `reelkeeper backup` runs beside it. The service goes on for a while, is
killed with all that it knows, and another one begins with the backup as its database, in a new folder, with the same
settings, the same storage and the same provider. Deadlines and leases are shorter than in life; nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import httpx

from service.assembly import Tuning
from service.config import Config
from service.model import Event, Job, OnUnknown, State
from service.providers import Manners
from service.records import open_records
from service.sandbox.behaviours import PREFIX
from service.sandbox.downloads import VIDEOS
from service.store import Timing
from service.workers import Rhythm
from tests.endings import ending_of
from tests.mortal import Life
from tests.places import Place, environment, living, open_place, until
from tests.proofs.command import carry_out, options
from tests.proofs.tables import machine, show, table
from tests.receiver import Receiver, Told

_WORD_MS = 30_000  # how long the first life waits for a word, also about what it doubts: less than our patience
_DOUBT_MS = 4_000  # how long the second one waits for a word about what it doubts


def _life(port: int = 0, *, per_minute: int, deadline_ms: int) -> Life:
    return Life(
        port=port,
        tuning=Tuning(
            manners=Manners(
                first_poll_ms=1_500, poll_every_ms=500, retention_ms=3_600_000, per_minute=per_minute, burst=4
            ),
            timing=Timing(job_deadline=deadline_ms, lease=2_000, resubmit_after=3_000),
            rhythm=Rhythm(idle=0.2, renew_every=0.7),
            look_inside=False,
        ),
        submit_seconds=1.0,
    )


_MIX: Final = (
    ("ok", 8),
    ("callback-lost", 3),
    ("callback-twice", 2),
    ("callback-early", 1),
    ("slow", 3),
    ("fails", 2),
    ("several-outputs", 2),
    ("short-body", 1),
    ("accepted-then-502", 2),
    ("accepted-then-hangs", 1),
    ("unavailable", 1),
)
_AT_ONCE = 8
_EVERY = 0.4  # s, between two wishes of the same eighth of the caller
_PATIENCE = 60.0  # s


@dataclass
class Round:
    """What became of one backup. `wrong` counts complaints by kind; `stories` tell of the jobs that they are about."""

    seed: int
    size: int = 0  # bytes
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)  # of the jobs in the backup
    ends: Counter[str] = field(default_factory=Counter)  # of the same jobs at last
    later: int = 0  # jobs that were accepted after it
    quiet_ms: list[float] = field(default_factory=list)  # how long creates took without a backup, ms
    beside_ms: list[float] = field(default_factory=list)  # and while it was taken
    wrong: Counter[str] = field(default_factory=Counter)
    stories: list[str] = field(default_factory=list)


DAMAGED, STUCK, OTHERWISE, DOUBLED, BYTES, TOLD, HISTORY = (
    "damaged", "stuck", "ended otherwise", "paid for twice", "wrong bytes", "told under another id", "history lost"
)  # fmt: skip
KINDS: Final = (DAMAGED, STUCK, OTHERWISE, DOUBLED, BYTES, TOLD, HISTORY)


class Caller:
    """A backend that asks for one video after another, several at once, until it is stopped; at most for `jobs`."""

    def __init__(self, place: Place, receiver: Receiver, chance: random.Random, jobs: int) -> None:
        self._place = place
        self._receiver = receiver
        self._wishes = [self._wish(chance, number) for number in range(jobs)]
        self.asked = 0
        self.took: list[tuple[float, float]] = []  # when each began, and how long it took, s
        self.stopped = False

    def _wish(self, chance: random.Random, number: int) -> dict[str, Any]:
        [name] = chance.choices([name for name, _ in _MIX], [weight for _, weight in _MIX])
        return {
            "provider": chance.choice(["openrouter", "llmgateway"]),
            "model": PREFIX + name,
            "prompt": f"a red kite, {number}",
            "duration": 4,
            "notify_url": self._receiver.url,
            "on_unknown": chance.choices(["wait", "resubmit"], [3, 1])[0],
        }

    async def run(self) -> None:
        """Ask until there is no more to ask for."""
        headers = {"authorization": f"Bearer {self._place.key}"}
        async with httpx.AsyncClient(base_url=self._place.url, headers=headers, trust_env=False) as client:

            async def one() -> None:
                while self._wishes and not self.stopped:
                    body, begun = self._wishes.pop(), time.monotonic()
                    with contextlib.suppress(httpx.HTTPError):  # it was killed
                        answer = await client.post("/v1/jobs", json=body)
                        answer.raise_for_status()
                        self.asked += 1
                        self.took.append((begun, time.monotonic() - begun))
                    await asyncio.sleep(_EVERY)  # faster would be a measure of how fast this machine is

            await asyncio.gather(*(one() for _ in range(_AT_ONCE)))


def _ballast(database: Path, megabytes: int) -> None:
    """Make the database as large as that of a service with a past."""
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = ((f"{number}".ljust(1_000, "x"),) for number in range(megabytes * 230))  # a page each
        connection.executemany("INSERT INTO durations VALUES ('ballast', ?, 1)", rows)


async def _take(place: Place, copy: Path) -> None:
    """Run the command, as an operator does."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "backup", str(copy)),
        env=environment(place.settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await command.communicate()
    if command.returncode or b"checked" not in said:
        raise RuntimeError(said.decode())


def _sound(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return whole and not connection.execute("PRAGMA foreign_key_check").fetchall()


@dataclass(frozen=True)
class _Known:
    """What a database knows: its jobs, their histories and the ids of what is owed to their callers."""

    jobs: dict[str, Job]
    events: dict[str, list[Event]]
    owed: dict[str, list[str]]


async def _read(settings: Mapping[str, str]) -> _Known:
    async with open_records(Config.read(settings)) as records:
        jobs = {job.id: job for job in await records.store.jobs(limit=1_000_000)}
        events = {job_id: await records.store.events(job_id) for job_id in jobs}
        owed = {job_id: [each.id for each, _ in await records.deliveries.of(job_id)] for job_id in jobs}
        return _Known(jobs, events, owed)


async def _pending(settings: Mapping[str, str]) -> set[str]:
    async with open_records(Config.read(settings)) as records:
        unfinished = {job.id for job in await records.store.jobs(limit=1_000_000) if not job.state.final}
        return unfinished or {
            job.id
            for job in await records.store.jobs(limit=1_000_000)
            for each, _ in await records.deliveries.of(job.id)
            if each.state == "pending"
        }


async def measure(seed: int, *, jobs: int = 150, ballast: int = 0) -> Round:
    """Run one round, and audit it from outside."""
    chance, result = random.Random(seed), Round(seed)  # noqa: S311 - the same in every run of a seed
    receiver = Receiver()
    # More is asked for than may be submitted, so that jobs are queued when the backup is taken, and submitted later.
    life = _life(per_minute=240, deadline_ms=_WORD_MS)
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name) / "first", Path(name) / "second"
        first.mkdir()
        second.mkdir()
        copy = second / "reelkeeper.db"
        async with (
            receiver.running(),
            open_place(first, life=life, receivers=[receiver.host]) as place,
        ):
            if ballast:
                await asyncio.to_thread(_ballast, first / "reelkeeper.db", ballast)
            caller = Caller(place, receiver, chance, jobs)
            asking = asyncio.create_task(caller.run())
            moment = jobs * chance.uniform(0.1, 0.4)
            await until(lambda: caller.asked >= moment or asking.done())
            begun = time.monotonic()
            await _take(place, copy)
            ended = time.monotonic()
            result.size, result.seconds = copy.stat().st_size, ended - begun
            enough = len(place.made) + chance.randint(3, 12)
            await until(lambda: len(place.made) >= enough)
            caller.stopped = True
            os.killpg(os.getpgid(place.lives[-1]), signal.SIGKILL)
            for at, took in caller.took:
                (result.beside_ms if begun - took < at < ended else result.quiet_ms).append(took * 1000)
            await asking
            told_before = list(receiver.told)
            await _audit(result, place, receiver, told_before, second)
    return result


async def _audit(result: Round, place: Place, receiver: Receiver, told_before: Sequence[Told], folder: Path) -> None:
    copy = folder / "reelkeeper.db"
    if not _sound(copy):
        result.wrong[DAMAGED] += 1
    looked = folder / "looked.db"
    shutil.copy(copy, looked)
    settings = {**place.settings, "REELKEEPER_DATABASE": f"sqlite:///{looked}"}
    before = await _read(settings)
    result.states.update(job.state for job in before.jobs.values())
    result.later = len(await place.jobs()) - len(before.jobs)
    settings = {**place.settings, "REELKEEPER_DATABASE": f"sqlite:///{copy}"}
    life = _life(httpx.URL(place.url).port or 0, per_minute=1_200, deadline_ms=_DOUBT_MS)
    async with living(life, settings, folder):
        pending = await _settled(settings)
        told = list(receiver.told)  # before it is read what they are about: a late callback may recover a job meanwhile
        after = await _read(settings)
        async with httpx.AsyncClient(
            base_url=place.url, headers={"authorization": f"Bearer {place.key}"}, trust_env=False
        ) as client:
            spoilt = {job.id for job in after.jobs.values() if not await _is_kept(client, place, job)}
    if not _sound(copy):
        result.wrong[DAMAGED] += 1
    result.ends.update(_ended(job) for job in after.jobs.values())
    concerned: dict[str, set[str]] = {STUCK: pending, BYTES: spoilt}
    concerned[OTHERWISE] = {
        job_id
        for job_id, events in before.events.items()
        if (job := after.jobs.get(job_id)) and job.state.final
        if not _ended_well(job, before.jobs[job_id], after.events[job_id][len(events) :])
    }
    concerned[DOUBLED] = {
        job_id
        for job_id, job in (before.jobs | {job.id: job for job in await place.jobs()}).items()
        if len(place.made_for(job_id)) > (2 if job.on_unknown is OnUnknown.RESUBMIT else 1)
    }
    concerned[HISTORY] = {
        job_id
        for job_id, events in before.events.items()
        if after.events.get(job_id, [])[: len(events)] != events
        or after.owed.get(job_id, [])[: len(before.owed[job_id])] != before.owed[job_id]
    }
    ids = {(message.job_id, message.state): message.id for message in told_before}
    concerned[TOLD] = {
        message.job_id
        for message in told[len(told_before) :]
        if ids.get((message.job_id, message.state), message.id) != message.id
        or message.id not in after.owed.get(message.job_id, [])
    }
    for kind, ids_of in concerned.items():
        result.wrong[kind] += len(ids_of)
    for job_id in sorted(set(chain.from_iterable(concerned.values()))):
        result.stories.append(f"{await place.tell(job_id)}\n  from the backup: {after.events.get(job_id)}")


async def _settled(settings: Mapping[str, str]) -> set[str]:
    """Wait until every job has ended and every message is sent; return the jobs of which that is not so."""
    end = time.monotonic() + _PATIENCE
    while (pending := await _pending(settings)) and time.monotonic() < end:  # noqa: ASYNC110 - another process works
        await asyncio.sleep(0.1)
    return pending


async def _is_kept(client: httpx.AsyncClient, place: Place, job: Job) -> bool:
    """Tell whether a job that says so has its provider's bytes, whole, in storage and over HTTP."""
    if job.state is not State.COMPLETED:
        return not job.artifacts
    made = [each for each in place.made_for(job.id) if each.id == job.provider_job_id]
    if len(made) != 1 or not job.artifacts:
        return False
    for artifact in job.artifacts:
        shipped = VIDEOS[(made[0].number + artifact.index) % len(VIDEOS)]
        stored = (Path(place.settings["REELKEEPER_STORAGE"]) / artifact.key).read_bytes()
        served = await client.get(f"/v1/jobs/{job.id}/content", params={"index": artifact.index})
        if not stored == served.content == shipped or artifact.sha256 != hashlib.sha256(shipped).hexdigest():
            return False
    return True


def _ended_well(job: Job, before: Job, since: Sequence[Event]) -> bool:
    """Tell whether a job ended as its provider let it.

    Nobody may know whether it was submitted if it was being submitted `before`, as the backup was taken, since the word
    about it may have gone to the service that was backed up, or if the restore has doubted it `since`.
    """
    ending = ending_of(job.model.removeprefix(PREFIX), job.provider)
    ends = {(ending.state, ending.code)}
    doubted = any(event.type == "job.in_doubt" and "taken_at" in event.data for event in since)
    if doubted or before.state is State.SUBMITTING:
        ends.add((State.FAILED, "submission_unknown"))
    return (job.state, job.error and job.error.code) in ends


def _ended(job: Job) -> str:
    return f"failed/{job.error.code}" if job.state is State.FAILED and job.error else str(job.state)


def _ms(values: Sequence[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.0f} / {ordered[-1]:.0f} ({len(ordered)})"


def report(rounds: Sequence[Round]) -> str:
    """Return the table of all rounds."""
    head = ("seed", "MB", "s", "in the backup", "accepted later", "their ends", "creates, ms", "meanwhile, ms", *KINDS)
    rows = [
        (
            each.seed,
            round(each.size / 1_000_000, 1),
            round(each.seconds, 1),
            ", ".join(f"{count} {state}" for state, count in sorted(each.states.items())),
            each.later,
            ", ".join(f"{count} {end}" for end, count in sorted(each.ends.items())),
            _ms(each.quiet_ms),
            _ms(each.beside_ms),
            *(each.wrong[kind] for kind in KINDS),
        )
        for each in rounds
    ]
    note = "Creates: median / slowest (how many), without a backup and while one was taken, its start-up included."
    return f"{table(head, rows)}\n\n{note}"


def main() -> bool:
    """Measure, print, and tell whether every promise was kept."""
    parser = options("backup", "Takes backups under load, and has services go on from them.")
    parser.add_argument("--rounds", type=int, default=8, help="how many backups")
    parser.add_argument("--jobs", type=int, default=150, help="asked for in each round")
    parser.add_argument("--ballast", type=int, default=100, help="MB that the database holds before")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    asked = parser.parse_args()
    rounds = []
    for seed in range(asked.seed, asked.seed + asked.rounds):
        rounds.append(asyncio.run(measure(seed, jobs=asked.jobs, ballast=asked.ballast)))
        show(f"seed {seed}: {rounds[-1].size:,} bytes, {sum(rounds[-1].wrong.values())} wrong")
    show(f"\n{report(rounds)}\n\n{machine()}")
    for each in rounds:
        for story in each.stories:
            show(f"\nseed {each.seed}\n{story}")
    return not any(each.wrong.total() for each in rounds)


if __name__ == "__main__":
    carry_out(main)
