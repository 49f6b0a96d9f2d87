"""The sandbox on a socket of its own: real connections, which its behaviours can really drop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from service.sandbox.app import Sandbox
from service.sandbox.connection import DroppableProtocol

_TURNS = 2  # of the loop: after the first an accepted connection has its transport, after the second its protocol


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process belongs to whoever runs the sandbox."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@contextlib.asynccontextmanager
async def serving(sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the sandbox while the block runs; yields its base URL, which holds the port that port 0 found.

    It answers requests and sends no callbacks by itself: run `sandbox.run()` next to it, or call `run_once()`. Open
    connections are cut when the block ends. Raises OSError if the address is taken.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Connections inherit it. asyncio would set it, but not on sockets made without naming the protocol, like this one;
    # without it every answer whose head and body are two writes takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found = listener.getsockname()[1]
    if not sandbox.base_url:
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - only if the operator says so with --host
        near = everywhere.get(host, f"[{host}]" if ":" in host else host)
        sandbox.base_url = f"http://{near}:{found}"
    config = uvicorn.Config(
        sandbox.app,
        http=DroppableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = _Server(config)
    # The socket listens already: who connects before uvicorn has started waits for a moment.
    served = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield sandbox.base_url
    finally:
        # uvicorn's own way out waits for answers to end, and some of these never do.
        served.cancel()
        await asyncio.wait({served})
        # asyncio forgets who was accepted and has no protocol yet when a server closes, and leaves the socket open.
        asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for each in getattr(server, "servers", []):  # none if it had no time to start
            each.close()
        listener.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=1)
