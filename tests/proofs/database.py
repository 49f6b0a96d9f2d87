"""What callers, providers and operators hear while the database is ill, and what is left of it afterwards.

    python -m tests.proofs.database

Each fault befalls the database of a running service at the instant at which the provider accepts a submission, so that
the id of a paid job is in the air. While it lasts jobs are asked for, read, and called back about; then it ends, and
everything must go on by itself: each create that was answered 202 and each callback that was answered 204 is there,
each job is completed, and each was paid for once. Leases and retries go on a clock that is 20 times as fast.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from service.assembly import Tuning
from service.clock import SystemClock
from service.sandbox.jobs import ProviderJob
from service.workers import Rhythm
from tests.mortal import Life
from tests.places import Place, open_place, until
from tests.proofs import cells
from tests.proofs.command import carry_out, options
from tests.proofs.faults import FAULTS, Fault, Illness
from tests.proofs.tables import machine, show, table

HEAD = (
    "fault",
    "creates said",
    "callbacks were told",
    "reads said",
    "`/readyz` said",
    "well again after (s)",
    "jobs",
    "lost",
    "paid twice",
)
_RATE = 20.0
_RHYTHM = Rhythm(idle=0.25, renew_every=1.0)
_PATIENCE = 120.0  # s
_MOST_ASKED = 400  # until creates are refused
_REFUSED = 3
_AT_ONCE = 3


@dataclass(slots=True)
class Outcome:
    """What was heard while a fault lasted, and what is `wrong` afterwards, a sentence each; `story` if anything is."""

    fault: Fault
    creates: Counter[int] = field(default_factory=Counter)
    callbacks: Counter[int] = field(default_factory=Counter)
    reads: Counter[int] = field(default_factory=Counter)
    ready: str = ""
    recovered: float = 0.0
    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    skipped: str = ""
    wrong: list[str] = field(default_factory=list)
    story: str = ""

    def complain(self, sentence: str) -> None:
        """Say what is wrong."""
        self.wrong.append(sentence)

    def row(self) -> list[object]:
        """Return what the table says under `HEAD`."""
        heard = [_counted(each) for each in (self.creates, self.callbacks, self.reads)]
        return [
            self.fault.name,
            *heard,
            self.ready,
            round(self.recovered, 1),
            self.jobs,
            len(self.lost),
            len(self.doubled),
        ]


async def measure(outcome: Outcome, jobs: int) -> None:
    """Let the fault befall a service in a folder of its own, with `jobs` jobs on their way."""
    with tempfile.TemporaryDirectory() as scratch:
        await _suffered(outcome, Path(scratch), jobs)
        outcome.ready = outcome.ready.replace(scratch, "")


async def _suffered(outcome: Outcome, scratch: Path, jobs: int) -> None:
    folder = scratch / "place"
    folder.mkdir()
    life = Life(rate=_RATE, since=SystemClock().now(), tuning=Tuning(look_inside=False, rhythm=_RHYTHM))
    with outcome.fault.catch(scratch) as illness:
        opening = open_place(
            folder,
            life=life,
            before=illness.handicap.before(),
            settings={"REELKEEPER_DATABASE": f"sqlite:///{illness.database}"},
        )
        async with opening as place, place.calling() as caller:
            course = _Course(outcome, illness, place, caller)
            async with cells.telling(outcome, place, course.accepted):
                await course.run(jobs)


class _Course:
    """The course of one illness; `accepted` are the jobs that were promised meanwhile."""

    def __init__(self, outcome: Outcome, illness: Illness, place: Place, caller: httpx.AsyncClient) -> None:
        self._fault = outcome.fault
        self._illness = illness
        self._place = place
        self._caller = caller
        self._outcome = outcome
        self._asked = 0
        self.accepted: list[str] = []

    async def run(self, jobs: int) -> None:
        """Go through it, and look at what is left."""
        begun = self._when_accepted(jobs, self._illness.begin)
        try:
            for _ in range(jobs):
                said = await self._ask()
                if said != 202:
                    self._outcome.complain(f"a create was answered {said} before there was a fault")
            await until(begun)
            taken = self._callbacks()
            refused = await self._suffer()
            self._outcome.callbacks = self._callbacks() - taken
        finally:
            if begun():
                self._illness.end(self._place)
        ended = time.monotonic()
        try:
            await self._recover(refused)
            self._outcome.recovered = time.monotonic() - ended
            await until(self._all_completed, _PATIENCE)
        except TimeoutError:
            self._outcome.complain(f"not all was well {_PATIENCE:.0f} s after the end of the fault")
        await self._audit()

    def _when_accepted(self, jobs: int, then: Callable[[], None]) -> Callable[[], bool]:
        """Have something happen when the provider accepts that many jobs, before it answers; tell whether it did."""
        ledger, add, happened = self._place.sandbox.ledger, self._place.sandbox.ledger.add, False

        def added(job: ProviderJob) -> None:
            nonlocal happened
            add(job)
            if not happened and len(ledger.jobs()) >= jobs:
                happened = True
                then()

        ledger.add = added  # type: ignore[method-assign]
        return lambda: happened

    async def _ask(self, key: str | None = None) -> int:
        """Ask for a job as a backend does, with a key of its own; return what was said."""
        self._asked += key is None
        key = key or f"wish-{self._asked}"
        body = {"model": "sandbox/ok", "prompt": f"{key} {'kite ' * 600}", "provider": "openrouter", "duration": 4}
        answer = await self._caller.post("/v1/jobs", json=body, headers={"idempotency-key": key})
        if answer.status_code == 202:
            self.accepted.append(answer.json()["id"])
        return answer.status_code

    async def _suffer(self) -> list[str]:
        """Ask, read and look while it lasts; return the keys of the creates that were refused."""
        refused: list[str] = []
        first = self.accepted[0]
        while len(refused) < _REFUSED and self._asked < (_MOST_ASKED if self._fault.refuses else 30):
            said = await self._ask()
            self._outcome.creates[said] += 1
            if said != 202:
                refused.append(f"wish-{self._asked}")
            self._outcome.reads[(await self._caller.get(f"/v1/jobs/{first}")).status_code] += 1
        ready = await self._caller.get("/readyz")
        self._outcome.ready = "ready" if ready.is_success else ready.json()["troubles"].get("database", "")
        wanted = self._fault.ready
        if (wanted is None) is not (self._outcome.ready == "ready") or not re.search(wanted or "", self._outcome.ready):
            self._outcome.complain(f"/readyz did not say what is wrong: {ready.text}")
        if self._fault.refuses:
            await until(lambda: self._callbacks()[503] or all(made.callbacks for made in self._place.made), _PATIENCE)
        return refused

    def _callbacks(self) -> Counter[int]:
        return Counter(sent.status for made in self._place.made for sent in made.callbacks if sent.status is not None)

    async def _recover(self, refused: list[str]) -> None:
        """Wait until it is ready, and repeat what was refused, as its callers do."""
        await until(self._is_ready, _PATIENCE)
        for key in refused:

            async def taken(key: str = key) -> bool:
                return await self._ask(key) == 202

            await until(taken, _PATIENCE)

    async def _is_ready(self) -> bool:
        try:
            return (await self._caller.get("/readyz")).is_success
        except httpx.TransportError:
            return False  # it is just being started again

    async def _all_completed(self) -> bool:
        states = {job.id: job.state for job in await self._place.jobs()}
        return all(states.get(job_id) == "completed" for job_id in self.accepted)

    async def _audit(self) -> None:
        out, kept = self._outcome, {job.id: job for job in await self._place.jobs()}
        out.jobs = len(kept)
        out.lost = [job for job in self.accepted if job not in kept or kept[job].state != "completed"]
        with closing(sqlite3.connect(self._illness.database)) as connection:
            told = {made for (made,) in connection.execute("SELECT provider_job_id FROM receipts")}
            [(verdict,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        out.lost += [
            f"a callback about {made.id}"
            for made in self._place.made
            if made.id not in told and any(sent.status == 204 for sent in made.callbacks)
        ]
        out.doubled = [job_id for job_id in kept if len(self._place.made_for(job_id)) != 1]
        out.wrong += [f"lost: {each}" for each in out.lost]
        out.wrong += [f"the provider made {len(self._place.made_for(each))} jobs for {each}" for each in out.doubled]
        if len(kept) != len(self.accepted):
            out.wrong.append(f"{len(kept)} jobs for {len(self.accepted)} wishes")
        if len(self._place.lives) != self._fault.lives:
            out.wrong.append(f"the service had {len(self._place.lives)} lives")
        if verdict != "ok":
            out.wrong.append(f"the database is not whole: {verdict}")
        if set(out.creates) - {202, 503} or bool(out.creates[503]) is not self._fault.refuses:
            out.wrong.append(f"creates said {dict(out.creates)}")
        if set(out.callbacks) - {204, 503}:
            out.wrong.append(f"callbacks were told {dict(out.callbacks)}")
        if self._fault.reads and set(out.reads) != {200}:
            out.wrong.append(f"reads said {dict(out.reads)}")


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "nothing"


def run(faults: Sequence[Fault], jobs: int) -> Sequence[Outcome]:
    """Try faults, with `jobs` jobs each; the outcomes in their order."""
    measuring = cells.measured([Outcome(fault) for fault in faults], partial(measure, jobs=jobs), _AT_ONCE)
    return asyncio.run(measuring)


def main() -> bool:
    """Print the table; tell whether every promise was kept."""
    options("database", "Makes the database ill while jobs are under way.").parse_args()
    show(f"{machine()}.\n")
    outcomes = run(FAULTS, 12)
    for each in outcomes:
        said = f"not tried, {each.skipped}" if each.skipped else "; ".join(each.wrong) or "as it should be"
        show("\n".join([f"{each.fault.name}: {said}", *[each.story] * bool(each.story)]))
    show(f"\n{table(HEAD, [each.row() for each in outcomes if not each.skipped])}")
    return not any(each.wrong for each in outcomes)


if __name__ == "__main__":
    carry_out(main)
