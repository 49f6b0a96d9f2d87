"""Who may call, as operators see it over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.house import House


@pytest.fixture
async def operator(house: House) -> AsyncIterator[httpx.AsyncClient]:
    _, key = await house.keys.create("ops", "default", operator=True)
    async with house.client(key=key) as client:
        yield client


async def test_a_key_is_made_shown_once_and_opens_what_its_tenant_has(
    house: House, operator: httpx.AsyncClient
) -> None:
    wanted = {"name": "my-backend", "tenant": "studio", "dedupe_window": 600, "per_minute": 30}
    answer = await operator.post("/v1/keys", json=wanted)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    secret = made.pop("key")
    assert made == {
        "id": made["id"],
        "object": "key",
        "operator": False,
        "created_at": "2026-09-21T14:13:20.000Z",
        "revoked_at": None,
        **wanted,
    }
    job = await house.queued(tenant="studio")
    async with house.client(key=secret) as client:
        assert [each["id"] for each in (await client.get("/v1/jobs")).json()["data"]] == [job.id]
    listed = await operator.get("/v1/keys")
    assert made in listed.json()["data"]
    assert secret not in listed.text


async def test_a_name_is_all_that_a_key_needs(house: House, operator: httpx.AsyncClient) -> None:
    made = (await operator.post("/v1/keys", json={"name": "my-backend"})).json()
    assert (made["tenant"], made["operator"], made["dedupe_window"], made["per_minute"]) == ("default", False, 0, None)
    assert len(await house.keys.all()) == 3


async def test_a_revoked_key_is_refused_from_then_on_and_may_be_revoked_again(
    house: House, operator: httpx.AsyncClient
) -> None:
    made = (await operator.post("/v1/keys", json={"name": "x"})).json()
    for _ in range(2):
        revoked = await operator.post(f"/v1/keys/{made['id']}/revoke")
        assert (revoked.status_code, revoked.json()["revoked_at"]) == (200, "2026-09-21T14:13:20.000Z")
        house.clock.advance(1)
    async with house.client(key=made["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 401


@pytest.mark.parametrize("key_id", ["key_x", "key_" + "0" * 26, "%00"])
async def test_a_key_that_is_not_there_is_told(operator: httpx.AsyncClient, key_id: str) -> None:
    answer = await operator.post(f"/v1/keys/{key_id}/revoke")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "key_not_found")


async def test_keys_are_for_operators(house: House, client: httpx.AsyncClient) -> None:
    [key] = await house.keys.all()
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("POST", f"/v1/keys/{key.id}/revoke")):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "operators_only")
    assert await house.keys.all() == [key]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "name", "is required"),
        ({"name": ""}, "name", "must be text on one line"),
        ({"name": "a\nb"}, "name", "must be text on one line"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"name": "x", "tenant": "Studio"}, "tenant", "lower-case letters"),
        ({"name": "x", "tenant": "reelkeeper-check"}, "tenant", "where the storage is tried out"),
        ({"name": "x", "operator": "yes"}, "operator", "true or false"),
        ({"name": "x", "per_minute": 0}, "per_minute", "from 1 to 100000"),
        ({"name": "x", "dedupe_window": -1}, "dedupe_window", "from 0 to 604800"),
        ({"name": "x", "role": "operator"}, "role", "is not a field"),
    ],
)
async def test_a_key_that_means_nothing_is_refused(
    house: House, operator: httpx.AsyncClient, body: dict[str, object], field: str, words: str
) -> None:
    answer = await operator.post("/v1/keys", json=body)
    assert answer.status_code == 400
    [problem] = answer.json()["error"]["problems"]
    assert problem["field"] == field
    assert words in problem["message"]
    assert len(await house.keys.all()) == 2


async def test_the_log_tells_which_key_was_made_and_never_the_key(house: House, operator: httpx.AsyncClient) -> None:
    made = (await operator.post("/v1/keys", json={"name": "x"})).json()
    await operator.post(f"/v1/keys/{made['id']}/revoke")
    told = [line for line in house.lines() if line.get("key") == made["id"]]
    assert len(told) == 2
    assert made["key"] not in str(house.lines())
