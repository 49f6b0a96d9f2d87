"""What a deleted job leaves behind: the name that its key made, and files on their way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model import Job, VideoRequest
from service.store import Call, Created, Idempotency, JobDeleted, NewJob
from tests.store.world import TIMING, World, held, report, sure
from service.model import Status

PICTURE = "data:image/png;base64," + "A" * 5_000
FOX = NewJob(
    "acme",
    "alpha",
    VideoRequest(model="m", prompt="a fox", first_frame=PICTURE),
    notify_url="https://caller.example/done",
)
CALL = Call("call_1", "key_1", "jobs.create", "aaaa")


async def left(world: World, job: Job) -> dict[str, int]:
    """Count what still refers to a job."""
    tables = [row["name"] for row in world.sql("SELECT name FROM sqlite_schema WHERE sql LIKE '%job_id %'")]
    return {
        table: len(found)
        for table in tables
        if (found := world.sql(f"SELECT 1 FROM {table} WHERE job_id = :id", id=job.id))  # noqa: S608 - our own names
    }
