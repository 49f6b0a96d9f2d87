from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import from_url

from service.errors import ConfigurationError, StorageError
from service.storage import Storage
from tests.servers import SeaweedFS, answer, loopback
from tests.test_storage_sweep import die_half_way

MIB = 1024 * 1024
KEY = "acme/2026/11/job_01ab/0.mp4"


@dataclass(frozen=True)
class Place:
    """A storage under test, and a look behind it."""

    storage: Storage
    url: str
    server: SeaweedFS | None

    def everything(self) -> list[str]:
        """Name all that is there, published or not."""
        if self.server is None:
            folder = Path(self.url)
            return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        prefix = self.url.rpartition("/")[2]
        published = [meta["path"] for page in obstore.list(from_url(self.url)) for meta in page]
        unfinished = [key for key in self.server.unfinished_uploads() if key.startswith(prefix)]
        return sorted(published + unfinished)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":
        return Place(Storage.open(str(tmp_path / "videos")), str(tmp_path / "videos"), None)
    server: SeaweedFS = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{server.bucket}/{tmp_path.name}"
    return Place(Storage.open(url), url, server)


@pytest.fixture
def storage(place: Place) -> Storage:
    return place.storage


@pytest.fixture
def bucket(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return Storage.open(f"s3://{s3.bucket}/prefix")


async def chunks(*parts: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if then is not None:
        raise then


async def put(storage: Storage, body: bytes, key: str = KEY) -> None:
    await storage.put(key, chunks(body), content_type="video/mp4")


async def read(storage: Storage, start: int = 0, end: int | None = None, key: str = KEY) -> bytes:
    return b"".join([chunk async for chunk in storage.read(key, start, end)])


async def test_what_was_put_is_read_back(place: Place) -> None:
    await place.storage.put(KEY, chunks(b"one ", b"", b"two"), content_type="video/mp4")
    assert await read(place.storage) == b"one two"
    assert await place.storage.size(KEY) == 7
    assert place.everything() == [KEY]


async def test_a_file_of_many_parts_comes_back_in_order(place: Place) -> None:
    parts = [bytes([number]) * MIB for number in range(35)]
    await place.storage.put(KEY, chunks(*parts), content_type="video/mp4")
    assert await read(place.storage) == b"".join(parts)
    assert place.everything() == [KEY]


async def test_an_empty_object_is_an_object(storage: Storage) -> None:
    await storage.put(KEY, chunks(), content_type="video/mp4")
    assert await storage.size(KEY) == 0
    assert await read(storage) == b""


async def test_a_repeated_put_replaces_what_was_there(place: Place) -> None:
    await put(place.storage, b"a longer first one")
    await put(place.storage, b"second")
    assert await read(place.storage) == b"second"
    assert place.everything() == [KEY]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (0, 4, b"0123"), (3, 7, b"3456"), (9, 10, b"9"), (4, 4, b""),
     (5, 99, b"56789"), (6, 2, b"")],
)  # fmt: skip
async def test_a_part_can_be_read(storage: Storage, start: int, end: int | None, expected: bytes) -> None:
    await put(storage, b"0123456789")
    assert await read(storage, start, end) == expected


async def test_a_read_that_is_given_up_leaves_the_storage_usable(storage: Storage) -> None:
    await put(storage, bytes(4 * MIB))
    async for chunk in storage.read(KEY):
        assert 0 < len(chunk) < 4 * MIB  # streamed, not held whole
        break
    assert await storage.size(KEY) == 4 * MIB


async def test_what_is_not_there_has_no_size_and_cannot_be_read(storage: Storage) -> None:
    assert await storage.size(KEY) is None
    with pytest.raises(StorageError, match="could not read"):
        await read(storage)


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(place: Place) -> None:
    await put(place.storage, b"body")
    await place.storage.delete(KEY)
    assert place.everything() == []
    await place.storage.delete(KEY)


@pytest.mark.parametrize("sent", [0, 1, 20])
async def test_a_source_that_fails_leaves_nothing_and_its_error_comes_out_unchanged(place: Place, sent: int) -> None:
    error = KeyError("the source's own")
    with pytest.raises(KeyError) as caught:
        await place.storage.put(KEY, chunks(*[bytes(MIB)] * sent, then=error), content_type="video/mp4")
    assert caught.value is error
    assert place.everything() == []


async def test_a_source_that_fails_leaves_what_was_there_before(place: Place) -> None:
    await put(place.storage, b"before")
    with pytest.raises(KeyError):
        await place.storage.put(KEY, chunks(bytes(20 * MIB), then=KeyError()), content_type="video/mp4")
    assert await read(place.storage) == b"before"
    assert place.everything() == [KEY]


async def test_a_cancelled_put_leaves_nothing(place: Place) -> None:
    stuck = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        stuck.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(place.storage.put(KEY, source(), content_type="video/mp4"))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert place.everything() == []


async def test_a_killed_process_publishes_nothing_and_the_next_put_succeeds(place: Place) -> None:
    await die_half_way(place.url, KEY)
    assert await place.storage.size(KEY) is None
    await put(place.storage, b"whole")
    assert await read(place.storage) == b"whole"
    if place.server is None:  # a bucket's parts are swept up when they are old
        assert place.everything() == [KEY]


async def test_two_keys_are_put_at_the_same_time(place: Place) -> None:
    keys = [f"acme/job_{number}/0.mp4" for number in range(8)]
    await asyncio.gather(*(put(place.storage, key.encode() * 1000, key) for key in keys))
    assert [await read(place.storage, key=key) for key in keys] == [key.encode() * 1000 for key in keys]
    assert place.everything() == keys


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a b", "a\0b", "a\nb", "ä", "a?b",
     "a#1", "a%2e"],
)  # fmt: skip
async def test_a_key_that_is_no_plain_path_is_refused_by_every_method(storage: Storage, key: str) -> None:
    with pytest.raises(StorageError, match="is not a key"):
        await put(storage, b"body", key)
    with pytest.raises(StorageError, match="is not a key"):
        await read(storage, key=key)
    with pytest.raises(StorageError, match="is not a key"):
        await storage.size(key)
    with pytest.raises(StorageError, match="is not a key"):
        await storage.delete(key)
    with pytest.raises(StorageError, match="is not a key"):
        await storage.sign(key, 60)


async def test_a_check_passes_and_leaves_nothing(place: Place) -> None:
    await place.storage.check()
    assert place.everything() == []


async def test_the_content_type_is_kept_with_the_object(bucket: Storage) -> None:
    await bucket.put(KEY, chunks(b"x"), content_type="video/webm")
    found = await obstore.get_async(from_url(bucket.describe()), KEY)
    assert found.attributes["Content-Type"] == "video/webm"


# Links


async def fetch(url: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, url)


async def test_a_link_gives_what_is_stored_to_whoever_has_it(place: Place) -> None:
    await put(place.storage, b"a kept video")
    link = await place.storage.sign(KEY, 60)
    if place.server is None or link is None:
        assert (place.server, link) == (None, None)  # a folder has none
        return
    assert link.startswith(f"{place.server.endpoint}/{place.url.removeprefix('s3://')}/{KEY}?")
    found = await fetch(link)
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"a kept video", "video/mp4")


async def test_a_link_is_good_for_what_it_was_made_for_alone(bucket: Storage) -> None:
    await put(bucket, b"one")
    await put(bucket, b"two", "acme/other.mp4")
    link = await bucket.sign(KEY, 60) or ""
    other, longer = link.replace(KEY, "acme/other.mp4"), link.replace("Expires=60", "Expires=99")
    for wrong in (other, longer, link.partition("?")[0]):
        assert (await fetch(wrong)).status_code == 403
    for method in ("DELETE", "PUT", "HEAD"):
        assert (await fetch(link, method)).status_code == 403
    assert (await fetch(link)).content == b"one"


async def test_a_link_that_has_expired_is_refused(bucket: Storage) -> None:
    await put(bucket, b"one")
    link = await bucket.sign(KEY, 1) or ""
    async with asyncio.timeout(20):
        while (found := await fetch(link)).status_code == 200:  # the bucket's clock is not ours to move
            assert found.content == b"one"
    assert found.status_code == 403


async def test_credentials_that_cannot_sign_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    with pytest.raises(StorageError, match=r"could not sign a link to acme/.*; check the AZURE_\*"):
        await Storage.open("az://container/prefix").sign(KEY, 60)


# What goes wrong


async def test_wrong_credentials_are_told_with_what_to_change(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3.environment, "AWS_SECRET_ACCESS_KEY": "canary-secret"}.items():
        monkeypatch.setenv(name, value)
    storage = Storage.open(f"s3://{s3.bucket}")
    with pytest.raises(
        StorageError, match=r"s3://videos could not write .*SignatureDoesNotMatch; check the AWS_"
    ) as caught:
        await storage.check()
    with pytest.raises(StorageError, match="could not look for"):
        await storage.size(KEY)
    with pytest.raises(StorageError, match="could not delete"):
        await storage.delete(KEY)
    assert "canary" not in str(caught.value)


async def test_plain_http_without_leave_is_told_with_what_to_set(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3.environment, "AWS_ALLOW_HTTP": "false"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="needs AWS_ALLOW_HTTP=true"):
        await Storage.open(f"s3://{s3.bucket}").check()


async def test_a_bucket_that_breaks_in_the_middle_ends_the_put_and_the_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = b"<InitiateMultipartUploadResult><UploadId>canary</UploadId></InitiateMultipartUploadResult>"
    refused = b"<Error><Code>QuotaExceeded</Code><Message>canary</Message></Error>"

    async def talk(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(begun) if head.startswith("post") else answer(refused, status=403))

    async with loopback(talk) as server:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "canary")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url().rstrip("/"))
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        asked = 0

        async def source() -> AsyncIterator[bytes]:
            nonlocal asked
            for asked in range(2000):  # noqa: B007 - read below
                yield bytes(MIB)

        with pytest.raises(StorageError, match="QuotaExceeded") as caught:
            await Storage.open("s3://videos").put(KEY, source(), content_type="video/mp4")
        assert asked < 1000
        assert "canary" not in str(caught.value)
        assert [head.split()[0] for head in server.requests][-1] == "delete"


async def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    (tmp_path / "acme").write_text("a file where a folder must be")
    with pytest.raises(StorageError, match=r"the folder .* could not write .*free space"):
        await put(storage, b"body")


async def test_a_storage_that_keeps_fewer_bytes_than_it_took_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(str(tmp_path))

    async def three(_: str) -> int:
        return 3

    monkeypatch.setattr(storage, "size", three)
    with pytest.raises(StorageError, match="took 4 bytes"):
        await put(storage, b"body")


# Which settings are understood


@pytest.mark.parametrize("form", ["{}/videos", "file://{}/videos", "file://{}/video%73"])
def test_a_folder_is_made_when_it_is_not_there(tmp_path: Path, form: str) -> None:
    storage = Storage.open(form.format(tmp_path))
    assert (tmp_path / "videos").is_dir()
    assert storage.describe() == f"the folder {tmp_path / 'videos'}"


def test_a_relative_folder_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage.open("var/videos").describe() == f"the folder {tmp_path / 'var' / 'videos'}"


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/prefix", "gs://bucket/prefix"])
def test_a_bucket_is_opened_without_asking_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert Storage.open(url).describe() == url


def test_an_azure_container_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigurationError, match=r"Account must be specified; check the AZURE_\* variables"):
        Storage.open("az://container/prefix")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert Storage.open("az://container/prefix").describe() == "az://container/prefix"


@pytest.mark.parametrize(
    "url",
    ["", " ", "s3://", "s3:///prefix", "ftp://host/path", "https://bucket.example.com", "memory:///", "file://relative/path",
     "file:///", "s3://canary:canary@bucket", "s3://bucket?canary=1", "/dev/null/videos"],
)  # fmt: skip
def test_what_is_no_storage_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REELKEEPER_STORAGE") as caught:
        Storage.open(url)
    assert "canary" not in str(caught.value)
