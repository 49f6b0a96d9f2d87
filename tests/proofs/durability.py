"""Is what was acknowledged on the disk before it was acknowledged? The plug is pulled at every acknowledgement.

    python -m tests.proofs.durability

The service runs under `strace`, which tells in which order it wrote, synced and sent. From that the disk is rebuilt as
a power cut leaves it: at each instant at which a 2xx begins to be sent, with nothing of what was not synced by then and
with random parts of it, and at each instant at which something is about to be synced. Every rebuilt database must be
whole and have every create (202) and callback (204) that was acknowledged, and the whole video of every completed job.
The same is tried with a service that does not keep the promise, to show that the proof would see it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.assembly import Tuning
from service.model import State
from tests.mortal import Life
from tests.places import Place, open_place, until
from tests.proofs.calls import Moment, moments, tracing
from tests.proofs.command import carry_out, options
from tests.proofs.handicap import Handicap
from tests.proofs.pulled_plug import Disk
from tests.proofs.tables import machine, show, table

_OFTEN = "wal_autocheckpoint = 100"  # pages; so that the log is emptied and begun anew while we look
SERVICES = {
    "as it is": Handicap([_OFTEN]),
    "if it had `synchronous = NORMAL`": Handicap([_OFTEN, "synchronous = NORMAL"]),
    "if it had `synchronous = OFF`": Handicap([_OFTEN, "synchronous = OFF"]),
    "if it did not sync videos": Handicap([_OFTEN], sync_videos=False),
}
HEAD = (
    "service",
    "creates (202)",
    "callbacks (204)",
    "completed",
    "acknowledged before synced",
    "rebuilt at",
    "rebuilt disks",
    "without something acknowledged",
    "damaged",
    "completed without a whole video",
)
_IN_FLIGHT = 8
_SPEED = 20.0
_TOLD = 3  # jobs
_REQUEST = re.compile(rb"x-request-id: (\S+)\r\n")


@dataclass(slots=True)
class Findings:
    """What a run was and what was wrong with it, a sentence for each; `story` tells of the first jobs concerned."""

    creates: int = 0
    callbacks: int = 0
    completed: int = 0
    instants: int = 0
    rebuilt: int = 0
    early: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    not_whole: list[str] = field(default_factory=list)
    story: str = ""

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        return [*self.early, *self.missing, *self.damaged, *self.not_whole]

    def row(self) -> list[object]:
        """Return the numbers under `HEAD`, without the first."""
        numbers = [self.creates, self.callbacks, self.completed, len(self.early), self.instants, self.rebuilt]
        return [*numbers, len(self.missing), len(self.damaged), len(self.not_whole)]


@dataclass(slots=True)
class _Recorded:
    """A run that is over: what it wrote down."""

    place: Place
    trace: Path
    before: Path
    port: int
    keys: dict[str, list[str]]  # job -> where its videos are
    names: dict[str, str]  # job -> the provider's name for it


async def prove(scratch: Path, handicap: Handicap, jobs: int, subsets: int, seed: int) -> Findings:
    """Run `jobs` jobs in the empty folder `scratch`, and rebuild the disk with `subsets` random parts each time."""
    recorded = await _record(scratch, handicap, jobs)
    found = _Audit(recorded, subsets, seed).findings()
    named = sorted(set(re.findall(r"job_\w+", "\n".join(found.wrong))))
    found.story = "\n".join([await recorded.place.tell(job_id) for job_id in named[:_TOLD]])
    return found


async def _record(scratch: Path, handicap: Handicap, jobs: int) -> _Recorded:
    folder, trace, before = scratch / "place", scratch / "trace", scratch / "before"
    (folder / "videos").mkdir(parents=True)
    copy = ["sh", "-c", f'cp -r . "{before}" && exec "$@"', "sh"]
    command = [*copy, *tracing(trace), *handicap.before()]
    life = Life(tuning=Tuning(look_inside=False))
    async with open_place(folder, before=command, life=life, speed=_SPEED) as place:
        await _ask(place, jobs)
        await until(lambda: _all_told(place, jobs))
        await until(lambda: _all_completed(place, jobs))
        kept = await place.jobs()
        keys = {job.id: [artifact.key for artifact in job.artifacts] for job in kept}
        names = {job.id: job.provider_job_id or "" for job in kept}
        return _Recorded(place, trace, before, httpx.URL(place.url).port or 0, keys, names)


async def _ask(place: Place, jobs: int) -> None:
    wanted = iter(range(jobs))
    headers = {"authorization": f"Bearer {place.key}"}
    async with httpx.AsyncClient(base_url=place.url, headers=headers, trust_env=False, timeout=30) as caller:

        async def one_after_the_other() -> None:
            for number in wanted:
                provider = ("openrouter", "llmgateway")[number % 2]
                body = {"model": "sandbox/ok", "prompt": f"kite {number}", "provider": provider, "duration": 4}
                answer = await caller.post("/v1/jobs", json=body)
                assert answer.status_code == 202, answer.text

        await asyncio.gather(*(one_after_the_other() for _ in range(_IN_FLIGHT)))


def _all_told(place: Place, jobs: int) -> bool:
    told = [made for made in place.made if any(sent.status == 204 for sent in made.callbacks)]
    return len(told) == jobs


async def _all_completed(place: Place, jobs: int) -> bool:
    return len([job for job in await place.jobs() if job.state is State.COMPLETED]) == jobs


class _Audit:
    """Goes through a run moment by moment, and pulls the plug again and again."""

    def __init__(self, run: _Recorded, subsets: int, seed: int) -> None:
        self._run = run
        self._subsets = subsets
        self._seed = seed
        self._log = str(run.place.folder / "reelkeeper.db-wal")
        self._about = _requests(run.place.folder / "log.jsonl")
        self._rebuilt = run.place.folder.parent / "rebuilt"
        self._found = Findings()
        self._creates: set[str] = set()
        self._callbacks: set[str] = set()
        self._order = _Order(self._log)

    def findings(self) -> Findings:
        """Return what was found."""
        root = str(self._run.place.folder)
        before = {
            f"{root}/{path.relative_to(self._run.before)}": path.read_bytes() if path.is_file() else None
            for path in self._run.before.rglob("*")
            if path.name != "log.jsonl"
        }
        disk = Disk(root, before)
        for moment in moments(self._run.trace):
            disk.pass_by(moment)
            self._order.pass_by(moment)
            if moment.returned:
                continue
            if self._acknowledges(moment):
                self._pull(disk, [None, *self._chances(self._subsets)])
            elif moment.call.name in ("fsync", "fdatasync") and (moment.call.path or "").startswith(root):
                self._pull(disk, self._chances(1))
        self._found.creates, self._found.callbacks = len(self._creates), len(self._callbacks)
        for job_id, keys in self._run.keys.items():
            self._found.completed += 1
            self._found.early += self._order.before_completed(job_id, [f"{root}/videos/{key}" for key in keys])
        return self._found

    def _chances(self, count: int) -> list[random.Random]:
        return [random.Random(f"{self._seed} {self._found.instants} {number}") for number in range(count)]  # noqa: S311 - a seed

    def _acknowledges(self, moment: Moment) -> bool:
        """Take note of an acknowledgement that begins to be sent, and of what had to be synced before."""
        call = moment.call
        if not (call.ends or "").startswith(f"127.0.0.1:{self._run.port}->"):
            return False
        status, request = call.data[:12], _REQUEST.search(call.data)
        if request is None or status not in (b"HTTP/1.1 202", b"HTTP/1.1 204"):
            return False
        job_id = self._about[request[1].decode()]
        if status.endswith(b"202"):
            self._creates.add(job_id)
            row = re.compile(re.escape(job_id.encode()))
        else:
            self._callbacks.add(job_id)
            row = re.compile(rb"%b%b\w{1,20}(applied|duplicate)" % (job_id.encode(), self._run.names[job_id].encode()))
        if not self._order.synced(row, job_id):
            self._found.early.append(f"{status.decode()} about {job_id} was sent before its commit was synced")
        return True

    def _pull(self, disk: Disk, chances: Sequence[random.Random | None]) -> None:
        self._found.instants += 1
        for number, chance in enumerate(chances):
            self._rebuilt.mkdir(exist_ok=True)
            for left in self._rebuilt.iterdir():
                left.unlink()
            self._found.rebuilt += 1
            self._look(disk.after_power_cut(chance), f"instant {self._found.instants}, part {number}")

    def _look(self, files: dict[str, bytes], where: str) -> None:
        for name, content in files.items():
            if name.startswith("reelkeeper.db"):
                (self._rebuilt / name).write_bytes(content)
        with closing(sqlite3.connect(self._rebuilt / "reelkeeper.db")) as connection:
            try:
                connection.execute("PRAGMA synchronous = OFF")  # of our own looking
                [[verdict]] = connection.execute("PRAGMA integrity_check(1)").fetchall()
                jobs = {job_id for (job_id,) in connection.execute("SELECT id FROM jobs")}
                told = {job_id for (job_id,) in connection.execute("SELECT job_id FROM receipts")}
                kept = connection.execute(
                    "SELECT key, sha256 FROM jobs JOIN artifacts ON job_id = id WHERE state = 'completed'"
                ).fetchall()
            except sqlite3.DatabaseError as error:
                self._found.damaged.append(f"{where}: {error}")
                return
        if verdict != "ok":
            self._found.damaged.append(f"{where}: {verdict}")
        lost = (self._creates - jobs) | (self._callbacks - told)
        if lost:
            self._found.missing.append(f"{where}: {', '.join(sorted(lost))}")
        for key, sha256 in kept:
            if hashlib.sha256(files.get(f"videos/{key}", b"")).hexdigest() != sha256:
                self._found.not_whole.append(f"{where}: {key}")


class _Order:
    """Knows what happened before what, without any disk."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._now = 0
        self._writes: list[tuple[int, bytes]] = []  # to the log: when, what
        self._syncs: dict[str, list[tuple[int, int]]] = {}  # path -> from when to when
        self._renames: dict[str, tuple[str, int, int]] = {}  # to -> from, from when to when
        self._begun: dict[int, int] = {}

    def pass_by(self, moment: Moment) -> None:
        """Take note of what happens."""
        self._now += 1
        call = moment.call
        if not moment.returned:
            self._begun[id(call)] = self._now
            if call.name == "pwrite64" and call.path == self._log:
                self._writes.append((self._now, call.data))
            return
        begun = self._begun.pop(id(call))
        if call.result != 0:
            return
        if call.name in ("fsync", "fdatasync") and call.path is not None:
            self._syncs.setdefault(call.path, []).append((begun, self._now))
        elif call.name.startswith("rename"):
            old, new = (text.decode() for text in call.texts)
            self._renames[new] = (old, begun, self._now)

    def synced(self, row: re.Pattern[bytes], job_id: str) -> bool:
        """Whether the first commit that has `row` was synced by now."""
        found = self._first(row, job_id)
        if found is None:
            return False
        for place in range(max(found - 1, 0), len(self._writes) - 1):
            header = self._writes[place][1]
            if len(header) == 24 and header[4:8] != bytes(4):
                last = self._writes[place + 1][0]
                return any(begun > last for begun, _ in self._syncs.get(self._log, ()))
        return False

    def before_completed(self, job_id: str, videos: Sequence[str]) -> list[str]:
        """Return what was not synced, and renamed, and synced again, before the job was first called completed."""
        found = self._first(re.compile(rb"%b.{0,3}job\.completed" % job_id.encode(), re.DOTALL), job_id)
        if found is None:
            return [f"{job_id} never became completed"]
        told_at = self._writes[found][0]
        return [
            f"{job_id} was called completed before {video} was synced"
            for video in videos
            if not self._kept(video, told_at)
        ]

    def _kept(self, video: str, told_at: int) -> bool:
        part, begun, ended = self._renames.get(video, ("", 0, 0))
        whole = any(synced < begun for _, synced in self._syncs.get(part, ()))
        folders = self._syncs.get(video.rsplit("/", 1)[0], ())
        return whole and any(after > ended and synced < told_at for after, synced in folders)

    def _first(self, row: re.Pattern[bytes], job_id: str) -> int | None:
        name = job_id.encode()
        return next((place for place, (_, data) in enumerate(self._writes) if name in data and row.search(data)), None)


def _requests(log: Path) -> dict[str, str]:
    """Read from the service's log which job a request was about."""
    lines = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return {line["request_id"]: line["job"] for line in lines if line["event"] == "web.request" and "job" in line}


def main() -> bool:
    """Print the table; tell whether every promise was kept, and a broken one would have been seen."""
    parser = options("durability", "Pulls the plug at every instant at which something was acknowledged.")
    chosen = random.SystemRandom().randrange(1_000_000)
    parser.add_argument("--seed", type=int, default=chosen, help="which un-synced pages survive")
    seed = parser.parse_args().seed
    show(f"Seed {seed}, {machine()}.")
    show("The first service is as it is. The others are broken on purpose, and must be found out.\n")
    return asyncio.run(_prove_all(seed))


async def _prove_all(seed: int) -> bool:
    rows: list[list[object]] = []
    good = True
    for name, handicap in SERVICES.items():
        as_it_is = not rows
        jobs, subsets = (60, 2) if as_it_is else (10, 1)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            found = await prove(Path(scratch), handicap, jobs, subsets, seed)
        rows.append([name, *found.row()])
        show(f"{name}: {time.monotonic() - begun:.0f} s")
        for sentence in found.wrong[: None if as_it_is else 3]:
            show(f"  {sentence}")
        if as_it_is and found.story:
            show(found.story)
        good &= bool(found.wrong) is not as_it_is
    show(f"\n{table(HEAD, rows)}")
    return good


if __name__ == "__main__":
    carry_out(main)
