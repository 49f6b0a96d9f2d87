"""Misbehaving below HTTP: the server's connection handed to the application, so that it can really be dropped."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Final

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "sandbox.connection"


class DroppableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which lends its transport to the application as an ASGI extension."""

    def on_message_begin(self) -> None:
        """Begin a request, as uvicorn does, and add the extension."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


async def close_after(scope: Scope, receive: Receive) -> None:
    """Close the connection after what was already sent, in the middle of the response."""
    _transport(scope).close()
    await until_gone(receive)


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the connection: the peer sees ECONNRESET, not an orderly end."""
    transport = _transport(scope)
    # SO_LINGER with no time makes the kernel send RST. The option belongs to the socket, so a second handle sets it.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Wait until the peer, or we ourselves, ended the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> Any:  # noqa: ANN401 - asyncio's or uvloop's
    try:
        return scope["extensions"][_EXTENSION]["transport"]
    except KeyError:
        raise RuntimeError(
            "this behaviour needs the connection itself: run the sandbox with service.sandbox.serving, "
            "not behind another ASGI server"
        ) from None
