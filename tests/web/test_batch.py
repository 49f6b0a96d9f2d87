from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from service.db import sqlite
from service.errors import StoreUnavailableError
from service.model import Billable, ErrorCode, JobError
from service.store import Call, Creation, Hindrance, Idempotency, NewJob
from tests.web.house import House

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5}
BAD: dict[str, Any] = {**GOOD, "duration": 0}


async def post(
    client: httpx.AsyncClient, jobs: Sequence[object], key: str | None = None, status: int = 200
) -> list[dict[str, Any]]:
    headers = {} if key is None else {"idempotency-key": key}
    answer = await client.post("/v1/jobs/batch", json={"jobs": jobs}, headers=headers)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"object", "data"}
    assert [each["index"] for each in body["data"]] == list(range(len(jobs)))
    found: list[dict[str, Any]] = body["data"]
    return found


async def test_each_job_is_accepted_or_refused_by_itself(house: House, client: httpx.AsyncClient) -> None:
    wanted = [GOOD, BAD, 7, {**GOOD, "provider": "llmgateway", "notify_url": "https://example.com/done"}, {}]
    told = await post(client, wanted)

    assert [each["status"] for each in told] == [202, 400, 400, 202, 400]
    assert [set(each) for each in told if each["status"] == 202] == [{"index", "status", "job"}] * 2
    assert [set(each) for each in told if each["status"] == 400] == [{"index", "status", "error"}] * 3
    for each in (told[0], told[3]):
        assert each["job"] == (await client.get(f"/v1/jobs/{each['job']['id']}")).json()
    assert told[3]["job"]["provider"] == "llmgateway"
    alone = await client.post("/v1/jobs", json=BAD)
    assert told[1]["error"] == alone.json()["error"]
    assert told[2]["error"]["problems"] == [{"field": "jobs[2]", "message": "must be an object; a number was sent"}]
    assert await house.count("jobs") == 2


async def test_a_hundred_jobs_are_one_commit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    commit: Callable[..., Any] = sqlite._commit

    def counted(connection: object, queries: object, works: Sequence[object]) -> object:
        commits.append(len(works))
        return commit(connection, queries, works)

    monkeypatch.setattr(sqlite, "_commit", counted)
    told = await post(client, [GOOD] * 100)
    assert {each["status"] for each in told} == {202}
    assert len({each["job"]["id"] for each in told}) == 100
    assert commits[0] == 100


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "jobs", "must be an array of 1 to 100 jobs"),
        ({"jobs": []}, "jobs", "0 were sent"),
        ({"jobs": [GOOD] * 101}, "jobs", "101 were sent"),
        ({"jobs": GOOD}, "jobs", "an object was sent"),
        ({"jobs": None}, "jobs", "null was sent"),
        ({"jobs": [GOOD], "model": "m"}, "model", "is not a field"),
        ({"job": [GOOD]}, "job", "did you mean jobs?"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused_as_a_whole(
    house: House, client: httpx.AsyncClient, body: object, field: str, words: str
) -> None:
    answer = await client.post("/v1/jobs/batch", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    found = {each["field"]: each["message"] for each in answer.json()["error"]["problems"]}
    assert words in found[field]
    assert await house.count("jobs") == 0


async def test_a_batch_is_bounded_as_one_job_is(house: House, client: httpx.AsyncClient) -> None:
    too_large = json.dumps({"jobs": [{**GOOD, "first_frame": "data:image/png;base64," + "A" * 1_048_576}]})
    headers = {"content-type": "application/json"}
    assert (await client.post("/v1/jobs/batch", content=too_large, headers=headers)).status_code == 413
    assert (await client.post("/v1/jobs/batch", content=b"jobs=1")).status_code == 415
    assert (await client.post("/v1/jobs/batch", content=b'{"jobs": [', headers=headers)).status_code == 400
    bad_key = await client.post("/v1/jobs/batch", json={"jobs": [GOOD]}, headers={"idempotency-key": "x" * 256})
    assert bad_key.json()["error"]["code"] == "invalid_idempotency_key"
    assert await house.count("jobs") == 0


# The same batch again


async def test_without_a_key_every_call_makes_new_jobs(client: httpx.AsyncClient) -> None:
    first = await post(client, [GOOD, GOOD])
    again = await post(client, [GOOD, GOOD])
    assert len({each["job"]["id"] for each in [*first, *again]}) == 4


async def test_with_a_key_what_was_accepted_is_replayed_and_what_was_corrected_is_tried(
    house: House, client: httpx.AsyncClient
) -> None:
    key = "k" * 255
    first = await post(client, [GOOD, BAD, GOOD], key)
    assert [each["status"] for each in first] == [202, 400, 202]

    again = await post(client, [GOOD, {**BAD, "duration": 6}, GOOD], key)
    assert [each.get("replayed") for each in again] == [True, None, True]
    assert [again[0]["job"], again[2]["job"]] == [first[0]["job"], first[2]["job"]]
    assert again[1]["job"]["request"]["duration"] == 6
    assert await house.count("jobs") == 3

    other = await post(client, [GOOD, GOOD], key)
    assert [each["status"] for each in other] == [202, 409]
    assert other[1]["error"]["code"] == "idempotency_key_reused"
    assert again[1]["job"]["id"] in other[1]["error"]["message"]


async def test_ten_equal_batches_at_once_with_one_key_make_one_set_of_jobs(
    house: House, client: httpx.AsyncClient
) -> None:
    batches = await asyncio.gather(*(post(client, [GOOD] * 5, "k") for _ in range(10)))
    assert len({each["job"]["id"] for batch in batches for each in batch}) == 5
    assert sum("replayed" not in each for batch in batches for each in batch) == 5
    assert await house.count("jobs") == 5


async def test_a_key_of_a_batch_is_none_of_a_single_create(client: httpx.AsyncClient) -> None:
    [batched] = await post(client, [GOOD], "k")
    alone = await client.post("/v1/jobs", json=GOOD, headers={"idempotency-key": "k/0"})
    assert alone.json()["id"] != batched["job"]["id"]


# What stands against it


async def test_every_job_counts_against_the_limit_of_its_key(house: House) -> None:
    _, key = await house.keys.create("slow", "acme", creates_per_minute=5)
    async with house.client(key=key) as client:
        await post(client, [GOOD, GOOD, GOOD, BAD])
        told = await post(client, [GOOD] * 4)
        assert [each["status"] for each in told] == [202, 202, 429, 429]
        assert told[2]["error"]["code"] == "rate_limited"
        assert await house.count("jobs") == 5


async def test_a_provider_out_of_credits_refuses_its_own_jobs_alone(house: House, client: httpx.AsyncClient) -> None:
    job = await house.submitting()
    poor = JobError(ErrorCode.PROVIDER_CREDITS, "no credits", billable=Billable.NO)
    assert await house.claims.refused(job, poor)
    told = await post(client, [GOOD, {**GOOD, "provider": "llmgateway"}])
    assert [each["status"] for each in told] == [402, 202]
    assert told[0]["error"]["code"] == "provider_credits"


async def test_a_job_that_the_database_did_not_take_says_so_and_the_others_are_kept(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = house.store.create_job

    async def broken(
        new: NewJob,
        idempotency: Idempotency | None = None,
        call: Call | None = None,
        hindrance: Hindrance | None = None,
    ) -> Creation:
        if new.request.seed == 7:
            raise StoreUnavailableError("disk full at /secret/path")
        return await create(new, idempotency, call, hindrance)

    monkeypatch.setattr(house.store, "create_job", broken)
    told = await post(client, [GOOD, {**GOOD, "seed": 7}, GOOD])
    assert [each["status"] for each in told] == [202, 503, 202]
    assert told[1]["error"]["code"] == "store_unavailable"
    assert "secret" not in json.dumps(told)
    assert await house.count("jobs") == 2


async def test_the_log_tells_how_many_were_made(house: House, client: httpx.AsyncClient) -> None:
    await post(client, [GOOD, BAD, GOOD])
    assert house.lines()[-1]["made"] == "2 of 3"
