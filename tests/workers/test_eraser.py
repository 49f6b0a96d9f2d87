"""Files of deleted jobs are removed from real storage, however long that refuses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import CapturingLogger

from service.errors import StorageError
from service.storage import Storage
from service.store import Erasures
from service.workers import Worker
from service.workers.eraser import Eraser
from tests.turns import until
from tests.workers.stage import Stage, told

WEEK = 7 * 86_400_000


async def some_bytes() -> AsyncIterator[bytes]:
    yield b"video"


class Files(list[Path]):
    """Where the files of a job are."""

    @property
    def there(self) -> int:
        return sum(file.exists() for file in self)


class House:
    """An eraser over a folder, and a deleted job whose files are in it: a video and its poster."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.clock = stage.clock
        self.folder = folder
        self.storage = Storage.open(str(folder))
        self.erasures = Erasures(stage.world.ledger, stage.world.ids)
        self.eraser = Eraser(self.erasures, self.storage, stage.clock, random.Random(5))  # noqa: S311 - chance that repeats

    async def delete_a_job(self) -> Files:
        """Return where its files are."""
        job = await self.stage.world.completed()
        keys = (job.artifacts[0].key, job.artifacts[0].key.replace(".mp4", ".jpg"))
        for key in keys:
            await self.storage.put(key, some_bytes(), content_type="video/mp4")
        assert await self.stage.world.store.delete(job)
        return Files([self.folder / key for key in keys])

    async def step(self) -> list[str]:
        outcomes = []
        for erasure in await self.eraser.claim(100):
            try:
                outcomes.append(told(await self.eraser.handle(erasure)))
            except StorageError as error:
                outcomes.append(told(await self.eraser.failed(erasure, error)))
        return outcomes

    def waits(self) -> list[int]:
        return [row["due_at"] - self.clock.now() for row in self.stage.world.sql("SELECT due_at FROM erasures")]


@pytest.fixture
def house(stage: Stage, tmp_path: Path) -> House:
    return House(stage, tmp_path / "videos")


async def test_the_files_of_a_deleted_job_are_removed_once(house: House) -> None:
    files = await house.delete_a_job()
    assert files.there == 2
    assert await house.step() == ["erased", "erased"]
    assert files.there == 0
    house.clock.advance(WEEK)
    assert await house.step() == []


async def test_a_file_that_is_not_there_is_removed_already(house: House) -> None:
    for file in await house.delete_a_job():
        file.unlink()
    assert await house.step() == ["erased", "erased"]
    assert house.waits() == []


async def test_a_storage_that_refuses_is_asked_for_ever_slower_and_slower(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: str) -> None:
        raise StorageError("down")

    files = await house.delete_a_job()
    await house.eraser.handle((await house.eraser.claim(1))[0])
    waits = []
    with monkeypatch.context() as patched:
        patched.setattr(house.storage, "delete", refuse)
        for _ in range(40):
            assert await house.step() == ["later"]
            waits += house.waits()
            house.clock.advance(waits[-1] - 1)
            assert await house.step() == []
            house.clock.advance(1)
    assert 4_000 <= waits[0] <= 6_000
    assert all(2_880_000 <= wait <= 4_320_000 for wait in waits[15:])
    assert files.there == 1
    assert await house.step() == ["erased"]
    assert files.there == 0


async def test_one_file_that_cannot_be_removed_keeps_no_other(house: House) -> None:
    house.stage.world.sql("INSERT INTO erasures (id, due_at, job_id) VALUES ('../outside', 0, 'job_x')")
    files = await house.delete_a_job()
    assert sorted(await house.step()) == ["erased", "erased", "later"]
    assert files.there == 0


async def test_what_a_stop_cuts_off_is_removed_after_the_restart(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    files = await house.delete_a_job()
    asked = []

    async def slow(key: str) -> None:
        asked.append(key)
        await asyncio.Event().wait()

    log = structlog.wrap_logger(CapturingLogger(), wrapper_class=structlog.make_filtering_bound_logger(20))
    with monkeypatch.context() as patched:
        patched.setattr(house.storage, "delete", slow)
        worker = Worker(house.eraser, log, concurrency=2)
        running = asyncio.create_task(worker.run())
        await until(lambda: asked)
        await worker.stop(0)
        await running
    assert house.waits() == [0, 0]
    assert await house.step() == ["erased", "erased"]
    assert files.there == 0
