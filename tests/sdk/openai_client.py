"""What tests of the `openai` package share: its two manners as one, and a proxy that loses an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

from openai import AsyncOpenAI, OpenAI

from tests.turns import until
from tests.web.house import House

WISH: dict[str, Any] = {"model": "veo-3.1", "prompt": "a red kite", "seconds": "8", "size": "1280x720"}
PNG = b"\x89PNG\r\n\x1a\n picture"
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 24\r\nconnection: close\r\n\r\n"
    b"<h1>502 Bad Gateway</h1>"
)

Connect = Callable[..., Any]


class Sdk:
    """The SDK in whichever of its two manners. The sync one gets a thread, as it would block ours."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self._client = client

    async def call(self, name: str, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - the SDK's own types
        """Call "videos.create", "models.list" or another method."""
        method = attrgetter(name)(self._client)
        if isinstance(self._client, AsyncOpenAI):
            return await method(*arguments, **more)
        return await asyncio.to_thread(method, *arguments, **more)

    async def walk(self, name: str, **arguments: Any) -> list[Any]:  # noqa: ANN401 - the SDK's own
        """Return what a list and all its further pages hold."""
        method = attrgetter(name)(self._client)
        if isinstance(self._client, AsyncOpenAI):
            return [each async for each in method(**arguments)]
        return await asyncio.to_thread(lambda: list(method(**arguments)))

    async def stream(self, video_id: str) -> bytes:
        """Download a video piece by piece."""
        client = self._client
        if isinstance(client, AsyncOpenAI):
            async with client.videos.with_streaming_response.download_content(video_id) as answer:
                return b"".join([part async for part in answer.iter_bytes(1000)])

        def read() -> bytes:
            with client.videos.with_streaming_response.download_content(video_id) as answer:
                return b"".join(answer.iter_bytes(1000))

        return await asyncio.to_thread(read)


@asynccontextmanager
async def connected(kind: str, url: str, key: str, **settings: Any) -> AsyncIterator[Sdk]:  # noqa: ANN401 - the SDK's own
    """Open an SDK of a kind, "sync" or "async"."""
    if kind == "async":
        async with AsyncOpenAI(api_key=key, base_url=f"{url}/v1", **settings) as client:
            yield Sdk(client)
    else:
        with OpenAI(api_key=key, base_url=f"{url}/v1", **settings) as blocking:
            yield Sdk(blocking)


async def posts(house: House) -> list[int]:
    """Return how each POST was answered."""
    await until(lambda: not house.lines() or house.lines()[-1]["status"])
    return [line["status"] for line in house.lines() if (line["method"], line["path"]) == ("POST", "/v1/videos")]


@asynccontextmanager
async def losing_the_first_answer(port: int, instead: bytes) -> AsyncIterator[str]:
    """Run a proxy that sends `instead` of the first answer and hangs up, and passes on everything else."""
    lost = False
    running: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        there, back = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(pump(reader, back))
        running.add(asking)
        with contextlib.suppress(ConnectionError):
            if lost:
                await pump(there, writer)
            else:
                await there.readuntil(b"\r\n\r\n")
                lost = True
                writer.write(instead)
                await writer.drain()
        asking.cancel()
        writer.close()
        back.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*running, return_exceptions=True)
