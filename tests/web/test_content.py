from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.types import ASGIApp

from service.errors import StorageError
from service.model import State
from service.storage import Storage
from tests.web.house import VIDEO, House, serving


@asynccontextmanager
async def over_the_wire(house: House, app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {house.key}"}
    async with (
        serving(app) as port,
        httpx.AsyncClient(trust_env=False, headers=headers, base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def test_a_kept_video_is_sent_whole_and_labelled(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    answer = await client.get(f"/v1/jobs/{job.id}/content")
    assert answer.status_code == 200
    assert answer.content == VIDEO
    labels = {
        "content-type": "video/mp4",
        "content-length": str(len(VIDEO)),
        "etag": f'"{"ab" * 32}"',
        "content-disposition": f'inline; filename="{job.id}-0.mp4"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in labels} == labels


async def test_head_tells_the_same_without_the_bytes(house: House) -> None:
    job = await house.completed()
    async with over_the_wire(house, house.app()) as client:
        url = f"/v1/jobs/{job.id}/content"
        head, get = await client.head(url, headers={"range": "bytes=0-1"}), await client.get(url)
    assert head.status_code == 200
    assert head.content == b""
    apart = {"x-request-id", "date"}
    assert [each for each in head.headers.items() if each[0] not in apart] == [
        each for each in get.headers.items() if each[0] not in apart
    ]


async def test_each_artifact_has_its_index(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed(contents=(b"first", b"second"))
    assert (await client.get(f"/v1/jobs/{job.id}/content?index=0")).content == b"first"
    assert (await client.get(f"/v1/jobs/{job.id}/content?index=1")).content == b"second"
    missing = await client.get(f"/v1/jobs/{job.id}/content?index=2")
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "code": "artifact_not_found",
        "message": "The job has no artifact 2; it has only the indexes 0, 1.",
    }
    only = await client.get(f"/v1/jobs/{(await house.completed(provider_job_id='gen-2')).id}/content?index=1")
    assert only.json()["error"]["message"] == "The job has no artifact 1; it has only index 0."


@pytest.mark.parametrize(
    "query",
    ["index=-1", "index=x", "index=", "index=0&index=1", "idx=0", "index=" + "9" * 5000, "redirect=", "redirect=maybe",
     "redirect=2", "redirect=0&redirect=0", "redirects=0"],
)  # fmt: skip
async def test_a_query_that_cannot_be_is_refused(house: House, client: httpx.AsyncClient, query: str) -> None:
    job = await house.completed()
    answer = await client.get(f"/v1/jobs/{job.id}/content?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert answer.json()["error"]["problems"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos", "/api/v1/videos"])
async def test_what_is_missing_is_told_in_words_that_are_true_on_every_face(
    house: House, client: httpx.AsyncClient, path: str
) -> None:
    job = await house.running()
    for name, advice in ((job.id, "until it is completed"), ("job_x", "check its id")):
        answer = await client.get(f"{path}/{name}/content")
        said = answer.json()["error"]["message"]
        assert advice in said
        assert "/v1/" not in said


async def test_before_the_end_there_is_nothing_to_send(house: House, client: httpx.AsyncClient) -> None:
    for job in (await house.queued(), await house.running()):
        answer = await client.get(f"/v1/jobs/{job.id}/content")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "not_ready"
        assert "read the job until it is completed" in answer.json()["error"]["message"]


async def test_a_job_without_a_video_says_so(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    await house.call_back(job, "failed")
    answer = await client.get(f"/v1/jobs/{job.id}/content")
    assert answer.status_code == 410
    assert "has ended as failed and kept no video" in answer.json()["error"]["message"]


async def test_a_video_that_vanished_from_storage_is_gone(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    await house.storage.delete(job.artifacts[0].key)
    for answer in (await client.get(f"/v1/jobs/{job.id}/content"), await client.head(f"/v1/jobs/{job.id}/content")):
        assert answer.status_code == 410


async def test_a_video_that_was_cut_in_storage_is_not_sent_as_whole(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    (house.folder / "videos" / job.artifacts[0].key).write_bytes(VIDEO[:-1])
    assert (await client.get(f"/v1/jobs/{job.id}/content")).status_code == 410


class Failing(Storage):
    """A folder whose disk is broken from byte `broken` on, and that breaks off after every `most` bytes."""

    broken = 0
    most = 1 << 40

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        assert end is not None
        until = min(end, self.broken, start + self.most)
        async for chunk in super().read(key, start, until):
            yield chunk
        if until < end:
            raise StorageError(f"the disk under {key} broke at {until}")


async def test_a_storage_that_does_not_answer_is_worth_another_try(house: House) -> None:
    job = await house.completed()
    storage = Failing.open(str(house.folder / "videos"))
    async with house.client(house.app(storage=storage)) as client:
        answer = await client.get(f"/v1/jobs/{job.id}/content")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "storage_unavailable"
    assert "retry-after" in answer.headers
    assert "disk under" not in answer.text
    assert "disk under" in str(house.faults()[0]["error"])


async def test_a_storage_that_breaks_midway_breaks_the_connection_so_that_nobody_takes_the_part_for_the_whole(
    house: House,
) -> None:
    job = await house.completed()
    storage = Failing.open(str(house.folder / "videos"))
    storage.broken = 30
    for headers in ({}, {"range": "bytes=0-100"}):
        async with over_the_wire(house, house.app(storage=storage)) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"/v1/jobs/{job.id}/content", headers=headers)
    assert [(line["status"], line["bytes"]) for line in house.lines()[-2:]] == [(200, 30), (206, 30)]
    assert len(house.faults()) == 2


async def test_a_storage_that_breaks_off_now_and_then_is_read_on_where_it_broke(house: House) -> None:
    """A bucket's answer has a time limit, which has nothing to do with how fast a caller reads."""
    content = b"".join(number.to_bytes(2) for number in range(5_000))
    job = await house.completed(contents=(content,))
    storage = Failing.open(str(house.folder / "videos"))
    storage.broken, storage.most = len(content), 999
    async with house.client(house.app(storage=storage)) as client:
        assert (await client.get(f"/v1/jobs/{job.id}/content")).content == content
        part = await client.get(f"/v1/jobs/{job.id}/content", headers={"range": "bytes=10-5000"})
    assert part.content == content[10:5001]


async def test_a_video_that_changes_while_it_is_sent_is_not_read_on(house: House) -> None:
    job = await house.completed()
    path = house.folder / "videos" / job.artifacts[0].key

    class Changing(Failing):
        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            async for chunk in super().read(key, start, end):
                yield chunk
                path.write_bytes(VIDEO[::-1] + b"!")

    storage = Changing.open(str(house.folder / "videos"))
    storage.broken, storage.most = len(VIDEO), 999
    async with over_the_wire(house, house.app(storage=storage)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/v1/jobs/{job.id}/content")
    assert house.lines()[-1]["bytes"] == 999


async def test_a_storage_that_ends_early_without_a_word_is_not_believed(house: House) -> None:
    job = await house.completed()

    class Short(Storage):
        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            async for chunk in super().read(key, start, (end or 0) - 1):
                yield chunk

    async with over_the_wire(house, house.app(storage=Short.open(str(house.folder / "videos")))) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/v1/jobs/{job.id}/content")


async def test_storage_that_is_away_is_not_a_lost_video(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    shutil.rmtree(house.folder / "videos")
    (house.folder / "videos").write_bytes(b"a file where the folder was")
    answer = await client.get(f"/v1/jobs/{job.id}/content")
    assert answer.status_code in {410, 503}
    after = await house.store.job(job.id)
    assert after is not None
    assert after.state is State.COMPLETED


async def test_a_large_video_is_streamed_in_parts(house: House) -> None:
    """What was read from storage and not yet by the caller stays bounded."""
    content = bytes(range(256)) * 4096 * 32
    job = await house.completed(contents=(content,))
    read = 0
    largest = 0

    class Counting(Storage):
        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            nonlocal read, largest
            async for chunk in super().read(key, start, end):
                read += len(chunk)
                largest = max(largest, len(chunk))
                yield chunk

    app = house.app(storage=Counting.open(str(house.folder / "videos")))
    async with over_the_wire(house, app) as client, client.stream("GET", f"/v1/jobs/{job.id}/content") as answer:
        received = bytearray()
        async for chunk in answer.aiter_raw():
            received += chunk
            assert read - len(received) < 16 * 1024 * 1024
    assert received == content
    assert largest <= 1024 * 1024


async def test_the_first_bytes_are_sent_before_the_second_are_there(house: House) -> None:
    job = await house.completed(contents=(bytes(4 * 1024 * 1024),))
    received = asyncio.Event()
    pulled = 0

    class Waiting(Storage):
        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            nonlocal pulled
            async for chunk in super().read(key, start, end):
                pulled += 1
                yield chunk
                await received.wait()

    app = house.app(storage=Waiting.open(str(house.folder / "videos")))
    async with over_the_wire(house, app) as client, client.stream("GET", f"/v1/jobs/{job.id}/content") as answer:
        parts = answer.aiter_raw()
        size = len(await anext(parts))
        assert answer.headers["content-length"] == str(4 * 1024 * 1024)
        assert pulled == 1
        received.set()
        assert size + sum([len(part) async for part in parts]) == 4 * 1024 * 1024


# Parts and versions


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("0-9", 0, 10), ("100-", 100, len(VIDEO)), ("-7", len(VIDEO) - 7, len(VIDEO))]
)
async def test_a_part_is_sent_as_a_part(house: House, wanted: str, start: int, end: int) -> None:
    job = await house.completed()
    async with over_the_wire(house, house.app()) as client:
        answer = await client.get(f"/v1/jobs/{job.id}/content", headers={"range": f"bytes={wanted}"})
    assert answer.status_code == 206
    assert answer.content == VIDEO[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(VIDEO)}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["etag"] == f'"{"ab" * 32}"'


async def test_a_part_beyond_the_end_is_refused_with_the_size(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    answer = await client.get(f"/v1/jobs/{job.id}/content", headers={"range": f"bytes={len(VIDEO)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(VIDEO)}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


async def test_who_has_this_version_is_not_sent_it_again(house: House) -> None:
    job = await house.completed()
    async with over_the_wire(house, house.app()) as client:
        for method in ("GET", "HEAD"):
            answer = await client.request(
                method,
                f"/v1/jobs/{job.id}/content",
                headers={"if-none-match": f'"x", W/"{"ab" * 32}"', "range": "bytes=0-1"},
            )
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == f'"{"ab" * 32}"'
            assert answer.headers["cache-control"] == "private, no-cache"
            assert "content-length" not in answer.headers


async def test_who_wants_another_version_only_is_told(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    url = f"/v1/jobs/{job.id}/content"
    refused = await client.get(url, headers={"if-match": '"other"'})
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, "precondition_failed")
    assert (await client.get(url, headers={"if-match": f'"{"ab" * 32}"'})).content == VIDEO


async def test_a_download_is_resumed_only_if_it_is_the_same_version(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    url = f"/v1/jobs/{job.id}/content"
    same = await client.get(url, headers={"range": "bytes=1-", "if-range": f'"{"ab" * 32}"'})
    assert (same.status_code, same.content) == (206, VIDEO[1:])
    other = await client.get(url, headers={"range": "bytes=1-", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, VIDEO)
