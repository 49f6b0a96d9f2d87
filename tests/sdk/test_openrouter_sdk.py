"""The unmodified `openrouter` package against the running service, sync and async: only its `server_url` is changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig

from service.errors import StoreUnavailableError
from service.model import ErrorCode, Face, JobError, Model, State
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from service.store import Creation
from tests.servers import SeaweedFS
from tests.story.world import World
from tests.turns import until
from tests.web.house import PUBLIC_URL, VIDEO, House, serving

WISH: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a red kite", "duration": 8}
ONCE = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), retry_connection_errors=False)
KINDS = ("sync", "async")


class Sdk:
    """The SDK's video calls, in whichever of its two manners. The sync one gets a thread, as it would block ours."""

    def __init__(self, client: OpenRouter, kind: str) -> None:
        self._calls = client.video_generation
        self._kind = kind

    async def call(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - the SDK's own types
        if self._kind == "async":
            return await getattr(self._calls, f"{name}_async")(**arguments)
        return await asyncio.to_thread(getattr(self._calls, name), **arguments)

    async def bytes_of(self, answer: httpx.Response) -> bytes:
        """Read a content answer to its end and close it."""
        if self._kind == "async":
            content = await answer.aread()
            await answer.aclose()
            return content

        def read() -> bytes:
            content = answer.read()
            answer.close()
            return content

        return await asyncio.to_thread(read)


Connect = Callable[..., Any]


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Connect:
    kind: str = request.param

    @asynccontextmanager
    async def connect(url: str, key: str, **settings: Any) -> AsyncIterator[Sdk]:  # noqa: ANN401 - the SDK's own
        with OpenRouter(api_key=key, server_url=f"{url}/api/v1", **settings) as client:
            async with client:
                yield Sdk(client, kind)

    return connect


@pytest.fixture
async def sdk(house: House, connect: Connect) -> AsyncIterator[Sdk]:
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key) as sdk:
        yield sdk


# From the wish to the video


async def test_a_video_is_asked_for_followed_and_fetched(world: World, connect: Connect) -> None:
    url = str(world.http.base_url).rstrip("/")
    async with connect(url, world._key) as sdk:
        made = await sdk.call("generate", **WISH | {"model": "sandbox/ok"})
        assert (made.status, made.polling_url) == ("pending", f"{url}/api/v1/videos/{made.id}")
        assert world.made(made.id) == []  # nothing is asked of a provider before the answer

        await world.run("submit")
        assert (await sdk.call("get_generation", job_id=made.id)).status == "in_progress"
        await world.until(made.id, State.COMPLETED)
        done = await sdk.call("get_generation", job_id=made.id)
        assert done.status == "completed"
        assert done.unsigned_urls == [f"{url}/api/v1/videos/{made.id}/content?index=0"]
        assert (done.urls, done.expires_at, done.error) == (None, None, None)
        assert done.usage.cost > 0
        assert done.usage.is_byok is None

        answer = await sdk.call("get_video_content", job_id=made.id, index=0)
        video = await sdk.bytes_of(answer)
        [paid] = world.made(made.id)
        assert video == VIDEOS[paid.number % len(VIDEOS)]
        assert hashlib.sha256(video).hexdigest() == (await world.job(made.id)).artifacts[0].sha256
        assert int(answer.headers["content-length"]) == len(video)


async def test_every_typed_field_arrives(house: House, sdk: Sdk) -> None:
    made = await sdk.call(
        "generate",
        **WISH,
        aspect_ratio="16:9",
        callback_url="https://example.com/hooks",
        creativity=2,
        frame_images=[
            {"type": "image_url", "image_url": {"url": "https://a.example/1.png"}, "frame_type": "first_frame"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "frame_type": "last_frame"},
        ],
        generate_audio=True,
        input_references=[{"type": "audio_url", "audio_url": {"url": "https://a.example/2.mp3"}}],
        previous_job_id="gen-vid-1",
        provider={"options": {"google-vertex": {"parameters": {"enhancePrompt": False}}}},
        resolution="720p",
        seed=7,
        session_id="s",
        size="1280x720",
        trace={"trace_id": "t", "order": "A-17"},
        upscale_factor=1.5,
        user="u",
    )
    job = await house.store.job(made.id)
    assert job is not None
    assert job.notify_url == "https://example.com/hooks"
    assert json.loads(job.request.to_json()) == WISH | {
        "aspect_ratio": "16:9",
        "first_frame": "https://a.example/1.png",
        "generate_audio": True,
        "last_frame": "data:image/png;base64,AAAA",
        "references": [{"type": "audio", "url": "https://a.example/2.mp3"}],
        "resolution": "720p",
        "seed": 7,
        "size": "1280x720",
        "provider_options": {
            "creativity": 2,
            "previous_job_id": "gen-vid-1",
            "provider": {"options": {"google-vertex": {"parameters": {"enhancePrompt": False}}}},
            "session_id": "s",
            "trace": {"trace_id": "t", "order": "A-17"},
            "upscale_factor": 1.5,
            "user": "u",
        },
    }


async def test_every_state_is_read(house: House, sdk: Sdk) -> None:
    async def status(job_id: str) -> str:
        return str((await sdk.call("get_generation", job_id=job_id)).status)

    queued = await house.queued()
    assert await status(queued.id) == "pending"
    await house.store.cancel(queued.id)
    assert await status(queued.id) == "cancelled"
    assert await status((await house.submitting()).id) == "pending"
    running = await house.running(provider_job_id="gen-2")
    assert await status(running.id) == "in_progress"
    await house.call_back(running)
    assert await status(running.id) == "in_progress"  # the provider has the video, we do not yet
    assert await status((await house.completed(provider_job_id="gen-3")).id) == "completed"
    for number, word in enumerate(("failed", "cancelled", "expired")):
        job = await house.running(provider_job_id=f"gen-9{number}")
        await house.call_back(job, word)
        ended = await sdk.call("get_generation", job_id=job.id)
        assert ended.status == word
        assert isinstance(ended.error, str)
        assert ended.unsigned_urls is None


async def test_each_of_several_videos_is_fetched_by_its_index(house: House, sdk: Sdk) -> None:
    job = await house.completed(contents=(VIDEO, b"the second"))
    for arguments, content in (({}, VIDEO), ({"index": 0}, VIDEO), ({"index": 1}, b"the second")):
        assert await sdk.bytes_of(await sdk.call("get_video_content", job_id=job.id, **arguments)) == content


async def test_a_video_in_a_bucket_is_fetched_from_there_without_the_key(
    house: House, connect: Connect, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    house.storage = Storage.open(f"s3://{s3.bucket}/{tmp_path.name}")
    job = await house.completed()
    async with (
        serving(house.app(link_seconds=300)) as port,
        connect(f"http://127.0.0.1:{port}", house.key) as sdk,
    ):
        answer = await sdk.call("get_video_content", job_id=job.id)
        assert await sdk.bytes_of(answer) == VIDEO
        assert [each.status_code for each in answer.history] == [302]
        assert str(answer.url).startswith(s3.endpoint)
        assert "authorization" not in answer.request.headers

        done = await sdk.call("get_generation", job_id=job.id)
        assert done.expires_at == house.clock.now() // 1000 + 300
        [link] = done.urls
        async with httpx.AsyncClient(trust_env=False) as stranger:
            assert (await stranger.get(link)).content == VIDEO
        assert done.unsigned_urls == [f"{PUBLIC_URL}/api/v1/videos/{job.id}/content?index=0"]


async def test_models_of_every_provider_are_listed(house: House, sdk: Sdk) -> None:
    theirs = {"id": "google/veo-3.1", "canonical_slug": "google/veo", "pricing_skus": {"per_second": "0.4"}}
    await house.catalogue.replace("openrouter", [Model("google/veo-3.1", "openrouter", "Veo", entry=theirs)])
    await house.catalogue.replace("llmgateway", [Model("sora", "llmgateway", "Sora", durations=(4, 8))])
    listed = {model.id: model for model in (await sdk.call("list_videos_models")).data}
    assert listed.keys() == {"google/veo-3.1", "sora"}
    assert listed["google/veo-3.1"].canonical_slug == "google/veo"
    assert listed["google/veo-3.1"].pricing_skus == {"per_second": "0.4"}
    assert listed["sora"].supported_durations == [4, 8]


# Errors, each of its own type


async def refused(sdk: Sdk, kind: type[errors.OpenRouterError], name: str, **arguments: Any) -> Any:  # noqa: ANN401
    """Make a call that fails with exactly this type, and return the error."""
    with pytest.raises(kind) as caught:
        await sdk.call(name, **arguments, retries=ONCE)
    assert type(caught.value) is kind
    return caught.value


async def test_a_bad_request_says_all_that_is_wrong(house: House, sdk: Sdk) -> None:
    wish = WISH | {"duration": 0, "callback_url": "https://localhost/hooks"}
    error = await refused(sdk, errors.BadRequestResponseError, "generate", **wish)
    assert error.data.error.code == 400
    assert "duration: must be whole seconds" in error.data.error.message
    assert "callback_url: must have a host on the public internet" in str(error)
    assert error.data.error.metadata["error_type"] == "invalid_request"
    assert await house.count("jobs") == 0
    job = await house.completed()
    await refused(sdk, errors.BadRequestResponseError, "get_video_content", job_id=job.id, index=9_999_999)


async def test_a_wrong_key_is_unauthorized_in_every_call(house: House, connect: Connect) -> None:
    calls: dict[str, dict[str, Any]] = {
        "generate": WISH,
        "get_generation": {"job_id": "job_x"},
        "get_video_content": {"job_id": "job_x"},
        "list_videos_models": {},
    }
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", "rk_wrong") as sdk:
        for name, arguments in calls.items():
            if name == "list_videos_models":  # its SDK knows no 401 for a list that is public at OpenRouter
                error = await refused(sdk, errors.OpenRouterDefaultError, name, **arguments)
                assert error.status_code == 401
            else:
                error = await refused(sdk, errors.UnauthorizedResponseError, name, **arguments)
                assert error.data.error.code == 401


async def test_want_of_credits_is_payment_required(house: House, sdk: Sdk) -> None:
    await house.claims.refused(await house.submitting(), JobError(ErrorCode.PROVIDER_CREDITS, "none left"))
    error = await refused(sdk, errors.PaymentRequiredResponseError, "generate", **WISH)
    assert error.data.error.metadata["error_type"] == "provider_credits"
    assert await house.count("jobs") == 1


async def test_a_job_that_is_not_there_is_not_found(house: House, sdk: Sdk) -> None:
    theirs, mine = await house.queued(tenant="globex"), await house.completed()
    for job_id in (theirs.id, "job_x", "gen-vid-1"):
        await refused(sdk, errors.NotFoundResponseError, "get_generation", job_id=job_id)
        await refused(sdk, errors.NotFoundResponseError, "get_video_content", job_id=job_id)
    await refused(sdk, errors.NotFoundResponseError, "get_video_content", job_id=mine.id, index=3)


async def test_a_video_that_is_not_ready_is_a_conflict_and_one_that_is_lost_is_gone(house: House, sdk: Sdk) -> None:
    job = await house.running()
    error = await refused(sdk, errors.ConflictResponseError, "get_video_content", job_id=job.id)
    assert error.data.error.metadata["error_type"] == "not_ready"
    await house.call_back(job, "failed")
    await refused(sdk, errors.GoneResponseError, "get_video_content", job_id=job.id)
    done = await house.completed(provider_job_id="gen-2")
    await house.storage.delete(done.artifacts[0].key)
    await refused(sdk, errors.GoneResponseError, "get_video_content", job_id=done.id)


async def test_a_body_that_is_too_large_is_told_so(house: House, sdk: Sdk) -> None:
    url = "data:image/png;base64," + "A" * 10_485_760
    frames = [{"type": "image_url", "image_url": {"url": url}, "frame_type": "first_frame"}]
    error = await refused(sdk, errors.PayloadTooLargeResponseError, "generate", **WISH, frame_images=frames)
    assert error.data.error.code == 413
    assert await house.count("jobs") == 0


async def test_too_many_wishes_of_one_key_are_told_when_to_come_again(house: House, connect: Connect) -> None:
    _, key = await house.keys.create("hasty", "acme", creates_per_minute=1)
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", key) as sdk:
        await sdk.call("generate", **WISH)
        error = await refused(sdk, errors.TooManyRequestsResponseError, "generate", **WISH)
    assert error.headers["retry-after"] == "60"
    assert await house.count("jobs") == 1


async def test_a_database_that_is_full_makes_the_service_unavailable(
    house: House, sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.store, "create_job", _failing(StoreUnavailableError("database or disk is full")))
    error = await refused(sdk, errors.ServiceUnavailableResponseError, "generate", **WISH)
    assert error.headers["retry-after"] == "5"


async def test_our_own_mistakes_are_server_errors(house: House, sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await house.completed()
    for name in ("create_job", "job"):
        monkeypatch.setattr(house.store, name, _failing(RuntimeError("canary")))
    await refused(sdk, errors.InternalServerResponseError, "generate", **WISH)
    await refused(sdk, errors.InternalServerResponseError, "get_generation", job_id=done.id)
    error = await refused(sdk, errors.InternalServerResponseError, "get_video_content", job_id=done.id)
    assert "canary" not in error.body


def _failing(error: Exception) -> Callable[..., Any]:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# Once


async def test_an_idempotency_key_makes_two_calls_one_job(house: House, sdk: Sdk) -> None:
    headers = {"Idempotency-Key": "order A-17"}
    first = await sdk.call("generate", **WISH, http_headers=headers)
    again = await sdk.call("generate", **WISH, http_headers=headers)
    assert again.id == first.id
    error = await refused(
        sdk, errors.OpenRouterDefaultError, "generate", **WISH | {"duration": 9}, http_headers=headers
    )
    assert error.status_code == 409
    assert await house.count("jobs") == 1


async def test_a_call_after_an_answer_is_a_wish_for_another_video(house: House, sdk: Sdk) -> None:
    first = await sdk.call("generate", **WISH)
    await until(house.lines)
    second = await sdk.call("generate", **WISH)
    assert first.id != second.id
    assert await house.count("jobs") == 2


async def test_a_call_that_the_sdk_repeats_by_itself_after_a_timeout_is_one_job(
    house: House, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, create = asyncio.Event(), house.store.create_job
    calls = 0

    async def create_and_hang_once(*arguments: Any, **more: Any) -> Creation:  # noqa: ANN401 - whatever they are
        nonlocal calls
        calls += 1
        creation = await create(*arguments, **more)
        if calls == 1:
            await stuck.wait()
        return creation

    monkeypatch.setattr(house.store, "create_job", create_and_hang_once)
    async with (
        serving(house.app()) as port,
        connect(f"http://127.0.0.1:{port}", house.key, timeout_ms=250) as sdk,
    ):
        made = await sdk.call("generate", **WISH)
        stuck.set()
    assert calls > 1
    [job] = await house.store.jobs()
    assert (job.id, job.face) == (made.id, Face.OPENROUTER)
