"""Rejected callbacks over a real socket: what is answered, what is kept, who sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase
from service.model import Job, VideoRequest
from service.store import Created, Ledger, NewJob, Rejections
from service.web import callbacks
from tests.web.house import House, connected, llmgateway_body, openrouter_body, serving

JSON = {"content-type": "application/json"}
PROVIDERS = pytest.mark.parametrize("provider", ["openrouter", "llmgateway"])


def body_of(job: Job, provider_job_id: str | None = None) -> bytes:
    theirs = provider_job_id or job.provider_job_id or ""
    return openrouter_body(theirs) if job.provider == "openrouter" else llmgateway_body(theirs)


def signed(house: House, job: Job, body: bytes) -> dict[str, str]:
    return house.openrouter_headers(body) if job.provider == "openrouter" else house.llmgateway_headers(job, body)


@asynccontextmanager
async def called(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the house on a socket, and yield who calls it."""
    async with (
        serving(house.app()) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def shown(house: House, query: str = "", key: str | None = None) -> list[dict[str, Any]]:
    async with house.client(key=key) as client:
        answer = await client.get(f"/v1/callbacks/rejected{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def rejected(
    house: House, job: Job, status: int, body: bytes, headers: dict[str, str], **more: str
) -> dict[str, Any]:
    """Send what is rejected with `status`; return what is then shown of it."""
    async with called(house) as client:
        answer = await client.post(house.address(job), content=body, headers=headers | more)
    assert answer.status_code == status, answer.text
    now = await house.store.job(job.id)
    assert now == job
    [row] = await shown(house)
    assert row["job"] == job.id
    assert row["provider"] == job.provider
    assert row["times"] == 1
    assert row["first_at"] == row["last_at"] == "2026-09-21T14:13:20.000Z"
    return row


# Every reason, with both providers


@PROVIDERS
async def test_a_callback_without_a_signature_is_kept_as_missing_header(house: House, provider: str) -> None:
    job = await house.running(provider)
    row = await rejected(house, job, 401, body_of(job), JSON)
    assert row["reason"] == "missing_header"
    assert "is missing: the callback is not signed, or a proxy took the header away" in row["message"]
    assert {"openrouter": "not at all while that has none", "llmgateway": "signs"}[provider] in row["message"]
    assert row["bytes"] == len(body_of(job))


@PROVIDERS
async def test_a_signature_that_cannot_be_read_is_kept_as_malformed_header(house: House, provider: str) -> None:
    job = await house.running(provider)
    headers = signed(house, job, body_of(job))
    headers |= {"x-openrouter-signature": "t=now,v1=x"} if provider == "openrouter" else {"webhook-timestamp": "now"}
    row = await rejected(house, job, 401, body_of(job), headers)
    assert row["reason"] == "malformed_header"
    assert "not a whole number of seconds" in row["message"]


@PROVIDERS
@pytest.mark.parametrize(
    ("off_ms", "says"), [(-400_000, "400 s ahead of our clock"), (90_000_000, "90000 s behind our")]
)
async def test_a_clock_that_is_wrong_is_kept_as_clock_skew(house: House, provider: str, off_ms: int, says: str) -> None:
    job = await house.running(provider)
    house.clock.advance(-off_ms)
    headers = signed(house, job, body_of(job))
    house.clock.advance(off_ms)
    row = await rejected(house, job, 401, body_of(job), headers)
    assert row["reason"] == "clock_skew"
    assert says in row["message"]


@PROVIDERS
async def test_a_body_that_a_proxy_wrote_anew_is_kept_as_body_altered(house: House, provider: str) -> None:
    job = await house.running(provider)
    body = json.dumps(json.loads(body_of(job)), separators=(",", ":")).encode()
    headers = signed(house, job, body) | {"via": "1.1 corporate-proxy"}
    row = await rejected(house, job, 401, json.dumps(json.loads(body), indent=2).encode(), headers)
    assert row["reason"] == "body_altered"
    assert row["message"] == (
        "The signature fits the body written as compact JSON: a proxy or middleware parsed it and wrote it anew; "
        "it must pass on bodies byte for byte."
    )
    assert row["headers"]["via"] == "1.1 corporate-proxy"


@PROVIDERS
async def test_another_secret_is_kept_as_wrong_secret(house: House, provider: str) -> None:
    job, other = await house.running(provider), await house.running(provider, "gen-2")
    body = body_of(job)
    headers = (
        house.openrouter_headers(body, "another secret")
        if provider == "openrouter"
        else house.llmgateway_headers(other, body)
    )
    row = await rejected(house, job, 401, body, headers)
    assert row["reason"] == "wrong_secret"
    assert {"openrouter": "OPENROUTER_WEBHOOK_SECRET", "llmgateway": "REELKEEPER_SECRET_KEY"}[provider] in row[
        "message"
    ]


@PROVIDERS
async def test_a_genuine_message_that_is_no_callback_is_kept_as_not_a_callback(house: House, provider: str) -> None:
    job = await house.running(provider)
    row = await rejected(house, job, 400, b"[]", signed(house, job, b"[]"))
    assert row["reason"] == "not_a_callback"
    assert row["message"] == "The signature is genuine, and the body must be a JSON object with a type."


@PROVIDERS
async def test_a_genuine_callback_about_another_job_is_kept_as_mismatched(house: House, provider: str) -> None:
    job, other = await house.running(provider), await house.running(provider, "gen-2")
    body = body_of(other)
    row = await rejected(house, job, 404, body, signed(house, job, body))
    assert row["reason"] == "mismatched"
    assert "The callback speaks of gen-2" in row["message"]
    now = await house.store.job(other.id)
    assert now == other


@PROVIDERS
async def test_another_content_type_is_kept_as_wrong_content_type(house: House, provider: str) -> None:
    job = await house.running(provider)
    headers = signed(house, job, body_of(job)) | {"content-type": "text/plain"}
    row = await rejected(house, job, 415, body_of(job), headers)
    assert row["reason"] == "wrong_content_type"
    assert "text/plain was sent" in row["message"]
    assert row["bytes"] is None


@PROVIDERS
async def test_a_body_that_is_too_large_is_kept_as_too_large(house: House, provider: str) -> None:
    job = await house.running(provider)
    body = b" " * 262_145
    row = await rejected(house, job, 413, body, signed(house, job, body))
    assert row["reason"] == "too_large"
    assert "larger than 262,144 bytes" in row["message"]
    assert row["bytes"] is None


@PROVIDERS
async def test_a_body_that_comes_too_slowly_is_kept_as_too_slow(
    house: House, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "_BODY_SECONDS", 0.05)
    job = await house.running(provider)
    head = (
        f"POST {house.address(job)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head.encode() + b"{")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 408 ")
    [row] = await shown(house)
    assert (row["reason"], row["bytes"]) == ("too_slow", None)
    assert "did not arrive within 0.05 seconds" in row["message"]


# What is kept of it, and what is not


async def test_no_signature_and_no_credential_is_kept_and_long_headers_are_cut(house: House) -> None:
    job = await house.running("llmgateway", "vid-1")
    headers = house.llmgateway_headers(job, b"another")
    canaries = {"authorization": "Bearer canary", "cookie": "canary", "x-openrouter-signature": "canary"}
    row = await rejected(house, job, 401, body_of(job), headers | canaries, **{"user-agent": "x" * 9_000})
    assert row["headers"] == {
        "content-type": "application/json",
        "user-agent": "x" * 200,
        "webhook-id": headers["webhook-id"],
        "webhook-timestamp": headers["webhook-timestamp"],
    }
    kept = repr(await shown(house))
    for secret in ("canary", headers["webhook-signature"], house.vault.callback_secret(job.id)):
        assert secret not in kept
    async with house.db._reader.execute("SELECT * FROM rejections") as cursor:
        rows = [tuple(row) for row in await cursor.fetchall()]
    assert "completed" not in repr(rows)  # the body


async def test_nothing_is_kept_of_what_came_to_a_wrong_address(house: House) -> None:
    job, other = await house.running(), await house.running("llmgateway", "vid-1")
    token, body = house.vault.callback_token(job.id), body_of(job)
    unknown = "job_01m3250v00syz6cqn35ys3np5v"
    paths = [
        f"/callbacks/openrouter/{job.id}/{token[:-1]}A",
        f"/callbacks/openrouter/{unknown}/{token}",
        f"/callbacks/openrouter/{unknown}/{house.vault.callback_token(unknown)}",
        f"/callbacks/nobody/{job.id}/{token}",
        f"/callbacks/openrouter/{other.id}/{house.vault.callback_token(other.id)}",
        f"/callbacks/check/check-x/{house.vault.callback_token('check-x')}",
    ]
    async with called(house) as client:
        for path in paths:
            for headers in (JSON, {}, house.openrouter_headers(body, "wrong"), house.openrouter_headers(body)):
                assert (await client.post(path, content=body, headers=headers)).status_code in (401, 404, 415)
    await house.tally.flush()
    assert await house.count("rejections") == 0


async def test_what_is_believed_is_not_kept_as_rejected(house: House) -> None:
    job = await house.running()
    batch = b'{"type": "batch.completed"}'
    async with called(house) as client:
        for body in (batch, body_of(job), body_of(job)):
            answer = await client.post(house.address(job), content=body, headers=signed(house, job, body))
            assert answer.status_code == 204
    await house.tally.flush()
    assert await house.count("rejections") == 0


async def test_a_database_that_takes_nothing_changes_no_answer(house: House) -> None:
    job = await house.running()
    async with called(house) as client:
        await house.db.close()
        answer = await client.post(house.address(job), content=body_of(job), headers=JSON)
    assert answer.status_code == 401


# Who sees them


async def test_a_tenant_sees_its_own_and_an_operator_all(house: House) -> None:
    _, theirs = await house.keys.create("backend", "umbrella")
    _, operator = await house.keys.create("ops", "nobody", operator=True)
    job = await house.running()
    new = NewJob("umbrella", "llmgateway", VideoRequest("m", prompt="a cat"))
    created = await house.store.create_job(new)
    assert isinstance(created, Created)
    async with house.client(key="") as client:
        for each in (job, created.job):
            await client.post(house.address(each), content=b"{}", headers=JSON)
            house.clock.advance(1_000)
    assert [row["job"] for row in await shown(house)] == [job.id]
    assert [row["job"] for row in await shown(house, key=theirs)] == [created.job.id]
    assert [row["job"] for row in await shown(house, key=operator)] == [created.job.id, job.id]
    assert await shown(house, f"?job={created.job.id}") == []
    assert [row["job"] for row in await shown(house, f"?job={job.id}", key=operator)] == [job.id]
    async with house.client(key="") as client:
        assert (await client.get("/v1/callbacks/rejected")).status_code == 401


async def test_the_pages_of_a_list_hold_all_once(house: House) -> None:
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(5)]
    async with house.client(key="") as client:
        for job in jobs:
            await client.post(house.address(job), content=b"{}", headers=JSON)
    seen, query = [], "?limit=2"
    async with house.client() as client:
        while True:
            page = (await client.get(f"/v1/callbacks/rejected{query}")).json()
            seen += [row["job"] for row in page["data"]]
            if not page["has_more"]:
                break
            query = f"?limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert sorted(seen) == sorted(job.id for job in jobs)


@pytest.mark.parametrize(
    "query", ["job=x", "limit=0", "limit=101", "cursor=x", "cursor=MTp4", "state=queued", "job=%00"]
)
async def test_a_wrong_query_is_told_what_is_wrong(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/callbacks/rejected?{query}")
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["error"]["problems"]] == [query.partition("=")[0]]


async def test_the_status_counts_them_by_reason(house: House) -> None:
    job, other = await house.running(), await house.running("llmgateway", "vid-1")
    async with house.client(key="") as client:
        for _ in range(3):
            await client.post(house.address(job), content=b"{}", headers=JSON)
        await client.post(house.address(job), content=b"{}")
        await client.post(house.address(other), content=b"{}", headers=house.llmgateway_headers(other, b"["))
    await house.tally.flush()
    _, operator = await house.keys.create("ops", "acme", operator=True)
    async with house.client(key=operator) as client:
        status = (await client.get("/status")).json()
    assert status["rejected_callbacks"] == {
        "openrouter": {"missing_header": 3, "wrong_content_type": 1},
        "llmgateway": {"wrong_secret": 1},
    }


async def test_a_restart_keeps_them(house: House) -> None:
    job = await house.running()
    async with house.client(key="") as client:
        for _ in range(3):
            await client.post(house.address(job), content=b"{}", headers=JSON)
    before = await shown(house)
    await house.tally.close()
    await house.db.close()
    again = await SQLiteDatabase.open(house.folder / "reelkeeper.db", ManualClock())
    try:
        [row] = await Rejections(Ledger(again, house.clock)).page()
    finally:
        await again.close()
    assert (row.times, row.message) == (3, before[0]["message"])
