"""OpenRouter on a real socket: what is sent, and what every answer and callback is taken to mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from service.clock import ManualClock
from service.model import Billable, ErrorCode, JobError, Output, Reference, Report, Status, VideoRequest
from service.providers import (
    Accepted,
    InDoubt,
    Provider,
    Refused,
    Submission,
    TurnedAway,
)
from service.providers.openrouter import OpenRouter
from tests.providers.loopback import Loopback, Misbehaviour, a_job

KEY = "sk-or-v1-canary"
SECRET = "whsec_workspace"
CALLBACK_URL = "https://reel.example/callbacks/openrouter/job_1/token-canary"
OFFLINE = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: pytest.fail("nothing should be sent")))
CLOCK = ManualClock(1_795_248_512_000)
REQUEST = VideoRequest(model="google/veo-3.1", prompt="a cat")


def adapter(client: httpx.AsyncClient, url: str, secrets: Sequence[str] = (SECRET,)) -> OpenRouter:
    return OpenRouter(client, base_url=url, api_key=KEY, webhook_secrets=secrets, clock=CLOCK)


def offline(secrets: Sequence[str] = (SECRET,)) -> OpenRouter:
    return adapter(OFFLINE, "https://openrouter.ai/api/v1/", secrets)


async def submitted(client: httpx.AsyncClient, server: Loopback, request: VideoRequest = REQUEST) -> Submission:
    return await adapter(client, server.url).submit(a_job(request, "openrouter"), CALLBACK_URL)


def error(code: object, message: str, **more: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}, "user_id": None}


# What is sent


async def test_every_field_is_sent_under_openrouters_name(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(202, {"id": "gen-vid-1", "polling_url": "/x", "status": "pending"})
    request = VideoRequest(
        model="google/veo-3.1",
        prompt="Ein Kätzchen 🎬",
        duration=8,
        aspect_ratio="16:9",
        resolution="720p",
        size="1280x720",
        seed=0,
        generate_audio=False,
        first_frame="https://a.example/first.png",
        last_frame="data:image/png;base64,AAAA",
        references=(
            Reference("image", "https://a.example/i.png"),
            Reference("video", "https://a.example/v.mp4"),
            Reference("audio", "https://a.example/a.mp3"),
        ),
        provider_options={"provider": {"options": {"google-vertex": {"parameters": {"x": 1}}}}, "session_id": "s"},
    )
    await submitted(client, server, request)
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/v1/videos")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.json() == {
        "model": "google/veo-3.1",
        "prompt": "Ein Kätzchen 🎬",
        "duration": 8,
        "aspect_ratio": "16:9",
        "resolution": "720p",
        "size": "1280x720",
        "seed": 0,
        "generate_audio": False,
        "frame_images": [
            {"type": "image_url", "image_url": {"url": "https://a.example/first.png"}, "frame_type": "first_frame"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "frame_type": "last_frame"},
        ],
        "input_references": [
            {"type": "image_url", "image_url": {"url": "https://a.example/i.png"}},
            {"type": "video_url", "video_url": {"url": "https://a.example/v.mp4"}},
            {"type": "audio_url", "audio_url": {"url": "https://a.example/a.mp3"}},
        ],
        "callback_url": CALLBACK_URL,
        "provider": {"options": {"google-vertex": {"parameters": {"x": 1}}}},
        "session_id": "s",
    }


async def test_what_was_not_asked_for_is_not_sent(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(202, {"id": "gen-vid-1", "status": "pending"})
    await submitted(client, server, VideoRequest(model="m"))
    assert server.asked[0].json() == {"model": "m", "callback_url": CALLBACK_URL}


async def test_a_lone_surrogate_in_a_prompt_is_sent_and_not_an_exception(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    server.will_answer(202, {"id": "gen-vid-1", "status": "pending"})
    assert isinstance(await submitted(client, server, VideoRequest(model="m", prompt="\ud800")), Accepted)


@pytest.mark.parametrize("field", ["model", "prompt", "callback_url", "frame_images", "input_references", "duration"])
async def test_options_that_name_a_field_of_ours_are_a_problem_and_are_not_sent(
    client: httpx.AsyncClient, server: Loopback, field: str
) -> None:
    request = VideoRequest(model="m", provider_options={field: "x"})
    (problem,) = offline().problems(request)
    assert problem.field == f"provider_options.{field}"
    outcome = await submitted(client, server, request)
    assert isinstance(outcome, Refused)
    assert outcome.error.code is ErrorCode.INVALID_REQUEST
    assert f"provider_options.{field}" in outcome.error.message
    assert server.asked == []


def test_only_what_the_wire_cannot_say_is_a_problem() -> None:
    assert offline().problems(VideoRequest(model="no/such-model", duration=0, aspect_ratio="7:5", size="x")) == []
    request = VideoRequest(
        model="m", references=(Reference("smell", "https://a.example"),), provider_options={"trace": float("nan")}
    )
    assert [problem.field for problem in offline().problems(request)] == ["provider_options", "references[0].type"]


# What the answer to a submission means


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_an_answer_that_names_the_job_is_an_acceptance(
    client: httpx.AsyncClient, server: Loopback, status: int
) -> None:
    server.will_answer(status, {"id": "gen-vid-1-a.b~c", "polling_url": None, "status": "pending", "new": {}})
    report = Report(Status.RUNNING, "pending", "gen-vid-1-a.b~c")
    assert await submitted(client, server) == Accepted("gen-vid-1-a.b~c", report)


async def test_an_acceptance_may_already_be_the_end(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(202, {"id": "a", "status": "failed", "error": "blocked"})
    outcome = await submitted(client, server)
    assert isinstance(outcome, Accepted)
    assert outcome.report.status is Status.FAILED


async def test_an_acceptance_without_a_status_is_still_one(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(202, {"id": "a", "status": 7})
    assert await submitted(client, server) == Accepted("a", Report(Status.RUNNING, "", "a"))


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"<html>",
            b"[]",
            b'{"id":""}',
            b'{"id":null}',
            b'{"id":7}',
            b'{"id":"a b"}',
            b'{"id":".."}',
            b'{"id":"."}',
        ),
        *(
            b'{"id":"a\\n"}',
            b'{"id":"%s"}' % (b"a" * 513),
            b'{"id":"\xff"}',
            b"[" * 100_000,
            b'{"id":%s}' % (b"9" * 5000),
        ),
    ],
)
async def test_a_success_without_a_usable_id_is_in_doubt(
    client: httpx.AsyncClient, server: Loopback, body: bytes
) -> None:
    server.will_answer(202, body)
    assert await submitted(client, server) == InDoubt("HTTP 202 without a job id")


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "duration 99 is not supported", ErrorCode.INVALID_REQUEST),
        (400, "foo/bar is not a valid model ID", ErrorCode.UNSUPPORTED_MODEL),
        (400, "The input was refused by content moderation", ErrorCode.CONTENT_POLICY),
        (401, "Missing Authentication header", ErrorCode.PROVIDER_AUTH),
        (402, "Insufficient credits", ErrorCode.PROVIDER_CREDITS),
        (403, "Your chosen model requires moderation and your input was flagged", ErrorCode.CONTENT_POLICY),
        (403, "Blocked by a guardrail", ErrorCode.CONTENT_POLICY),
        (403, "Only management keys can do this", ErrorCode.PROVIDER_AUTH),
        (404, "No endpoints found for this model", ErrorCode.UNSUPPORTED_MODEL),
        (404, "Not found", ErrorCode.INVALID_REQUEST),
        (413, "Request too large", ErrorCode.INVALID_REQUEST),
        (422, "Invalid", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_a_refusal_in_openrouters_own_shape_ends_the_job_for_free(
    client: httpx.AsyncClient, server: Loopback, status: int, message: str, code: ErrorCode
) -> None:
    server.will_answer(status, error(status, message))
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error == JobError(
        code=code,
        message=outcome.error.message,
        retryable=code in (ErrorCode.PROVIDER_AUTH, ErrorCode.PROVIDER_CREDITS),
        billable=Billable.NO,
        provider_code=str(status),
        provider_message=message,
    )


async def test_their_words_are_kept_but_not_our_secrets_nor_more_than_2000_characters(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    said = f"bad \ud800 {CALLBACK_URL} with {KEY}: "
    server.will_answer(400, error(400, said + "x" * 5000, metadata={"error_type": "invalid_prompt"}))
    outcome = await submitted(client, server)
    assert isinstance(outcome, Refused)
    assert outcome.error.provider_code == "invalid_prompt"
    assert outcome.error.provider_message is not None
    assert outcome.error.provider_message.startswith("bad ? [hidden] with [hidden]: xxx")
    assert len(outcome.error.provider_message) <= 2000
    assert "canary" not in repr(outcome)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 503])
@pytest.mark.parametrize(
    "body",
    [
        *("<html>no</html>", "", "{}", '{"detail":"Not Found"}', '{"error":"no"}', '{"error":{"message":"no"}}'),
        *('{"error":{"code":"no","message":"no"}}', '{"error":{"code":true,"message":"no"}}', '{"error":{"code":400}}'),
    ],
)
async def test_a_refusal_in_anybody_elses_shape_is_in_doubt(
    client: httpx.AsyncClient, server: Loopback, status: int, body: str
) -> None:
    server.will_answer(status, body, {"retry-after": "5"})
    outcome = await submitted(client, server)
    assert isinstance(outcome, InDoubt)
    assert str(status) in outcome.reason


@pytest.mark.parametrize("status", [302, 307, 408, 409, 418, 425, 499, 500, 501, 502, 504, 529])
async def test_no_other_status_is_a_verdict_even_in_their_shape(
    client: httpx.AsyncClient, server: Loopback, status: int
) -> None:
    server.will_answer(status, error(status, "?"), {"location": f"{server.url}/elsewhere", "retry-after": "1"})
    assert await submitted(client, server) == InDoubt(f"HTTP {status}")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"Retry-After": "26"}, 26_000),
        ({"Retry-After": "0"}, 0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1500),
        ({"Retry-After": "Sat, 21 Nov 2026 08:10:02 GMT"}, 90_000),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "99999999"}, 3_600_000),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Mon, 99 Foo 99999 99:99:99 GMT"}, None),
    ],
)
async def test_429_and_their_own_503_turn_the_job_away_with_their_advice(
    client: httpx.AsyncClient, server: Loopback, headers: dict[str, str], wait_ms: int | None
) -> None:
    for status in (429, 503):
        server.will_answer(status, error(status, "busy"), headers)
        assert await submitted(client, server) == TurnedAway(f"HTTP {status}", wait_ms)


async def test_a_429_of_the_cdn_turns_the_job_away_too(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(429, "<html>slow down</html>", {"retry-after": "10"})
    outcome = await submitted(client, server)
    assert isinstance(outcome, TurnedAway)
    assert outcome.retry_after_ms == 10_000


@pytest.mark.parametrize("misbehaviour", [Misbehaviour.CLOSE, Misbehaviour.RESET, Misbehaviour.CUT])
async def test_a_broken_exchange_is_in_doubt(
    client: httpx.AsyncClient, server: Loopback, misbehaviour: Misbehaviour
) -> None:
    server.answer = misbehaviour
    outcome = await submitted(client, server)
    assert isinstance(outcome, InDoubt)
    assert "Error" in outcome.reason
    assert len(server.asked) == 1


async def test_silence_is_in_doubt(client: httpx.AsyncClient, server: Loopback) -> None:
    server.answer = Misbehaviour.HANG
    provider = adapter(client, server.url)
    provider.submit_seconds = 0.05
    outcome = await provider.submit(a_job(REQUEST, "openrouter"), CALLBACK_URL)
    assert outcome == InDoubt("the exchange broke before its answer (ReadTimeout)")
    assert len(server.asked) == 1


async def test_an_endless_answer_is_in_doubt(client: httpx.AsyncClient, server: Loopback) -> None:
    server.will_answer(202, b'{"id":"a","x":"' + b"x" * 2_000_000 + b'"}')
    assert isinstance(await submitted(client, server), InDoubt)


async def test_without_a_connection_nothing_was_sent(client: httpx.AsyncClient) -> None:
    provider = adapter(client, "http://127.0.0.1:1")
    outcome = await provider.submit(a_job(REQUEST, "openrouter"), CALLBACK_URL)
    assert outcome == TurnedAway("no connection (ConnectError)")


@pytest.mark.parametrize("failure", [httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError])
async def test_a_connection_that_was_never_made_turns_the_job_away(failure: type[httpx.TransportError]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("secret detail", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        outcome = await adapter(client, "https://a.example").submit(a_job(REQUEST, "openrouter"), CALLBACK_URL)
    assert outcome == TurnedAway(f"no connection ({failure.__name__})")


# The adapter itself


def test_it_is_a_provider_and_shows_no_key() -> None:
    provider: Provider = offline()
    assert provider.name == "openrouter"
    assert "canary" not in repr(provider)
    assert "canary" not in repr(provider.locations(a_job(REQUEST, "openrouter", "a"), Output(0)))


def test_an_empty_secret_and_an_impossible_key_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="empty"):
        offline(("good", ""))
    for key in ("", "a b", "a\n", "ключ"):
        with pytest.raises(ValueError, match="API key"):
            OpenRouter(OFFLINE, base_url="https://x", api_key=key, webhook_secrets=())
