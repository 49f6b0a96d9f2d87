from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.errors import StorageError
from service.model import Face, Job, State
from service.storage import Storage
from service.store import Creation
from tests.turns import until
from tests.web.house import PUBLIC_URL, VIDEO, House, connected, serving

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a red kite", "duration": 8}
PATH = "/api/v1/videos"


def problems(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["metadata"]["error_type"]) == (400, "invalid_request")
    return {each["field"]: each["message"] for each in error["metadata"]["problems"]}


async def stored(house: House, answer: httpx.Response) -> Job:
    assert answer.status_code == 202, answer.text
    job = await house.store.job(answer.json()["id"], "acme")
    assert job is not None
    return job


# Create


async def test_an_accepted_job_is_on_disk_and_answered_as_openrouter_answers(
    house: House, client: httpx.AsyncClient
) -> None:
    answer = await client.post(PATH, json={**GOOD, "callback_url": "https://example.com/hooks"})
    job = await stored(house, answer)
    url = f"{PUBLIC_URL}{PATH}/{job.id}"
    assert answer.json() == {"id": job.id, "polling_url": url, "status": "pending"}
    assert answer.headers["location"] == url
    assert (job.state, job.face, job.provider) == (State.QUEUED, Face.OPENROUTER, "openrouter")
    assert job.notify_url == "https://example.com/hooks"
    assert (job.request.model, job.request.prompt, job.request.duration) == ("google/veo-3.1", "a red kite", 8)
    assert (await client.get(url)).json() == answer.json()


async def test_every_problem_is_named_at_once(house: House, client: httpx.AsyncClient) -> None:
    body = {
        "duration": "8",
        "callback_url": "http://example.com/hooks",
        "frame_images": [{"type": "image_url"}],
        "previous_job_id": "job_00000000000000000000000000",
    }
    found = problems(await client.post(PATH, json=body, headers={"x-reelkeeper-provider": "runway"}))
    assert found == {
        "model": "is required, and must be the provider's name of a model, 1 to 200 characters without control "
        "characters, for example google/veo-3.1",
        "duration": "must be whole seconds from 1 to 3600, for example 5; a string was sent",
        "frame_images[0].image_url": 'is required, and must be an object such as {"url": "https://example.com/cat.png"}',
        "frame_images[0].frame_type": 'is required, and must be "first_frame" or "last_frame"',
        "callback_url": "must begin with https://, for example https://example.com/hooks/videos; plain http is for "
        "hosts that the operator lists in REELKEEPER_ALLOWED_PRIVATE_HOSTS",
        "x-reelkeeper-provider": "must be one header, one of openrouter, llmgateway, which are configured here",
        "previous_job_id": "must be a job under this API key, and there is no such job",
    }
    assert await house.count("jobs") == 0


async def test_what_a_provider_cannot_say_is_named_with_what_we_refuse(house: House, client: httpx.AsyncClient) -> None:
    body = {
        "model": "m",
        "duration": 0,
        "seed": 7,
        "upscale_factor": 2,
        "callback_url": "https://127.0.0.1/hooks",
        "frame_images": [
            {"type": "image_url", "image_url": {"url": "https://a.example/z.png"}, "frame_type": "last_frame"}
        ],
    }
    found = problems(await client.post(PATH, json=body, headers={"x-reelkeeper-provider": "llmgateway"}))
    assert list(found) == ["duration", "callback_url", "upscale_factor", "prompt", "seed", "frame_images"]
    assert found["upscale_factor"] == "only OpenRouter knows it, and this request goes to llmgateway; leave it out"
    assert found["frame_images"] == "LLM Gateway needs a first_frame with it"
    assert await house.count("jobs") == 0


async def test_a_provider_is_named_in_a_header(house: House, client: httpx.AsyncClient) -> None:
    body = {**GOOD, "user": "u", "provider": {"options": {"llmgateway": {"watermark": False}}}}
    job = await stored(house, await client.post(PATH, json=body, headers={"x-reelkeeper-provider": "llmgateway"}))
    assert job.provider == "llmgateway"
    assert job.request.provider_options == {"watermark": False}


async def test_unknown_fields_travel_to_openrouter_untouched(house: House, client: httpx.AsyncClient) -> None:
    more = {"creativity": 2, "trace": {"a": None}, "user": "u", "session_id": "s", "new": {"x": [1, None]}}
    job = await stored(house, await client.post(PATH, json={**GOOD, **more}))
    assert job.request.provider_options == more


async def test_images_may_be_sent_inside_the_request(house: House, client: httpx.AsyncClient) -> None:
    url = "data:image/png;base64," + "A" * 9_000_000
    frame = {"type": "image_url", "image_url": {"url": url}, "frame_type": "first_frame"}
    job = await stored(house, await client.post(PATH, json={**GOOD, "frame_images": [frame]}))
    claimed = await house.claims.claim_queued("openrouter", 1)
    assert [each.id for each in claimed] == [job.id]
    assert claimed[0].request.first_frame == url


async def test_a_body_beyond_10_mib_is_refused_in_the_dialects_shape(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={**GOOD, "prompt": "a" * 10_485_760})
    assert answer.status_code == 413
    assert answer.json()["error"] == {
        "code": 413,
        "message": "The body is larger than 10,485,760 bytes; send large media as an https:// URL.",
        "metadata": {"error_type": "body_too_large"},
    }
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("headers", "content", "status", "word"),
    [
        ({"content-type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
        ({"content-type": "application/json"}, b"{", 400, "invalid_json"),
        ({"content-type": "application/json"}, b'{"model": "a", "model": "b"}', 400, "invalid_json"),
        ({"content-type": "application/json", "authorization": "Bearer rk_no"}, b"{}", 401, "unauthorized"),
    ],
)
async def test_what_is_no_request_is_refused_in_the_dialects_shape(
    client: httpx.AsyncClient, headers: dict[str, str], content: bytes, status: int, word: str
) -> None:
    answer = await client.post(PATH, content=content, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["metadata"]["error_type"]) == (status, word)
    assert isinstance(error["message"], str)


# Continuing an earlier job


async def test_a_job_of_ours_is_continued_under_its_providers_name(house: House, client: httpx.AsyncClient) -> None:
    earlier = await house.completed(provider_job_id="gen-vid-7")
    job = await stored(house, await client.post(PATH, json={**GOOD, "previous_job_id": earlier.id}))
    assert job.request.provider_options == {"previous_job_id": "gen-vid-7"}


async def test_a_job_that_openrouter_itself_named_is_continued_as_it_is(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await stored(house, await client.post(PATH, json={**GOOD, "previous_job_id": "gen-vid-1795255200-abc"}))
    assert job.request.provider_options == {"previous_job_id": "gen-vid-1795255200-abc"}


async def test_a_job_without_a_name_at_its_provider_cannot_be_continued_yet(
    house: House, client: httpx.AsyncClient
) -> None:
    earlier = await house.queued()
    answer = await client.post(PATH, json={**GOOD, "previous_job_id": earlier.id})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["metadata"] == {"error_type": "previous_job_not_ready"}
    assert error["message"] == f"{earlier.id} has no name at openrouter yet; continue it when it is completed."
    assert await house.count("jobs") == 1


async def test_a_job_of_another_tenant_cannot_be_continued(house: House, client: httpx.AsyncClient) -> None:
    theirs = await house.queued(tenant="globex")
    found = problems(await client.post(PATH, json={**GOOD, "previous_job_id": theirs.id}))
    assert found == {"previous_job_id": "must be a job under this API key, and there is no such job"}


async def test_a_job_of_another_provider_cannot_be_continued(house: House, client: httpx.AsyncClient) -> None:
    earlier = await house.queued("llmgateway")
    found = problems(await client.post(PATH, json={**GOOD, "previous_job_id": earlier.id}))
    assert found == {"previous_job_id": "only OpenRouter knows it, and this request goes to llmgateway; leave it out"}
    headers = {"x-reelkeeper-provider": "openrouter"}
    found = problems(await client.post(PATH, json={**GOOD, "previous_job_id": earlier.id}, headers=headers))
    assert found == {
        "previous_job_id": "belongs to llmgateway; leave x-reelkeeper-provider out, or name llmgateway in it"
    }


# Once


async def test_an_idempotency_key_makes_one_job_of_fifty_calls(house: House, client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order A-17"}
    answers = await asyncio.gather(*(client.post(PATH, json=GOOD, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await house.count("jobs") == 1
    other = await client.post(PATH, json={**GOOD, "duration": 9}, headers=headers)
    assert other.status_code == 409
    assert other.headers["x-should-retry"] == "false"
    elsewhere = await client.post(PATH, json=GOOD, headers={**headers, "x-reelkeeper-provider": "llmgateway"})
    assert elsewhere.status_code == 409


async def test_a_replay_tells_how_the_job_is_doing_now(house: House, client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    first = await client.post(PATH, json=GOOD, headers=headers)
    await house.store.cancel(first.json()["id"])
    again = await client.post(PATH, json=GOOD, headers=headers)
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_caller_who_hung_up_before_the_answer_gets_the_same_job_from_the_same_call(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, gone, app, create = asyncio.Event(), asyncio.Event(), house.app(), house.store.create_job

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        await app(scope, hear, send)

    async def create_and_wait(*arguments: Any, **more: Any) -> Creation:  # noqa: ANN401 - whatever they are
        creation = await create(*arguments, **more)
        await gate.wait()
        return creation

    monkeypatch.setattr(house.store, "create_job", create_and_wait)
    body = json.dumps(GOOD).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with serving(watched) as port:
        async with connected(port) as (_, writer):
            writer.write(head.encode() + body)
            await until(lambda: house.wakes)
        await gone.wait()
        gate.set()
        await until(house.lines)
        headers = {"authorization": f"Bearer {house.key}"}
        base_url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False, headers=headers, base_url=base_url) as client:
            replayed = await client.post(PATH, json=GOOD)
            assert replayed.headers["idempotency-replayed"] == "true"
            assert await house.count("jobs") == 1
            await until(lambda: len(house.lines()) == 2)  # the note about the answer is written before the line
            another = await client.post(PATH, json=GOOD)
            assert "idempotency-replayed" not in another.headers
            assert another.json()["id"] != replayed.json()["id"]


# Read


async def test_a_job_of_any_face_is_readable_and_no_other_tenants(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    answer = await client.get(f"{PATH}/{job.id}")
    url = f"{PUBLIC_URL}{PATH}/{job.id}"
    assert answer.json() == {
        "id": job.id,
        "polling_url": url,
        "status": "completed",
        "unsigned_urls": [f"{url}/content?index=0"],
        "usage": {"cost": 0.25},
    }
    theirs = await house.queued(tenant="globex")
    for missing in (theirs.id, "job_x", "models"):
        answer = await client.get(f"{PATH}/{missing}/content")
        assert answer.status_code == 404
        assert answer.json()["error"]["metadata"]["error_type"] == "job_not_found"


class Bucket(Storage):
    """A folder that signs links, as a bucket does, or fails to."""

    trouble: Exception | None = None

    async def sign(self, key: str, seconds: int) -> str | None:
        if self.trouble is not None:
            raise self.trouble
        return f"https://bucket.example/{key}?expires={seconds}"


async def test_a_bucket_gives_links_that_need_no_key(house: House) -> None:
    job = await house.completed(contents=(b"first", b"second"))
    bucket = Bucket.open(str(house.folder / "videos"))
    url = f"{PATH}/{job.id}"
    async with house.client(house.app(storage=bucket, link_seconds=600)) as client:
        shown = (await client.get(url)).json()
        assert shown["urls"] == [f"https://bucket.example/{each.key}?expires=600" for each in job.artifacts]
        assert shown["expires_at"] == house.clock.now() // 1000 + 600
        assert len(shown["unsigned_urls"]) == 2

        for trouble in (StorageError("cannot sign"), TimeoutError()):
            bucket.trouble = trouble
            plain = await client.get(url)
            assert plain.status_code == 200
            assert plain.json().keys() == shown.keys() - {"urls", "expires_at"}
            assert house.lines()[-1]["unsigned"]
        assert (await client.get(f"{PATH}/{(await house.queued()).id}")).json()["status"] == "pending"

    async with house.client(house.app(storage=bucket)) as client:
        assert "urls" not in (await client.get(url)).json()
    async with house.client(house.app(link_seconds=600)) as client:
        assert "urls" not in (await client.get(url)).json()


# Content


async def test_a_kept_video_is_streamed_whole_in_parts_and_described(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed(contents=(VIDEO, b"second"))
    url = f"{PATH}/{job.id}/content"
    whole = await client.get(url)
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "video/mp4", VIDEO)
    assert (await client.get(f"{url}?index=1")).content == b"second"
    part = await client.get(url, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, VIDEO[2:5])
    head = await client.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(VIDEO)))


async def test_what_cannot_be_sent_is_told_with_the_dialects_statuses(house: House, client: httpx.AsyncClient) -> None:
    queued, done = await house.queued(), await house.completed()
    failed = await house.running(provider_job_id="gen-2")
    await house.call_back(failed, "failed")
    wanted = {
        f"{queued.id}/content": (409, "not_ready"),
        f"{failed.id}/content": (410, "gone"),
        f"{done.id}/content?index=1": (404, "artifact_not_found"),
        f"{done.id}/content?index=x": (400, "invalid_request"),
    }
    for path, (status, word) in wanted.items():
        answer = await client.get(f"{PATH}/{path}")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["metadata"]["error_type"]) == (status, status, word)
        assert answer.headers["x-should-retry"] == "false"
