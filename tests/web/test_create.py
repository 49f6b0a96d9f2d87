from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from service.model import Face, OnUnknown, State
from tests.web.house import PUBLIC_URL, House

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5}
JSON = {"content-type": "application/json"}


async def test_an_accepted_job_is_on_disk_and_reads_as_documented(house: House, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "seed": 7, "metadata": {"order": "A-17"}})

    assert answer.status_code == 202
    job = answer.json()
    url = f"{PUBLIC_URL}/v1/jobs/{job['id']}"
    assert answer.headers["location"] == url
    assert job == {
        "id": job["id"],
        "object": "job",
        "tenant": "acme",
        "state": "queued",
        "provider": "openrouter",
        "provider_job_id": None,
        "provider_status": None,
        "model": "google/veo-3.1",
        "request": {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5, "seed": 7},
        "created_at": "2026-09-21T14:13:20.000Z",
        "finished_at": None,
        "cost": None,
        "artifacts": [],
        "retry_of": None,
        "notify_url": None,
        "metadata": {"order": "A-17"},
        "links": {
            "self": url,
            "events": f"{url}/events",
            "receipts": f"{url}/receipts",
            "deliveries": f"{url}/deliveries",
            "cancel": f"{url}/cancel",
            "retry": f"{url}/retry",
            "redeliver": f"{url}/redeliver",
            "remirror": f"{url}/remirror",
            "content": f"{url}/content",
        },
        "error": None,
    }
    stored = await house.store.job(job["id"], "acme")
    assert stored is not None
    assert stored.state is State.QUEUED
    assert house.wakes == [State.QUEUED]
    assert (await client.get(url)).json() == job


async def test_every_field_reaches_the_store(house: House, client: httpx.AsyncClient) -> None:
    body = GOOD | {
        "provider": "openrouter",
        "aspect_ratio": "16:9",
        "resolution": "1080p",
        "size": "1920x1080",
        "seed": -(2**63),
        "generate_audio": False,
        "first_frame": "https://example.com/a.png",
        "last_frame": "data:image/png;base64,AAAA",
        "references": [{"type": "image", "url": "HTTPS://example.com/b.png"}],
        "provider_options": {"negative_prompt": "rain"},
        "metadata": {"a": {"b": [1, 2.5, None, True]}},
        "notify_url": "https://example.com/done?token=1",
        "on_unknown": "resubmit",
    }
    answer = await client.post("/v1/jobs", json=body)

    stored = await house.store.job(answer.json()["id"])
    assert stored is not None
    assert stored.on_unknown is OnUnknown.RESUBMIT
    assert stored.metadata == body["metadata"]
    assert stored.notify_url == body["notify_url"]
    assert stored.face is Face.NATIVE
    outside = {"provider", "metadata", "notify_url", "on_unknown"}
    kept = json.loads(stored.request.to_json())
    assert kept == {name: value for name, value in body.items() if name not in outside}


async def test_null_is_the_same_as_leaving_out(client: httpx.AsyncClient) -> None:
    names = ["seed", "provider", "references", "metadata", "provider_options", "on_unknown", "first_frame", "prompt"]
    names += ["notify_url"]
    answer = await client.post("/v1/jobs", json={"model": "m"} | dict.fromkeys(names))
    assert answer.status_code == 202
    assert answer.json()["request"] == {"model": "m"}


async def test_a_model_that_nobody_here_has_heard_of_is_the_providers_to_judge(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", json={**GOOD, "model": "new/never-seen-9"})).status_code == 202


async def test_data_urls_are_abbreviated_in_answers_and_kept_whole_in_the_store(
    house: House, client: httpx.AsyncClient
) -> None:
    url = "data:image/png;base64," + "A" * 40_000
    body = {
        "model": "m",
        "prompt": "data:text/plain,is what a prompt may begin with",
        "first_frame": url,
        "references": [{"type": "image", "url": url}],
        "provider_options": {"masks": [url]},
    }
    answer = await client.post("/v1/jobs", json=body)

    short = "data:image/png;base64,… (40,022 characters)"
    assert answer.json()["request"] == body | {
        "first_frame": short,
        "references": [{"type": "image", "url": short}],
        "provider_options": {"masks": [short]},
    }
    stored = await house.store.job(answer.json()["id"])
    assert stored is not None
    assert (await house.store.request(stored)).first_frame == url


async def test_of_the_address_that_is_told_the_query_is_shown_to_nobody(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "notify_url": "https://example.com/done?token=canary"})
    assert answer.json()["notify_url"] == "https://example.com/done?…"
    assert "canary" not in answer.text + (await client.get("/v1/jobs")).text


# Idempotency


async def test_fifty_calls_at_once_with_one_idempotency_key_make_one_job(
    house: House, client: httpx.AsyncClient
) -> None:
    headers = {"idempotency-key": "order A-17"}
    answers = await asyncio.gather(*(client.post("/v1/jobs", json=GOOD, headers=headers) for _ in range(50)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert {answer.headers.get("idempotency-replayed") for answer in answers} == {None, "true"}
    assert await house.count("jobs") == 1


async def test_the_same_body_written_differently_is_the_same_call(client: httpx.AsyncClient) -> None:
    headers = JSON | {"idempotency-key": "k"}
    first = await client.post("/v1/jobs", content=b'{"model":"m","prompt":"\\u00e9"}', headers=headers)
    again = await client.post("/v1/jobs", content=' { "prompt": "é", "model": "m" }'.encode(), headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


async def test_a_key_with_another_body_is_refused_and_names_the_job_that_it_made(
    house: House, client: httpx.AsyncClient
) -> None:
    headers = {"idempotency-key": "k"}
    first = await client.post("/v1/jobs", json=GOOD, headers=headers)
    other = await client.post("/v1/jobs", json={**GOOD, "duration": 6}, headers=headers)

    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert first.json()["id"] in other.json()["error"]["message"]
    assert await house.count("jobs") == 1


async def test_an_idempotency_key_is_the_callers_own(house: House, client: httpx.AsyncClient) -> None:
    _, secret = await house.keys.create("other", "globex")
    headers = {"idempotency-key": "k"}
    mine = await client.post("/v1/jobs", json=GOOD, headers=headers)
    async with house.client(key=secret) as other:
        theirs = await other.post("/v1/jobs", json={"model": "m"}, headers=headers)
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]


@pytest.mark.parametrize("key", [b"", b"x" * 256, "schlüssel".encode(), b"tab\tbed"])
async def test_an_idempotency_key_that_cannot_be_one_is_refused(
    house: House, client: httpx.AsyncClient, key: bytes
) -> None:
    answer = await client.post("/v1/jobs", json=GOOD, headers=[(b"idempotency-key", key)])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_idempotency_key"
    assert await house.count("jobs") == 0


async def test_two_idempotency_keys_are_one_too_many(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=GOOD, headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    assert answer.status_code == 400


async def test_a_refused_body_does_not_use_its_key_up(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    assert (await client.post("/v1/jobs", json={"model": 5}, headers=headers)).status_code == 400
    assert (await client.post("/v1/jobs", json=GOOD, headers=headers)).status_code == 202


async def test_the_header_of_the_other_faces_names_the_provider_here_too(client: httpx.AsyncClient) -> None:
    body = {"model": "m", "prompt": "a fox", "duration": 4}
    header = {"X-Reelkeeper-Provider": "llmgateway"}
    assert (await client.post("/v1/jobs", json=body, headers=header)).json()["provider"] == "llmgateway"
    batch = await client.post("/v1/jobs/batch", json={"jobs": [body]}, headers=header)
    assert batch.json()["data"][0]["job"]["provider"] == "llmgateway"
    contrary = await client.post("/v1/jobs", json={**body, "provider": "openrouter"}, headers=header)
    assert contrary.status_code == 400
    assert "send one of them" in contrary.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/videos", "/videos/job_1", "/models"])
async def test_a_client_with_a_wrong_base_url_is_told_the_right_one(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={})
    assert answer.status_code == 404
    assert "/api/v1" in answer.json()["error"]["message"]
