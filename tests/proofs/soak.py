"""Thousands of jobs through everything that can go wrong at once, and then an audit from outside.

    python -m tests.proofs.soak [--jobs 2000] [--seed N] [--rate R] [--kills K]

The provider is the sandbox with all of its behaviours in both dialects, callers come through all three faces. Real are
the service's process, its deaths, sockets, files and the database; simulated is the time, which goes faster for all of
them alike. The seed decides who asks for what, which troubles come after how many jobs, and what strangers pick and
send. It does not decide how the machine schedules processes, and so not at which instruction a death comes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.places import Door, open_place, until
from tests.proofs.soak_attack import Strangers
from tests.proofs.soak_audit import PROMISES, Audit, Findings
from tests.proofs.soak_callers import Backends
from tests.proofs.soak_mix import troubles, wishes
from tests.proofs.soak_trouble import Troubles
from tests.proofs.soak_world import MAX_VIDEO_BYTES, Overhearing, Pace, World
from tests.proofs.tables import machine, show, table

_RATE = 30.0
_LOOK_S = 0.2
_TWO_DAYS_S = 172_800
_MOST_TOLD = 5  # jobs of which everything is printed, for each promise


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a soak is. It is given up when nothing has moved on for `patience` (s)."""

    jobs: int
    seed: int
    kills: int
    most_under_way: int = 200
    pace: Pace = field(default_factory=lambda: Pace(_RATE))
    patience: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak found, the `rows` of its table, and all that is known of jobs that did not go as promised."""

    findings: Findings
    rows: list[tuple[str, str]]
    told: str


async def soak(plan: Plan, folder: Path) -> Outcome:
    """Run a soak in an empty folder, and audit it."""
    planned = troubles(plan.seed, plan.jobs, plan.kills)
    backends = Backends(plan.seed, wishes(plan.seed, plan.jobs))
    clock, door, overhearing = plan.pace.clock, Door(), Overhearing()
    async with (
        backends.listening(),
        open_place(
            folder,
            settings={"REELKEEPER_MAX_VIDEO_BYTES": str(MAX_VIDEO_BYTES)},
            life=plan.pace.life(clock, planned),
            receivers=backends.hosts,
            door=door,
            overhear=[overhearing],
        ) as place,
    ):
        world = World(place, door, clock, overhearing.heard)
        strangers = Strangers(plan.seed, world)
        troubling = asyncio.create_task(Troubles(world, planned).run())
        living = asyncio.create_task(backends.live(world, plan.most_under_way))
        attacking = asyncio.create_task(strangers.run())
        try:
            await _settled(world, {troubling, living}, plan.patience)
        finally:
            for task in (troubling, living, attacking):
                task.cancel()
            await asyncio.gather(troubling, living, attacking, return_exceptions=True)
        took = time.monotonic() - world.began
        await _collected(world)
        findings = await Audit(world, backends, strangers).run()
        told = "" if findings.well else await _tell(world, findings)
        return Outcome(findings, _rows(plan, world, strangers, findings, took), told)


async def _settled(world: World, tasks: set[asyncio.Task[None]], patience: float) -> None:
    """Wait until every job has ended, every caller is told and every trouble is over, or nothing moves on any more."""
    before, since = (-1, -1), time.monotonic()
    while time.monotonic() - since < patience:
        await asyncio.sleep(_LOOK_S)
        going_on, owed = world.look()
        for task in tasks:
            if task.done():
                task.result()  # raises what it raised
        if all(task.done() for task in tasks) and not going_on and not owed:
            return
        if (world.progress, owed) != before:
            before, since = (world.progress, owed), time.monotonic()


async def _collected(world: World) -> None:
    """Make what was never finished two days old, and start the service again: it is to collect that."""
    parts = world.parts()
    world.seen["parts"] = len(parts)
    for part in parts:
        os.utime(part, (time.time() - _TWO_DAYS_S,) * 2)
    lives = len(world.place.lives)
    world.place.signal(signal.SIGKILL)
    await until(lambda: len(world.place.lives) > lives)
    with contextlib.suppress(TimeoutError):  # the audit finds what is left
        await until(lambda: not world.parts(), seconds=20)


def _rows(plan: Plan, world: World, strangers: Strangers, findings: Findings, took: float) -> list[tuple[str, str]]:
    seen, sent = world.seen, strangers.answers
    sums = {kind: sum(count for name, count in sent.items() if name.startswith(kind)) for kind in _KINDS}
    died = len(world.place.reached)
    rows: list[tuple[str, object]] = [
        ("jobs asked for", plan.jobs),
        ("jobs accepted", len(world.accepted)),
        ("jobs that the provider made", len(world.place.made)),
        ("deaths of the service, from outside", seen["kill"]),
        ("deaths at a named point", f"{died} ({', '.join(sorted(set(world.place.reached)))})"),
        ("outages of the provider", seen["outage"]),
        ("times that the storage was out of order", seen["storage"]),
        ("times that another connection held the database", seen["lock"]),
        ("calls that callers repeated", sum(count for name, count in seen.items() if name.startswith("calls"))),
        ("unfinished copies left by deaths and outages, collected when a day old", seen["parts"]),
        *sorted(findings.seen.items()),
        *(
            (f"{kind} callbacks of strangers", f"{count:,} ({_answers(strangers, kind)})")
            for kind, count in sums.items()
        ),
        *((promise, len(findings.broken[promise])) for promise in PROMISES),
        ("jobs a second", f"{plan.jobs / took:.1f} ({took:.0f} s in all)"),
        ("peak memory of the service", f"{max(world.peaks.values()) / 1024:.0f} MiB in {len(world.peaks)} lives"),
    ]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in rows]


_KINDS = ("forged", "replayed", "misdirected", "garbage")


def _answers(strangers: Strangers, kind: str) -> str:
    found = {name.split()[1]: count for name, count in strangers.answers.items() if name.startswith(kind)}
    return ", ".join(f"{answer}: {found[answer]:,}" for answer in sorted(found))


async def _tell(world: World, findings: Findings) -> str:
    lines: list[str] = []
    for promise, jobs in findings.broken.items():
        for job_id, whys in list(jobs.items())[:_MOST_TOLD]:
            lines += [f"{promise}: {job_id}", *(f"  {why}" for why in whys)]
            if job_id.startswith("job_"):
                lines.append(await world.place.tell(job_id))
    return "\n".join(lines)


def _read() -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311 - it is printed
    parser.add_argument("--rate", type=float, default=_RATE)
    parser.add_argument("--kills", type=int, default=0, help="0: one for every hundred jobs")
    given = parser.parse_args()
    return Plan(given.jobs, given.seed, given.kills or max(3, given.jobs // 100), pace=Pace(given.rate))


def main() -> None:
    """Run a soak, print what it found, and exit with 1 when a promise was broken."""
    plan = _read()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(soak(plan, Path(folder)))
    show(
        f"Seed {plan.seed}; {machine()}. Simulated: the provider, and the clock that it shares with the service, "
        f"{plan.pace.rate:g} times as fast as the machine's (a lease of a minute lasts {60 / plan.pace.rate:g} s). "
        "Real: processes and their deaths, sockets, files, the database.\n"
    )
    show(table(["Soak", ""], outcome.rows))
    if not outcome.findings.well:
        show(f"\nWith --seed {plan.seed} --jobs {plan.jobs} --rate {plan.pace.rate:g} --kills {plan.kills}:\n")
        show(outcome.told)
        sys.exit(1)


if __name__ == "__main__":
    main()
