"""How connections are made: to addresses that were judged, and with a bound on all that comes before an answer.

httpx has no public place for this, so `transport` knows where it keeps what makes its connections, and httpcore's
public interface for that is implemented here. Tests and a proof show on real sockets that it is in force.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import httpx

from service.addresses import is_public, normal
from service.threads import in_thread

_NAME_SECONDS = 10
_LONGEST_HEAD = 65_536  # bytes: that of the answer, and of all answers of the kind 1xx before it
_END = re.compile(rb"\n\r?\n")  # of a head, as h11 has it: a server may end its lines with LF alone
_MOST_HEADERS = 256  # of them together: each keeps the whole service busy for longer than its bytes


class NotPublicError(httpx.RequestError):
    """The host has an address that is not public; no connection was made."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__("the host is not on the public internet")
        self.host = f"[{host}]" if ":" in host else host
        self.port = port


def transport(limits: httpx.Limits, allowed: Collection[tuple[str, int]] | None = None) -> httpx.AsyncHTTPTransport:
    """Return what makes a client's connections: to any host, or to public addresses and the hosts in `allowed` only.

    No proxies, TLS verified.
    """
    made = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
    pool = getattr(made, "_pool", None)
    plain = getattr(pool, "_network_backend", None)
    if pool is None or not isinstance(plain, httpcore.AsyncNetworkBackend):
        raise TypeError("this httpx makes its connections in another way, and nothing would judge their addresses")
    pool._network_backend = _Backend(plain, allowed)  # noqa: SLF001 - there is no other way
    return made


class _Backend(httpcore.AsyncNetworkBackend):
    """Makes connections whose answers have bounded heads; unless `allowed` is None, only to public addresses.

    A name is looked up once, because a second look could bring other addresses, and connected to are none but those
    that were judged. When one of several is not public, none is: a stranger would find out, by trying, what there is
    in our network.
    """

    def __init__(self, plain: httpcore.AsyncNetworkBackend, allowed: Collection[tuple[str, int]] | None) -> None:
        self._plain = plain
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        begun = time.monotonic()
        free = self._allowed is None or (normal(host), port) in self._allowed
        addresses = [host] if free else await _judged(host, port)
        for left in range(len(addresses), 0, -1):
            rest = None if timeout is None else max(0.0, timeout - (time.monotonic() - begun)) / left
            try:
                stream = await self._plain.connect_tcp(addresses[-left], port, rest, local_address, socket_options)
                return _Stream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore.ConnectError("the name has no address")

    async def sleep(self, seconds: float) -> None:
        await self._plain.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection on which no head of an answer is endless, nor the number of answers of the kind 1xx before it.

    httpcore bounds a single head; it reads any number of them, and looks at each, for as long as they come.
    """

    def __init__(self, plain: httpcore.AsyncNetworkStream) -> None:
        self._plain = plain
        self._in_head = False
        self._seen = 0  # bytes of whole heads since the request was sent
        self._lines = 0  # of them
        self._head = bytearray()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as httpcore has it
        data = await self._plain.read(max_bytes, timeout)
        if self._in_head:
            self._watch(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as httpcore has it
        self._in_head, self._seen, self._lines = True, 0, 0
        self._head.clear()
        await self._plain.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._plain.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._plain.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        return self._plain.get_extra_info(info)

    def _watch(self, data: bytes) -> None:
        self._head += data
        while end := _END.search(self._head):
            self._seen += end.start()
            self._lines += self._head.count(b"\n", 0, end.start())
            self._judge(0)
            self._in_head = self._head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1"))
            del self._head[: end.end()]
            if not self._in_head:
                self._head.clear()
                return
        self._judge(len(self._head))

    def _judge(self, more: int) -> None:
        if self._seen + more > _LONGEST_HEAD:
            raise httpcore.RemoteProtocolError(f"the head of the answer is longer than {_LONGEST_HEAD:,} bytes")
        if self._lines > _MOST_HEADERS:
            raise httpcore.RemoteProtocolError(f"the answer has more than {_MOST_HEADERS} headers")


async def _judged(host: str, port: int) -> list[str]:
    """Return the addresses of a host, all of them public. Raises NotPublicError, and httpcore's own errors."""
    try:
        addresses = await _resolve(host, port)
    except TimeoutError as error:  # which is an OSError, too
        raise httpcore.ConnectTimeout(f"its name was not found within {_NAME_SECONDS} s") from error
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    if not all(map(is_public, addresses)):
        raise NotPublicError(host, port)
    return [str(address) for address in addresses]


async def _resolve(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    """Return all addresses of a host. Raises OSError when it has none, TimeoutError, and UnicodeError for no name."""

    def look_up() -> list[Any]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    # The event loop has a handful of threads for looking up names: a few names whose server is dead would keep every
    # other one waiting, those of providers too. So each stranger's name has a thread of its own.
    async with asyncio.timeout(_NAME_SECONDS):
        found = await in_thread(look_up, name="look-up")
    return [ip_address(each[4][0]) for each in found]
