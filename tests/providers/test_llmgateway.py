"""LLM Gateway on a real socket, with its captured answers and deliveries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.clock import ManualClock
from service.model import Billable, ErrorCode, Reference, Report, Status, VideoRequest
from service.providers import (
    Accepted,
    InDoubt,
    Provider,
    Refused,
    Submission,
    TurnedAway,
    Unanswered,
)
from service.providers.llmgateway import LLMGateway
from service.vault import Vault
from tests.providers.loopback import Loopback, Misbehaviour, a_job

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "llmgateway.json").read_text(encoding="utf-8"))
SAMPLES: dict[str, dict[str, Any]] = {sample["name"]: sample for sample in VECTORS["api_samples"]}
REFUSALS = {
    "err_schema_zod_shape": ErrorCode.INVALID_REQUEST,
    "err_unknown_model_openai_shape": ErrorCode.UNSUPPORTED_MODEL,
    "err_deactivated_model": ErrorCode.UNSUPPORTED_MODEL,
    "err_provider_constraint": ErrorCode.INVALID_REQUEST,
    "err_bad_json": ErrorCode.INVALID_REQUEST,
    "err_content_type": ErrorCode.INVALID_REQUEST,
    "err_no_key": ErrorCode.PROVIDER_AUTH,
    "err_bad_key": ErrorCode.PROVIDER_AUTH,
    "err_unknown_id": ErrorCode.INVALID_REQUEST,
    "err_list_not_implemented": ErrorCode.PROVIDER_UNAVAILABLE,
    "err_delete_not_implemented": ErrorCode.PROVIDER_UNAVAILABLE,
}
KEY = "llmgtwy_canary"
CALLBACK_URL = "https://reel.example/callbacks/llmgateway/job_1/token-canary"
OFFLINE = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: pytest.fail("nothing should be sent")))
CLOCK = ManualClock(1_795_248_700_000)
VAULT = Vault([b"n" * 32, b"o" * 32])
REQUEST = VideoRequest(model="seedance-2-0", prompt="run s", duration=4)
JOB = a_job(REQUEST, "llmgateway")


def adapter(client: httpx.AsyncClient, url: str, vault: Vault = VAULT) -> LLMGateway:
    return LLMGateway(client, base_url=url, api_key=KEY, vault=vault, clock=CLOCK)


def offline(vault: Vault = VAULT) -> LLMGateway:
    return adapter(OFFLINE, "https://api.llmgateway.io/v1/", vault)


def replay(server: Loopback, name: str) -> dict[str, Any]:
    sample = SAMPLES[name]
    body = sample["body_text"] if "body_text" in sample else b"\0" * sample["body_len"]
    server.will_answer(sample["status"], body, sample["headers"])
    return sample


async def submitted(client: httpx.AsyncClient, server: Loopback, request: VideoRequest = REQUEST) -> Submission:
    return await adapter(client, server.url).submit(a_job(request, "llmgateway"), CALLBACK_URL)


# What is sent


async def test_the_captured_request_is_what_we_send(client: httpx.AsyncClient, server: Loopback) -> None:
    sample = replay(server, "create_ok")
    outcome = await submitted(client, server, VideoRequest("seedance-2-0", "run s", duration=4, size="1280x720"))
    (asked,) = server.asked
    assert (asked.method, asked.target) == (sample["method"], sample["path"])
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    expected = {
        **sample["request_json"],
        "callback_url": CALLBACK_URL,
        "callback_secret": VAULT.callback_secret(JOB.id),
    }
    assert asked.json() == expected
    provider_job_id = json.loads(sample["body_text"])["id"]
    assert outcome == Accepted(provider_job_id, Report(Status.RUNNING, "queued", provider_job_id))


async def test_every_field_is_sent_under_the_gateways_name(client: httpx.AsyncClient, server: Loopback) -> None:
    replay(server, "create_ok")
    common = {"model": "m", "prompt": "p", "seconds": 8, "callback_url": CALLBACK_URL}
    common["callback_secret"] = VAULT.callback_secret(JOB.id)
    frames = VideoRequest(
        model="m",
        prompt="p",
        duration=8,
        aspect_ratio="9:16",
        resolution="1080p",
        generate_audio=False,
        first_frame="https://a.example/first.png",
        last_frame="https://a.example/last.png",
        provider_options={"n": 1},
    )
    await submitted(client, server, frames)
    assert server.asked[-1].json() == {
        **common,
        "size": "1080x1920",
        "audio": False,
        "image": "https://a.example/first.png",
        "last_frame": "https://a.example/last.png",
        "n": 1,
    }
    references = tuple(Reference(kind, f"https://a.example/{kind}") for kind in ("image", "video", "audio", "image"))
    await submitted(client, server, VideoRequest(model="m", prompt="p", duration=8, references=references))
    assert server.asked[-1].json() == {
        **common,
        "reference_images": ["https://a.example/image", "https://a.example/image"],
        "reference_videos": ["https://a.example/video"],
        "reference_audios": ["https://a.example/audio"],
    }


@pytest.mark.parametrize(
    ("ratio", "resolution", "size", "sent"),
    [
        ("16:9", "720p", None, "1280x720"),
        ("9:16", "720p", None, "720x1280"),
        ("16:9", "1080p", None, "1920x1080"),
        ("9:16", "1080p", None, "1080x1920"),
        ("16:9", "4K", None, "3840x2160"),
        ("9:16", "4K", None, "2160x3840"),
        ("16:9", "480p", None, "854x480"),
        ("9:16", "768p", None, "768x1366"),
        ("9:16", None, None, "720x1280"),
        (None, "1080p", None, "1920x1080"),
        (None, None, "1696x960", "1696x960"),
        ("9:16", "1080p", "1080x1920", "1080x1920"),
        ("9:16", None, "1080x1920", "1080x1920"),
        (None, "1080p", "1080x1920", "1080x1920"),
        (None, None, None, None),
    ],
)
async def test_an_aspect_ratio_and_a_resolution_become_a_size(
    client: httpx.AsyncClient, server: Loopback, ratio: str | None, resolution: str | None, size: str, sent: str | None
) -> None:
    replay(server, "create_ok")
    request = VideoRequest("m", "p", 4, aspect_ratio=ratio, resolution=resolution, size=size)
    assert offline().problems(request) == []
    await submitted(client, server, request)
    assert server.asked[0].json().get("size") == sent


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("prompt", VideoRequest("m", None, 4)),
        ("prompt", VideoRequest("m", "", 4)),
        ("duration", VideoRequest("m", "p")),
        ("duration", VideoRequest("m", "p", 0)),
        ("seed", VideoRequest("m", "p", 4, seed=0)),
        ("aspect_ratio", VideoRequest("m", "p", 4, aspect_ratio="1:1")),
        ("aspect_ratio", VideoRequest("m", "p", 4, aspect_ratio="21:9", resolution="720p")),
        ("aspect_ratio", VideoRequest("m", "p", 4, aspect_ratio="9:16", size="1920x1080")),
        ("resolution", VideoRequest("m", "p", 4, resolution="2K")),
        ("resolution", VideoRequest("m", "p", 4, resolution="720p", size="1920x1080")),
        ("last_frame", VideoRequest("m", "p", 4, last_frame="https://x")),
        ("references", VideoRequest("m", "p", 4, first_frame="https://x", references=(Reference("image", "u"),))),
        ("references[0].type", VideoRequest("m", "p", 4, references=(Reference("text", "u"),))),
        ("provider_options.seconds", VideoRequest("m", "p", 4, provider_options={"seconds": "4"})),
        ("provider_options.input_reference", VideoRequest("m", "p", 4, provider_options={"input_reference": "u"})),
        ("provider_options.callback_secret", VideoRequest("m", "p", 4, provider_options={"callback_secret": "s"})),
        ("provider_options", VideoRequest("m", "p", 4, provider_options={"x": float("inf")})),
    ],
)
async def test_what_the_gateway_cannot_be_told_is_a_problem_and_is_not_sent(
    client: httpx.AsyncClient, server: Loopback, field: str, request_: VideoRequest
) -> None:
    assert [problem.field for problem in offline().problems(request_)] == [field]
    outcome = await submitted(client, server, request_)
    assert isinstance(outcome, Refused)
    assert outcome.error.code is ErrorCode.INVALID_REQUEST
    assert field in outcome.error.message
    assert server.asked == []


def test_no_model_is_a_problem() -> None:
    assert offline().problems(VideoRequest("no/such:model", "p", 4)) == []


# What the answer to a submission means


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_captured_refusal_ends_the_job_for_free(client: httpx.AsyncClient, server: Loopback, name: str) -> None:
    replay(server, name)
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error.code is REFUSALS[name]
    assert outcome.error.billable is Billable.NO


async def test_their_words_are_kept_in_each_of_the_three_shapes(client: httpx.AsyncClient, server: Loopback) -> None:
    said = []
    for name in ("err_schema_zod_shape", "err_content_type", "err_list_not_implemented"):
        replay(server, name)
        outcome = await submitted(client, server)
        assert isinstance(outcome, Refused)
        said.append((outcome.error.provider_code, outcome.error.provider_message))
    both_or_neither = "callback_url and callback_secret must either both be provided or both be omitted"
    assert said == [
        ("ZodError", f"callback_secret: {both_or_neither}"),
        ("unsupported_media_type", "Unsupported Media Type: Content-Type must be application/json"),
        ("404", "404 Not Found"),
    ]


async def test_every_mistake_that_the_schema_checker_found_is_listed(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    issues = [
        {"message": "Required", "path": ["seconds"]},
        {"message": "Invalid url", "path": ["reference_images", 0, "image_url", [["deep"]]]},
        {"path": None},
        "nonsense",
    ]
    server.will_answer(400, {"success": False, "error": {"issues": issues, "name": "ZodError"}})
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error.provider_message == (
        "seconds: Required; reference_images.0.image_url: Invalid url; : None; : None"
    )


@pytest.mark.parametrize("name", ["err_no_key", "err_bad_key"])
async def test_a_401_is_not_blamed_on_our_key_for_certain(
    client: httpx.AsyncClient, server: Loopback, name: str
) -> None:
    replay(server, name)
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert "LLM Gateway or the provider behind it" in outcome.error.message
    assert outcome.error.retryable


def openai_error(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "api_error", "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (402, "Insufficient credits", ErrorCode.PROVIDER_CREDITS),
        (403, "Denied by IAM policy", ErrorCode.PROVIDER_AUTH),
        (403, "Blocked by the content filter", ErrorCode.CONTENT_POLICY),
        (400, "the input text may contain sensitive information", ErrorCode.CONTENT_POLICY),
        (410, "This project is archived", ErrorCode.PROVIDER_AUTH),
        (422, "?", ErrorCode.INVALID_REQUEST),
        (404, "The model was not found", ErrorCode.UNSUPPORTED_MODEL),
    ],
)
async def test_a_refusal_gets_the_code_that_its_words_say(
    client: httpx.AsyncClient, server: Loopback, status: int, message: str, code: ErrorCode
) -> None:
    server.will_answer(status, openai_error(message))
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error.code is code


async def test_secrets_do_not_come_back_in_their_words(client: httpx.AsyncClient, server: Loopback) -> None:
    secret = VAULT.callback_secret(JOB.id)
    server.will_answer(400, openai_error(f"no: {CALLBACK_URL} {secret} {KEY}"))
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error.provider_message == "no: [hidden] [hidden] [hidden]"


async def test_a_relayed_429_turns_the_job_away(client: httpx.AsyncClient, server: Loopback) -> None:
    replay(server, "err_upstream_429_relayed")
    assert await submitted(client, server) == TurnedAway("HTTP 429")


async def test_the_captured_rate_limit_turns_the_job_away_until_they_say(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    replay(server, "err_rate_limited_seen_earlier")
    assert await submitted(client, server) == TurnedAway("HTTP 429", 26_000)
    assert await adapter(client, server.url).poll("nope") == Unanswered("HTTP 429", 26_000)


async def test_a_rate_limits_end_is_an_absolute_second(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(429, openai_error("slow"), {"x-ratelimit-reset": "1795248731"})
    assert await submitted(client, server) == TurnedAway("HTTP 429", 31_000)
    assert await adapter(client, server.url).poll("a") == Unanswered("HTTP 429", 31_000)
    server.will_answer(429, openai_error("slow"), {"x-ratelimit-reset": "1795248600"})
    assert await submitted(client, server) == TurnedAway("HTTP 429", 0)
    server.will_answer(500, openai_error("broken"), {"x-ratelimit-reset": "1795248731"})
    assert await adapter(client, server.url).poll("a") == Unanswered("HTTP 500")


@pytest.mark.parametrize("status", [503, 529])
async def test_their_own_overload_turns_the_job_away_and_anybody_elses_is_in_doubt(
    client: httpx.AsyncClient, server: Loopback, status: int
) -> None:
    server.will_answer(status, openai_error("overloaded", "overloaded"), {"retry-after": "1"})
    assert await submitted(client, server) == TurnedAway(f"HTTP {status}", 1000)
    for body in ("<html>busy</html>", '{"error":{"message":"busy"}}', '{"error":"busy"}'):
        server.will_answer(status, body, {"retry-after": "1"})
        assert isinstance(await submitted(client, server), InDoubt)


async def test_a_relayed_500_is_in_doubt(client: httpx.AsyncClient, server: Loopback) -> None:
    replay(server, "err_upstream_500_relayed")
    assert await submitted(client, server) == InDoubt("HTTP 500")


@pytest.mark.parametrize("status", [301, 408, 409, 425, 499, 502, 504])
async def test_no_other_status_is_a_verdict(client: httpx.AsyncClient, server: Loopback, status: int) -> None:
    server.will_answer(status, openai_error("?"), {"location": "/v1/elsewhere"})
    assert await submitted(client, server) == InDoubt(f"HTTP {status}")
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", ["", "<html>", "{}", '{"id":null}', "[]", "404 Not Found", '{"id":{"a":1}}'])
async def test_a_success_without_an_id_is_in_doubt(client: httpx.AsyncClient, server: Loopback, body: str) -> None:
    server.will_answer(200, body)
    assert await submitted(client, server) == InDoubt("HTTP 200 without a job id")


async def test_a_404_page_of_another_server_is_in_doubt(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(404, "<html>404 Not Found</html>")
    assert isinstance(await submitted(client, server), InDoubt)


@pytest.mark.parametrize("misbehaviour", list(Misbehaviour))
async def test_a_broken_exchange_is_in_doubt_and_a_broken_poll_says_nothing(
    client: httpx.AsyncClient, server: Loopback, misbehaviour: Misbehaviour
) -> None:
    server.answer = misbehaviour
    provider = adapter(client, server.url)
    provider.submit_seconds = provider.poll_seconds = 0.05 if misbehaviour is Misbehaviour.HANG else 10
    assert isinstance(await provider.submit(JOB, CALLBACK_URL), InDoubt)
    assert isinstance(await provider.poll("a"), Unanswered)
    assert len(server.asked) == 2


async def test_without_a_connection_nothing_was_sent(client: httpx.AsyncClient) -> None:
    outcome = await adapter(client, "http://127.0.0.1:1").submit(JOB, CALLBACK_URL)
    assert outcome == TurnedAway("no connection (ConnectError)")


# The adapter itself


def test_it_is_a_provider_and_shows_no_key() -> None:
    provider: Provider = offline()
    assert provider.name == "llmgateway"
    assert "canary" not in repr(provider)
    assert (provider.manners.per_minute or 0) + provider.manners.burst <= 120


def test_an_impossible_key_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="API key"):
        LLMGateway(OFFLINE, base_url="https://x", api_key="a\n", vault=VAULT)
