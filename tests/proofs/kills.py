"""Kills the service at every hop between a side effect and its record, and audits what the next life makes of it.

    python -m tests.proofs.kills

Each cell is a place of its own: a sandbox, the service as a process that dies of SIGKILL at one point and is started
again at once on the same files, and a backend that is told. Leases, retries and deadlines are those of real life on a
clock that goes faster; sockets, files and processes are real. Nothing is left to chance, so there is no seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx

from service.assembly import Tuning
from service.clock import SystemClock
from service.model import FINAL
from service.sandbox.behaviours import PREFIX
from service.workers import Rhythm
from tests.clocks import FastClock
from tests.mortal import Life
from tests.places import bytes_of, open_place, until
from tests.proofs import cells
from tests.proofs.command import carry_out, options
from tests.proofs.hops import CELLS, Cell, Kill, Scene
from tests.proofs.shelves import BucketShelf, FolderShelf, Shelf
from tests.proofs.tables import machine, show, table
from tests.receiver import Receiver
from tests.servers import SeaweedFS

RATE: Final = 20.0  # how much faster than the machine's the clock of a place goes
_RHYTHM = Rhythm(idle=0.25, renew_every=1.0)  # s of the machine: every 5 s and 20 s of that clock
_QUIET_MS = 75_000  # on that clock, after which every lease of the first life has lapsed
_PATIENCE = 60.0  # s of the machine
_AT_ONCE = 6

LOST, STUCK, DOUBLED = "lost", "stuck", "paid for twice"
BYTES, TOLD, MISSED = "with wrong bytes", "told wrong", "points missed"
KINDS: Final = (LOST, STUCK, DOUBLED, BYTES, TOLD, MISSED)
NOTHING: Final = "\N{EN DASH}"
NOTES: Final = """\
At `claimed` nobody can know whether the provider was called: by default nothing more is spent and the caller is told
so, and who prefers a second bill to no video says `on_unknown: "resubmit"`. What a death leaves of an upload in a
bucket is invisible, and collected when it is a day old. A message that was sent and not recorded comes again under its
id."""
HEAD: Final = (
    "point", "killed when", "provider", "storage", "provider jobs", "ended", "bytes equal", "uploads left",
    "delivery ids", "messages",
)  # fmt: skip


@dataclass
class Outcome:
    """What became of one cell. `wrong` are complaints by their kind, and `story` is told when there are any."""

    cell: Cell
    provider_jobs: int = 0
    ended: str = ""
    whole: bool = False  # the bytes in storage, and those that callers get, are what the provider served
    left: int = 0  # uploads that nobody finished
    ids: int = 0  # of deliveries that were told
    told: int = 0  # messages
    wrong: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    story: str = ""

    def complain(self, sentence: str) -> None:
        """Take what broke for a job that is stuck: nobody saw it end."""
        self.wrong[STUCK] = sentence

    @property
    def shown(self) -> tuple[object, ...]:
        """What the table says of it."""
        whole = "yes" if self.whole else "no" if self.ended == "completed" else NOTHING
        return self.provider_jobs, self.ended, whole, self.left, self.ids, self.told


async def measure(outcome: Outcome, server: SeaweedFS | None = None) -> None:
    """Run one cell, and audit it from outside."""
    cell, kill = outcome.cell, outcome.cell.kill
    async with (
        _opened(cell, server) as scene,
        cells.telling(outcome, scene.place),
        scene.place.calling() as client,
    ):
        watching = asyncio.create_task(_watched(kill, scene))
        try:
            job_id = await _asked(scene, client, cell)
            try:
                await until(lambda: _died(scene, kill), kill.patience)
            except TimeoutError:
                outcome.wrong[MISSED] = f"it never died where {kill.says}"
            quiet_at = scene.clock.now() + _QUIET_MS
            try:
                await until(lambda: scene.clock.now() >= quiet_at)
                await until(lambda: _settled(client, job_id), _PATIENCE)
            except TimeoutError:
                outcome.wrong[STUCK] = f"it did not end within {_PATIENCE:.0f} s"
            await _audit(outcome, scene, client, job_id)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@contextlib.asynccontextmanager
async def _opened(cell: Cell, server: SeaweedFS | None) -> AsyncIterator[Scene]:
    kill, receiver = cell.kill, Receiver()
    tuning = Tuning(timing=kill.timing, rhythm=_RHYTHM, look_inside=False)
    life = Life(rate=RATE, since=SystemClock().now(), tuning=tuning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shelf: Shelf = BucketShelf(server, str(cell)) if server and cell.bucket else FolderShelf(folder / "videos")
        async with receiver.running():
            opening = open_place(
                folder,
                kill.point,
                deadline=kill.deadline,
                speed=kill.speed,
                settings=shelf.settings,
                life=life,
                receivers=[receiver.host],
            )
            async with opening as place:
                yield Scene(place, shelf, receiver, FastClock(life.rate, life.since))


async def _watched(kill: Kill, scene: Scene) -> None:
    if kill.outside is not None:
        await kill.outside(scene)


async def _asked(scene: Scene, client: httpx.AsyncClient, cell: Cell) -> str:
    """Ask for a video, again when there was no answer, as a backend does; return the job's id."""
    body = {
        "provider": cell.provider,
        "model": PREFIX + cell.kill.model,
        "prompt": "a red kite over the sea",
        "duration": 4,
        "on_unknown": cell.kill.on_unknown,
        "notify_url": scene.receiver.url,
    }

    def ask() -> Awaitable[httpx.Response]:
        return client.post("/v1/jobs", json=body, headers={"idempotency-key": str(cell)})

    try:
        answer = await ask()
    except httpx.TransportError:
        await until(lambda: len(scene.place.lives) > 1)
        answer = await ask()
    if answer.is_error:
        raise RuntimeError(f"the service refused the call: {answer.text}")
    return str(answer.json()["id"])


def _died(scene: Scene, kill: Kill) -> bool:
    return len(scene.place.lives) > 1 and kill.point in (None, *scene.place.reached)


async def _settled(client: httpx.AsyncClient, job_id: str) -> bool:
    """Tell whether the job has ended and its caller knows."""
    try:
        job = (await client.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
        owed = (await client.get(f"/v1/jobs/{job_id}/deliveries")).raise_for_status().json()["data"]
    except httpx.TransportError:
        return False  # it is dead just now
    return job["state"] in FINAL and all(delivery["state"] != "pending" for delivery in owed)


async def _audit(outcome: Outcome, scene: Scene, client: httpx.AsyncClient, job_id: str) -> None:
    """Write down what became of the job, and what should not have."""
    kill, place, wrong = outcome.cell.kill, scene.place, outcome.wrong
    job = (await client.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
    outcome.ended = job["state"] if job["error"] is None else f"{job['state']}/{job['error']['code']}"
    if outcome.ended != kill.ends and STUCK not in wrong:
        wrong[LOST] = f"it should have ended as {kill.ends}"

    ours, calls = await place.jobs(), sum(place.sandbox.ledger.submissions.values())
    outcome.provider_jobs = len(place.made)
    if (len(ours), outcome.provider_jobs, calls) != (1, kill.made, kill.made):
        wrong[DOUBLED] = f"{len(ours)} jobs of ours made {outcome.provider_jobs} at the provider, in {calls} calls"

    served = {
        artifact.key: bytes_of(made)
        for each in ours
        for artifact in each.artifacts
        for made in place.made
        if made.id == each.provider_job_id
    }
    given = [await _content(client, artifact["url"]) for artifact in job["artifacts"]]
    hashes = [artifact["sha256"] for artifact in job["artifacts"]]
    kept, outcome.left = scene.shelf.files(), len(scene.shelf.begun())
    outcome.whole = bool(served) and kept == served and given == list(served.values())
    if kept != served or given != list(served.values()) or hashes != [sha256(each).hexdigest() for each in given]:
        wrong[BYTES] = f"in storage: {_sizes(kept)}, served by the provider: {_sizes(served)}"
    if place.made and not kill.in_time(scene):
        wrong[MISSED] = f"too late: it died after the moment when {kill.says}"
    if outcome.left and not outcome.cell.bucket:
        wrong[BYTES] = f"left behind: {scene.shelf.begun()}"

    told = scene.receiver.told
    outcome.ids, outcome.told = len({each.id for each in told}), len(told)
    if outcome.ids != 1 or any(json.loads(each.body)["data"] != job for each in told):
        wrong[TOLD] = f"told {[(each.id, each.state) for each in told]}, but it reads {outcome.ended}"


async def _content(client: httpx.AsyncClient, url: str) -> bytes:
    return (await client.get(url, follow_redirects=True)).raise_for_status().content  # a bucket has links of its own


def _sizes(files: Mapping[str, bytes]) -> str:
    return ", ".join(f"{key} ({len(data):,} bytes)" for key, data in files.items()) or "nothing"


def run(tried: Sequence[Cell]) -> Sequence[Outcome]:
    """Run cells, with an object store of their own if any needs one; the outcomes in their order."""
    with cells.bucket_if(any(cell.bucket for cell in tried)) as server:
        measuring = cells.measured([Outcome(cell) for cell in tried], partial(measure, server=server), _AT_ONCE)
        return asyncio.run(measuring)


def report(outcomes: Sequence[Outcome]) -> str:
    """Write the outcomes as a table, one row for both providers where all is the same, and count what is wrong."""
    rows: dict[tuple[object, ...], list[str]] = {}
    for each in outcomes:
        kill = each.cell.kill
        rows.setdefault((kill.name, kill.says, each.cell.storage, *each.shown), []).append(each.cell.provider)
    lines = [(name, says, ", ".join(providers), *rest) for (name, says, *rest), providers in rows.items()]
    wrong = Counter(kind for each in outcomes for kind in each.wrong)
    counts = ", ".join(f"{wrong[kind]} {kind}" for kind in KINDS)
    return f"{table(HEAD, lines)}\n\n{NOTES}\n\n{len(outcomes)} kills: {counts}"


def main() -> bool:
    """Run every cell, print what became of it, and tell whether all is well."""
    options("kills", "Kills the service at every hop between a side effect and its record.").parse_args()
    show(f"{machine()}; the clock goes {RATE:.0f} times as fast, all else is real; this takes some two minutes\n")
    outcomes = run(CELLS)
    show(report(outcomes))
    for outcome in outcomes:
        for kind, complaint in outcome.wrong.items():
            show(f"\n{outcome.cell}: {kind}: {complaint}")
        if outcome.wrong:
            show(outcome.story)
    return not any(outcome.wrong for outcome in outcomes)


if __name__ == "__main__":
    carry_out(main)
