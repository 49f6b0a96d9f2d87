"""A database that is older than the numbers has the right ones once it is brought up to date."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from service.clock import ManualClock
from service.db.backup import back_up
from service.db.sqlite import SQLiteDatabase, _statements
from service.model import VideoRequest
from service.store import Backups, Wanted
from tests.store.recount import counted, kept, searchable
from tests.store.world import World

NEW = "0006_numbers.sql"
NOW = ManualClock().now()
DAY = 86_400_000
PAST = ("activity", "kept_times", "spend")  # of which the oldest is forgotten
RESULT = '[{"index":0,"url":null,"expires_at":null}]'


def older(path: Path) -> None:
    """Make a database as it was before the numbers."""
    files = sorted(resources.files("service.db").joinpath("migrations").iterdir(), key=lambda file: file.name)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT")
        for file in (file for file in files if file.name < NEW):
            for statement in _statements(file.read_text("utf-8")):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, 1)", (file.name,))


def fill(path: Path) -> None:
    """Put jobs of every kind into it, with what belongs to them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:

        def put(table: str, **row: object) -> None:
            names = ", ".join(row)
            connection.execute(
                f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - our own names
                list(row.values()),
            )

        for number in range(60):
            tenant, provider = ("acme", "umbrella")[number % 2], ("alpha", "beta")[number % 3 > 0]
            state = ("completed", "failed", "queued", "mirroring")[number % 4]
            at = NOW - number * DAY // 5
            job_id, ended = f"job_{number:026}", state in ("completed", "failed")
            error = {"code": "provider_failed", "message": "no", "retryable": False, "billable": "yes"}
            put(
                "jobs",
                id=job_id,
                tenant=tenant,
                state=state,
                due_at=None if ended else at,
                provider=provider,
                provider_job_id=None if state == "queued" else f"at-{number}",
                model=f"m{number % 2}",
                request=VideoRequest("m", f"a fox number{number}").to_json(),
                on_unknown="wait",
                metadata='{"order":"A-1"}',
                created_at=at,
                submitted_at=None if state == "queued" else at,
                deadline_at=at,
                mirror_until=at if state == "mirroring" else None,
                finished_at=at + number * 5_000 if ended else None,
                outputs=RESULT if state in ("completed", "mirroring") else "[]",
                cost=number / 4 if number % 5 and state != "queued" else None,
                error_code="provider_failed" if state == "failed" else None,
                error=json.dumps(error) if state == "failed" else None,
            )
            put("events", job_id=job_id, seq=1, type="job.queued", at=at, data="{}")
            if state != "queued":
                data = '{"source":"callback"}' if number % 3 else '{"source":"operator"}'
                event = "job.failed" if state == "failed" else "job.mirroring"
                put("events", job_id=job_id, seq=2, type=event, at=at + number * 5_000, data=data)
            if state == "completed":
                put("events", job_id=job_id, seq=3, type="job.completed", at=at + number * 5_000, data="{}")
                about = {"key": "k", "sha256": "a" * 64, "content_type": "video/mp4", "created_at": at}
                put("artifacts", job_id=job_id, idx=0, bytes=1_000 + number, **about)
            if ended:
                became = ("pending", "delivered", "failed")[number % 3]
                over = None if became == "pending" else at
                put(
                    "deliveries",
                    id=f"evt_{job_id}",
                    state=became,
                    attempt=1,
                    due_at=at if became == "pending" else None,
                    job_id=job_id,
                    tenant=tenant,
                    receiver="https://caller.example:443",
                    ended=state,
                    created_at=at,
                    finished_at=over,
                )
                status = 204 if became == "delivered" else 500
                put("delivery_attempts", delivery_id=f"evt_{job_id}", number=1, at=at, duration_ms=1, status=status)


@asynccontextmanager
async def opened(path: Path, seed: int = 7) -> AsyncIterator[World]:
    """Have the store of a database that is there."""
    database = await SQLiteDatabase.open(path, ManualClock())
    with closing(sqlite3.connect(path, isolation_level=None)) as beside:
        beside.row_factory = sqlite3.Row

        def sql(statement: str, **parameters: object) -> Sequence[Mapping[str, Any]]:
            return [dict(row) for row in beside.execute(statement, parameters)]

        yield World(database, ManualClock(), sql, seed)
    await database.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    older(tmp_path / "old.db")
    fill(tmp_path / "old.db")
    async with opened(tmp_path / "old.db") as world:
        yield world


async def test_what_there_was_before_is_counted(world: World) -> None:
    before, now = counted(world), kept(world)
    quarter, hour = (NOW - 8 * DAY) // 900_000, (NOW - 8 * DAY) // 3_600_000
    recent = {"activity": quarter, "kept_times": hour, "spend": NOW // DAY - 30}  # what is older is never shown
    for table, numbers in before.items():
        since = recent.get(table, 0)
        expected = {key: value for key, value in numbers.items() if not since or int(str(key[1])) > since}
        found = {key: value for key, value in now[table].items() if not since or int(str(key[1])) > since}
        assert (table, found) == (table, expected)
        assert len(found) > 1


async def test_what_there_was_before_is_found(world: World) -> None:
    assert searchable(world) == {f"job_{number:026}" for number in range(60)}
    page = await world.store.find("umbrella", Wanted(text="number17 fox a-1"))
    assert [job.id for job in page.jobs] == [f"job_{17:026}"]
    assert len((await world.store.find(None, Wanted(text="number1"))).jobs) == 11


async def test_receivers_that_failed_before_are_told_with_their_last_failure(world: World) -> None:
    failing = {each.tenant: each for each in await world.deliveries.failing()}
    assert set(failing) == {"acme", "umbrella"}
    [last] = world.sql(
        "SELECT max(at) AS at FROM delivery_attempts JOIN deliveries ON id = delivery_id"
        " WHERE tenant = 'acme' AND status = 500"
    )
    assert (failing["acme"].last_at, failing["acme"].last_status) == (last["at"], 500)
    for each in failing.values():
        assert each.waiting == each.pending > 0
        done = await world.deliveries.redeliver_all(each.tenant, each.receiver)
        assert (done.given_up, done.waiting) == (each.failed, each.waiting)


async def test_jobs_that_wait_are_found_by_their_provider(world: World) -> None:
    await world.claims.give_up_unserved([], 100)
    assert not world.sql("SELECT id FROM jobs WHERE state IN ('queued', 'mirroring') AND deadline_at <= :now", now=NOW)


async def test_what_follows_is_counted_too(world: World) -> None:
    await world.completed()
    numbers, now = counted(world), kept(world)
    assert {table: now[table] for table in ("job_counts", "stored", "spend", "delivery_counts")} == {
        table: numbers[table] for table in ("job_counts", "stored", "spend", "delivery_counts")
    }


async def test_a_backup_has_the_numbers_and_the_words_of_its_moment_and_goes_on_with_them(
    world: World, tmp_path: Path
) -> None:
    deleted = await world.cancelled()
    assert (await world.store.find(None, Wanted(text="fox"), limit=1)).jobs == [deleted]
    last = await world.queued()  # whose words are not in the index yet
    then, ids = kept(world), {row["id"] for row in world.sql("SELECT id FROM jobs")}
    back_up(tmp_path / "old.db", tmp_path / "copy.db", taken_at=NOW)
    await world.completed()
    async with opened(tmp_path / "copy.db", seed=8) as copy:
        assert kept(copy) == then
        restored = await Backups(copy.ledger).restore()
        assert restored is not None
        assert restored.in_doubt > 0
        assert await copy.store.delete(deleted)
        assert [job.id for job in (await copy.store.find(None, Wanted(text="fox"), limit=1)).jobs] == [last.id]
        await copy.queued()
        assert {**kept(copy), **dict.fromkeys(PAST)} == {**counted(copy), **dict.fromkeys(PAST)}
        assert len(searchable(copy) - ids) == 1
        assert ids - searchable(copy) == {deleted.id}
