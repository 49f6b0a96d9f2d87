"""A bucket that misbehaves on command: a proxy on loopback in front of a real S3 server.

It passes on what it is asked as it came, with the `Host` that the client signed, so that the real server checks the
real signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from tests.servers import SeaweedFS, answer
from tests.turns import Turn

_BLOCK = 65_536
_DROP_SECONDS = 0.05


class Call(StrEnum):
    """What a client asks of a bucket."""

    BEGIN = "begin"  # CreateMultipartUpload
    PART = "part"  # UploadPart
    COMPLETE = "complete"  # CompleteMultipartUpload
    ABORT = "abort"  # AbortMultipartUpload
    UPLOADS = "uploads"  # ListMultipartUploads
    LIST = "list"
    READ = "read"  # GetObject
    HEAD = "head"
    DELETE = "delete"


class Way(StrEnum):
    """How a call goes wrong."""

    REFUSED = "refused"  # answered with `status` and `code`, in S3's own words, unread
    SILENT = "silent"  # taken, and never answered
    DRIPPING = "dripping"  # read in drops of `drop` bytes, 20 a second
    RESET = "reset"  # reset when half of the body is through
    LOST = "lost"  # done by the bucket, and its answer lost
    ALTERED = "altered"  # one bit of its body is another on the way


WRITING = frozenset({Call.BEGIN, Call.PART, Call.COMPLETE, Call.ABORT, Call.DELETE})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with some calls, until the bucket is well again; `times` None: with all of them."""

    way: Way
    calls: Collection[Call] = frozenset(Call)
    status: int = 503
    code: str = "SlowDown"
    message: str = "Please reduce your request rate."
    times: int | None = None
    drop: int = 512


@dataclass(slots=True)
class FaultyBucket:
    """The proxy. `fault` is what goes wrong now, `asked` counts what was asked, `suffered` what went wrong of it."""

    server: SeaweedFS
    endpoint: str = ""
    fault: Fault | None = None
    asked: Counter[Call] = field(default_factory=Counter)
    suffered: Counter[Call] = field(default_factory=Counter)

    @property
    def environment(self) -> dict[str, str]:
        """What an S3 client reads to reach the bucket through here."""
        return {**self.server.environment, "AWS_ENDPOINT_URL": self.endpoint}

    def breaks(self, fault: Fault | None) -> None:
        """Misbehave from now on; None: be well."""
        self.fault = fault
        self.suffered.clear()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while the block lasts."""
        talks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talks.add(task)
            task.add_done_callback(talks.discard)
            # Cancelled is how a call ends that is still under way when the block is left.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._talk(reader, writer)
            writer.close()

        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            listener.close()
            await Turn()  # who was let in just before begins to talk
            for task in list(talks):
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        call = _call(head)
        self.asked[call] += 1
        fault = self._fault_of(call)
        if fault is None:
            writer.write(await self._pass_on(head, reader))
            await writer.drain()
            return
        self.suffered[call] += 1
        length = _length(head)
        match fault.way:
            case Way.SILENT:
                await asyncio.Event().wait()
            case Way.REFUSED:
                await reader.readexactly(length)
                error = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
                writer.write(answer(error.encode(), "Content-Type: application/xml", status=fault.status))
                await writer.drain()
            case Way.DRIPPING:
                body = bytearray()
                while len(body) < length:
                    body += await reader.readexactly(min(fault.drop, length - len(body)))
                    await asyncio.sleep(_DROP_SECONDS)  # this is what a slow bucket is
                writer.write(await self._pass_on(head, reader, bytes(body)))
                await writer.drain()
            case Way.RESET:
                await reader.readexactly(length // 2)
                writer.transport.abort()
            case Way.LOST:
                await self._pass_on(head, reader)
                writer.transport.abort()
            case Way.ALTERED:
                body = bytearray(await reader.readexactly(length))
                body[length // 2] ^= 1
                writer.write(await self._pass_on(head, reader, bytes(body)))
                await writer.drain()

    def _fault_of(self, call: Call) -> Fault | None:
        fault = self.fault
        if fault is None or call not in fault.calls:
            return None
        return fault if fault.times is None or self.suffered.total() < fault.times else None

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, body: bytes | None = None) -> bytes:
        """Ask the real bucket, on a connection for this call alone, and return its whole answer."""
        there = urlsplit(self.server.endpoint)
        answers, asks = await asyncio.open_connection(there.hostname, there.port)
        try:
            asks.write(_closing(head))
            left = _length(head)
            if body is not None:
                asks.write(body)
                left = 0
            while left:
                block = await reader.readexactly(min(_BLOCK, left))
                asks.write(block)
                await asks.drain()
                left -= len(block)
            said = await answers.read()
        finally:
            asks.close()
        start, _, rest = said.partition(b"\r\n\r\n")
        return _closing(start + b"\r\n\r\n") + rest


def _closing(head: bytes) -> bytes:
    """Say of a connection that it ends after this; nobody signs that."""
    first, _, rest = re.sub(rb"(?im)^connection:[^\r]*\r\n", b"", head).partition(b"\r\n")
    return first + b"\r\nConnection: close\r\n" + rest


def _length(head: bytes) -> int:
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _call(head: bytes) -> Call:
    method, target = head.decode("latin-1").split()[:2]
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    return next(call for of, name, call in _CALLS if of == method and (not name or name in query))


_CALLS = (
    ("POST", "uploads", Call.BEGIN),
    ("POST", "delete", Call.DELETE),
    ("POST", "uploadId", Call.COMPLETE),
    ("PUT", "partNumber", Call.PART),
    ("DELETE", "uploadId", Call.ABORT),
    ("DELETE", "", Call.DELETE),
    ("HEAD", "", Call.HEAD),
    ("GET", "uploads", Call.UPLOADS),
    ("GET", "list-type", Call.LIST),
    ("GET", "", Call.READ),
)

DENIED = Fault(Way.REFUSED, status=403, code="AccessDenied", message="Access Denied")
SLOW_DOWN = Fault(Way.REFUSED, status=503)
BROKEN = Fault(Way.REFUSED, status=500, code="InternalError", message="We encountered an internal error.")
FULL = Fault(
    Way.REFUSED,
    WRITING - {Call.DELETE},
    507,
    "XMinioStorageFull",
    "Storage backend has reached its minimum free drive threshold.",
)
OVER_QUOTA = Fault(Way.REFUSED, {Call.BEGIN, Call.PART}, 403, "QuotaExceeded", "The quota of the bucket is used up.")
SILENT = Fault(Way.SILENT)
DRIPPING = Fault(Way.DRIPPING, {Call.PART})
RESET = Fault(Way.RESET, {Call.PART})
LOST = Fault(Way.LOST, {Call.COMPLETE})
FALSE_OK = Fault(Way.REFUSED, {Call.COMPLETE}, 200, "InternalError", "We encountered an internal error.")
ALTERED = Fault(Way.ALTERED, {Call.PART})
