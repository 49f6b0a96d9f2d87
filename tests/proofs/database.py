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
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from service.assembly import Tuning
from service.clock import SystemClock
from service.sandbox.jobs import ProviderJob
from service.workers import Rhythm
from tests.mortal import Life
from tests.places import Place, open_place, until
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
_PATIENCE = 40.0  # s
_MOST_ASKED = 400  # until creates are refused
_REFUSED = 3
_AT_ONCE = 3


@dataclass(slots=True)
class Outcome:
    """What was heard while a fault lasted, and what is `wrong` afterwards, a sentence each; `story` if anything is."""

    creates: Counter[int] = field(default_factory=Counter)
    callbacks: Counter[int] = field(default_factory=Counter)
    reads: Counter[int] = field(default_factory=Counter)
    ready: str = ""
    recovered: float = 0.0
    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    story: str = ""

    def row(self) -> list[object]:
        """Return what the table says under `HEAD`, without the fault."""
        heard = [_counted(each) for each in (self.creates, self.callbacks, self.reads)]
        return [*heard, self.ready, round(self.recovered, 1), self.jobs, len(self.lost), len(self.doubled)]


async def measure(fault: Fault, scratch: Path, jobs: int = 6) -> Outcome:
    """Let the fault befall a service in the empty folder `scratch`, with `jobs` jobs on their way."""
    folder = scratch / "place"
    folder.mkdir()
    life = Life(rate=_RATE, since=SystemClock().now(), tuning=Tuning(look_inside=False, rhythm=_RHYTHM))
    with fault.catch(scratch) as illness:
        opening = open_place(
            folder,
            life=life,
            before=illness.handicap.before(),
            settings={"REELKEEPER_DATABASE": f"sqlite:///{illness.database}"},
        )
        async with opening as place, place.calling() as caller:
            return await _Course(fault, illness, place, caller).run(jobs)


class _Course:
    """The course of one illness."""

    def __init__(self, fault: Fault, illness: Illness, place: Place, caller: httpx.AsyncClient) -> None:
        self._fault = fault
        self._illness = illness
        self._place = place
        self._caller = caller
        self._outcome = Outcome()
        self._accepted: dict[str, str] = {}  # the caller's key -> job
        self._asked = 0

    async def run(self, jobs: int) -> Outcome:
        """Go through it, and look at what is left."""
        begun = self._when_accepted(jobs, self._illness.begin)
        for _ in range(jobs):
            assert await self._ask() == 202
        await until(begun)
        taken = self._callbacks()
        refused = await self._suffer()
        self._outcome.callbacks = self._callbacks() - taken
        ended = time.monotonic()
        self._illness.end(self._place)
        try:
            await self._recover(refused)
            self._outcome.recovered = time.monotonic() - ended
            await _until(self._all_completed)
        except TimeoutError:
            self._outcome.wrong.append(f"not all was well {_PATIENCE:.0f} s after the end of the fault")
        await self._audit()
        return self._outcome

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
            self._accepted[key] = answer.json()["id"]
        return answer.status_code

    async def _suffer(self) -> list[str]:
        """Ask, read and look while it lasts; return the keys of the creates that were refused."""
        refused: list[str] = []
        first = next(iter(self._accepted.values()))
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
            self._outcome.wrong.append(f"/readyz did not say what is wrong: {ready.text}")
        if self._fault.refuses:
            await until(lambda: self._callbacks()[503] or all(made.callbacks for made in self._place.made), _PATIENCE)
        return refused

    def _callbacks(self) -> Counter[int]:
        return Counter(sent.status for made in self._place.made for sent in made.callbacks if sent.status is not None)

    async def _recover(self, refused: list[str]) -> None:
        """Wait until it is ready, and repeat what was refused, as its callers do."""
        await _until(self._is_ready)
        for key in refused:

            async def taken(key: str = key) -> bool:
                return await self._ask(key) == 202

            await _until(taken)

    async def _is_ready(self) -> bool:
        try:
            return (await self._caller.get("/readyz")).is_success
        except httpx.TransportError:
            return False  # it is just being started again

    async def _all_completed(self) -> bool:
        states = {job.id: job.state for job in await self._place.jobs()}
        return all(states.get(job_id) == "completed" for job_id in self._accepted.values())

    async def _audit(self) -> None:
        out, kept = self._outcome, {job.id: job for job in await self._place.jobs()}
        out.jobs = len(kept)
        out.lost = [job for job in self._accepted.values() if job not in kept or kept[job].state != "completed"]
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
        if len(kept) != len(self._accepted):
            out.wrong.append(f"{len(kept)} jobs for {len(self._accepted)} wishes")
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
        if out.wrong:
            out.story = "\n".join([await self._place.tell(job_id) for job_id in {*out.lost, *out.doubled} & {*kept}])


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await condition():  # noqa: ASYNC110 - another process cannot set an event here
            await asyncio.sleep(0.05)


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "nothing"


async def measured(faults: Sequence[Fault], scratch: Path, jobs: int) -> list[Outcome | str]:
    """Measure some faults at a time, each in a folder of its own; a sentence says why one cannot be made here."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, fault: Fault) -> Outcome | str:
        folder = scratch / f"{number}"
        folder.mkdir()
        async with at_once:
            try:
                return await measure(fault, folder, jobs)
            except pytest.skip.Exception as reason:
                return str(reason)

    return await asyncio.gather(*(one(number, fault) for number, fault in enumerate(faults)))


async def main() -> int:
    """Print the table; return 1 when a promise was broken."""
    show(f"{machine()}.\n")
    rows: list[list[object]] = []
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        found_all = await measured(FAULTS, Path(scratch), 12)
    for number, (fault, found) in enumerate(zip(FAULTS, found_all, strict=True)):
        if isinstance(found, str):
            show(f"{fault.name}: not tried, {found}")
            continue
        found.ready = found.ready.replace(f"{scratch}/{number}", "")
        rows.append([fault.name, *found.row()])
        show(
            "\n".join(
                [f"{fault.name}: {'; '.join(found.wrong) or 'as it should be'}", *([found.story] * bool(found.story))]
            )
        )
        good &= not found.wrong
    show(f"\n{table(HEAD, rows)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
