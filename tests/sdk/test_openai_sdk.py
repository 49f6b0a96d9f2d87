"""The unmodified `openai` package against the running service, sync and async: only its `base_url` is changed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path
from typing import TypeVar

import openai
import pytest

from service.model import ErrorCode, Face, JobError, Model, Reference, State
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from tests.sdk.openai_client import PNG, WISH, Connect, Sdk, connected
from tests.servers import SeaweedFS
from tests.story.world import World, open_world
from tests.turns import Turn, until
from tests.web.house import VIDEO, House, serving

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # of everything in videos.*

T = TypeVar("T")


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return partial(connected, request.param)


@pytest.fixture
async def sdk(house: House, connect: Connect) -> AsyncIterator[Sdk]:
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key) as sdk:
        yield sdk


async def in_time(world: World, call: Awaitable[T]) -> T:
    """Let everybody in the world work, and its time go on, until a call has returned."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(30):
        while not task.done():
            await world.round()
            world.clock.advance(500)
            await Turn()
    return await task


# From the wish to the video


async def test_a_video_is_asked_for_followed_and_fetched(world: World, connect: Connect) -> None:
    url = str(world.http.base_url).rstrip("/")
    async with connect(url, world._key) as sdk:
        made = await sdk.call("videos.create", **WISH | {"model": "sandbox/ok"})
        assert (made.object, made.status, made.progress) == ("video", "queued", 0)
        assert (made.seconds, made.size, made.prompt) == ("8", "1280x720", "a red kite")
        assert world.made(made.id) == []  # nothing is asked of a provider before the answer

        await world.run("submit")
        running = await sdk.call("videos.retrieve", made.id)
        assert (running.status, running.progress) == ("in_progress", 10)
        await world.until(made.id, State.COMPLETED)
        done = await sdk.call("videos.retrieve", made.id)
        assert (done.status, done.progress, done.error) == ("completed", 100, None)
        assert done.completed_at >= done.created_at

        [paid] = world.made(made.id)
        video = VIDEOS[paid.number % len(VIDEOS)]
        assert (await sdk.call("videos.download_content", made.id)).content == video
        assert await sdk.stream(made.id) == video
        [output] = done.outputs
        assert (output["bytes"], output["sha256"]) == (len(video), hashlib.sha256(video).hexdigest())

        deleted = await sdk.call("videos.delete", made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "video.deleted", True)
        with pytest.raises(openai.NotFoundError):
            await sdk.call("videos.retrieve", made.id)
        await world.round()
        assert world.stored() == set()


@pytest.mark.parametrize("behaviour", ["ok", "fails"])
async def test_create_and_poll_returns_at_the_end_and_not_before(
    world: World, connect: Connect, behaviour: str
) -> None:
    async with connect(str(world.http.base_url).rstrip("/"), world._key) as sdk:
        call = sdk.call("videos.create_and_poll", **WISH | {"model": f"sandbox/{behaviour}"}, poll_interval_ms=20)
        video = await in_time(world, call)
    job = await world.job(video.id)
    assert job.state.final
    assert video.status == ("completed" if behaviour == "ok" else "failed")
    assert (video.error is None) is (behaviour == "ok")
    if job.error is not None:
        assert (video.error.code, video.error.message) == (job.error.code, job.error.message)
    assert len(world.made(video.id)) == 1


async def test_poll_waits_for_as_long_as_it_is_told(house: House, sdk: Sdk) -> None:
    job = await house.running()
    await house.call_back(job)  # it is being copied: look again in a second
    polling = asyncio.create_task(sdk.call("videos.poll", job.id))
    await until(lambda: [line for line in house.lines() if line["method"] == "GET"])
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    await house.claims.give_up_mirror(job, JobError(ErrorCode.OUTPUT_UNAVAILABLE, "gone"))
    video = await polling
    assert (video.status, video.error.code) == ("failed", "output_unavailable")
    assert len([line for line in house.lines() if line["method"] == "GET"]) == 2


async def test_every_state_is_one_that_the_sdk_knows(house: House, sdk: Sdk) -> None:
    async def seen(job_id: str) -> tuple[str, str | None]:
        video = await sdk.call("videos.retrieve", job_id)
        return video.status, None if video.error is None else video.error.code

    queued = await house.queued()
    assert await seen(queued.id) == ("queued", None)
    await house.store.cancel(queued.id)
    assert await seen(queued.id) == ("failed", "cancelled")
    assert await seen((await house.submitting()).id) == ("queued", None)
    assert await seen((await house.running(provider_job_id="gen-2")).id) == ("in_progress", None)
    assert await seen((await house.completed(provider_job_id="gen-3")).id) == ("completed", None)
    for word, shown in (("failed", "provider_failed"), ("cancelled", "cancelled"), ("expired", "expired")):
        job = await house.running(provider_job_id=f"gen-{word}")
        await house.call_back(job, word)
        assert await seen(job.id) == ("failed", shown)


async def test_everything_that_the_sdk_can_send_arrives(house: House, sdk: Sdk) -> None:
    made = await sdk.call(
        "videos.create",
        **WISH,
        input_reference=("kite.png", PNG, "image/png"),
        extra_body={
            "audio": False,
            "n": 1,
            "callback_url": "https://example.com/hooks",
            "callback_secret": "käse",
            "metadata": {"order": "A-17", "tags": ["a", "b"]},
            "reference_videos": [{"video_url": "https://a.example/1.mp4"}, {"video_url": "https://a.example/2.mp4"}],
            "style": {"strength": 0.5, "layers": [{"name": "x", "on": True}, {"name": "y", "on": False}]},
            "nothing": None,
        },
    )
    job = await house.store.job(made.id)
    assert job is not None
    assert (job.face, job.provider, job.notify_url) == (Face.OPENAI, "llmgateway", "https://example.com/hooks")
    assert house.vault.unseal(job.notify_secret or "", "acme") == "käse"
    assert (made.metadata, job.metadata) == ({"order": "A-17", "tags": ["a", "b"]},) * 2
    assert job.request.fields() == {
        "model": "veo-3.1",
        "prompt": "a red kite",
        "duration": 8,
        "size": "1280x720",
        "generate_audio": False,
        "references": [
            {"type": "image", "url": "data:image/png;base64,iVBORw0KGgogcGljdHVyZQ=="},
            {"type": "video", "url": "https://a.example/1.mp4"},
            {"type": "video", "url": "https://a.example/2.mp4"},
        ],
        # In a form everything is text.
        "provider_options": {
            "style": {"strength": "0.5", "layers": [{"name": "x", "on": "true"}, {"name": "y", "on": "false"}]}
        },
    }


async def test_a_reference_by_address_goes_through_the_extra_body(house: House, sdk: Sdk) -> None:
    """The SDK's own argument takes files alone, whatever its type says."""
    body = {"input_reference": {"image_url": "https://a.example/1.png"}}
    made = await sdk.call("videos.create", **WISH, extra_body=body)
    job = await house.store.job(made.id)
    assert job is not None
    assert job.request.references == (Reference("image", "https://a.example/1.png"),)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_list_is_walked_page_by_page(house: House, sdk: Sdk, order: str) -> None:
    made = []
    for _ in range(5):
        made.append((await house.queued()).id)
        house.clock.advance(1000)
    videos = await sdk.walk("videos.list", limit=2, order=order)
    assert [video.id for video in videos] == (made if order == "asc" else made[::-1])
    assert len([line for line in house.lines() if line["method"] == "GET"]) == 3
    assert [video.id for video in await sdk.walk("videos.list", after=made[1], order="asc")] == made[2:]


async def test_a_video_in_a_bucket_is_fetched_from_there_without_the_key(
    house: House, connect: Connect, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    house.storage = Storage.open(f"s3://{s3.bucket}/{tmp_path.name}")
    job = await house.completed()
    async with serving(house.app(link_seconds=300)) as port, connect(f"http://127.0.0.1:{port}", house.key) as sdk:
        answer = await sdk.call("videos.download_content", job.id)
        assert answer.content == VIDEO
        assert [each.status_code for each in answer.response.history] == [302]
        assert str(answer.response.url).startswith(s3.endpoint)
        assert "authorization" not in answer.response.request.headers
        assert await sdk.stream(job.id) == VIDEO


async def test_a_thumbnail_is_a_picture_of_the_video(tmp_path: Path, connect: Connect) -> None:
    async with open_world(tmp_path, look_inside=True) as world:
        async with connect(str(world.http.base_url).rstrip("/"), world._key) as sdk:
            made = await sdk.call("videos.create", **WISH | {"model": "sandbox/ok"})
            await world.until(made.id, State.COMPLETED)
            answer = await sdk.call("videos.download_content", made.id, variant="thumbnail")
            done = await sdk.call("videos.retrieve", made.id)
        assert answer.response.headers["content-type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8\xff")
        assert (done.outputs[0]["width"], done.outputs[0]["height"]) == (320, 180)


async def test_models_of_every_provider_are_listed(house: House, sdk: Sdk) -> None:
    await house.catalogue.replace("openrouter", [Model("google/veo-3.1", "openrouter", "Veo")])
    await house.catalogue.replace("llmgateway", [Model("kling", "llmgateway", "Kling", created=1)])
    models = {model.id: model for model in await sdk.walk("models.list")}
    assert models.keys() == {"google/veo-3.1", "kling"}
    assert (models["kling"].object, models["kling"].created) == ("model", 1)
    assert (await sdk.call("models.retrieve", "google/veo-3.1")).owned_by == "google"
