"""Makes the storage ill in every way that we know, while jobs wait for it, and well again.

    python -m tests.proofs.storage

Each case is a place of its own: a sandbox, the service as a process, and a real storage that misbehaves on command: a
prefix of a real S3 server behind a proxy, or a folder on a disk that can be full, read-only or away (which takes a root
who may mount). What the service waits for is lived through on a clock that goes faster. Nothing is left to chance, so
there is no seed. A disk that is slow, or hangs, is not tried: no way to make one is portable.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final
from unittest.mock import patch

import httpx

from service.assembly import Tuning
from service.clock import SystemClock
from service.model import Job, State
from service.sandbox.behaviours import PREFIX
from service.storage import Storage
from service.workers import Rhythm
from tests import faulty_bucket
from tests.faulty_bucket import Call, Fault, FaultyBucket, Way
from tests.faulty_folder import faulty_folder
from tests.mortal import Life
from tests.places import Place, bytes_of, open_place, until
from tests.proofs import cells
from tests.proofs.command import carry_out, options
from tests.proofs.shelves import BucketShelf, FolderShelf, Shelf
from tests.proofs.tables import machine, show, table
from tests.servers import SeaweedFS

RATE: Final = 20.0  # how much faster than the machine's the clock of a place goes
_RHYTHM = Rhythm(idle=0.25, renew_every=1.0)  # s of the machine
_PATIENCE = 90.0  # s of the machine
_FULFILLED = 10.0  # s
_AT_ONCE = 5
_ANSWER_WITHIN = 3  # s of the machine, after which a request to a bucket has failed: 30 in real life
_DOUBLED = PREFIX + "callback-twice"
_JOBS: Final = (("openrouter", _DOUBLED), ("llmgateway", _DOUBLED))

HEAD: Final = (
    "storage", "fault", "what `/readyz` said", "jobs meanwhile", "callbacks acknowledged", "completed after",
    "attempts", "bytes equal", "left behind", "after a sweep",
)  # fmt: skip
NOTES: Final = """\
"Left behind" are uploads and temporary files that nobody finished, once all jobs are completed; a sweep collects what
is a day old. Every job is one paid job at its provider."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to be ill. `says` must be in what `/readyz` tells, `whole` tells that something may be there already."""

    name: str
    says: str
    fault: Fault | None = None  # of a bucket
    ill: str = ""  # of a folder
    whole: bool = False

    @property
    def storage(self) -> str:
        """What kind of storage that is."""
        return "bucket" if self.fault else "folder"

    def __str__(self) -> str:
        """Name it for a test."""
        return f"{self.storage}: {self.name}"


_REACH = "check the AWS_* endpoint, region and credentials, and that it is up"
_FOLDER = "check that the folder is there, may be written, and has free space"
CASES: Final = (
    Case("403 AccessDenied", "check the AWS_* credentials", faulty_bucket.DENIED),
    Case("503 SlowDown", "wait, or raise that limit", faulty_bucket.SLOW_DOWN),
    Case("500 InternalError", _REACH, faulty_bucket.BROKEN),
    Case("507 storage full", "make room there", faulty_bucket.FULL),
    Case("403 QuotaExceeded", "make room there", faulty_bucket.OVER_QUOTA),
    Case("no answer", _REACH, faulty_bucket.SILENT),
    Case("takes bytes in drops", _REACH, Fault(Way.DRIPPING, {Call.PART}, drop=1)),
    Case("reset in the middle of a part", _REACH, faulty_bucket.RESET),
    Case("refuses parts, and to abort", "check the AWS_* credentials",
         Fault(Way.REFUSED, {Call.PART, Call.ABORT}, 403, "AccessDenied")),
    Case("answers of completions lost", _REACH, faulty_bucket.LOST, whole=True),
    Case("200 with an error to completions", _REACH, faulty_bucket.FALSE_OK),
    Case("disk full", _FOLDER, ill="full"),
    Case("read-only file system", _FOLDER, ill="read-only"),
    Case("disk not mounted", _FOLDER, ill="away"),
    Case("folder moved away", _FOLDER, ill="moved"),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of one case. `wrong` are complaints, and `story` is told when there are any."""

    case: Case
    ready: str = ""
    meanwhile: str = ""
    acknowledged: str = ""
    seconds: float = 0.0  # of the machine, from the storage's recovery to the last job's completion
    attempts: list[int] = field(default_factory=list)
    whole: bool = False
    left: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    skipped: str = ""
    wrong: list[str] = field(default_factory=list)
    story: str = ""

    def complain(self, sentence: str) -> None:
        """Say what is wrong."""
        self.wrong.append(sentence)

    @property
    def shown(self) -> tuple[object, ...]:
        """What the table says of it."""
        if self.skipped:
            return (self.case.storage, self.case.name, f"not tried: {self.skipped}", *[""] * (len(HEAD) - 3))
        return (
            self.case.storage, self.case.name, self.ready, self.meanwhile, self.acknowledged, f"{self.seconds:.0f} s",
            ", ".join(map(str, self.attempts)), "yes" if self.whole else "no", len(self.left), len(self.swept),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Patient:
    """A storage that can be made ill and well; `url` is where it is when it is well."""

    shelf: Shelf
    settings: dict[str, str]
    url: str
    falls_ill: Callable[[], object]
    recovers: Callable[[], object]


@contextlib.asynccontextmanager
async def _patient(case: Case, server: SeaweedFS | None, base: Path) -> AsyncIterator[Patient]:
    if case.fault is not None:
        assert server is not None
        # No words: the library takes `SlowDown` or `InternalError` in any answer for an error, also in a key's name.
        shelf = BucketShelf(server, f"case-{CASES.index(case) if case in CASES else len(CASES)}")
        bucket = FaultyBucket(server)
        async with bucket.running():
            settings = {**shelf.settings, **bucket.environment, "AWS_TIMEOUT": f"{_ANSWER_WITHIN} seconds"}
            url = settings["REELKEEPER_STORAGE"]
            yield Patient(shelf, settings, url, partial(bucket.breaks, case.fault), partial(bucket.breaks, None))
        return
    if case.ill == "moved":
        folder, elsewhere = base / "videos", base / "elsewhere"
        settings = {"REELKEEPER_STORAGE": str(folder)}
        there, back = partial(folder.rename, elsewhere), partial(elsewhere.rename, folder)
        yield Patient(FolderShelf(folder), settings, str(folder), there, back)
        return
    with faulty_folder(base) as disk:
        settings = {"REELKEEPER_STORAGE": str(disk.path)}
        ills: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "full": (disk.fill, disk.drain),
            "read-only": (partial(disk.becomes, writable=False), partial(disk.becomes, writable=True)),
            "away": (disk.goes_away, disk.comes_back),
        }
        shelf_behind: Shelf = FolderShelf(disk.disk)  # seen also while it is away
        yield Patient(shelf_behind, settings, str(disk.path), *ills[case.ill])


async def measure(outcome: Outcome, environment: asyncio.Lock, server: SeaweedFS | None = None) -> None:
    """Run one case, and audit it from outside; who changes the process's own `environment` does so alone."""
    tuning = Tuning(rhythm=_RHYTHM, look_inside=False)
    life = Life(rate=RATE, since=SystemClock().now(), tuning=tuning)
    with tempfile.TemporaryDirectory() as name:
        async with _patient(outcome.case, server, Path(name)) as patient:
            async with (
                open_place(Path(name), settings=patient.settings, life=life) as place,
                cells.telling(outcome, place),
                place.calling() as client,
            ):
                try:
                    await _live_through(outcome, patient, place, client)
                except TimeoutError:
                    outcome.wrong.append(f"it stood still for {_PATIENCE:.0f} s")
                await _audit(outcome, patient, place, client)
            async with environment:
                await _sweep(outcome, patient)


async def _live_through(outcome: Outcome, patient: Patient, place: Place, client: httpx.AsyncClient) -> None:
    await until(lambda: _ready(client), _PATIENCE)
    patient.falls_ill()
    try:
        for provider, model in _JOBS:
            body = {"provider": provider, "model": model, "prompt": "a red kite over the sea", "duration": 4}
            (await client.post("/v1/jobs", json=body)).raise_for_status()
        await until(lambda: _in_vain(place), _PATIENCE)
        await until(lambda: _told(client, outcome), _PATIENCE)
        outcome.meanwhile = ", ".join(sorted({job.state for job in await place.jobs()}))
        early = {} if outcome.case.ill in ("away", "moved") else patient.shelf.files()
        if not outcome.case.whole and any(key.startswith("studio/") for key in early):
            outcome.wrong.append(f"visible too early: {sorted(early)}")
    finally:
        patient.recovers()
    begun = asyncio.get_running_loop().time()
    await until(lambda: _completed(place), _PATIENCE)
    outcome.seconds = asyncio.get_running_loop().time() - begun
    await until(lambda: _ready(client), _PATIENCE)


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).is_success


async def _told(client: httpx.AsyncClient, outcome: Outcome) -> bool:
    """Note what `/readyz` says is wrong, once it says that anything is."""
    said = (await client.get("/readyz")).json().get("troubles", {})
    outcome.ready = said.get("storage", "nothing of the storage")
    return bool(said)


async def _in_vain(place: Place) -> bool:
    """Tell whether every job has been tried, without success, at least once."""
    jobs = await place.jobs()
    return len(jobs) == len(_JOBS) and all(job.state.final or _tried(job) for job in jobs)


def _tried(job: Job) -> bool:
    return job.state is State.MIRRORING and job.attempt >= 1 and (job.attempt > 1 or job.lease is None)


async def _completed(place: Place) -> bool:
    return all(job.state.final for job in await place.jobs())


async def _audit(outcome: Outcome, patient: Patient, place: Place, client: httpx.AsyncClient) -> None:
    jobs, wrong = await place.jobs(), outcome.wrong
    outcome.attempts = [job.attempt for job in jobs]
    if outcome.case.says not in outcome.ready:
        wrong.append(f"/readyz said {outcome.ready!r}, without {outcome.case.says!r}")
    if outcome.meanwhile != State.MIRRORING:
        wrong.append(f"the jobs were {outcome.meanwhile} while the storage was ill")
    if any(job.state is not State.COMPLETED for job in jobs) or len(jobs) != len(_JOBS):
        wrong.append(f"the jobs ended as {[str(job.state) for job in jobs]}")
    if any(len(place.made_for(job.id)) != 1 for job in jobs) or len(place.made) != len(_JOBS):
        wrong.append(f"{len(place.made)} paid jobs")
    answers = [sent.status for made in place.made for sent in made.callbacks]
    outcome.acknowledged = f"{sum(status == httpx.codes.NO_CONTENT for status in answers)} of {len(answers)}"
    if set(answers) != {httpx.codes.NO_CONTENT}:
        wrong.append(f"callbacks were answered {answers}")
    served = {job.id: bytes_of(made) for job in jobs for made in place.made_for(job.id)}
    kept, begun = patient.shelf.files(), patient.shelf.begun()
    keys = {artifact.key: job.id for job in jobs for artifact in job.artifacts}
    hashes = {artifact.key: artifact.sha256 for job in jobs for artifact in job.artifacts}
    outcome.whole = bool(keys) and all(
        kept.get(key) == served[job_id] and hashes[key] == sha256(served[job_id]).hexdigest()
        for key, job_id in keys.items()
    )
    for job in jobs:
        answer = await client.get(f"/v1/jobs/{job.id}/content", params={"redirect": "false"})
        outcome.whole &= answer.content == served[job.id]
    if not outcome.whole:
        wrong.append(f"the bytes differ: {sorted(kept)}")
    outcome.left = sorted([*begun, *(key for key in kept if key not in keys)])


async def _sweep(outcome: Outcome, patient: Patient) -> None:
    """Sweep as the service does a day later, and see what is still left."""
    before = datetime.now(UTC) + timedelta(hours=1)
    with patch.dict(os.environ, {k: v for k, v in patient.settings.items() if k.startswith("AWS_")}):
        await Storage.open(patient.url).sweep(before)

    def still_there() -> list[str]:
        return sorted(set(outcome.left) & {*patient.shelf.begun(), *patient.shelf.files()})

    try:  # a busy SeaweedFS has taken the wish, and fulfils it a moment later
        await until(lambda: not still_there(), _FULFILLED)
    except TimeoutError:
        outcome.swept = still_there()
        outcome.wrong.append(f"still there after a sweep: {outcome.swept}")


def run(cases: Sequence[Case]) -> Sequence[Outcome]:
    """Run cases, with an object store of their own if any needs one; the outcomes in their order."""
    with cells.bucket_if(any(case.fault for case in cases)) as server:
        one = partial(measure, environment=asyncio.Lock(), server=server)
        return asyncio.run(cells.measured([Outcome(case) for case in cases], one, _AT_ONCE))


def main() -> bool:
    """Run every case, print what became of it, and tell whether all is well."""
    options("storage", "Makes buckets and folders ill, and has jobs wait for them.").parse_args()
    show(f"{machine()}; the clock goes {RATE:.0f} times as fast, all else is real; this takes a minute\n")
    outcomes = run(CASES)
    show(f"{table(HEAD, [outcome.shown for outcome in outcomes])}\n\n{NOTES}")
    tried = [outcome for outcome in outcomes if not outcome.skipped]
    wrong = [outcome for outcome in tried if outcome.wrong]
    show(f"\n{len(tried)} faults, {len(tried) * len(_JOBS)} jobs: {len(wrong)} faults with something wrong")
    for outcome in wrong:
        show(f"\n{outcome.case}: {'; '.join(outcome.wrong)}\n{outcome.story}")
    return not wrong


if __name__ == "__main__":
    carry_out(main)
