"""Thousands of jobs through everything that can go wrong at once, and then an audit from outside.

    python -m tests.proofs.soak [--jobs 2000] [--seed N] [--rate R] [--kills K]

The provider is the sandbox with all of its behaviours in both dialects, callers come through all three faces. Real are
the service's process, its deaths, sockets, files and the database; simulated is the time, which goes faster for all of
them alike. The seed decides who asks for what, which troubles come after how many jobs, and what strangers pick and
send. It does not decide how the machine schedules processes, and so not at which instruction a death comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.vault import Vault
from tests.places import Door, open_place, until
from tests.proofs.command import carry_out, options
from tests.proofs.soak_attack import KINDS, Strangers
from tests.proofs.soak_audit import PROMISES, Audit, Findings
from tests.proofs.soak_callers import TENANT, Backends, Callers
from tests.proofs.soak_mix import Trouble, troubles, wishes
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
    clock, door, overhearing, key = plan.pace.clock, Door(), Overhearing(), secrets.token_bytes(32)
    backends = Backends(wishes(plan.seed, plan.jobs), clock, Vault([key]).delivery_secrets(TENANT)[0])
    async with (
        backends.listening(),
        open_place(
            folder,
            settings={"REELKEEPER_MAX_VIDEO_BYTES": str(MAX_VIDEO_BYTES), "REELKEEPER_SECRET_KEY": key.hex()},
            life=plan.pace.life(clock, planned),
            receivers=backends.hosts,
            door=door,
            overhear=[overhearing],
        ) as place,
    ):
        world = World(place, door, clock, overhearing.heard)
        try:
            return await _soaked(plan, planned, world, backends)
        except Exception as error:
            error.add_note(f"{_again(plan)}; going on:\n{await world.tell(world.going_on()[:_MOST_TOLD])}")
            raise


async def _soaked(plan: Plan, planned: Sequence[Trouble], world: World, backends: Backends) -> Outcome:
    strangers = Strangers(plan.seed, world)
    ending = [
        asyncio.create_task(Troubles(world, planned).run()),
        asyncio.create_task(Callers(plan.seed, world, backends, plan.most_under_way).run()),
    ]
    tasks = [*ending, asyncio.create_task(strangers.run())]
    try:
        await _settled(world, ending, tasks, plan.patience)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    _raise_what_was_raised(tasks)
    took = time.monotonic() - world.began
    await _collected(world)
    findings = await Audit(world, backends, strangers, planned).run()
    told = "" if findings.well else await _tell(world, findings)
    return Outcome(findings, _rows(plan, planned, world, strangers, findings, took), told)


def _raise_what_was_raised(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _settled(
    world: World, ending: Sequence[asyncio.Task[None]], tasks: Sequence[asyncio.Task[None]], patience: float
) -> None:
    """Wait until every job has ended, every caller is told and every trouble is over, or nothing moves on any more.

    Of all `tasks`, which must not raise, those of `ending` end by themselves.
    """
    before, since = (-1, -1), time.monotonic()
    while time.monotonic() - since < patience:
        await asyncio.sleep(_LOOK_S)
        going_on, owed = world.look()
        _raise_what_was_raised(tasks)
        if all(task.done() for task in ending) and not going_on and not owed:
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
        await until(lambda: not world.parts())


def _rows(
    plan: Plan, planned: Sequence[Trouble], world: World, strangers: Strangers, findings: Findings, took: float
) -> list[tuple[str, str]]:
    seen, sent = world.seen, strangers.answers
    sums = {kind: sum(count for name, count in sent.items() if name.startswith(kind)) for kind in KINDS}
    died, meant = len(world.place.reached), sum(trouble.point is not None for trouble in planned)
    rows: list[tuple[str, object]] = [
        ("jobs asked for", plan.jobs),
        ("jobs accepted", len(world.accepted)),
        ("jobs that the provider made", len(world.place.made)),
        ("deaths of the service, from outside", seen["kill"]),
        ("deaths at a named point", f"{died} of {meant} meant ({', '.join(sorted(set(world.place.reached)))})"),
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


def _answers(strangers: Strangers, kind: str) -> str:
    found = {name.split()[1]: count for name, count in strangers.answers.items() if name.startswith(kind)}
    return ", ".join(f"{answer}: {found[answer]:,}" for answer in sorted(found))


async def _tell(world: World, findings: Findings) -> str:
    lines: list[str] = []
    for promise, jobs in findings.broken.items():
        for job_id, whys in list(jobs.items())[:_MOST_TOLD]:
            lines += [f"{promise}: {job_id}", *(f"  {why}" for why in whys)]
            if job_id.startswith("job_"):
                lines.append(await world.tell([job_id]))
    return "\n".join(lines)


def _again(plan: Plan) -> str:
    return f"--seed {plan.seed} --jobs {plan.jobs} --rate {plan.pace.rate:g} --kills {plan.kills}"


def _read() -> Plan:
    parser = options("soak", "Runs many jobs through everything that can happen to them, and audits from outside.")
    parser.add_argument("--jobs", type=int, default=2_000, help="how many")
    chosen = random.randrange(1_000_000)  # noqa: S311 - it is printed
    parser.add_argument("--seed", type=int, default=chosen, help="what all choices follow from")
    parser.add_argument(
        "--rate", type=float, default=_RATE, help="how many times as fast as the machine's the clock goes"
    )
    parser.add_argument("--kills", type=int, default=0, help="0: one for every hundred jobs")
    given = parser.parse_args()
    return Plan(given.jobs, given.seed, given.kills or max(3, given.jobs // 100), pace=Pace(given.rate))


def main() -> bool:
    """Run a soak, print what it found, and tell whether every promise was kept."""
    plan = _read()
    rate = plan.pace.rate
    show(
        f"Seed {plan.seed} ({_again(plan)}); {machine()}. Simulated: the provider, and the clock that it shares with "
        f"the service, {rate:g} times as fast as the machine's (a lease of a minute lasts {60 / rate:g} s). Real: "
        "processes and their deaths, sockets, files, the database.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(soak(plan, Path(folder)))
    show(table(["Soak", ""], outcome.rows))
    if not outcome.findings.well:
        show(f"\nWith {_again(plan)}:\n")
        show(outcome.told)
    return outcome.findings.well


if __name__ == "__main__":
    carry_out(main)
