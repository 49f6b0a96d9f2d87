from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.web import jobs
from tests.web.house import House, ask, connected, serving

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is empty"),
        (b"{", "not JSON"),
        (b'{"model": "m"} x', "not JSON: Extra data at line 1, column 16"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "must be a JSON object, {…}; an array was sent"),
        (b"null", "null was sent"),
        (b'"model"', "a string was sent"),
        (b"17", "a number was sent"),
        (b"true", "true or false was sent"),
        (b'{"model": "\xff"}', "not UTF-8 text (byte 11)"),
        ('{"model": "m"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model": "m", "model": "n"}', 'names "model" twice'),
        (b'{"model": "m", "metadata": {"a": 1, "a": 1}}', 'names "a" twice'),
        (b'{"model": "m", "seed": NaN}', "holds NaN"),
        (b'{"model": "m", "metadata": {"a": -Infinity}}', "holds -Infinity"),
        (b'{"model": "m", "metadata": {"a": 1e400}}', "too large, 1e400"),
        (b'{"model": "m", "seed": 9223372036854775808}', "beyond 64 bits, 9223372036854775808"),
        (b'{"model": "m", "metadata": {"a": -' + b"9" * 100_000 + b"}}", "beyond 64 bits"),
        (b'{"model": "\\ud800"}', "half of a surrogate pair"),
        (b'{"model": "m", "metadata": {"a": {"\\udfff": 1}}}', "half of a surrogate pair"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "twice"),
        (b'{"a": [' + b"{}," * 200_000 + b"{}]}", "more than 2,000 values"),
        (b'{"model": "m", "provider_options": {"a": [' + b"0," * 2_000 + b"0]}}", "more than 2,000 values"),
        (b'{"model": "m", "provider_options": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "more than 32 deep"),
        (b'{"a":' * 100_000, "more than 32 deep"),
        (b"[" * 1_000_000, "more than 32 deep"),
    ],
)
async def test_a_body_that_is_not_one_clear_json_object_is_refused(
    house: House, client: httpx.AsyncClient, body: bytes, words: str
) -> None:
    answer = await client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert words in answer.json()["error"]["message"]
    assert len(answer.content) < 500
    assert await house.count("jobs") == 0


async def test_thirty_two_levels_are_not_too_deep(client: httpx.AsyncClient) -> None:
    inner: object = 1
    for _ in range(30):
        inner = [inner]
    assert (await client.post("/v1/jobs", json={**GOOD, "metadata": {"a": inner}})).status_code == 202
    answer = await client.post("/v1/jobs", json={**GOOD, "metadata": {"a": [inner]}})
    assert answer.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_may_be_announced_in_every_usual_way(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/jobs", content=json.dumps(GOOD), headers={"content-type": content_type})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "", "ÿ"]
)
async def test_another_content_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(
        "/v1/jobs", content=json.dumps(GOOD), headers=[(b"content-type", content_type.encode("latin-1"))]
    )
    assert answer.status_code == 415
    assert answer.json()["error"]["message"] == (
        "The Content-Type must be application/json, and the body JSON; "
        f"{f'{content_type} was' if content_type else 'none was'} sent."
    )


async def test_a_missing_content_type_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", content=json.dumps(GOOD))).status_code == 415


# Over the wire


async def test_a_body_of_one_mebibyte_is_read_and_one_byte_more_is_not(house: House) -> None:
    head, tail = b'{"model": "m", "provider_options": {"a": "', b'"}}'
    exact = head + b"x" * (1_048_576 - len(head) - len(tail)) + tail

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    headers = JSON | {"authorization": f"Bearer {house.key}"}
    async with serving(house.app()) as port, httpx.AsyncClient(trust_env=False, headers=headers) as client:
        url = f"http://127.0.0.1:{port}/v1/jobs"
        assert (await client.post(url, content=exact)).status_code == 202
        assert (await client.post(url, content=chunks(exact))).status_code == 202
        for body in (exact + b" ", exact * 5):
            for content in (body, chunks(body)):
                answer = await client.post(url, content=content)
                assert answer.status_code == 413
                assert answer.json()["error"]["code"] == "body_too_large"
        assert (await client.post(url, content=b"{}")).status_code == 400


async def test_a_body_that_does_not_come_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BODY_SECONDS", 0.05)
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"model"'.encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.05 seconds" in answer
    assert await house.count("jobs") == 0


async def test_a_caller_who_hangs_up_before_the_body_is_no_mistake_of_ours(house: House) -> None:
    async with serving(house.app()) as port, connected(port) as (_, writer):
        writer.write(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"model"'.encode()
        )
        await writer.drain()
    assert [line["status"] for line in house.lines()] == [499]
    assert house.faults() == []


# Whatever comes


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from([*GOOD, "provider", "references", "first_frame", "metadata", "provider_options", "seed"])
_bodies = st.binary(max_size=200) | st.builds(
    lambda value: json.dumps(value).encode(),
    _json | st.dictionaries(_fields | st.text(max_size=8), _json, max_size=6) | st.just(GOOD),
)
_odd_headers = st.lists(
    st.tuples(
        st.sampled_from([b"idempotency-key", b"content-length", b"x-request-id", b"content-encoding", b"x-a"]),
        st.binary(max_size=40),
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_bodies, headers=_odd_headers)
async def test_no_body_and_no_header_makes_the_service_fail(
    house: House, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    ours = [(b"authorization", f"Bearer {house.key}".encode()), (b"content-type", b"application/json")]
    status = await ask(house.app(), "POST", "/v1/jobs", [*ours, *headers], body)
    assert status in {202, 400, 409, 413}
