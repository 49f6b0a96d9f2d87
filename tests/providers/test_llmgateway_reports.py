"""What LLM Gateway reports by poll and callback, read from its captured answers and deliveries."""

from __future__ import annotations

import base64
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
    Location,
    Unanswered,
    Unrelated,
)
from service.vault import Vault
from tests.providers.loopback import Loopback, a_job
from tests.providers.test_llmgateway import CLOCK, JOB, KEY, REQUEST, SAMPLES, VAULT, VECTORS, adapter, offline, replay

POLLS = [name for name, sample in SAMPLES.items() if name.startswith("get_")]


class OneSecret(Vault):
    """A vault whose secret for every job is the one that a captured delivery was signed with."""

    def __init__(self, secret: str) -> None:
        super().__init__([b"k" * 32])
        self._secret = secret

    def callback_secrets(self, job_id: str) -> tuple[str, ...]:  # noqa: ARG002 - the same for every job
        return (self._secret,)


def vector_callback(vector: Mapping[str, Any]) -> Callback:
    headers = {
        "webhook-id": vector["webhook_id"],
        "webhook-timestamp": vector["webhook_timestamp"],
        "webhook-signature": vector["webhook_signature"],
    }
    body = base64.b64decode(vector["body_b64"])
    return Callback("job_1", headers, body, int(vector["webhook_timestamp"]) * 1000)


def callback(body: bytes | Mapping[str, Any], *, job_id: str = JOB.id, secret: str | None = None) -> Callback:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    key = signing.key_of(secret or VAULT.callback_secret(job_id))
    return Callback(JOB.id, signing.sign_standard(key, "evt_a", raw, CLOCK.now()), raw, CLOCK.now())


def event(event_type: str, **data: object) -> dict[str, Any]:
    return {"object": "event", "id": "evt_a", "type": event_type, "created_at": 1, "data": {"id": "a", **data}}


# What a poll means


@pytest.mark.parametrize("name", POLLS)
async def test_a_captured_job_is_read(client: httpx.AsyncClient, server: Loopback, name: str) -> None:
    sample = replay(server, name)
    data = json.loads(sample["body_text"])
    report = await adapter(client, server.url).poll(data["id"])
    (asked,) = server.asked
    assert (asked.method, asked.target) == (sample["method"], sample["path"])
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert isinstance(report, Report)
    status = Status(
        {"queued": "running", "in_progress": "running", "canceled": "cancelled"}.get(data["status"], data["status"])
    )
    assert (report.status, report.word, report.provider_job_id) == (status, data["status"], data["id"])
    assert report.outputs == ((Output(0),) if status is Status.COMPLETED else ())
    assert (report.error is None) is (status in (Status.RUNNING, Status.COMPLETED))


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in (*POLLS, "create_ok")])
async def test_no_other_captured_answer_is_a_verdict_on_the_job(
    client: httpx.AsyncClient, server: Loopback, name: str
) -> None:
    sample = replay(server, name)
    outcome = await adapter(client, server.url).poll("a")
    assert isinstance(outcome, Unanswered)
    assert outcome.reason.startswith(f"HTTP {sample['status']}")


async def polled(client: httpx.AsyncClient, server: Loopback, data: dict[str, Any]) -> Report:
    server.will_answer(200, {"id": "a", **data})
    report = await adapter(client, server.url).poll("a")
    assert isinstance(report, Report)
    return report


@pytest.mark.parametrize(
    ("error", "code", "provider_code", "provider_message"),
    [
        ({"code": "timeout", "message": "late"}, ErrorCode.TIMED_OUT, "timeout", "late"),
        ({"code": "poll_error", "message": "moderation"}, ErrorCode.PROVIDER_UNAVAILABLE, "poll_error", "moderation"),
        ({"message": "oh"}, ErrorCode.PROVIDER_FAILED, None, "oh"),
        ({"details": {"code": "x", "details": {"message": "y"}}}, ErrorCode.PROVIDER_FAILED, "x", "y"),
        (
            {"code": "InputImageSensitiveContentDetected"},
            ErrorCode.CONTENT_POLICY,
            "InputImageSensitiveContentDetected",
            None,
        ),
        ({"code": "content_moderation_failed"}, ErrorCode.CONTENT_POLICY, "content_moderation_failed", None),
        ({"code": 7, "message": ["no"]}, ErrorCode.PROVIDER_FAILED, None, None),
        ("text", ErrorCode.PROVIDER_FAILED, None, None),
        (None, ErrorCode.PROVIDER_FAILED, None, None),
    ],
)
async def test_a_failure_is_read_whatever_its_form(
    client: httpx.AsyncClient,
    server: Loopback,
    error: object,
    code: ErrorCode,
    provider_code: str | None,
    provider_message: str | None,
) -> None:
    found = (await polled(client, server, {"status": "failed", "error": error})).error
    assert found is not None
    assert (found.code, found.provider_code, found.provider_message) == (code, provider_code, provider_message)
    assert found.billable is Billable.UNKNOWN
    assert found.retryable is (code is not ErrorCode.CONTENT_POLICY)


async def test_a_gateway_that_gave_up_is_told_from_a_provider_that_failed(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    replay(server, "get_failed_poll_error")
    report = await adapter(client, server.url).poll("a")
    assert isinstance(report, Report)
    assert report.error is not None
    assert report.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert "gave up" in report.error.message


async def test_a_cancelled_job_is_cancelled_whatever_its_error_says(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    found = (await polled(client, server, {"status": "canceled", "error": {"code": "timeout"}})).error
    assert found is not None
    assert (found.code, found.provider_code) == (ErrorCode.CANCELLED, "timeout")


async def test_an_unknown_word_is_not_an_end(client: httpx.AsyncClient, server: Loopback) -> None:
    report = await polled(client, server, {"status": "NOT_START", "error": {"code": "timeout"}})
    assert report == Report(Status.RUNNING, "NOT_START", "a", understood=False)


async def test_the_cost_is_read_when_it_is_there(client: httpx.AsyncClient, server: Loopback) -> None:
    usage = {"cost": 0.4, "cost_details": {"video_output_cost": 0.4}}
    assert (await polled(client, server, {"status": "completed", "usage": usage})).cost == 0.4
    report = await polled(client, server, {"status": "failed", "usage": {"cost": 0}})
    assert report.error is not None
    assert report.error.billable is Billable.NO


# What a callback means


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: str(vector["name"]))
def test_a_captured_delivery_is_the_report_that_it_says(vector: dict[str, Any]) -> None:
    provider = offline(OneSecret(vector["secret"]))
    if "event_type" not in vector:
        with pytest.raises(BadCallbackError):
            provider.receive(vector_callback(vector))
        return
    report = provider.receive(vector_callback(vector))
    assert isinstance(report, Report)
    word = vector["data_status"]
    assert report.word == word
    assert report.status is Status("cancelled" if word == "canceled" else word)
    assert report.provider_job_id == vector["webhook_id"].removeprefix("evt_")
    assert report.outputs == ((Output(0),) if word == "completed" else ())


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=lambda vector: str(vector["name"]))
def test_a_tampered_delivery_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadSignatureError):
        offline(OneSecret(vector["secret"])).receive(vector_callback(vector))


def test_a_failure_keeps_the_providers_words_in_every_script() -> None:
    (vector,) = [each for each in VECTORS["accept"] if each["name"] == "failed_unicode#1"]
    report = offline(OneSecret(vector["secret"])).receive(vector_callback(vector))
    assert isinstance(report, Report)
    assert report.error is not None
    assert report.error.code is ErrorCode.CONTENT_POLICY
    assert report.error.provider_code == "OutputVideoSensitiveContentDetected"
    assert report.error.provider_message is not None
    assert report.error.provider_message.startswith("Contenu refusé — 内容审核未通过 🎬")


def test_a_signature_of_another_job_is_refused() -> None:
    genuine = event("video.completed", status="completed")
    assert isinstance(offline().receive(callback(genuine)), Report)
    with pytest.raises(BadSignatureError, match="matches none"):
        offline().receive(callback(genuine, job_id="job_2"))


def test_a_job_in_flight_outlives_a_rotation_of_our_keys() -> None:
    genuine = event("video.completed", status="completed")
    old = Vault([b"o" * 32]).callback_secret(JOB.id)
    assert isinstance(offline().receive(callback(genuine, secret=old)), Report)


def test_nothing_is_read_before_the_signature() -> None:
    with pytest.raises(BadSignatureError):
        offline().receive(callback(b"not json", secret="forged"))
    with pytest.raises(BadSignatureError, match="missing"):
        offline().receive(Callback(JOB.id, {}, b"not json", CLOCK.now()))


def test_other_genuine_messages_are_unrelated() -> None:
    assert offline().receive(callback(event("wallet.low"))) == Unrelated("wallet.low")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        {**event("video.completed", status="completed"), "id": "evt_b"},
        {**event("video.completed", status="completed"), "data": None},
        event("video.completed"),
        event("video.completed", status="failed"),
        event("video.completed", status="in_progress"),
        event("video.failed", status="completed"),
        event("video.failed", status="queued"),
        event("video.completed", status="completed", id=None),
        event("video.completed", status="completed", id="a b"),
    ],
)
def test_a_genuine_signature_over_something_else_is_a_bad_callback(body: bytes | dict[str, Any]) -> None:
    with pytest.raises(BadCallbackError):
        offline().receive(callback(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from(["failed", "canceled"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "status", "error", "code", "message", "details", "usage"]), inner, max_size=7
            )
        ),
    )
)
def test_no_signed_body_raises_anything_but_the_documented_errors(data: object) -> None:
    with contextlib.suppress(BadCallbackError):
        offline().receive(callback({"id": "evt_a", "type": "video.failed", "data": data}))


# Where the output is


def test_an_output_is_at_the_gateways_own_content_address_with_the_key() -> None:
    found = offline().locations(a_job(REQUEST, "llmgateway", "a/b"), Output(0, "https://evil.example/v.mp4"))
    url = "https://api.llmgateway.io/v1/videos/a%2Fb/content"
    assert list(found) == [Location(url, {"Authorization": f"Bearer {KEY}"})]
    assert list(offline().locations(JOB, Output(0))) == []
