"""What OpenRouter reports by poll and callback, and where it says that the output is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import signing
from service.errors import BadCallbackError, BadSignatureError
from service.model import Billable, ErrorCode, Output, Report, Status
from service.providers import (
    Callback,
    Hint,
    Location,
    Unanswered,
    Unrelated,
)
from tests.providers.loopback import Loopback, Misbehaviour, a_job
from tests.providers.test_openrouter import CLOCK, KEY, REQUEST, SECRET, adapter, offline


def callback(body: bytes | Mapping[str, Any], key: bytes = SECRET.encode(), header: str | None = None) -> Callback:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    header = header or signing.sign_openrouter(key, raw, CLOCK.now())
    return Callback("job_1", {"x-openrouter-signature": header}, raw, CLOCK.now())


def event(status: str, **data: object) -> dict[str, Any]:
    return {"type": f"video.generation.{status}", "created_at": "x", "data": {"id": "gen-1", "status": status, **data}}


# What a poll means


async def polled(client: httpx.AsyncClient, server: Loopback, data: dict[str, Any] | str) -> Report | Unanswered:
    server.will_answer(200, data)
    return await adapter(client, f"{server.url}/").poll("gen-1")


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("pending", Status.RUNNING, None),
        ("in_progress", Status.RUNNING, None),
        ("completed", Status.COMPLETED, None),
        ("failed", Status.FAILED, ErrorCode.PROVIDER_FAILED),
        ("dead", Status.FAILED, ErrorCode.PROVIDER_FAILED),
        ("cancelled", Status.CANCELLED, ErrorCode.CANCELLED),
        ("expired", Status.EXPIRED, ErrorCode.EXPIRED),
        ("Completed", Status.RUNNING, None),
        ("half_done", Status.RUNNING, None),
    ],
)
async def test_every_status_word_has_its_meaning_and_is_kept(
    client: httpx.AsyncClient, server: Loopback, word: str, status: Status, code: ErrorCode | None
) -> None:
    report = await polled(client, server, {"id": "gen-1", "status": word})
    assert isinstance(report, Report)
    assert (report.status, report.word, report.provider_job_id) == (status, word, "gen-1")
    assert report.understood is (word in {"pending", "in_progress"} or status is not Status.RUNNING)
    assert (report.error.code if report.error else None) is code
    assert len(report.outputs) == (1 if status is Status.COMPLETED else 0)


async def test_a_poll_asks_for_the_job_with_the_key(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(200, {"id": "a/b", "status": "pending"})
    await adapter(client, f"{server.url}/").poll("a/b")
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("GET", "/v1/videos/a%2Fb", b"")
    assert asked.headers["authorization"] == f"Bearer {KEY}"


async def test_a_finished_job_has_its_outputs_and_its_cost(client: httpx.AsyncClient, server: Loopback) -> None:
    data = {
        "id": "gen-1",
        "status": "completed",
        "polling_url": "/api/v1/videos/gen-1",
        "generation_id": "g",
        "unsigned_urls": ["https://openrouter.ai/a", "https://openrouter.ai/b"],
        "urls": ["https://cdn.example/a?sig=1"],
        "expires_at": 1_795_300_000,
        "usage": {"cost": 0.5, "is_byok": False},
    }
    outputs = (Output(0, "https://cdn.example/a?sig=1", 1_795_300_000_000), Output(1, None, 1_795_300_000_000))
    assert await polled(client, server, data) == Report(Status.COMPLETED, "completed", "gen-1", outputs, cost=0.5)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"unsigned_urls": None, "urls": None, "expires_at": None, "usage": None, "error": None},
        {"unsigned_urls": "https://x", "urls": {}, "expires_at": "2026", "usage": [], "error": 7},
        {"unsigned_urls": [], "urls": [None], "expires_at": -1, "usage": {"cost": -1}},
        {"urls": ["ftp://x"], "expires_at": 10**30, "usage": {"cost": 10**400}},
        {"urls": [7], "expires_at": True, "usage": {"cost": True}},
        {"urls": ["https://x/" + "x" * 9000], "expires_at": 1.5, "usage": {"cost": "0.5"}},
        {"usage": {"cost": float("nan")}},
        {"usage": {"cost": float("inf")}, "expires_at": float("inf")},
    ],
)
async def test_what_is_not_as_documented_is_as_if_not_said(
    client: httpx.AsyncClient, server: Loopback, data: dict[str, Any]
) -> None:
    report = await polled(client, server, {"id": "gen-1", "status": "completed", **data})
    assert report == Report(Status.COMPLETED, "completed", "gen-1", (Output(0),))


async def test_an_absurd_number_of_outputs_is_bounded(client: httpx.AsyncClient, server: Loopback) -> None:
    report = await polled(client, server, {"status": "completed", "unsigned_urls": ["x"] * 10_000})
    assert isinstance(report, Report)
    assert len(report.outputs) == 32
    assert report.provider_job_id is None


@pytest.mark.parametrize(
    ("said", "code", "billable", "cost"),
    [
        ("Blocked by the safety filter", ErrorCode.CONTENT_POLICY, Billable.UNKNOWN, None),
        ("out of memory", ErrorCode.PROVIDER_FAILED, Billable.NO, 0),
        ({"message": "out of memory"}, ErrorCode.PROVIDER_FAILED, Billable.YES, 0.2),
    ],
)
async def test_a_failure_keeps_their_words(
    client: httpx.AsyncClient, server: Loopback, said: object, code: ErrorCode, billable: Billable, cost: float | None
) -> None:
    data = {"id": "gen-1", "status": "failed", "error": said, "usage": {"cost": cost}}
    report = await polled(client, server, data)
    assert isinstance(report, Report)
    assert report.error is not None
    assert (report.error.code, report.error.billable) == (code, billable)
    assert report.error.provider_message == (said if isinstance(said, str) else "out of memory")


@pytest.mark.parametrize(
    "body",
    [
        *("", "null", "[]", "<html>", "{}", '{"status":null}', '{"status":["completed"]}', '{"error":{}}'),
        *('{"status":"completed"', '{"a":' * 50_000, "9" * 5000, '{"status":""}', "[" * 100_000),
    ],
)
async def test_a_poll_without_a_status_says_nothing(client: httpx.AsyncClient, server: Loopback, body: str) -> None:
    assert isinstance(await polled(client, server, body), Unanswered)


async def test_a_poll_in_another_encoding_says_nothing(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(200, '{"status":"failed"}'.encode("utf-16"))
    assert isinstance(await adapter(client, server.url).poll("gen-1"), Unanswered)


@pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 410, 429, 500, 503])
async def test_a_poll_that_is_not_a_200_says_nothing_but_when_to_come_back(
    client: httpx.AsyncClient, server: Loopback, status: int
) -> None:
    server.will_answer(status, {"id": "gen-1", "status": "failed"}, {"retry-after": "3", "location": "/v1/x"})
    assert await adapter(client, server.url).poll("gen-1") == Unanswered(f"HTTP {status}", 3000)


@pytest.mark.parametrize("misbehaviour", list(Misbehaviour))
async def test_a_broken_poll_says_nothing(
    client: httpx.AsyncClient, server: Loopback, misbehaviour: Misbehaviour
) -> None:
    server.answer = misbehaviour
    provider = adapter(client, server.url)
    provider.poll_seconds = 0.05 if misbehaviour is Misbehaviour.HANG else 10
    assert isinstance(await provider.poll("gen-1"), Unanswered)


async def test_duplicate_keys_and_surrogates_are_read_as_text_that_can_be_stored(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    report = await polled(client, server, '{"id":"a","status":"pending","status":"failed","error":"\\ud800"}')
    assert isinstance(report, Report)
    assert report.error is not None
    assert (report.word, report.error.provider_message) == ("failed", "?")


# What a callback means


def test_a_genuine_callback_is_a_report() -> None:
    data = {"generation_id": "g", "model": "m", "unsigned_urls": ["https://x"], "usage": {"cost": 0.25}}
    report = offline().receive(callback(event("completed", **data)))
    assert report == Report(Status.COMPLETED, "completed", "gen-1", (Output(0),), cost=0.25)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("failed", ErrorCode.PROVIDER_FAILED),
        ("cancelled", ErrorCode.CANCELLED),
        ("expired", ErrorCode.EXPIRED),
    ],
)
def test_an_end_without_a_video_is_a_report(word: str, code: ErrorCode) -> None:
    report = offline().receive(callback(event(word, generation_id=None, model=None, error="Job exceeded")))
    assert isinstance(report, Report)
    assert report.error is not None
    assert (report.error.code, report.error.provider_message) == (code, "Job exceeded")


def test_nothing_is_read_before_the_signature() -> None:
    for body in (b"not json", json.dumps(event("completed")).encode(), b""):
        with pytest.raises(BadSignatureError):
            offline().receive(callback(body, key=b"forged"))
    unsigned = Callback("job_1", {}, json.dumps(event("completed")).encode(), CLOCK.now())
    with pytest.raises(BadSignatureError, match="missing"):
        offline().receive(unsigned)


def test_an_old_callback_is_rejected() -> None:
    genuine = callback(event("completed"))
    late = Callback(genuine.job_id, genuine.headers, genuine.body, CLOCK.now() + 301_000)
    with pytest.raises(BadSignatureError, match="301 s"):
        offline().receive(late)


def test_both_secrets_of_a_rotation_are_good() -> None:
    provider = offline(("new", "old"))
    for key in (b"new", b"old"):
        assert isinstance(provider.receive(callback(event("completed"), key=key)), Report)


def test_without_a_secret_a_callback_is_a_hint_whatever_it_says() -> None:
    assert offline(()).receive(Callback("job_1", {}, b"\xff not json", 0)) == Hint()


@pytest.mark.parametrize("event_type", ["batch.completed", "test", "video.completed", "Video.generation.completed"])
def test_other_genuine_messages_are_unrelated(event_type: str) -> None:
    assert offline().receive(callback({"type": event_type, "data": None})) == Unrelated(event_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{}",
        b'{"type":7}',
        b'{"type":"video.generation.completed"}',
        b'{"type":"video.generation.completed","data":[]}',
        b'{"type":"video.generation.completed","data":{"status":"completed"}}',
        b'{"type":"video.generation.completed","data":{"id":"a b","status":"completed"}}',
        b'{"type":"video.generation.completed","data":{"id":"a"}}',
        b'{"type":"video.generation.completed","data":{"id":"a","status":"failed"}}',
        b'{"type":"video.generation.failed","data":{"id":"a","status":"completed"}}',
        b'{"type":"video.generation.expired","data":{"id":"a","status":"cancelled"}}',
        b'{"type":"video.generation.completed","data":{"id":"a","status":"in_progress"}}',
    ],
)
def test_a_genuine_signature_over_something_else_is_a_bad_callback(body: bytes) -> None:
    with pytest.raises(BadCallbackError):
        offline().receive(callback(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from(["completed", "failed"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "status", "error", "usage", "urls", "cost"]), inner, max_size=6)
        ),
    )
)
def test_no_signed_body_raises_anything_but_the_documented_errors(data: object) -> None:
    body = json.dumps({"type": "video.generation.completed", "data": data}).encode()
    with contextlib.suppress(BadCallbackError):
        offline().receive(callback(body))


# Where the output is


def test_an_output_is_at_the_content_proxy_with_the_key_then_at_the_signed_url_without() -> None:
    job = a_job(REQUEST, "openrouter", "gen/1")
    signed = Output(2, "https://cdn.example/v?sig=canary", CLOCK.now() + 1)
    proxy, copy = offline().locations(job, signed)
    assert proxy.url == "https://openrouter.ai/api/v1/videos/gen%2F1/content?index=2"
    assert proxy.headers == {"Authorization": f"Bearer {KEY}"}
    assert copy == Location("https://cdn.example/v?sig=canary")


def test_an_expired_url_and_a_missing_one_are_not_tried() -> None:
    job = a_job(REQUEST, "openrouter", "gen-1")
    assert len(offline().locations(job, Output(0, "https://cdn.example/v", CLOCK.now()))) == 1
    assert len(offline().locations(job, Output(0, None, None))) == 1
    assert [location.url for location in offline().locations(a_job(REQUEST, "openrouter"), Output(0, "https://x"))] == [
        "https://x"
    ]


async def test_our_secrets_do_not_come_back_in_the_words_of_a_failure(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    said = f"{'x' * 1990} bad key {KEY}, not told at https://us.example/callbacks/openrouter/job_1/t0kenT0ken?a=b"
    reports = [
        await polled(client, server, {"id": "gen-1", "status": "failed", "error": said[1_985:]}),
        await polled(client, server, {"id": "gen-1", "status": "failed", "error": said}),
        offline().receive(callback(event("failed", error=said[1_985:]))),
    ]
    for report in reports:
        assert isinstance(report, Report)
        assert report.error is not None
        shown = report.error.provider_message or ""
        assert "bad key" in shown
        for secret in (KEY, KEY[:4], "t0ken", "a=b"):
            assert secret not in shown
