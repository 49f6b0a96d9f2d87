"""Many large bodies at once, over real sockets: as many as there is room for, and nobody is kept out for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.types import ASGIApp

from service.web import openrouter
from service.web.places import Places
from tests.turns import until
from tests.web.house import House, connected, serving

MEBIBYTE = 1_048_576
PATH = "/api/v1/videos"
SMALL = {"model": "google/veo-3.1", "prompt": "a cat"}


def large(size: int) -> bytes:
    """Return a good body of `size` bytes."""
    head, tail = json.dumps(SMALL)[:-1] + ', "user": "', '"}'
    return f"{head}{'x' * (size - len(head) - len(tail))}{tail}".encode()


@asynccontextmanager
async def sending(
    port: int, house: House, sent: int, *, path: str = PATH
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin to send 4 MiB and stop after `sent` bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {4 * MEBIBYTE}\r\n\r\n"
    )
    async with connected(port) as (reader, writer):
        writer.write(head.encode() + large(4 * MEBIBYTE)[:sent])
        await writer.drain()
        yield reader, writer


def free(made: list[Places]) -> int:
    return made[-1]._free._value


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Places]:
    """Return all that are made, to look into them."""
    made: list[Places] = []
    build = Places.__init__

    def remember(self: Places, app: ASGIApp) -> None:
        build(self, app)
        made.append(self)

    monkeypatch.setattr(Places, "__init__", remember)
    return made


@asynccontextmanager
async def crowded(house: House, made: list[Places]) -> AsyncIterator[tuple[int, httpx.AsyncClient, AsyncExitStack]]:
    """Serve a house where eight have sent more than 1 MiB and stopped."""
    headers = {"authorization": f"Bearer {house.key}", "content-type": "application/json"}
    app = house.app()
    async with (
        serving(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=30) as client,
        AsyncExitStack() as senders,
    ):
        await client.get("/healthz")  # builds what stands before the routes
        for _ in range(8):
            await senders.enter_async_context(sending(port, house, MEBIBYTE + 200_000))
        await until(lambda: free(made) == 0)
        yield port, client, senders


async def test_the_ninth_large_body_waits_for_a_place_and_a_small_one_does_not(
    house: House, made: list[Places]
) -> None:
    async with crowded(house, made) as (_, client, senders):
        waiting = asyncio.create_task(client.post(PATH, content=large(9 * MEBIBYTE)))
        assert (await client.post(PATH, content=large(MEBIBYTE))).status_code == 202
        assert not waiting.done()
        await senders.aclose()  # they hang up
        assert (await waiting).status_code == 202
        await until(lambda: free(made) == 8)


@pytest.mark.parametrize(
    ("path", "body"), [(PATH, large(5 * MEBIBYTE)), ("/v1/videos", large(5 * MEBIBYTE)), ("/v1/videos", None)]
)
async def test_who_waits_in_vain_is_asked_to_come_again(
    house: House, made: list[Places], monkeypatch: pytest.MonkeyPatch, path: str, body: bytes | None
) -> None:
    monkeypatch.setattr(Places, "seconds", 0.05)
    files = {"input_reference": ("cat.png", b"\x89PNG\r\n\x1a\n" + bytes(5 * MEBIBYTE), "image/png")}
    async with crowded(house, made) as (_, client, senders):

        async def post() -> httpx.Response:
            if body is not None:
                return await client.post(path, content=body)
            del client.headers["content-type"]
            return await client.post(path, data={"prompt": "a cat", "seconds": "4"}, files=files)

        refused = await post()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert "send it again in a few seconds" in refused.json()["error"]["message"]
        assert "x-should-retry" not in refused.headers
        assert await house.count("jobs") == 0
        assert house.faults() == []
        await senders.aclose()
        await until(lambda: free(made) == 8)
        client.headers["content-type"] = "application/json"
        assert (await post()).status_code == 202


async def test_a_body_that_is_announced_and_does_not_come_takes_no_place(house: House, made: list[Places]) -> None:
    async with crowded(house, made) as (port, client, senders):
        await senders.aclose()
        await until(lambda: free(made) == 8)
        async with AsyncExitStack() as idle:
            for _ in range(12):
                await idle.enter_async_context(sending(port, house, MEBIBYTE - 1_000))
            assert (await client.post(PATH, content=large(9 * MEBIBYTE))).status_code == 202
            assert free(made) == 8


async def test_a_sender_that_drips_has_a_place_no_longer_than_its_time(
    house: House, made: list[Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openrouter, "BODY_SECONDS", 1.0)
    async with crowded(house, made) as (_, client, _):
        monkeypatch.setattr(openrouter, "BODY_SECONDS", 30.0)
        assert (await client.post(PATH, content=large(9 * MEBIBYTE))).status_code == 202
        await until(lambda: [line["status"] for line in house.lines()].count(408) == 8)
        assert free(made) == 8


async def test_a_stream_that_is_followed_keeps_no_place_whatever_comes_with_it(
    house: House, made: list[Places]
) -> None:
    job = await house.queued()
    head = (
        f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {16 * MEBIBYTE}\r\n\r\n"
    )
    async with crowded(house, made) as (port, _, senders):
        await senders.aclose()
        await until(lambda: free(made) == 8)
        async with connected(port) as (reader, writer):
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(bytes(16 * MEBIBYTE))
            await asyncio.wait_for(writer.drain(), 10)
            assert free(made) == 8
