"""Two backends that make videos, each with its unmodified SDK and that SDK's own retries."""

from __future__ import annotations

from typing import Protocol

from openai import AsyncOpenAI
from openrouter import OpenRouter

PROMPT = "a red kite"
SECONDS = 4


class Caller(Protocol):
    """A backend that knows one SDK and one address."""

    async def create(self, model: str) -> str:
        """Ask for a video, once, and return its id."""
        ...

    async def status(self, video_id: str) -> str:
        """Ask how it is doing."""
        ...

    async def content(self, video_id: str) -> bytes:
        """Fetch the video."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class WrongAnswerError(Exception):
    """The SDK returned something that is no video."""


class OpenAICaller:
    """Calls with `openai`. `timeout` (s) stands in for its default of 600."""

    provider = "llmgateway"
    path = "/v1"

    def __init__(self, url: str, key: str, timeout: float | None = None) -> None:
        self._client = AsyncOpenAI(base_url=url + self.path, api_key=key)
        if timeout is not None:
            self._client = self._client.with_options(timeout=timeout)

    async def create(self, model: str) -> str:
        video = await self._client.videos.create(model=model, prompt=PROMPT, seconds="4")
        if isinstance(video, str):  # what the SDK returns for an answer that is not JSON
            raise WrongAnswerError(video)
        return video.id

    async def status(self, video_id: str) -> str:
        return (await self._client.videos.retrieve(video_id)).status

    async def content(self, video_id: str) -> bytes:
        return await (await self._client.videos.download_content(video_id)).aread()

    async def close(self) -> None:
        await self._client.close()


class OpenRouterCaller:
    """Calls with `openrouter`."""

    provider = "openrouter"
    path = "/api/v1"

    def __init__(self, url: str, key: str, timeout: float | None = None) -> None:
        self._client = OpenRouter(
            server_url=url + self.path, api_key=key, timeout_ms=None if timeout is None else round(timeout * 1000)
        )

    async def create(self, model: str) -> str:
        made = await self._client.video_generation.generate_async(model=model, prompt=PROMPT, duration=SECONDS)
        return made.id

    async def status(self, video_id: str) -> str:
        return str((await self._client.video_generation.get_generation_async(job_id=video_id)).status)

    async def content(self, video_id: str) -> bytes:
        answer = await self._client.video_generation.get_video_content_async(job_id=video_id)
        return await answer.aread()

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]  # as the SDK has it
