"""Callbacks: what is signed is what the providers' guides say, and they come as often as the model's name says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from tests.sandbox.conftest import CALLBACK_SECRET, WEBHOOK_SECRET, House, Received


def signature_age(dialect: str, callback: Received, now_ms: int) -> int | None:
    """Check a signature in the few lines of the guides: its age in seconds, None if it is not genuine."""
    if dialect == "openrouter":
        parts = dict(part.split("=", 1) for part in callback.headers["x-openrouter-signature"].split(","))
        signed = parts["t"].encode() + b"," + callback.body
        right = hmac.new(WEBHOOK_SECRET.encode(), signed, hashlib.sha256).hexdigest()
        return now_ms // 1000 - int(parts["t"]) if parts["v1"] == right else None
    headers = callback.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + callback.body
    mac = hmac.new(CALLBACK_SECRET.encode(), signed, hashlib.sha256).digest()
    right = "v1," + base64.b64encode(mac).decode()
    return now_ms // 1000 - int(headers["webhook-timestamp"]) if headers["webhook-signature"] == right else None


async def test_one_genuine_callback_comes_when_the_job_ends(house: House, dialect: str) -> None:
    await house.job(dialect, "ok")
    house.clock.advance(1_999)
    assert await house.sandbox.run_once() == 0
    house.clock.advance(1)
    assert await house.sandbox.run_once() == 1
    assert await house.sandbox.run_once() == 0
    (callback,) = house.receiver.received
    assert signature_age(dialect, callback, house.clock.now()) == 0
    assert callback.path == "/callbacks/x?a=b"
    assert callback.headers["content-type"] == "application/json"


async def test_openrouters_callback_is_the_envelope_of_its_guide(house: House) -> None:
    path = await house.finished("openrouter", "ok")
    job_id = path.rpartition("/")[2]
    house.clock.advance(7_000)
    await house.sandbox.run_once()
    (callback,) = house.receiver.received
    generation_id = json.loads(callback.body)["data"]["generation_id"]
    assert callback.headers["x-openrouter-idempotency-key"] == f"{job_id}-completed"
    assert callback.body.decode() == (
        '{"type":"video.generation.completed","created_at":"2026-09-21T14:13:22.000Z",'
        f'"data":{{"id":"{job_id}","status":"completed","generation_id":"{generation_id}","model":"sandbox/ok",'
        f'"unsigned_urls":["{house.sandbox.base_url}{path}/content?index=0"],'
        '"usage":{"cost":0.25,"is_byok":false}}}'
    )


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("fails", "failed", "The provider could not generate the video: internal error"),
        ("cancelled", "cancelled", "Job was cancelled"),
        ("expires", "expired", "Job exceeded maximum time to live"),
    ],
)
async def test_openrouter_has_an_event_for_every_ending(house: House, name: str, status: str, error: str) -> None:
    job_id = (await house.finished("openrouter", name)).rpartition("/")[2]
    await house.sandbox.run_once()
    (callback,) = house.receiver.received
    event = json.loads(callback.body)
    assert event["type"] == f"video.generation.{status}"
    assert callback.headers["x-openrouter-idempotency-key"] == f"{job_id}-{status}"
    assert list(event["data"]) == ["id", "status", "generation_id", "model", "error"]
    assert (event["data"]["status"], event["data"]["error"]) == (status, error)


async def test_llm_gateways_callback_holds_the_object_that_a_poll_shows(house: House) -> None:
    path = await house.finished("llmgateway", "ok")
    house.clock.advance(1_000)
    await house.sandbox.run_once()
    (callback,) = house.receiver.received
    event_id = f"evt_{path.rpartition('/')[2]}"
    assert callback.headers["webhook-id"] == event_id
    assert {name: callback.headers[name] for name in ("user-agent", "accept", "accept-language", "sec-fetch-mode")} == {
        "user-agent": "node",
        "accept": "*/*",
        "accept-language": "*",
        "sec-fetch-mode": "cors",
    }
    polled = (await house.http.get(path)).text
    assert callback.body.decode() == (
        f'{{"object":"event","id":"{event_id}","type":"video.completed","created_at":1790000003,"data":{polled}}}'
    )


@pytest.mark.parametrize(("name", "word"), [("fails", "failed"), ("cancelled", "canceled"), ("expires", "expired")])
async def test_llm_gateway_calls_every_other_ending_failed(house: House, name: str, word: str) -> None:
    await house.finished("llmgateway", name)
    await house.sandbox.run_once()
    event = json.loads(house.receiver.received[0].body)
    assert (event["type"], event["data"]["status"]) == ("video.failed", word)


async def test_a_callback_that_is_not_taken_comes_again_signed_anew_eight_times(house: House, dialect: str) -> None:
    await house.finished(dialect, "ok")
    house.receiver.answers.extend([500, 302, 404, 410, 429, 503, 400, 401])
    assert await house.sandbox.run_once() == 1
    for seconds in (30, 60, 120, 240, 480, 960, 1_920):
        house.clock.advance(seconds * 1_000 - 1)
        assert await house.sandbox.run_once() == 0
        house.clock.advance(1)
        assert await house.sandbox.run_once() == 1
        assert signature_age(dialect, house.receiver.received[-1], house.clock.now()) == 0
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0
    name = "x-openrouter-idempotency-key" if dialect == "openrouter" else "webhook-id"
    assert len({callback.headers[name] for callback in house.receiver.received}) == 1
    sent = (await house.last_job())["callbacks"]
    assert [(one["attempt"], one["status"]) for one in sent] == list(
        enumerate([500, 302, 404, 410, 429, 503, 400, 401], start=1)
    )


async def test_any_2xx_ends_it(house: House, dialect: str) -> None:
    await house.finished(dialect, "ok")
    house.receiver.answers.extend([503, 299])
    for _ in range(3):
        await house.sandbox.run_once()
        house.clock.advance(30_000)
    assert [one["status"] for one in (await house.last_job())["callbacks"]] == [503, 299]


async def test_a_receiver_that_is_not_there_is_tried_again(house: House, dialect: str) -> None:
    urls = ("http://127.0.0.1:1/x", "https://[::1]:1/x")
    for url in urls:
        assert (await house.submit(dialect, "ok", callback_url=url)).is_success
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 2
    house.clock.advance(30_000)
    assert await house.sandbox.run_once() == 2
    for job in (await house.ledger())["jobs"]:
        assert [(one["status"], one["error"]) for one in job["callbacks"]] == [(None, "ConnectError")] * 2


async def test_a_url_that_cannot_be_called_fails_like_a_receiver_that_is_not_there(house: House) -> None:
    for url in ("ftp://a.test/x", "javascript:alert(1)", "http://a.test:99999/"):
        await house.submit("llmgateway", "ok", callback_url=url)
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 3
    assert all(job["callbacks"][0]["error"] for job in (await house.ledger())["jobs"])


async def test_a_job_without_a_callback_url_has_no_callback(house: House) -> None:
    await house.http.post("/api/v1/videos", json={"model": "sandbox/ok"})
    await house.http.post("/v1/videos", json={"model": "sandbox/callback-early", "prompt": "a cat", "seconds": 4})
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0


@pytest.mark.parametrize(
    "name", ["callback-lost", "never-ends", "poll-errors", "unknown-status", "step-back", "refused-400", "refused-402"]
)
async def test_some_callbacks_never_come(house: House, dialect: str, name: str) -> None:
    await house.submit(dialect, name)
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0


async def test_a_double_is_the_same_message_byte_for_byte(house: House, dialect: str) -> None:
    await house.finished(dialect, "callback-twice")
    assert await house.sandbox.run_once() == 2
    first, second = house.receiver.received
    assert (first.headers, first.body) == (second.headers, second.body)
    assert signature_age(dialect, first, house.clock.now()) == 0
    assert [one["kind"] for one in (await house.last_job())["callbacks"]] == ["genuine", "duplicate"]


async def test_a_double_is_done_when_one_of_the_two_was_taken(house: House, dialect: str) -> None:
    await house.finished(dialect, "callback-twice")
    house.receiver.answers.append(503)
    await house.sandbox.run_once()
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0


async def test_a_late_callback_comes_a_minute_after_a_poll_could_tell(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "callback-late")
    assert (await house.http.get(path)).json()["status"] == "completed"
    house.clock.advance(59_999)
    assert await house.sandbox.run_once() == 0
    house.clock.advance(1)
    assert await house.sandbox.run_once() == 1


async def test_an_early_callback_is_answered_before_the_submission(house: House, dialect: str) -> None:
    answer = await house.submit(dialect, "callback-early")
    (callback,) = house.receiver.received
    assert signature_age(dialect, callback, house.clock.now()) == 0
    assert answer.is_success
    assert answer.json()["status"] in {"pending", "queued"}
    assert answer.json()["id"] == json.loads(callback.body)["data"]["id"]
    assert await house.sandbox.run_once() == 0


async def test_an_early_callback_that_is_not_taken_comes_again(house: House, dialect: str) -> None:
    house.receiver.answers.append(404)
    assert (await house.submit(dialect, "callback-early")).is_success
    house.clock.advance(30_000)
    assert await house.sandbox.run_once() == 1


async def test_a_forged_callback_lies_with_a_wrong_key_and_the_truth_is_told_by_a_poll_alone(
    house: House, dialect: str
) -> None:
    path = await house.job(dialect, "callback-forged")
    house.clock.advance(1_000)
    assert await house.sandbox.run_once() == 1
    (callback,) = house.receiver.received
    assert signature_age(dialect, callback, house.clock.now()) is None
    assert json.loads(callback.body)["data"]["status"] == "completed"
    assert (await house.http.get(path)).json()["status"] == "in_progress"
    house.clock.advance(1_000)
    assert (await house.http.get(path)).json()["status"] == "failed"
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0
    assert (await house.last_job())["callbacks"][0]["kind"] == "forged"


async def test_a_stale_callback_has_the_right_key_and_is_ten_minutes_old(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "callback-stale")
    house.receiver.answers.append(401)
    assert await house.sandbox.run_once() == 1
    assert signature_age(dialect, house.receiver.received[0], house.clock.now()) == 600
    assert (await house.http.get(path)).json()["status"] == "completed"
    house.clock.advance(86_400_000)
    assert await house.sandbox.run_once() == 0
    assert (await house.last_job())["callbacks"][0] == {
        "kind": "stale",
        "attempt": 1,
        "sent_at": 1_790_000_002_000,
        "status": 401,
        "error": None,
    }


async def test_callbacks_of_several_jobs_are_sent_in_one_round(house: House, dialect: str) -> None:
    for _ in range(100):
        await house.job(dialect, "ok")
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 100
    assert len({callback.body for callback in house.receiver.received}) == 100
