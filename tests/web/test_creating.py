"""Calls that ask for a video, over real connections: which of them are one, by what became of their answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from service.model import ErrorCode, JobError
from service.store import Call, Creation, Hindrance, Idempotency, NewJob
from service.web.creating import Creating, fingerprint_of
from tests.turns import until
from tests.web.house import House, connected, serving

BODY = {"provider": "openrouter", "model": "m", "prompt": "a fox"}


class SlowStore:
    """Lets calls wait at the store, before their job is made or after it."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before = asyncio.Event()
        self.after = asyncio.Event()
        self.before.set()
        self.after.set()
        self.arrived = self.made = 0
        create = house.store.create_job

        async def create_job(
            new: NewJob,
            idempotency: Idempotency | None = None,
            call: Call | None = None,
            hindrance: Hindrance | None = None,
        ) -> Creation:
            self.arrived += 1
            await self.before.wait()
            creation = await create(new, idempotency, call, hindrance)
            self.made += 1
            await self.after.wait()
            return creation

        monkeypatch.setattr(house.store, "create_job", create_job)


@pytest.fixture
def slow(house: House, monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    return SlowStore(house, monkeypatch)


def raw(key: str, body: object = BODY) -> bytes:
    """Return the request as bytes."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def caller(port: int, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
        yield client


def app_and_creating(house: House) -> tuple[ASGIApp, Creating]:
    """Return an app, and what in it knows who waits."""
    found: list[Creating] = []
    original = Creating.__init__

    def remember(self: Creating, *arguments: Any) -> None:  # noqa: ANN401 - whatever they are
        original(self, *arguments)
        found.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Creating, "__init__", remember)
        app = house.app()
    return app, found[0]


async def ids(house: House) -> list[str]:
    return [job.id for job in await house.store.jobs()]


async def test_an_answer_that_was_sent_makes_the_same_call_another_job(house: House) -> None:
    async with serving(house.app()) as port, caller(port, house.key) as client:
        first = await client.post("/v1/jobs", json=BODY)
        await until(house.lines)  # the note about the answer is written before the line in the log
        second = await client.post("/v1/jobs", json=BODY)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotency-replayed" not in second.headers


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_caller_who_hung_up_before_its_answer_finds_its_job_when_it_calls_again(
    house: House, slow: SlowStore, moment: str
) -> None:
    gate = slow.before if moment == "before" else slow.after
    gate.clear()
    app, creating = app_and_creating(house)
    async with serving(app) as port:
        async with connected(port) as (_, writer):
            writer.write(raw(house.key))
            await until(lambda: slow.arrived if moment == "before" else slow.made)
        await until(lambda: not creating._waiting)
        gate.set()
        await until(house.lines)
        async with caller(port, house.key) as client:
            again = await client.post("/v1/jobs", json=BODY)
    assert again.headers["idempotency-replayed"] == "true"
    assert [again.json()["id"]] == await ids(house)


async def test_callers_who_wait_side_by_side_with_the_same_wish_get_a_job_each(house: House, slow: SlowStore) -> None:
    slow.after.clear()
    async with serving(house.app()) as port, caller(port, house.key) as client:
        calls = [asyncio.create_task(client.post("/v1/jobs", json=BODY)) for _ in range(5)]
        await until(lambda: slow.made == 5)
        slow.after.set()
        answers = await asyncio.gather(*calls)
    assert len({answer.json()["id"] for answer in answers}) == 5


async def test_a_retry_that_says_so_finds_its_job_although_an_answer_was_sent(house: House) -> None:
    async with serving(house.app()) as port, caller(port, house.key) as client:
        first = await client.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": "0"})
        again = await client.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": "1"})
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_call_that_failed_leaves_nobody_waiting(house: House) -> None:
    app, creating = app_and_creating(house)
    await poor(house)
    async with serving(app) as port, caller(port, house.key) as client:
        assert (await client.post("/v1/jobs", json=BODY)).status_code == 402
        assert (
            await client.post("/v1/jobs", json={**BODY, "provider": "llmgateway", "duration": 4})
        ).status_code == 202
        await until(lambda: len(house.lines()) == 2)
    assert creating._waiting == set()


async def poor(house: House) -> None:
    job = await house.submitting()
    await house.claims.refused(job, JobError(ErrorCode.PROVIDER_CREDITS, "none"))


async def test_without_credits_nothing_is_made_and_a_retry_could_not_help(house: House) -> None:
    await poor(house)
    made = await ids(house)
    async with house.client() as client:
        answer = await client.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "provider_credits")
    assert answer.headers["x-should-retry"] == "false"
    assert await ids(house) == made


async def test_a_key_with_a_limit_asks_for_no_more_a_minute(house: House) -> None:
    _, key = await house.keys.create("bounded", "acme", creates_per_minute=2)
    async with house.client(key=key) as client:
        statuses = [(await client.post("/v1/jobs", json=BODY)).status_code for _ in range(2)]
        refused = await client.post("/v1/jobs", json=BODY)
        house.clock.advance(int(refused.headers["retry-after"]) * 1000)
        later = await client.post("/v1/jobs", json=BODY)
    assert statuses == [202, 202]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert "x-should-retry" not in refused.headers
    assert later.status_code == 202


async def test_a_retry_of_a_refused_call_is_no_retry_of_the_same_call_before_it(house: House) -> None:
    _, key = await house.keys.create("bounded", "acme", creates_per_minute=1)
    async with serving(house.app()) as port, caller(port, key) as client:
        first = await client.post("/v1/jobs", json=BODY)
        refused = await client.post("/v1/jobs", json=BODY)
        house.clock.advance(60_000)
        retried = await client.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": "1"})
        house.clock.advance(60_000)
        again = await client.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": "1"})
    assert (first.status_code, refused.status_code, retried.status_code) == (202, 429, 202)
    assert retried.json()["id"] != first.json()["id"]
    assert again.json()["id"] in (first.json()["id"], retried.json()["id"])  # it cancels one mark, not all


async def test_a_refused_call_that_nobody_repeated_makes_no_second_job_of_a_later_one(house: House) -> None:
    _, key = await house.keys.create("bounded", "acme", creates_per_minute=1)
    async with serving(house.app()) as port, caller(port, key) as client:
        await client.post("/v1/jobs", json=BODY)
        assert (await client.post("/v1/jobs", json=BODY)).status_code == 429
        house.clock.advance(60_000)
        later = await client.post("/v1/jobs", json=BODY)
        house.clock.advance(60_000)
        retried = await client.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": "1"})
    assert retried.json()["id"] == later.json()["id"]


async def test_what_was_made_before_costs_nothing_of_a_limit(house: House) -> None:
    _, key = await house.keys.create("bounded", "acme", creates_per_minute=1)
    headers = {"idempotency-key": "k"}
    async with house.client(key=key) as client:
        answers = [await client.post("/v1/jobs", json=BODY, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert (await client.post("/v1/jobs", json=BODY)).status_code == 429
        house.clock.advance(60_000)
        wrong = await client.post("/v1/jobs", json={**BODY, "seed": 1}, headers=headers)
        assert wrong.status_code == 409
        assert (await client.post("/v1/jobs", json=BODY)).status_code == 202  # the refused one took nothing


async def test_the_same_wish_made_while_an_answer_is_being_noted_is_another_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting = asyncio.Event()
    answered = house.store.answered

    async def slowly(call_id: str) -> None:
        await noting.wait()
        await answered(call_id)

    monkeypatch.setattr(house.store, "answered", slowly)
    async with serving(house.app()) as port, caller(port, house.key) as one, caller(port, house.key) as other:
        answers = [await one.post("/v1/jobs", json=BODY), await other.post("/v1/jobs", json=BODY)]
        noting.set()
    assert answers[0].json()["id"] != answers[1].json()["id"]


async def test_two_processes_keep_the_same_wishes_of_two_callers_apart(house: House, slow: SlowStore) -> None:
    slow.after.clear()
    async with (
        serving(house.app()) as one,
        serving(house.app()) as two,
        caller(one, house.key) as first,
        caller(two, house.key) as second,
    ):
        calls = [asyncio.create_task(each.post("/v1/jobs", json=BODY)) for each in (first, second)]
        await until(lambda: slow.made == 2)
        slow.after.set()
        answers = await asyncio.gather(*calls)
    assert len({answer.json()["id"] for answer in answers}) == 2


async def test_keys_have_limits_of_their_own(house: House) -> None:
    keys = [(await house.keys.create(name, "acme", creates_per_minute=1))[1] for name in ("one", "two")]
    for key in keys:
        async with house.client(key=key) as client:
            assert (await client.post("/v1/jobs", json=BODY)).status_code == 202


async def test_a_key_with_a_window_makes_one_job_of_what_is_the_same(house: House) -> None:
    _, key = await house.keys.create("strict", "acme", dedupe_window_ms=60_000)
    async with serving(house.app()) as port, caller(port, key) as client:
        answers = [await client.post("/v1/jobs", json=BODY) for _ in range(3)]
        other = await client.post("/v1/jobs", json={**BODY, "seed": 1})
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert other.json()["id"] != answers[0].json()["id"]


async def test_the_key_of_a_deleted_job_says_so(house: House) -> None:
    async with house.client() as client:
        headers = {"idempotency-key": "k"}
        job_id = (await client.post("/v1/jobs", json=BODY, headers=headers)).json()["id"]
        job = await house.store.cancel(job_id)
        assert job is not None
        assert await house.store.delete(job)
        again = await client.post("/v1/jobs", json=BODY, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (410, "job_deleted")
    assert job_id in again.json()["error"]["message"]


async def test_a_key_may_come_as_some_clients_send_it(house: House) -> None:
    async with house.client(key="") as client:
        answer = await client.post("/v1/jobs", json=BODY, headers={"x-api-key": house.key})
    assert answer.status_code == 202


def test_bodies_that_mean_the_same_have_one_fingerprint() -> None:
    assert fingerprint_of({"a": 1, "b": [True]}) == fingerprint_of({"b": [True], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": "1"})
