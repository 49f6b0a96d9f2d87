"""The unmodified npm package `@openrouter/sdk` against the running service: only its `serverURL` is changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from service.model import ErrorCode, JobError, Model, State
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from tests.servers import SeaweedFS, find_program
from tests.story.world import World
from tests.turns import until
from tests.web.house import VIDEO, House, serving

NODE = Path(__file__).parent / "node"
WISH: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a red kite", "duration": 8}
ONCE = {"retries": {"strategy": "none"}}


@dataclass
class Sdk:
    """A Node program that makes the calls that it is told."""

    process: asyncio.subprocess.Process

    async def call(self, name: str, request: dict[str, Any] | None = None, **options: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what the SDK returned. Raises SdkError for what it threw."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps({"name": name, "request": request or {}, "options": options})
        self.process.stdin.write(f"{line}\n".encode())
        answer = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["value"]

    async def generate(self, **wish: Any) -> Any:  # noqa: ANN401 - JSON
        return await self.call("generate", {"videoGenerationRequest": WISH | wish})


class SdkError(Exception):
    """What the SDK threw: the name of its class, the HTTP status, the message and `error.code`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.name: str = error["name"]
        self.status: int = error.get("statusCode", 0)
        self.code: int = error.get("code", 0)


Connect = Callable[[str, str], Any]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install what the lock file names, away from the sources."""
    find_program("node", "nodejs.org, version 20 or newer")
    npm = find_program("npm", "nodejs.org, version 20 or newer")
    folder = tmp_path_factory.mktemp("npm") / "node"
    shutil.copytree(NODE, folder)
    done = subprocess.run(  # noqa: S603 - npm, with our own arguments
        [npm, "ci"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def connect(package: Path) -> Connect:
    node = find_program("node", "nodejs.org, version 20 or newer")

    @asynccontextmanager
    async def connect(url: str, key: str) -> AsyncIterator[Sdk]:
        process = await asyncio.create_subprocess_exec(
            node,
            str(package / "calls.mjs"),
            f"{url}/api/v1",
            key,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
            limit=2**24,
        )
        try:
            yield Sdk(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    return connect


@pytest.fixture
async def sdk(house: House, connect: Connect) -> AsyncIterator[Sdk]:
    async with connected(house, house.app(), connect) as sdk:
        yield sdk


@asynccontextmanager
async def connected(house: House, app: ASGIApp, connect: Connect, key: str | None = None) -> AsyncIterator[Sdk]:
    async with serving(app) as port, connect(f"http://127.0.0.1:{port}", key or house.key) as sdk:
        yield sdk


async def test_a_video_is_asked_for_followed_and_fetched(world: World, connect: Connect) -> None:
    url = str(world.http.base_url).rstrip("/")
    async with connect(url, world._key) as sdk:
        made = await sdk.generate(model="sandbox/ok")
        polling_url = f"{url}/api/v1/videos/{made['id']}"
        assert made == {"id": made["id"], "pollingUrl": polling_url, "status": "pending"}

        await world.run("submit")
        wanted = {"jobId": made["id"]}
        assert (await sdk.call("getGeneration", wanted))["status"] == "in_progress"
        await world.until(made["id"], State.COMPLETED)
        done = await sdk.call("getGeneration", wanted)
        assert done["status"] == "completed"
        assert done["unsignedUrls"] == [f"{polling_url}/content?index=0"]
        assert done["usage"]["cost"] > 0

        [paid] = world.made(made["id"])
        video = VIDEOS[paid.number % len(VIDEOS)]
        fetched = await sdk.call("getVideoContent", wanted | {"index": 0})
        assert fetched == {"bytes": len(video), "sha256": hashlib.sha256(video).hexdigest()}


async def test_every_typed_field_arrives(house: House, sdk: Sdk) -> None:
    made = await sdk.generate(
        aspectRatio="16:9",
        callbackUrl="https://example.com/hooks",
        frameImages=[
            {"type": "image_url", "imageUrl": {"url": "https://a.example/1.png"}, "frameType": "first_frame"},
        ],
        generateAudio=True,
        inputReferences=[{"type": "video_url", "videoUrl": {"url": "https://a.example/2.mp4"}}],
        previousJobId="gen-vid-1",
        provider={"options": {"googleVertex": {"parameters": {"enhancePrompt": False}}}},
        seed=7,
        upscaleFactor=1.5,
        user="u",
    )
    job = await house.store.job(made["id"])
    assert job is not None
    assert job.notify_url == "https://example.com/hooks"
    assert json.loads(job.request.to_json()) == WISH | {
        "aspect_ratio": "16:9",
        "first_frame": "https://a.example/1.png",
        "generate_audio": True,
        "references": [{"type": "video", "url": "https://a.example/2.mp4"}],
        "seed": 7,
        "provider_options": {
            "previous_job_id": "gen-vid-1",
            "provider": {"options": {"google-vertex": {"parameters": {"enhancePrompt": False}}}},
            "upscale_factor": 1.5,
            "user": "u",
        },
    }


async def test_every_end_is_read(house: House, sdk: Sdk) -> None:
    for number, word in enumerate(("failed", "cancelled", "expired")):
        job = await house.running(provider_job_id=f"gen-{number}")
        await house.call_back(job, word)
        ended = await sdk.call("getGeneration", {"jobId": job.id})
        assert ended["status"] == word
        assert isinstance(ended["error"], str)


async def test_a_video_in_a_bucket_is_fetched_from_there(
    house: House, connect: Connect, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    house.storage = Storage.open(f"s3://{s3.bucket}/{tmp_path.name}")
    job = await house.completed()
    async with connected(house, house.app(link_seconds=300), connect) as sdk:
        fetched = await sdk.call("getVideoContent", {"jobId": job.id})
        assert fetched == {"bytes": len(VIDEO), "sha256": hashlib.sha256(VIDEO).hexdigest()}
        assert (await sdk.call("getGeneration", {"jobId": job.id}))["status"] == "completed"
    sent = [line["status"] for line in house.lines() if line["path"].endswith("/content")]
    assert sent == [302]


async def test_models_are_listed(house: House, sdk: Sdk) -> None:
    await house.catalogue.replace("openrouter", [Model("google/veo-3.1", "openrouter", "Veo", durations=(4, 8))])
    await house.catalogue.replace("llmgateway", [Model("sora", "llmgateway", "Sora", durations=(4, 8))])
    listed = {model["id"]: model for model in (await sdk.call("listVideosModels"))["data"]}
    assert listed.keys() == {"google/veo-3.1", "sora"}
    assert listed["sora"]["supportedDurations"] == [4, 8]


async def test_every_error_has_its_own_type(house: House, connect: Connect) -> None:
    running = await house.running()
    failed = await house.running(provider_job_id="gen-2")
    await house.call_back(failed, "failed")
    _, hasty = await house.keys.create("hasty", "acme", creates_per_minute=1)
    wish = {"videoGenerationRequest": WISH}
    huge = {"videoGenerationRequest": WISH | {"prompt": "a" * 10_485_760}}
    app = house.app()

    async def thrown(sdk: Sdk, name: str, request: dict[str, Any]) -> tuple[str, int]:
        with pytest.raises(SdkError) as caught:
            await sdk.call(name, request, **ONCE)
        assert caught.value.code == caught.value.status
        return caught.value.name, caught.value.code

    async with connected(house, app, connect, "rk_wrong") as sdk:
        assert await thrown(sdk, "generate", wish) == ("UnauthorizedResponseError", 401)
    async with connected(house, app, connect, hasty) as sdk:
        await sdk.call("generate", wish)
        assert await thrown(sdk, "generate", wish) == ("TooManyRequestsResponseError", 429)
    async with connected(house, app, connect) as sdk:
        bad = {"videoGenerationRequest": WISH | {"duration": 0}}
        assert await thrown(sdk, "generate", bad) == ("BadRequestResponseError", 400)
        assert await thrown(sdk, "generate", huge) == ("PayloadTooLargeResponseError", 413)
        assert await thrown(sdk, "getGeneration", {"jobId": "job_x"}) == ("NotFoundResponseError", 404)
        content = {"jobId": running.id}
        assert await thrown(sdk, "getVideoContent", content) == ("ConflictResponseError", 409)
        assert await thrown(sdk, "getVideoContent", {"jobId": failed.id}) == ("GoneResponseError", 410)
        await house.claims.refused(await house.submitting(), JobError(ErrorCode.PROVIDER_CREDITS, "none left"))
        assert await thrown(sdk, "generate", wish) == ("PaymentRequiredResponseError", 402)


async def test_an_idempotency_key_makes_two_calls_one_job(house: House, sdk: Sdk) -> None:
    wish, headers = {"videoGenerationRequest": WISH}, {"Idempotency-Key": "order A-17"}
    first = await sdk.call("generate", wish, headers=headers)
    again = await sdk.call("generate", wish, headers=headers)
    assert first == again
    await until(lambda: len(house.lines()) == 2)
    third = await sdk.call("generate", wish)
    assert third["id"] != first["id"]
    assert await house.count("jobs") == 2
