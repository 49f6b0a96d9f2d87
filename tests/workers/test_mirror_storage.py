"""A job waits for our own storage, however long it is ill."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import service.storage as storage_package
from service.errors import StorageError, StoreUnavailableError
from service.storage import Storage
from service.workers import copying
from tests.faulty_bucket import DENIED, FALSE_OK, LOST, RESET, SLOW_DOWN, Fault, FaultyBucket
from tests.servers import SeaweedFS, answer
from tests.store.world import RETENTION_MS
from tests.workers.shop import GOOD, VIDEO, Shop, mirror_of
from tests.workers.stage import Stage, told


@pytest.mark.parametrize("error", [StorageError("the bucket is away"), StoreUnavailableError("the disk is full")])
async def test_a_fault_of_our_storage_never_ends_a_job(shop: Shop, stage: Stage, error: Exception) -> None:
    job = await shop.mirroring()
    for _ in range(20):
        stage.clock.advance(max(RETENTION_MS, await stage.wait(job)))
        [claimed] = await shop.mirror.claim(1)
        assert told(await shop.mirror.failed(claimed, error)) == "later"
        assert 4_000 <= await stage.wait(job) <= 720_000


@pytest.mark.parametrize(
    "fault", [DENIED, SLOW_DOWN, RESET, LOST, FALSE_OK], ids=["denied", "slow-down", "reset", "lost", "false-ok"]
)
async def test_a_job_waits_a_week_for_a_bucket_and_is_then_kept_whole(
    shop: Shop, stage: Stage, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(storage_package, "_RETRIES", {"max_retries": 0})
    bucket, where = FaultyBucket(s3, fault=fault), f"s3://{s3.bucket}/{tmp_path.name}"
    async with bucket.running(), AsyncExitStack() as stack:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        shop.mirror = mirror_of(stage, shop.server, where, stack)
        shop.sells([GOOD])
        job = await shop.mirroring()
        for _ in range(14):
            assert await shop.copies() == ["later"]
            stage.clock.advance(max(43_200_000, await stage.wait(job)))
        assert (await stage.world.now(job)).state == "mirroring"
        bucket.breaks(None)
        assert await shop.copies() == ["completed"]
        [artifact] = (await stage.world.now(job)).artifacts
        found = [chunk async for chunk in Storage.open(where).read(artifact.key)]
    assert b"".join(found) == VIDEO
    assert artifact.sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert not [key for key in s3.unfinished_uploads() if key.startswith(f"{tmp_path.name}/")]


async def test_after_a_fault_of_our_storage_one_of_the_provider_is_not_the_end(shop: Shop, stage: Stage) -> None:
    job = await shop.mirroring()
    stage.clock.advance(2 * RETENTION_MS)
    [claimed] = await shop.mirror.claim(1)
    assert told(await shop.mirror.failed(claimed, StorageError("the bucket is away"))) == "later"
    shop.sells([answer(status=503)])
    for _ in range(5):
        stage.clock.advance(await stage.wait(job))
        assert await shop.copies() == ["later"]
    stage.clock.advance(3_600_000)
    [outcome] = await shop.copies()
    assert outcome.startswith("gave up: ")


@pytest.mark.parametrize(("patience", "state"), [(0.0, "mirroring"), (20.0, "failed")])
async def test_a_source_that_our_storage_kept_waiting_did_not_break_off_by_its_own_fault(
    shop: Shop, stage: Stage, monkeypatch: pytest.MonkeyPatch, patience: float, state: str
) -> None:
    monkeypatch.setattr(copying, "_STALL_SECONDS", patience)
    shop.sells([answer(VIDEO[:-100], length=len(VIDEO))])
    job = await shop.mirroring()
    stage.clock.advance(RETENTION_MS)
    [outcome] = await shop.copies()
    assert outcome == ("later" if state == "mirroring" else "gave up: " + outcome.removeprefix("gave up: "))
    assert (await stage.world.now(job)).state == state
    assert shop.stored() == []
