from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service.model import Artifact, Face, Job, VideoRequest
from service.store import Created, NewJob
from tests.web.house import VIDEO, House
from tests.web.test_openai_face import code, problems

PATH = "/v1/videos"
PICTURE = b"\xff\xd8\xff a picture"


# Read, list, delete


async def test_a_client_is_told_when_to_look_again(house: House, client: httpx.AsyncClient) -> None:
    async def told(job: Job) -> str | None:
        told = (await client.get(f"{PATH}/{job.id}")).headers.get_list("openai-poll-after-ms")
        return told[0] if told else None

    job = await house.running()  # it is polled 60 s from now
    assert await told(job) == "10000"
    house.clock.advance(55_000)
    assert await told(job) == "5000"
    house.clock.advance(4_500)
    assert await told(job) == "1000"
    house.clock.advance(60_000)
    assert await told(job) == "1000"
    assert (await house.call_back(job)).status_code == 204
    assert await told(job) == "1000"  # it is being copied
    assert await told(await house.completed("gen-2")) is None


async def test_another_tenants_video_is_none(house: House) -> None:
    job = await house.completed()
    _, key = await house.keys.create("other", "rival")
    async with house.client(key=key) as rival:
        for answer in (
            await rival.get(f"{PATH}/{job.id}"),
            await rival.get(f"{PATH}/{job.id}/content"),
            await rival.delete(f"{PATH}/{job.id}"),
            await rival.get(f"{PATH}/no-such-id"),
        ):
            assert code(answer) == (404, "job_not_found")
        assert (await rival.get(PATH)).json() == {
            "object": "list",
            "data": [],
            "has_more": False,
            "first_id": None,
            "last_id": None,
        }
    assert await house.store.job(job.id) is not None


@pytest.mark.parametrize("order", ["asc", "desc", None])
async def test_a_list_walks_the_jobs_of_every_face_in_either_order(
    house: House, client: httpx.AsyncClient, order: str | None
) -> None:
    made = []
    for face in (*Face, *Face):
        created = await house.store.create_job(NewJob("acme", "openrouter", VideoRequest("m", "x"), face=face))
        assert isinstance(created, Created)
        made.append(created.job.id)
        house.clock.advance(1000)
    expected = made if order == "asc" else made[::-1]
    query: dict[str, Any] = {"limit": 4} if order is None else {"limit": 4, "order": order}
    first = (await client.get(PATH, params=query)).json()
    assert [video["id"] for video in first["data"]] == expected[:4]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (expected[0], expected[3])
    second = (await client.get(PATH, params={**query, "after": first["last_id"]})).json()
    assert [video["id"] for video in second["data"]] == expected[4:]
    assert (second["has_more"], second["last_id"]) == (False, expected[-1])


async def test_a_page_holds_twenty_unless_asked_otherwise(house: House, client: httpx.AsyncClient) -> None:
    for _ in range(21):
        await house.queued()
    assert len((await client.get(PATH)).json()["data"]) == 20
    assert len((await client.get(f"{PATH}?limit=100")).json()["data"]) == 21


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "order=up", "after=x", "before=x", "limit=1&limit=2"]
)
async def test_a_query_that_cannot_be_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert set(problems(await client.get(f"{PATH}?{query}"))) == {query.partition("=")[0]}


async def test_a_deleted_video_is_gone_for_everybody_at_once(house: House, client: httpx.AsyncClient) -> None:
    job, other = await house.completed(), await house.completed("gen-2")
    answer = await client.delete(f"{PATH}/{job.id}")
    assert (answer.status_code, answer.json()) == (
        200,
        {"id": job.id, "object": "video.deleted", "deleted": True},
    )
    for path in (f"{PATH}/{job.id}", f"{PATH}/{job.id}/content", f"/v1/jobs/{job.id}", f"/api/v1/videos/{job.id}"):
        assert (await client.get(path)).status_code == 404
    assert code(await client.delete(f"{PATH}/{job.id}")) == (404, "job_not_found")
    assert [video["id"] for video in (await client.get(PATH)).json()["data"]] == [other.id]
    assert await house.count("erasures") == 2  # the video, and a picture that may be there


async def test_a_list_goes_on_after_a_job_that_was_deleted(house: House, client: httpx.AsyncClient) -> None:
    older = await house.completed()
    house.clock.advance(1000)
    newer = await house.completed("gen-2")
    await client.delete(f"{PATH}/{newer.id}")
    page = (await client.get(f"{PATH}?after={newer.id}")).json()
    assert [video["id"] for video in page["data"]] == [older.id]


async def test_what_goes_on_is_not_deleted(house: House, client: httpx.AsyncClient) -> None:
    for job in (await house.running(), await house.queued()):
        answer = await client.delete(f"{PATH}/{job.id}")
        assert code(answer) == (409, "not_final")
        assert answer.json()["error"]["message"].startswith(f"The job is {job.state};")
        assert answer.headers["x-should-retry"] == "false"
        assert (await client.get(f"{PATH}/{job.id}")).status_code == 200


# Content


@dataclass
class Studio:
    """Has one picture for every video."""

    key: str
    available: bool = True
    asked: list[int] = field(default_factory=list)

    async def poster(self, job: Job, artifact: Artifact) -> str | None:  # noqa: ARG002 - one for all
        self.asked.append(artifact.index)
        return self.key


@pytest.mark.parametrize("query", ["", "?variant=video", "?index=0", "?variant=video&index=0&redirect=false"])
async def test_the_video_is_sent(house: House, client: httpx.AsyncClient, query: str) -> None:
    job = await house.completed()
    answer = await client.get(f"{PATH}/{job.id}/content{query}")
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert answer.headers["content-type"] == "video/mp4"
    head = await client.head(f"{PATH}/{job.id}/content{query}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(VIDEO)))


async def test_the_thumbnail_is_a_picture_of_the_video_that_is_meant(house: House) -> None:
    job = await house.completed(contents=(VIDEO, VIDEO))
    await house.storage.put("acme/poster.jpg", _chunks([PICTURE]), content_type="image/jpeg")
    studio = Studio("acme/poster.jpg")
    async with house.client(house.app(posters=studio)) as client:
        answer = await client.get(f"{PATH}/{job.id}/content?variant=thumbnail&index=1")
    assert (answer.content, answer.headers["content-type"]) == (PICTURE, "image/jpeg")
    assert studio.asked == [1]


async def test_what_there_is_no_picture_of_is_said_so(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    url = f"{PATH}/{job.id}/content"
    assert code(await client.get(f"{url}?variant=thumbnail")) == (501, "media_not_installed")
    sheet = await client.get(f"{url}?variant=spritesheet")
    assert code(sheet) == (501, "not_implemented")
    assert sheet.headers["x-should-retry"] == "false"
    for query in ("variant=gif", "variant=", "variant=video&variant=video", "varient=video", "index=x", "redirect=x"):
        assert set(problems(await client.get(f"{url}?{query}"))) == {query.partition("=")[0]}


async def test_before_the_end_there_is_nothing_to_send(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    assert code(await client.get(f"{PATH}/{job.id}/content")) == (409, "not_ready")
    assert (await house.call_back(job, "failed")).status_code == 204
    assert code(await client.get(f"{PATH}/{job.id}/content")) == (410, "gone")


@pytest.mark.parametrize("path", ["edits", "extensions", "characters", "job_00000000000000000000000000/remix"])
async def test_what_is_not_offered_is_answered_cleanly(client: httpx.AsyncClient, path: str) -> None:
    assert code(await client.post(f"{PATH}/{path}", json={"prompt": "x"})) == (404, "not_supported")
    assert code(await client.get(f"{PATH}/characters/char_1")) == (404, "not_found")


async def test_a_method_that_is_none_is_told_which_there_are(client: httpx.AsyncClient) -> None:
    answer = await client.put(f"{PATH}/job_00000000000000000000000000", json={})
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"


async def _chunks(content: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk
