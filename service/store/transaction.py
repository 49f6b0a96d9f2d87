"""What every sentence of the store is made of: a transaction that speaks of jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from service.clock import Clock
from service.db import Database, Row, Tx
from service.model import (
    Artifact,
    Billable,
    ErrorCode,
    Face,
    Footage,
    Job,
    JobError,
    OnUnknown,
    Output,
    State,
    VideoRequest,
)
from service.store.buckets import bucket_of

T = TypeVar("T")

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things are waited for, in milliseconds."""

    job_deadline: int = 7_200_000  # until a silent job is expired, from its creation and again from its submission
    lease: int = 60_000
    resubmit_after: int = 900_000  # for `on_unknown: resubmit`: how long a lost answer may still be made up for
    hint_gap: int = 5_000  # unsigned callbacks cause at most one poll in this time
    repeat: int = 900_000  # for so long the same call, made again because its answer was lost, is the same job
    answering: int = 400  # for so long another process may be about to answer a call; no SDK repeats one sooner
    poor: int = 60_000  # for so long a provider that refused for want of credits is not asked to spend


class Transaction:
    """A transaction that speaks of jobs: its time, its events, the states to wake for, and jobs that entered one."""

    def __init__(self, tx: Tx, now: int) -> None:
        self.one, self.all, self.do = tx.one, tx.all, tx.do
        self.now = now
        self.moved: set[State] = set()
        self.entries: list[Job] = []

    def job(self, job_id: str) -> Job:
        """Read a job that is known to be there; LookupError when it is not."""
        row = self.one("job", id=job_id, tenant=None)
        if row is None:
            raise LookupError(f"there is no job {job_id}")
        return job_from(row)

    def event(self, job_id: str, event_type: str, **data: object) -> None:
        """Append a fact to the job's history."""
        self.do("insert_event", job_id=job_id, type=event_type, now=self.now, data=dumps(data))

    def entered(self, job_id: str, state: State, **data: object) -> Job:
        """Note that the job was moved into `state`, and owe its caller a message if it has ended; return it."""
        self.event(job_id, f"job.{state}", **data)
        self.moved.add(state)
        if state is State.COMPLETED:  # of all ends the one after which nobody asks for the same again
            self.do("delete_inputs", job_id=job_id)
        job = self.job(job_id)
        if state is State.COMPLETED:
            took = bucket_of(self.now - (job.submitted_at or job.created_at))
            about = {"hour": self.now // _HOUR_MS, "tenant": job.tenant, "provider": job.provider}
            self.do("count_kept_time", **about, bucket=took)
        self.entries.append(job)
        if state.final and job.notify_url is not None:
            error = None if job.error is None else dumps(asdict(job.error))
            told = {"tenant": job.tenant, "receiver": receiver_of(job.notify_url), "ended": state, "error": error}
            self.do("insert_delivery", job_id=job_id, **told, now=self.now)
        return job


class Ledger:
    """Runs sentences of the domain, and announces the states that they moved jobs into once they are durable.

    `announce` is called with each such state, and `observe` with each such job, on the event loop; neither may block.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        announce: Callable[[State], None] = lambda _: None,
        observe: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.announce = announce
        self.observe = observe

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; return its value after the commit is durable."""
        now = self.clock.now()

        def run(tx: Tx) -> tuple[T, Transaction]:
            transaction = Transaction(tx, now)
            return work(transaction), transaction

        value, done = await self.db.run(run)
        for state in done.moved:
            self.announce(state)
        for job in done.entries:
            self.observe(job)
        return value


def receiver_of(url: str) -> str:
    """Return scheme, host and port of a URL, in the form in which two of the same receiver are equal."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def dumps(value: object) -> str:
    """Return compact JSON, for a column."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def error_columns(error: JobError) -> dict[str, object]:
    """Return the two columns that hold a job's error."""
    return {"error_code": error.code, "error": dumps(asdict(error))}


def error_from(column: str | None) -> JobError | None:
    """Return the error that `error_columns` wrote."""
    if column is None:
        return None
    error = json.loads(column)
    return JobError(**(error | {"code": ErrorCode(error["code"]), "billable": Billable(error["billable"])}))


def _artifact(fields: Mapping[str, Any]) -> Artifact:
    footage = fields["footage"]
    return Artifact(**{**fields, "footage": None if footage is None else Footage(**footage)})


def job_from(row: Row) -> Job:
    """Return the job that a row of `job_rows` describes."""
    fields = {name: row[name] for name in Job.__dataclass_fields__}
    fields |= {
        "state": State(row["state"]),
        "request": VideoRequest.from_json(row["request"]),
        "on_unknown": OnUnknown(row["on_unknown"]),
        "metadata": json.loads(row["metadata"]),
        "outputs": tuple(Output(**output) for output in json.loads(row["outputs"])),
        "artifacts": tuple(_artifact(artifact) for artifact in json.loads(row["artifacts"])),
        "error": error_from(row["error"]),
        "face": Face(row["face"]),
    }
    return Job(**fields)
