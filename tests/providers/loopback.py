"""A real HTTP server on a loopback port that answers by script: what a provider, or the wire to it, may do."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from service.model import Job, OnUnknown, State, VideoRequest
from tests.turns import Turn


class Misbehaviour(Enum):
    """What a server may do instead of answering."""

    HANG = auto()  # take the request and say nothing
    CLOSE = auto()  # take the request and close
    RESET = auto()  # take the request and reset the connection
    CUT = auto()  # begin the answer and close


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        return json.loads(self.body)


@dataclass(slots=True)
class Loopback:
    """Answers every request with `answer`, and remembers what was asked."""

    url: str
    answer: bytes | Misbehaviour = Misbehaviour.CLOSE
    asked: list[Asked] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def will_answer(
        self, status: int, body: bytes | str | dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer from now on with this; a dict is sent as JSON."""
        raw = json.dumps(body) if isinstance(body, dict) else body
        raw = raw.encode() if isinstance(raw, str) else raw
        lines = [f"HTTP/1.1 {status} -", f"content-length: {len(raw)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items() if name.lower() != "content-length"]
        self.answer = "\r\n".join([*lines, "", ""]).encode() + raw

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, body))
        match self.answer:
            case bytes(answer):
                writer.write(answer)
            case Misbehaviour.HANG:
                await self.stopping.wait()
            case Misbehaviour.CUT:
                writer.write(b'HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n{"id":"cut')
            case Misbehaviour.RESET:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Loopback]:
    """Run a server until the block is left."""
    loopback = Loopback("")
    server = await asyncio.start_server(loopback.serve, "127.0.0.1", 0)
    loopback.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield loopback
    finally:
        loopback.stopping.set()
        server.close()
        await server.wait_closed()
        await Turn()


def a_job(request: VideoRequest, provider: str, provider_job_id: str | None = None) -> Job:
    """Return a job that is being submitted."""
    return Job(
        id="job_01k8z6v9n4e8r2m5t7w0x3y6za",
        tenant="acme",
        state=State.SUBMITTING,
        attempt=1,
        due_at=None,
        lease="lease",
        leased_until=None,
        provider=provider,
        provider_job_id=provider_job_id,
        provider_status=None,
        model=request.model,
        request=request,
        on_unknown=OnUnknown.WAIT,
        metadata={},
        created_at=1_795_248_505_000,
        submitted_at=1_795_248_505_000,
        doubted_at=None,
        deadline_at=1_795_255_705_000,
        mirror_until=None,
        finished_at=None,
        doubts=0,
        outputs=(),
        cost=None,
        error=None,
        artifacts=(),
    )
