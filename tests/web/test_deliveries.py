"""Deliveries as receivers have to read them: each dialect is verified by what its receivers use, unmodified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook, WebhookVerificationError

from service import signing
from service.clock import SystemClock
from service.errors import BadSignatureError
from service.model import (
    Artifact,
    Delivery,
    DeliveryState,
    ErrorCode,
    Face,
    Job,
    JobError,
    OnUnknown,
    Output,
    State,
    VideoRequest,
)
from service.vault import SealError, Vault
from service.web.deliveries import Composer
from service.web.openai_forms import OpenAIForms
from service.web.openrouter_forms import OpenRouterForms
from service.web.views import Views

PUBLIC_URL = "https://videos.example.com"
OLD, NEW = Vault([b"o" * 32]), Vault([b"n" * 32])
BOTH = Vault([b"n" * 32, b"o" * 32])
NOW = SystemClock().now()


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be now in each test: the libraries compare with the machine's own clock, within five minutes."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", SystemClock().now())


ENDED_AT = 1_795_248_511_042  # 2026-11-21T08:08:31.042Z
BROKEN = JobError(ErrorCode.PROVIDER_FAILED, "It broke.", provider_message="kaputt \N{FOX FACE}")
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "llmgateway.json").read_text(encoding="utf-8"))

JOB = Job(
    id="job_01k8z6v9n4e8r2m5t7w0x3y6za",
    tenant="acme",
    state=State.COMPLETED,
    attempt=1,
    due_at=None,
    lease=None,
    leased_until=None,
    provider="alpha",
    provider_job_id="p-1",
    provider_status="completed",
    model="bytedance/seedance-2-0",
    request=VideoRequest(model="bytedance/seedance-2-0", prompt="ein Fuchs \N{FOX FACE} \u2028 \\"),
    on_unknown=OnUnknown.WAIT,
    metadata={"order": 7},
    created_at=1_795_248_505_000,
    submitted_at=1_795_248_505_100,
    doubted_at=None,
    deadline_at=1_795_255_705_000,
    mirror_until=None,
    finished_at=1_795_248_999_000,
    doubts=0,
    outputs=(Output(0, "https://provider.example/secret"),),
    cost=0.25,
    error=None,
    artifacts=(Artifact(0, "acme/2026/11/x/0.mp4", 1000, "ab" * 32, "video/mp4"),),
    notify_url="https://caller.example/hook",
)


def composer(vault: Vault = NEW) -> Composer:
    native, openrouter, openai = Views(PUBLIC_URL).job, OpenRouterForms(PUBLIC_URL).job, OpenAIForms(PUBLIC_URL).video
    return Composer(vault, native=native, openrouter=openrouter, openai=openai)


def delivery(ended: State = State.COMPLETED, error: JobError | None = None) -> Delivery:
    return Delivery(
        id=f"evt_{JOB.id}",
        state=DeliveryState.PENDING,
        attempt=1,
        due_at=None,
        lease="lease",
        leased_until=None,
        job_id=JOB.id,
        receiver="https://caller.example:443",
        ended=ended,
        error=error,
        created_at=ENDED_AT,
        finished_at=None,
    )


def composed(
    face: Face,
    vault: Vault = NEW,
    ended: State = State.COMPLETED,
    error: JobError | None = None,
    now_ms: int | None = None,
) -> tuple[dict[str, str], bytes]:
    secret = vault.seal("the caller's own", JOB.tenant)
    job = replace(JOB, face=face, notify_secret=secret if face is Face.OPENAI else None)
    return composer(vault).compose(delivery(ended, error), job, NOW if now_ms is None else now_ms)


def altered(body: bytes) -> bytes:
    return body.replace(b"completed", b"Completed", 1)


@pytest.mark.parametrize("face", Face)
def test_every_delivery_says_that_it_is_json_and_whose_it_is(face: Face) -> None:
    headers, body = composed(face)
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "reelkeeper"
    assert all(name == name.lower() and value.isascii() for name, value in headers.items())
    assert json.loads(body)
    assert b"provider.example/secret" not in body


# Native: Standard Webhooks


def test_standardwebhooks_takes_a_native_delivery_and_refuses_a_changed_one() -> None:
    headers, body = composed(Face.NATIVE)
    (secret,) = NEW.delivery_secrets("acme")
    assert Webhook(secret).verify(body, headers)["type"] == "job.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(altered(body), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW.delivery_secrets("other")[0]).verify(body, headers)


def test_openai_unwraps_a_native_delivery_and_refuses_a_changed_one() -> None:
    headers, body = composed(Face.NATIVE)
    (secret,) = NEW.delivery_secrets("acme")
    client = OpenAI(api_key="none", webhook_secret=secret)
    event = client.webhooks.unwrap(body, headers)
    assert str(event.type) == "job.completed"
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.verify_signature(altered(body), headers)


@pytest.mark.parametrize("vault", [OLD, NEW])
def test_while_keys_are_rotated_the_old_secret_and_the_new_one_are_right(vault: Vault) -> None:
    headers, body = composed(Face.NATIVE, BOTH)
    (secret,) = vault.delivery_secrets("acme")
    assert headers["webhook-signature"].count("v1,") == 2
    assert Webhook(secret).verify(body, headers)
    OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret=secret)


def test_a_native_delivery_shows_the_job_as_the_api_does() -> None:
    headers, body = composed(Face.NATIVE)
    then = replace(JOB, finished_at=ENDED_AT)
    assert json.loads(body) == {
        "type": "job.completed",
        "timestamp": "2026-11-21T08:08:31.042Z",
        "data": json.loads(json.dumps(Views(PUBLIC_URL).job(then))),
    }
    assert headers["webhook-id"] == f"evt_{JOB.id}"
    assert headers["webhook-timestamp"] == str(NOW // 1000)


def test_the_next_attempt_has_the_same_id_and_body_and_a_fresh_timestamp() -> None:
    (first, body), (second, again) = (composed(Face.NATIVE, now_ms=NOW + late) for late in (0, 240_000))
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 240
    assert Webhook(NEW.delivery_secrets("acme")[0]).verify(again, second)


def test_a_message_about_a_failure_stays_true_after_the_job_was_recovered() -> None:
    _, body = composed(Face.NATIVE, ended=State.FAILED, error=BROKEN)
    told = json.loads(body)
    assert (told["type"], told["data"]["state"]) == ("job.failed", "failed")
    assert told["data"]["error"]["message"] == "It broke."
    assert told["data"]["artifacts"] == []
    assert told["data"]["finished_at"] == "2026-11-21T08:08:31.042Z"


# OpenRouter's dialect


def accepts(headers: Mapping[str, str], body: bytes, secret: str, now_s: int) -> bool:
    """Verify as OpenRouter's guide writes it: the first `t` and the first `v1`, `t,body`, hex, 300 seconds."""
    parts = headers["x-openrouter-signature"].split(",")
    timestamp = next((part[2:] for part in parts if part.startswith("t=")), "")
    signature = next((part[3:] for part in parts if part.startswith("v1=")), "")
    if not timestamp or not signature or abs(now_s - int(timestamp)) > 300:
        return False
    expected = hmac.new(secret.encode(), f"{timestamp},".encode() + body, hashlib.sha256).hexdigest()
    return len(expected) == len(signature) and hmac.compare_digest(expected, signature)


@pytest.mark.parametrize("vault", [NEW, BOTH])
def test_the_documented_recipe_takes_an_openrouter_delivery_and_refuses_a_changed_one(vault: Vault) -> None:
    headers, body = composed(Face.OPENROUTER, vault)
    secret = vault.delivery_secrets("acme")[0]
    assert accepts(headers, body, secret, NOW // 1000)
    assert not accepts(headers, altered(body), secret, NOW // 1000)
    assert not accepts(headers, body, OLD.delivery_secrets("acme")[0], NOW // 1000)
    assert not accepts(headers, body, secret, NOW // 1000 + 301)


def test_a_receiver_that_looks_at_every_signature_takes_the_old_secret_too() -> None:
    headers, body = composed(Face.OPENROUTER, BOTH)
    for vault in (OLD, NEW):
        keys = [signing.key_of(secret) for secret in vault.delivery_secrets("acme")]
        signing.verify_openrouter(keys, headers["x-openrouter-signature"], body, NOW)


def test_an_openrouter_delivery_of_a_video_is_the_documented_envelope() -> None:
    headers, body = composed(Face.OPENROUTER)
    assert json.loads(body) == {
        "type": "video.generation.completed",
        "created_at": "2026-11-21T08:08:31.042Z",
        "data": {
            "id": JOB.id,
            "status": "completed",
            "model": "bytedance/seedance-2-0",
            "unsigned_urls": [f"{PUBLIC_URL}/api/v1/videos/{JOB.id}/content?index=0"],
            "usage": {"cost": 0.25},
        },
    }
    assert headers["x-openrouter-idempotency-key"] == f"{JOB.id}-completed"


@pytest.mark.parametrize("ended", [State.FAILED, State.CANCELLED, State.EXPIRED])
def test_an_openrouter_delivery_without_a_video_has_an_error_that_is_text(ended: State) -> None:
    headers, body = composed(Face.OPENROUTER, ended=ended, error=BROKEN)
    told = json.loads(body)
    assert told["type"] == f"video.generation.{ended}"
    assert told["data"].pop("error") == "provider_failed: It broke. The provider's words: kaputt \N{FOX FACE}"
    assert told["data"] == {"id": JOB.id, "status": ended, "model": "bytedance/seedance-2-0"}
    assert headers["x-openrouter-idempotency-key"] == f"{JOB.id}-{ended}"


@pytest.mark.parametrize("ended", [State.FAILED, State.CANCELLED, State.EXPIRED])
def test_an_openrouter_delivery_of_a_job_that_no_provider_took_up_says_that_nothing_was_generated(ended: State) -> None:
    job = replace(JOB, face=Face.OPENROUTER, provider_job_id=None, artifacts=())
    _, body = composer().compose(delivery(ended, BROKEN), job, NOW)
    assert json.loads(body)["data"]["generation_id"] is None


# The OpenAI-style dialect, in LLM Gateway's form


def receives(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Verify as LLM Gateway signs: the secret's own bytes, `id.timestamp.body`, base64, one signature."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: str(vector["name"]))
def test_the_receiver_of_these_tests_takes_what_llm_gateway_really_sent(vector: dict[str, Any]) -> None:
    headers = {f"webhook-{part}": vector[f"webhook_{part}"] for part in ("id", "timestamp", "signature")}
    assert receives(headers, base64.b64decode(vector["body_b64"]), vector["secret"])


@pytest.mark.parametrize("secret", ["plain", "whsec_dGVzdA==", "ünï cödé\n", "x", "x" * 200])
def test_llm_gateways_receiver_takes_a_delivery_signed_with_the_callers_own_secret(secret: str) -> None:
    job = replace(JOB, face=Face.OPENAI, notify_secret=BOTH.seal(secret, "acme"))
    headers, body = composer(BOTH).compose(delivery(), job, NOW)
    assert receives(headers, body, secret)
    assert not receives(headers, altered(body), secret)
    assert not receives(headers, body, secret + "x")


def test_openai_takes_a_delivery_signed_with_a_plain_secret() -> None:
    headers, body = composed(Face.OPENAI)
    client = OpenAI(api_key="none")
    event: Any = client.webhooks.unwrap(body, headers, secret="the caller's own")
    assert (event.type, event.data.id) == ("video.completed", JOB.id)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body, headers, secret="another")


def test_an_openai_delivery_has_the_keys_of_a_captured_one_in_their_order() -> None:
    captured = json.loads(base64.b64decode(VECTORS["accept"][0]["body_b64"]))
    headers, body = composed(Face.OPENAI)
    told = json.loads(body)
    assert list(told) == list(captured)
    assert told["object"] == captured["object"]
    assert told["id"] == headers["webhook-id"] == f"evt_{JOB.id}"
    assert (type(told["created_at"]), told["created_at"]) == (int, int(headers["webhook-timestamp"]))
    assert body == json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("ended", "event"),
    [
        (State.COMPLETED, "video.completed"),
        (State.FAILED, "video.failed"),
        (State.CANCELLED, "video.failed"),
        (State.EXPIRED, "video.failed"),
    ],
)
def test_an_openai_delivery_knows_two_events(ended: State, event: str) -> None:
    error = None if ended is State.COMPLETED else BROKEN
    _, body = composed(Face.OPENAI, ended=ended, error=error)
    told = json.loads(body)
    assert told["type"] == event
    shown = told["data"]
    assert (shown["id"], shown["completed_at"]) == (JOB.id, ENDED_AT // 1000)
    assert shown["status"] == event.removeprefix("video.")
    assert ("content" in shown, shown["error"] is None) == (error is None, error is None)


def test_a_secret_that_was_sealed_with_a_key_that_is_gone_is_asked_for() -> None:
    job = replace(JOB, face=Face.OPENAI, notify_secret=OLD.seal("s", "acme"))
    assert composer(BOTH).compose(delivery(), job, NOW)
    with pytest.raises(SealError, match="not in REELKEEPER_SECRET_KEY"):
        composer(NEW).compose(delivery(), job, NOW)


@pytest.mark.parametrize("secret", [None, NEW.seal("s", "another tenant")])
def test_a_secret_that_is_missing_or_of_another_tenant_signs_nothing(secret: str | None) -> None:
    with pytest.raises(SealError):
        composer().compose(delivery(), replace(JOB, face=Face.OPENAI, notify_secret=secret), NOW)


def test_what_one_face_is_sent_no_other_takes() -> None:
    headers, body = composed(Face.OPENAI)
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in NEW.delivery_secrets("acme")]
    with pytest.raises(BadSignatureError):
        signing.verify_standard(keys, headers, body, NOW)
