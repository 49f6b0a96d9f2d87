"""An internet of names that lives on loopback, and an account of every connection that is made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

from service.errors import OutputError
from service.outbound import open_download, public_client
from service.workers.posting import post
from tests.servers import Loopback, answer, loopback

CLIENTS = ("download", "notify")
CANARY = "canary-key"
KEY = {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": CANARY}
_NOW = 1_795_248_512_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried, what came of it, and whether our promise held."""

    tried: str
    came: str
    kept: bool


@dataclass(slots=True)
class Internet:
    """`names` are answered in turn, the last one for ever; `connected` is where connections were tried to."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    connected: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Stand in for the names and the wires of this loop."""
        loop = asyncio.get_running_loop()
        look_up, connect = socket.getaddrinfo, loop.sock_connect

        def answered(host: Any, port: Any, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - as it is there
            if host not in self.names:
                return look_up(host, port, *rest, **options)
            answers = self.names[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [
                (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
                for each in addresses
            ]

        async def noted(sock: socket.socket, address: Any) -> None:  # noqa: ANN401 - as it is there
            self.connected.append(address[0])
            if not ip_address(address[0]).is_loopback:
                raise OSError(errno.ENETUNREACH, "nothing leaves this machine")
            await connect(sock, address)

        with patch.object(socket, "getaddrinfo", answered), patch.object(loop, "sock_connect", noted):
            yield


async def reach(
    client: str, url: str, *, allowed: Sequence[str] = (), seconds: float = 10, headers: dict[str, str] | None = None
) -> str:
    """Go to a URL as a download or a notification; return in words what came of it."""
    async with public_client(allowed) as http:
        if client == "notify":
            reply = await post(http, url, headers or {}, b"{}", now_ms=_NOW, seconds=seconds)
            return reply.error or f"answered {reply.status}"
        try:
            async with open_download(http, url, headers or {}, idle_seconds=seconds, seconds=seconds) as download:
                return f"got {sum([len(chunk) async for chunk in download.chunks()])} bytes"
        except OutputError as error:
            return str(error)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Loopback]:
    """Run a server whose connections are counted, and which would answer anybody."""
    async with loopback(answer(b"secret")) as server:
        yield server


def port_of(server: Loopback) -> int:
    """Return where it listens."""
    return int(server.host.rpartition(":")[2])
