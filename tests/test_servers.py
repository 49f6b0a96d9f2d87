from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from service.assembly import listen
from tests.servers import held_ports


def connected(port: int) -> bool:
    with socket.socket() as outgoing, contextlib.suppress(ConnectionRefusedError):
        outgoing.connect(("127.0.0.1", port))
        return True
    return False


def test_a_held_port_is_for_servers_that_come_and_go_and_for_nobody_else() -> None:
    with held_ports(2) as [port, other]:
        assert port != other
        for _ in range(2):
            assert not connected(port)
            with listen("127.0.0.1", port):
                assert connected(port)
        assert not connected(port)
        with socket.socket() as stranger, pytest.raises(OSError, match="in use") as refused:
            stranger.bind(("127.0.0.1", port))
        assert refused.value.errno == errno.EADDRINUSE
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # some of what connected is still on its way out
        stranger.bind(("127.0.0.1", port))
