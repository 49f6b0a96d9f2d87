from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import httpx
import pytest

from service.errors import StorageError
from service.model import State
from service.storage import Storage
from tests.web.house import VIDEO, House, serving


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
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in labels} == labels


async def test_head_tells_the_same_without_the_bytes(house: House) -> None:
    job = await house.completed()
    headers = {"authorization": f"Bearer {house.key}"}
    async with serving(house.app()) as port, httpx.AsyncClient(trust_env=False, headers=headers) as client:
        url = f"http://127.0.0.1:{port}/v1/jobs/{job.id}/content"
        head, get = await client.head(url), await client.get(url)
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


@pytest.mark.parametrize("query", ["index=-1", "index=x", "index=", "index=0&index=1", "idx=0", "index=" + "9" * 5000])
async def test_an_index_that_is_none_is_refused(house: House, client: httpx.AsyncClient, query: str) -> None:
    job = await house.completed()
    answer = await client.get(f"/v1/jobs/{job.id}/content?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_before_the_end_there_is_nothing_to_send(house: House, client: httpx.AsyncClient) -> None:
    for job in (await house.queued(), await house.running()):
        answer = await client.get(f"/v1/jobs/{job.id}/content")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "not_ready"
        assert f"https://videos.example.com/v1/jobs/{job.id}" in answer.json()["error"]["message"]


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
    """A folder that breaks after `good` chunks."""

    good = 0

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        for _ in range(self.good):
            yield b"some bytes"
        raise StorageError(f"the disk under {key} broke ({start}, {end})")


async def test_a_storage_that_does_not_answer_is_worth_another_try(house: House) -> None:
    job = await house.completed()
    storage = Failing.open(str(house.folder / "videos"))
    async with house.client(house.app(storage=storage)) as client:
        answer = await client.get(f"/v1/jobs/{job.id}/content")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "storage_unavailable"
    assert "retry-after" in answer.headers
    assert "disk under" not in answer.text
    assert "disk under" in str(house.lines("web.failed")[0]["error"])


async def test_a_storage_that_breaks_midway_breaks_the_connection_so_that_nobody_takes_the_part_for_the_whole(
    house: House,
) -> None:
    job = await house.completed()
    storage = Failing.open(str(house.folder / "videos"))
    storage.good = 3
    headers = {"authorization": f"Bearer {house.key}"}
    async with (
        serving(house.app(storage=storage)) as port,
        httpx.AsyncClient(trust_env=False, headers=headers) as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/v1/jobs/{job.id}/content")
    line = house.lines()[-1]
    assert (line["status"], line["bytes"]) == (200, 30)
    assert len(house.lines("web.failed")) == 1


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
    headers = {"authorization": f"Bearer {house.key}"}
    async with serving(app) as port, httpx.AsyncClient(trust_env=False, headers=headers) as client:
        url = f"http://127.0.0.1:{port}/v1/jobs/{job.id}/content"
        async with client.stream("GET", url) as answer:
            received = bytearray()
            async for chunk in answer.aiter_raw():
                received += chunk
                assert read - len(received) < 16 * 1024 * 1024
    assert received == content
    assert largest <= 1024 * 1024
