from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import signing
from service.model import Job
from service.web import callbacks
from tests.web.house import (
    House,
    ask,
    connected,
    openrouter_body,
    serving,
)

JSON = {"content-type": "application/json"}


# Over the wire


def head(house: House, job: Job, *more: str) -> bytes:
    lines = [f"POST {house.address(job)} HTTP/1.1", "Host: x", "Content-Type: application/json", *more, "", ""]
    return "\r\n".join(lines).encode()


async def test_too_large_a_body_is_rejected_from_its_announcement_alone(house: House) -> None:
    job = await house.running()
    for length in ("262145", "999999999999999999999999"):
        async with serving(house.app()) as port, connected(port) as (reader, writer):
            writer.write(head(house, job, f"Content-Length: {length}"))
            line = await asyncio.wait_for(reader.readline(), 10)
        # A length beyond 64 bits does not even pass the server's own parser.
        assert line.split()[1] == (b"413" if length == "262145" else b"400")


async def test_too_large_a_body_is_rejected_while_it_comes(house: House) -> None:
    job = await house.running()
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head(house, job, "Transfer-Encoding: chunked") + chunk * 4)
        await writer.drain()
        writer.write(b"1\r\nx\r\n")
        line = await asyncio.wait_for(reader.readline(), 10)
    assert line.startswith(b"HTTP/1.1 413 ")


async def test_a_body_of_exactly_the_limit_is_read(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    body += b" " * (262_144 - len(body))
    async with serving(house.app()) as port, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}{house.address(job)}"
        assert (await client.post(url, content=body, headers=house.openrouter_headers(body))).status_code == 204


async def test_a_slow_body_is_cut_off_with_an_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_BODY_SECONDS", 0.05)
    job = await house.running()
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head(house, job, "Content-Length: 500") + b"{")
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b'"code":"body_too_slow"' in answer


async def test_nothing_is_read_for_a_wrong_token(house: House) -> None:
    job = await house.running()
    request = head(house, job, "Content-Length: 500").replace(
        house.vault.callback_token(job.id).encode(), b"wrong-token"
    )
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(request)
        line = await asyncio.wait_for(reader.readline(), 10)
    assert line.startswith(b"HTTP/1.1 404 ")


async def test_a_sender_who_hangs_up_leaves_no_error_behind(house: House, caplog: pytest.LogCaptureFixture) -> None:
    job = await house.running()
    async with serving(house.app()) as port, connected(port) as (_, writer):
        writer.write(head(house, job, "Content-Length: 500") + b"{")
        await writer.drain()
    assert [line["status"] for line in house.lines()] == [499]
    assert house.faults() == []
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_the_token_is_in_no_line_of_the_log(house: House) -> None:
    job = await house.running()
    token = house.vault.callback_token(job.id)
    async with house.client(key="") as client:
        for path in (house.address(job), f"{house.address(job)}/", f"{house.address(job)}?x=1"):
            await client.post(path, content=b"{}", headers=JSON)
            await client.get(path)
    assert len(house.lines()) == 6
    assert token not in repr(house.logged.calls)


# Whatever comes

_parts = st.text(max_size=60) | st.sampled_from(["openrouter", "llmgateway", "..", "%00"])
_names = st.sampled_from(
    [
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"x-request-id",
        signing.OPENROUTER_SIGNATURE.encode(),
        signing.WEBHOOK_ID.encode(),
        signing.WEBHOOK_TIMESTAMP.encode(),
        signing.WEBHOOK_SIGNATURE.encode(),
    ]
)
_values = st.binary(max_size=80) | st.sampled_from([b"application/json", b"v1,", b"t=1790000000,v1=", b"1790000000"])
_headers = st.lists(st.tuples(_names, _values), max_size=6)
_words = st.sampled_from(["completed", "failed", "expired", "in_progress", "\ud800", "", "x" * 300])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_data = st.fixed_dictionaries(
    {},
    optional={
        "id": _json | st.sampled_from(["gen-1", "gen-2", "vid-1"]),
        "status": _words | _json,
        "urls": _json | st.lists(st.text(max_size=30), max_size=3),
        "usage": _json | st.fixed_dictionaries({"cost": _json}),
        "error": _json,
        "expires_at": _json,
    },
)
_events = st.builds(
    lambda word, data, more: json.dumps({"type": f"video.generation.{word}", "data": data} | more).encode(),
    _words,
    _data,
    st.dictionaries(st.sampled_from(["type", "id", "data", "created_at"]), _json, max_size=2),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_parts, min_size=3, max_size=3), headers=_headers, body=st.binary(max_size=300))
async def test_no_stranger_makes_the_endpoint_fail(
    house: House, parts: list[str], headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    status = await ask(house.app(), "POST", f"/callbacks/{'/'.join(parts)}", headers, body)
    assert status == 404


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=_headers, body=st.binary(max_size=300) | _events)
async def test_no_stranger_who_knows_an_address_makes_it_fail(
    house: House, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    jobs = await house.store.jobs()
    job = jobs[0] if jobs else await house.running("llmgateway", "vid-1")
    status = await ask(house.app(), "POST", house.address(job), headers, body)
    assert status in {400, 401, 413, 415}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_events)
async def test_nothing_that_is_rightly_signed_makes_the_endpoint_fail(house: House, body: bytes) -> None:
    if len(await house.store.jobs()) < 2:
        await house.running(provider_job_id="gen-1")
        await house.running(provider_job_id="gen-2")
    for job in await house.store.jobs():
        headers = [(name.encode(), value.encode()) for name, value in house.openrouter_headers(body).items()]
        assert await ask(house.app(), "POST", house.address(job), headers, body) in {204, 400, 404}
