"""What a storage that is ill says, shows and leaves behind, and that it works again once it is well."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

import service.storage
from service.errors import ConfigurationError, StorageError
from service.storage import Storage
from tests import faulty_bucket
from tests.faulty_bucket import Call, Fault, FaultyBucket, Way
from tests.faulty_folder import FaultyFolder, faulty_folder
from tests.places import until
from tests.servers import SeaweedFS, answer, free_ports, loopback

MIB = 1024 * 1024
KEY = "acme/2026/11/job_01ab/0.mp4"
PARTS = [bytes([number]) * MIB for number in range(9)]  # two parts of an upload
WHOLE = b"".join(PARTS)

CREDENTIALS = "check the AWS_* credentials and that they may read, write and delete there"
ENDPOINT = "check the AWS_* endpoint, region and credentials, and that it is up"
ROOM = "make room there, or let it hold more"
FOLDER = "check that the folder is there, may be written, and has free space"


@pytest.fixture
async def bucket(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyBucket]:
    # As many tries as the real one has would only take longer.
    monkeypatch.setattr(service.storage, "_RETRIES", {"max_retries": 1, "retry_timeout": timedelta(seconds=5)})
    bucket = FaultyBucket(s3)
    async with bucket.running():
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


@pytest.fixture
def url(bucket: FaultyBucket, tmp_path: Path) -> str:
    return f"s3://{bucket.server.bucket}/{tmp_path.name}"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyFolder]:
    with faulty_folder(tmp_path) as folder:
        yield folder


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(storage: Storage, *parts: bytes, key: str = KEY) -> None:
    await storage.put(key, chunks(*(parts or PARTS)), content_type="video/mp4")


async def read(storage: Storage, key: str = KEY) -> bytes:
    return b"".join([chunk async for chunk in storage.read(key)])


def everything(bucket: FaultyBucket, url: str) -> list[str]:
    """Name all that is in the bucket, published or not."""
    prefix = url.rpartition("/")[2]
    store = from_url(url, config={"endpoint": bucket.server.endpoint})
    published = [meta["path"] for page in obstore.list(store) for meta in page]
    return published + [key for key in bucket.server.unfinished_uploads() if key.startswith(f"{prefix}/")]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faulty_bucket.DENIED, f"AccessDenied; {CREDENTIALS}"),
        (faulty_bucket.SLOW_DOWN, "SlowDown; it is overloaded or limits how often it may be asked: wait, or raise"),
        (faulty_bucket.BROKEN, f"InternalError; {ENDPOINT}"),
        (faulty_bucket.FULL, f"XMinioStorageFull; {ROOM}"),
        (faulty_bucket.OVER_QUOTA, f"QuotaExceeded; {ROOM}"),
        (faulty_bucket.SILENT, f"it did not answer in time; {ENDPOINT}"),
        (faulty_bucket.RESET, f"the connection broke; {ENDPOINT}"),
        (faulty_bucket.FALSE_OK, f"InternalError; {ENDPOINT}"),
    ],
    ids=["denied", "slow-down", "broken", "full", "over-quota", "silent", "reset", "false-ok"],
)
async def test_a_bucket_that_fails_shows_nothing_says_what_to_do_and_is_used_again(
    bucket: FaultyBucket, url: str, fault: Fault, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "1 second" if fault.way is Way.SILENT else "30 seconds")
    storage = Storage.open(url)
    bucket.breaks(fault)
    with pytest.raises(StorageError, match=re.escape(says)):
        await put(storage)
    with pytest.raises(StorageError, match=re.escape(says)):
        await storage.check()
    bucket.breaks(None)
    assert everything(bucket, url) == []
    monkeypatch.setenv("AWS_TIMEOUT", "30 seconds")
    storage = Storage.open(url)
    await storage.check()
    await put(storage)
    assert await read(storage) == WHOLE
    assert everything(bucket, url) == [KEY]


@pytest.mark.parametrize("way", [Way.RESET, Way.LOST, Way.REFUSED])
@pytest.mark.parametrize("call", [Call.BEGIN, Call.PART, Call.COMPLETE])
async def test_what_goes_wrong_once_is_done_again_at_once(bucket: FaultyBucket, url: str, way: Way, call: Call) -> None:
    storage = Storage.open(url)
    bucket.breaks(Fault(way, {call}, times=1))
    await put(storage)
    assert bucket.suffered == {call: 1}
    assert await read(storage) == WHOLE
    if (way, call) != (Way.LOST, Call.BEGIN):  # nobody heard the name of that upload: it is swept up some day
        assert everything(bucket, url) == [KEY]


async def test_a_bucket_that_takes_bytes_in_drops_is_slow_and_nothing_else(
    bucket: FaultyBucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "2 seconds")
    storage = Storage.open(url)
    bucket.breaks(faulty_bucket.DRIPPING)
    with pytest.raises(StorageError, match="it did not answer in time"):
        await put(storage)
    assert everything(bucket, url) == []
    await put(storage, b"a few drops")
    assert await read(storage) == b"a few drops"


async def test_an_upload_whose_completion_was_lost_is_there_whole_and_is_made_again(
    bucket: FaultyBucket, url: str
) -> None:
    storage = Storage.open(url)
    bucket.breaks(faulty_bucket.LOST)
    with pytest.raises(StorageError, match="the connection broke"):
        await put(storage)
    with pytest.raises(StorageError, match="the connection broke"):
        await storage.check()
    bucket.breaks(None)
    assert everything(bucket, url) == [KEY]  # and no probe
    assert await read(storage) == WHOLE
    await put(storage)
    assert everything(bucket, url) == [KEY]


async def test_a_source_is_not_drained_by_a_bucket_that_takes_nothing(
    bucket: FaultyBucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "2 seconds")
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield bytes(MIB)

    bucket.breaks(Fault(Way.SILENT, {Call.PART}))
    putting = asyncio.create_task(Storage.open(url).put(KEY, endless(), content_type="video/mp4"))
    await until(lambda: bucket.suffered[Call.PART] >= 6)  # four, and two of them again
    assert 32 <= asked <= 48
    with pytest.raises(StorageError):
        await putting
    assert asked <= 48


async def test_every_part_says_its_own_hash_under_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
    async with loopback(answer(begun, 'ETag: "tag"')) as server:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "any")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url().rstrip("/"))
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        with pytest.raises(StorageError):
            await put(Storage.open("s3://videos"), b"one part")
        [part] = [head for head in server.requests if head.startswith("put")]
    assert f"x-amz-content-sha256: {hashlib.sha256(b'one part').hexdigest()}" in part
    assert re.search(r"^authorization: .*signedheaders=[^,]*x-amz-content-sha256", part, re.MULTILINE)


async def test_a_part_that_is_altered_on_the_way_is_refused(
    bucket: FaultyBucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SeaweedFS does not look at the hash that is signed, which S3 does, but at one that is asked for.
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    storage = Storage.open(url)
    bucket.breaks(faulty_bucket.ALTERED)
    with pytest.raises(StorageError, match="BadDigest"):
        await put(storage)
    bucket.breaks(None)
    assert everything(bucket, url) == []
    await put(storage)
    assert await read(storage) == WHOLE


async def test_a_check_sees_what_is_altered_on_the_way(bucket: FaultyBucket, url: str) -> None:
    bucket.breaks(faulty_bucket.ALTERED)
    with pytest.raises(StorageError, match="gave back other bytes"):
        await Storage.open(url).check()


async def test_a_check_has_an_answer_in_time_even_if_the_storage_has_none(
    bucket: FaultyBucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "30 seconds")
    monkeypatch.setattr(service.storage, "_CHECK_SECONDS", 0.2)
    storage = Storage.open(url)
    bucket.breaks(faulty_bucket.SILENT)
    for _ in range(2):  # the second asks nothing more
        with pytest.raises(StorageError, match=re.escape(f"did not answer within 0.2 s; {ENDPOINT}")):
            await storage.check()
    assert bucket.asked == {Call.BEGIN: 1}


# Folders


async def test_a_full_disk_shows_nothing_keeps_what_was_there_and_is_used_again(disk: FaultyFolder) -> None:
    storage = Storage.open(str(disk.path))
    await put(storage, b"kept", key="acme/2026/11/job_01aa/0.mp4")
    before = disk.files()
    disk.fill(leaving=4)
    with pytest.raises(StorageError, match=f"No space left on device.*; {FOLDER}"):
        await put(storage)  # 9 MiB
    await until(lambda: set(disk.files()) - set(before) <= {"acme/2026/11/job_01ab"})  # an empty folder at most
    disk.fill()
    with pytest.raises(StorageError, match=f"No space left on device.*; {FOLDER}"):
        await storage.check()
    await until(lambda: set(disk.files()) - set(before) <= {"acme/2026/11/job_01ab", "reelkeeper-check"})
    assert await read(storage, "acme/2026/11/job_01aa/0.mp4") == b"kept"
    disk.drain()
    await storage.check()
    await put(storage, *PARTS[:3])
    assert await read(storage) == b"".join(PARTS[:3])


async def test_a_disk_that_is_nearly_full_is_told_before_it_is_full(disk: FaultyFolder) -> None:
    storage = Storage.open(str(disk.path))
    disk.fill(leaving=60)
    with pytest.raises(StorageError, match=r"MiB free, less than the reserve of 64 MiB: make room"):
        await storage.check()
    await put(storage)
    assert await read(storage) == WHOLE
    disk.drain()
    await storage.check()


async def test_a_read_only_file_system_is_told_and_used_again(disk: FaultyFolder) -> None:
    storage = Storage.open(str(disk.path))
    await put(storage, b"kept")
    disk.becomes(writable=False)
    for ill in (put(storage, b"new"), storage.check(), storage.delete(KEY)):
        with pytest.raises(StorageError, match=f"Read-only file system.*; {FOLDER}"):
            await ill
    assert await read(storage) == b"kept"
    disk.becomes(writable=True)
    await put(storage, b"new")
    assert await read(storage) == b"new"


async def test_nothing_is_written_into_the_place_of_a_disk_that_is_away(disk: FaultyFolder) -> None:
    storage = Storage.open(str(disk.path))
    await put(storage, b"kept")
    disk.goes_away()
    away = re.escape(f"the file system that was mounted at {disk.path} is not there any more; {FOLDER}")
    for ill in (put(storage, b"new"), storage.check(), storage.delete(KEY), storage.size(KEY), read(storage)):
        with pytest.raises(StorageError, match=away):
            await ill
    assert list(disk.path.iterdir()) == []
    disk.comes_back()
    assert await read(storage) == b"kept"
    await put(storage, b"new")
    assert await read(storage) == b"new"


async def test_the_place_of_a_disk_that_is_not_mounted_yet_is_waited_for(disk: FaultyFolder) -> None:
    await put(Storage.open(str(disk.path)), b"kept")
    disk.goes_away()
    storage = Storage.open(str(disk.path), used=True)
    for ill in (put(storage, b"new"), storage.check(), storage.size(KEY), read(storage)):
        with pytest.raises(StorageError, match="it is empty, although videos were kept in it: mount or move back"):
            await ill
    assert list(disk.path.iterdir()) == []
    disk.comes_back()
    assert await read(storage) == b"kept"
    disk.goes_away()
    with pytest.raises(StorageError, match=r"the file system that was mounted at .* is not there any more"):
        await storage.check()


def test_a_folder_that_videos_were_kept_in_is_not_made_anew_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there, although videos were kept in it"):
        Storage.open(str(tmp_path / "videos"), used=True)
    assert not (tmp_path / "videos").exists()


async def test_a_folder_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    storage = Storage.open(str(folder))
    await put(storage, b"kept")
    folder.rename(elsewhere)
    for ill in (put(storage, b"new"), storage.check(), storage.delete(KEY), storage.size(KEY), read(storage)):
        with pytest.raises(StorageError, match=f"it is not there any more; {FOLDER}"):
            await ill
    assert not folder.exists()
    elsewhere.rename(folder)
    assert await storage.size(KEY) == 4


async def test_a_folder_that_was_replaced_is_not_used_until_it_is_back(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    storage = Storage.open(str(folder))
    await put(storage, b"kept")
    folder.rename(elsewhere)
    folder.mkdir()
    replaced = "another folder is there now: move back the one that held the videos, or restart"
    for _ in range(2):
        for ill in (put(storage, b"new"), storage.check(), storage.delete(KEY), storage.size(KEY), read(storage)):
            with pytest.raises(StorageError, match=f"{replaced}.*; {FOLDER}"):
                await ill
        assert list(folder.iterdir()) == []
        with pytest.raises(StorageError, match="it is empty, although videos were kept in it"):
            await Storage.open(str(folder), used=True).check()
    folder.rmdir()
    elsewhere.rename(folder)
    await storage.check()
    assert await read(storage) == b"kept"


async def test_a_folder_that_was_replaced_is_used_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    await put(Storage.open(str(folder)), b"kept")
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    storage = Storage.open(str(folder), used=True)
    with pytest.raises(StorageError, match="put any file into it if they are gone for good"):
        await storage.check()
    (folder / "new").touch()
    await put(storage, b"new")
    assert await read(storage) == b"new"
    folder.rename(tmp_path / "new")
    (tmp_path / "elsewhere").rename(folder)
    with pytest.raises(StorageError, match="another folder is there now"):
        await read(storage)


async def test_a_disk_that_comes_back_as_another_device_is_used_unless_it_is_empty(disk: FaultyFolder) -> None:
    storage = Storage.open(str(disk.path))
    await put(storage, b"kept")
    disk.goes_away()
    disk.is_another()
    try:
        with pytest.raises(StorageError, match="it is empty, although videos were kept in it"):
            await storage.size(KEY)
        (disk.path / "acme").mkdir()
        assert await storage.size(KEY) is None
    finally:
        disk.goes_away()


async def test_a_bucket_whose_endpoint_is_nobodys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(StorageError, match=re.escape(f"nobody can be reached there; {ENDPOINT}")):
        await Storage.open("s3://videos").check()
