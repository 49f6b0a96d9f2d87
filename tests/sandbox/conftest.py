"""The sandbox on a real socket, a caller of it, and a receiver of its callbacks."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service.clock import ManualClock
from service.sandbox import Sandbox, serving

WEBHOOK_SECRET = "whsec_workspace"
TRUST = ssl.create_default_context()  # made once: it takes longer than most tests
CALLBACK_SECRET = "whsec_of one job: ünïcode"


@dataclass
class Received:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Receiver:
    """An HTTP server that takes callbacks; `answers` are its next statuses, then 204."""

    url: str
    received: list[Received] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)


@dataclass
class House:
    """Everything that a test talks to. Times move only by `clock`."""

    sandbox: Sandbox
    clock: ManualClock
    http: httpx.AsyncClient
    receiver: Receiver

    async def submit(self, dialect: str, name: str, **fields: object) -> httpx.Response:
        """Submit a job with a callback, as a right request of that dialect."""
        request = {"model": f"sandbox/{name}", "prompt": "a cat", "callback_url": self.receiver.url, **fields}
        if dialect == "openrouter":
            return await self.http.post("/api/v1/videos", json=request)
        return await self.http.post("/v1/videos", json={"seconds": 4, "callback_secret": CALLBACK_SECRET, **request})

    async def job(self, dialect: str, name: str) -> str:
        """Submit a job that is accepted and return the path to poll it at."""
        return path_of(dialect, (await self.submit(dialect, name)).json()["id"])

    async def finished(self, dialect: str, name: str) -> str:
        """Submit a job, let it end, and return the path to poll it at."""
        path = await self.job(dialect, name)
        self.clock.advance(2_000)
        return path

    async def ledger(self) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.http.get("/sandbox/ledger")).json()
        return shown

    async def last_job(self) -> dict[str, Any]:
        job: dict[str, Any] = (await self.ledger())["jobs"][-1]
        return job


def path_of(dialect: str, job_id: str) -> str:
    return f"/api/v1/videos/{job_id}" if dialect == "openrouter" else f"/v1/videos/{job_id}"


@pytest.fixture(params=["openrouter", "llmgateway"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        taken.received.append(Received(head[0].split()[1], headers, body))
        status = taken.answers.popleft() if taken.answers else 204
        writer.write(f"HTTP/1.1 {status} So\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        taken = Receiver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callbacks/x?a=b")
        yield taken


@pytest.fixture
async def house(receiver: Receiver) -> AsyncIterator[House]:
    clock = ManualClock()
    async with httpx.AsyncClient(verify=TRUST) as client:
        sandbox = Sandbox(
            clock=clock,
            chance=random.Random(1),  # noqa: S311 - the same names in every run
            webhook_secret=WEBHOOK_SECRET,
            api_key="right-key",
            client=client,
        )
        async with (
            serving(sandbox) as url,
            httpx.AsyncClient(verify=TRUST, base_url=url, headers={"authorization": "Bearer right-key"}) as http,
        ):
            yield House(sandbox, clock, http, receiver)
