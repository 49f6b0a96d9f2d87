"""A database as it is after months of work, made within minutes: many jobs, and all that belongs to each.

Rows are written as SQL has them, with every trigger on, in transactions of some thousand jobs. Nothing is due while it
is measured, and nobody is told: a service that serves it has nothing to do.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ulid import ULID

from service.clock import SystemClock
from service.db.sqlite import SQLiteDatabase
from service.model import ErrorCode, JobError, VideoRequest

_AT_ONCE = 10_000  # jobs in one transaction
_MINUTE = 60_000
_DAY = 86_400_000
_SPAN = 45 * _DAY
_REJECTIONS = 1_000
_DOWN = "https://hooks.studio.example:443"  # takes nothing since yesterday
_RARE = "axolotl"
_RARELY = 2_000  # one prompt of so many has it

TENANTS = {"studio": 50, "adverts": 25, "games": 12, "news": 8, "weather": 4, "school": 1}
MODELS = {
    ("openrouter", "google/veo-3.1"): 30,
    ("openrouter", "openai/sora-2"): 18,
    ("openrouter", "kling/kling-2.5"): 12,
    ("openrouter", "minimax/hailuo-2"): 2,
    ("llmgateway", "veo-3.1-fast"): 28,
    ("llmgateway", "sora-2-pro"): 9,
    ("llmgateway", "wan-2.5"): 1,
}
ENDS: Mapping[tuple[str, ErrorCode | None], int] = {
    ("completed", None): 9_000,
    ("failed", ErrorCode.CONTENT_POLICY): 300,
    ("failed", ErrorCode.PROVIDER_FAILED): 250,
    ("failed", ErrorCode.SUBMISSION_UNKNOWN): 20,
    ("failed", ErrorCode.OUTPUT_UNAVAILABLE): 30,
    ("cancelled", ErrorCode.CANCELLED): 150,
    ("expired", ErrorCode.TIMED_OUT): 250,
}
OPEN = {"queued": 60, "submitting": 4, "running": 30, "mirroring": 6}  # of the newest two of a hundred jobs
COMMON = re.findall(
    r"\w+",
    """a the of in with and over at through slow camera cinematic shot light city sea snow fox dog cat street morning
    night rain drone river mountain old young woman man child runs walks looks turns smiles neon golden quiet close up
    wide angle portrait product table glass water smoke fire forest desert train car window kitchen dancer crowd""",
)
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
UNCOMMON = ["".join(parts) for parts in itertools.product(_SYLLABLES, _SYLLABLES)]
_TABLES = ("jobs", "events", "artifacts", "receipts", "deliveries", "delivery_attempts", "rejections")


@dataclass(frozen=True, slots=True)
class Seeded:
    """What can be looked for in a database that was seeded."""

    job_id: str  # of a completed job in the middle
    provider_job_id: str
    rare: str = _RARE  # a word of a few prompts
    common: str = "cinematic camera"  # words of many


async def seed(path: Path, jobs: int, said: Callable[[str], None] = lambda _: None) -> Seeded:
    """Make a database of `jobs` jobs at `path`, where none may be; `said` is told how far it is."""
    clock = SystemClock()
    await (await SQLiteDatabase.open(path, clock)).close()
    chance = random.Random(jobs)  # noqa: S311 - the same database every time, but for its dates
    history = _History(chance, clock.now(), jobs)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in ("synchronous = OFF", "cache_size = -400000", "temp_store = MEMORY", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")
        for begin in range(0, jobs, _AT_ONCE):
            rows = history.rows(begin, min(begin + _AT_ONCE, jobs))
            connection.execute("BEGIN")
            for table in _TABLES:
                _insert(connection, table, rows[table])
            connection.execute("COMMIT")
            said(f"{min(begin + _AT_ONCE, jobs):,} of {jobs:,} jobs")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [found] = connection.execute(
            "SELECT id, provider_job_id FROM jobs WHERE state = 'completed' AND id >= ? ORDER BY id LIMIT 1",
            (history.middle,),
        ).fetchall()
    return Seeded(*found)


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows that have the same columns."""
    rows = list(rows)
    if rows:
        places = ", ".join(f":{name}" for name in rows[0])
        statement = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({places})"  # noqa: S608 - our own names
        connection.executemany(statement, rows)


class _History:
    """Invents jobs, the oldest first, and all that belongs to each."""

    def __init__(self, chance: random.Random, now: int, jobs: int) -> None:
        self._chance = chance
        self._now = now
        self._jobs = jobs
        self.middle = self._id(now - _SPAN // 2)

    def rows(self, begin: int, end: int) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of each table for the jobs of these numbers."""
        rows: dict[str, list[dict[str, Any]]] = {table: [] for table in _TABLES}
        step = _SPAN / self._jobs
        for number in range(begin, end):
            age = int((self._jobs - number) * step)
            self._live(rows, number, self._now - age - _MINUTE, newest=number > self._jobs * 0.98)
        return rows

    def _live(self, rows: dict[str, list[dict[str, Any]]], number: int, created_at: int, *, newest: bool) -> None:
        chance, tenant = self._chance, self._one(TENANTS)
        provider, model = self._one(MODELS)
        job_id, theirs = self._id(created_at), f"gen-{number:012x}"
        state, code = (self._one(OPEN), None) if newest and chance.random() < 0.25 else self._one(ENDS)
        took = int(chance.lognormvariate(11.6, 0.6))  # ms, two minutes or so
        submitted_at = created_at + chance.randrange(50, 3_000)
        finished_at = None if state in OPEN else min(submitted_at + took, self._now - 1_000)
        sent = state not in ("queued", "cancelled")
        known = sent and state != "submitting" and code is not ErrorCode.SUBMISSION_UNKNOWN
        made = state in ("mirroring", "completed") or code is ErrorCode.OUTPUT_UNAVAILABLE
        error = None if code is None else JobError(code, "it did not work out", provider_message="no, said the model")
        told = f"https://hooks{number % 3}.{tenant}.example/done" if chance.random() < 0.5 else None
        if told is not None and tenant == "studio" and finished_at is not None and finished_at > self._now - _DAY:
            told = f"{_DOWN}/done"
        rows["jobs"].append(
            {
                "id": job_id,
                "tenant": tenant,
                "state": state,
                "due_at": None if finished_at else self._now + _DAY,
                "provider": provider,
                "provider_job_id": theirs if known else None,
                "provider_status": state if known else None,
                "model": model,
                "request": VideoRequest(model, self._prompt(), duration=8, aspect_ratio="16:9").to_json(),
                "on_unknown": "wait",
                "metadata": json.dumps({"order": f"A-{number:07}"}) if number % 3 else "{}",
                "created_at": created_at,
                "submitted_at": submitted_at if sent else None,
                "deadline_at": self._now + 2 * _DAY,
                "mirror_until": self._now + 2 * _DAY if made else None,
                "finished_at": finished_at,
                "outputs": '[{"index":0,"url":null,"expires_at":null}]' if made else "[]",
                "cost": round(chance.uniform(0.05, 3), 3) if made else None,
                "error_code": code,
                "error": None if error is None else json.dumps(asdict(error)),
                "notify_url": told,
            }
        )
        source = "callback" if chance.random() < 0.95 else "poll"
        steps = [("job.queued", created_at, "{}")]
        if sent:
            steps.append(("job.submitting", submitted_at, "{}"))
        if known:
            steps.append(("job.running", submitted_at + 700, json.dumps({"provider_job_id": theirs})))
        said = json.dumps({"source": source, "provider_status": "completed", "provider_job_id": theirs})
        if made:
            steps.append(("job.mirroring", submitted_at + took - 500, said))
        if finished_at is not None:
            steps.append((f"job.{state}", finished_at, "{}" if made or not known else said))
        rows["events"] += [
            {"job_id": job_id, "seq": seq, "type": name, "at": at, "data": data}
            for seq, (name, at, data) in enumerate(steps, 1)
        ]
        if state == "completed":
            stored = {"job_id": job_id, "idx": 0, "key": f"{tenant}/2026/11/{job_id}/0.mp4", "sha256": f"{number:064x}"}
            size = {"bytes": chance.randrange(200_000, 30_000_000), "content_type": "video/mp4"}
            rows["artifacts"].append({**stored, **size, "created_at": finished_at})
        if known and finished_at is not None and source == "callback":
            receipt = {"job_id": job_id, "provider_job_id": theirs, "word": "completed", "verdict": "applied"}
            when = {"first_at": finished_at, "last_at": finished_at}
            rows["receipts"].append(
                {**receipt, **when, "headers": '{"content-type":"application/json"}', "body": said.encode()}
            )
        if number % max(1, self._jobs // _REJECTIONS) == 0:
            reason = {"reason": "wrong_secret", "message": "the signature fits nothing", "headers": "{}"}
            often = {"times": 1 + number % 5, "first_at": created_at, "last_at": created_at + took, "bytes": 300}
            rows["rejections"].append({"job_id": job_id, "provider": provider, **reason, **often})
        if told is not None and finished_at is not None:
            self._owe(rows, job_id, tenant, told.removesuffix("/done").removesuffix(":443"), state, finished_at)

    def _owe(
        self, rows: dict[str, list[dict[str, Any]]], job_id: str, tenant: str, receiver: str, ended: str, at: int
    ) -> None:
        taken = f"{receiver}:443" != _DOWN and self._chance.random() < 0.995
        waiting = not taken and at > self._now - _DAY // 2
        state = "delivered" if taken else "pending" if waiting else "failed"
        delivery = {"id": f"evt_{job_id}", "state": state, "job_id": job_id, "tenant": tenant, "ended": ended}
        due = {"due_at": self._now + _DAY if waiting else None, "finished_at": None if waiting else at + 900}
        where = {"receiver": f"{receiver}:443", "created_at": at, "attempt": 1, "error": None}
        rows["deliveries"].append({**delivery, **due, **where})
        for number in range(1, 2 if taken else 4):
            tried = {"delivery_id": f"evt_{job_id}", "number": number, "at": at + number * 300, "duration_ms": 80}
            answer = {"status": 204 if taken else 502, "error": None, "answer": "" if taken else "Bad Gateway"}
            rows["delivery_attempts"].append({**tried, **answer})

    def _prompt(self) -> str:
        chance = self._chance
        words = [*chance.choices(COMMON, k=chance.randrange(8, 30)), *chance.choices(UNCOMMON, k=4)]
        if chance.randrange(_RARELY) == 0:
            words.append(_RARE)
        return " ".join(words)

    def _id(self, at: int) -> str:
        return f"job_{ULID.from_bytes(at.to_bytes(6, 'big') + self._chance.randbytes(10))}".lower()

    def _one(self, weights: Mapping[Any, int]) -> Any:  # noqa: ANN401 - whatever the weights are of
        return self._chance.choices(list(weights), list(weights.values()))[0]
