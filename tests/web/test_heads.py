from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.web.heads import BoundedHeads
from service.web.refusals import RefusalError
from tests.turns import until
from tests.web.house import connected, serving

LIMIT = 65_536
SLACK = 16_384

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Counter:
    """An app that answers with the size of the body when it may, or at once without reading it."""

    reads: bool = True
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    heads: list[int] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.heads.append(len(request.headers.raw))
        size = 0
        try:
            if self.reads:
                async for chunk in request.stream():
                    size += len(chunk)
        except ClientDisconnect:
            return
        await self.may_answer.wait()
        await PlainTextResponse(str(size))(scope, receive, send)


@pytest.fixture
def app() -> Counter:
    app = Counter()
    app.may_answer.set()
    return app


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHeads, "refusal_seconds", 0)


@pytest.fixture
async def streams(app: Counter) -> AsyncIterator[Streams]:
    async with serving(app) as port, connected(port) as streams:
        yield streams


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of all that reached uvicorn's parser, which keeps the head that it is in."""
    sizes: list[int] = []
    take = HttpToolsProtocol.data_received

    def count(self: HttpToolsProtocol, data: bytes) -> None:
        sizes.append(len(data))
        take(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", count)
    return sizes


def head(*lines: str, size: int = 0) -> bytes:
    """Return a head, filled up to `size` bytes."""
    start = "\r\n".join(["POST / HTTP/1.1", "Host: x", *lines, "X-Fill: "])
    return (start + "x" * (size - len(start) - 4) + "\r\n\r\n").encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        [length] = [line.split(": ")[1] for line in lines if line.startswith("content-length: ")]
        return int(lines[0].split()[1]), (await reader.readexactly(int(length))).decode()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the connection ends; a reset is an end, too."""
    came = b""
    try:
        async with asyncio.timeout(10):
            while chunk := await reader.read(65_536):
                came += chunk
    except ConnectionError:
        pass
    return came


async def write_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write until the other side takes no more."""
    try:
        for at in range(0, len(data), 65_536):
            writer.write(data[at : at + 65_536])
            await writer.drain()
    except ConnectionError:
        pass


# Size


async def test_a_head_of_exactly_the_limit_passes(streams: Streams, app: Counter) -> None:
    reader, writer = streams
    writer.write(head(size=LIMIT))
    assert await answer(reader) == (200, "0")
    assert app.heads == [2]


async def test_a_head_that_is_larger_is_told_so(streams: Streams, app: Counter) -> None:
    reader, writer = streams
    writer.write(head(size=LIMIT + 1)[:LIMIT])
    status, body = await answer(reader)
    assert (status, json.loads(body)["error"]["code"]) == (431, "head_too_large")
    assert "65,536 bytes" in body
    assert await rest(reader) == b""
    assert app.heads == []


async def test_a_head_may_have_a_hundred_and_twenty_eight_headers_and_no_more(streams: Streams, app: Counter) -> None:
    reader, writer = streams
    writer.write(head(*(f"X-{number}: y" for number in range(126))))
    assert await answer(reader) == (200, "0")
    assert app.heads == [128]
    writer.write(head(*(f"X-{number}: y" for number in range(127))))
    status, body = await answer(reader)
    assert (status, json.loads(body)["error"]["code"]) == (431, "head_too_large")
    assert "more than 128 headers" in body
    assert await rest(reader) == b""
    assert app.heads == [128]


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ],
)
async def test_no_two_servers_can_read_differently_where_a_body_ends(
    streams: Streams, app: Counter, lines: list[str]
) -> None:
    reader, writer = streams
    writer.write(head(*lines) + b"0\r\n\r\n" + head())
    assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")
    assert app.heads == []


async def test_what_stands_behind_a_body_is_no_header() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        await PlainTextResponse(str(request.headers.get("authorization")))(scope, receive, send)

    async with serving(app) as port, connected(port) as (reader, writer):
        writer.write(head("Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert await answer(reader) == (200, "None")
        writer.write(head("Authorization: Bearer y"))
        assert await answer(reader) == (200, "Bearer y")


@pytest.mark.parametrize("data", [b"\0garbage\r\n\r\n", head(*(f"X-{number}: y" for number in range(200)))])
async def test_what_is_no_request_does_not_speak_into_the_answer_before_it(
    streams: Streams, app: Counter, data: bytes
) -> None:
    app.may_answer.clear()
    reader, writer = streams
    writer.write(head())
    await until(lambda: app.heads)
    writer.write(data)
    assert await rest(reader) == b""
    app.may_answer.set()


@pytest.mark.parametrize(
    "data",
    [
        head(size=100_000),
        head(*(f"X-{number}: y" for number in range(10_000))),
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * 100_000 + b": y\r\n\r\n",
        b"\r\n" * 50_000 + head(),
    ],
    ids=["one header", "many headers", "the path", "a header's name", "empty lines"],
)
async def test_no_part_of_a_head_may_be_large(streams: Streams, app: Counter, data: bytes) -> None:
    reader, writer = streams
    await write_all(writer, data)
    assert b" 200 " not in await rest(reader)
    assert app.heads == []


async def test_of_an_endless_head_no_more_than_the_limit_is_kept(
    streams: Streams, app: Counter, parsed: list[int]
) -> None:
    reader, writer = streams
    await write_all(writer, head(size=20_000_000))
    await rest(reader)
    assert LIMIT <= sum(parsed) < LIMIT + SLACK
    assert app.heads == []


@pytest.mark.parametrize(
    ("begin", "more"),
    [(b"0\r\nX-Trailer: ", b"x"), (b"0\r\n", b"X-Trailer: y\r\n"), (b"1;extension=", b"x")],
    ids=["one trailer", "many trailers", "an extension"],
)
async def test_what_stands_between_and_behind_the_chunks_of_a_body_is_bounded_too(
    streams: Streams, parsed: list[int], begin: bytes, more: bytes
) -> None:
    reader, writer = streams
    await write_all(writer, head("Transfer-Encoding: chunked") + b"1\r\nx\r\n" + begin + more * 1_000_000)
    assert await rest(reader) == b""  # the request is being answered already
    assert sum(parsed) < LIMIT + 2 * SLACK


async def test_what_stands_behind_a_body_that_was_answered_already_gets_no_second_answer(
    streams: Streams, app: Counter
) -> None:
    app.reads = False
    reader, writer = streams
    writer.write(head("Transfer-Encoding: chunked") + b"1\r\nx\r\n")
    assert await answer(reader) == (200, "0")
    await write_all(writer, b"0\r\n" + b"X-Trailer: y\r\n" * 10_000)
    assert await rest(reader) == b""


async def test_a_chunk_may_come_behind_a_large_head(streams: Streams) -> None:
    reader, writer = streams
    chunk = b"1;extension=" + b"x" * 50_000 + b"\r\nx\r\n"
    await write_all(writer, head("Transfer-Encoding: chunked", size=50_000) + chunk + b"0\r\n\r\n")
    assert await answer(reader) == (200, "1")


async def test_a_large_body_passes(streams: Streams, parsed: list[int]) -> None:
    reader, writer = streams
    await write_all(writer, head("Content-Length: 5000000") + b"x" * 5_000_000)
    assert await answer(reader) == (200, "5000000")
    assert sum(parsed) == 5_000_000 + len(head("Content-Length: 5000000"))


async def test_a_large_body_in_small_chunks_passes(streams: Streams) -> None:
    reader, writer = streams
    await write_all(writer, head("Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert await answer(reader) == (200, "100000")


async def test_every_request_on_a_connection_may_have_a_head_of_its_own(streams: Streams, app: Counter) -> None:
    reader, writer = streams
    for _ in range(3):
        await write_all(writer, head("Content-Length: 100000", size=60_000) + b"x" * 100_000)
        assert await answer(reader) == (200, "100000")
    assert app.heads == [3, 3, 3]


async def test_a_later_head_on_a_connection_is_bounded_too(streams: Streams, app: Counter) -> None:
    reader, writer = streams
    writer.write(head())
    assert await answer(reader) == (200, "0")
    writer.write(head(size=LIMIT + 1)[:LIMIT])
    assert (await answer(reader))[0] == 431
    assert await rest(reader) == b""
    assert len(app.heads) == 1


async def test_requests_that_come_all_at_once_are_answered_one_after_another(streams: Streams) -> None:
    reader, writer = streams
    sizes = [str(size) for size in range(0, 6_000, 100)]
    for size in sizes:
        writer.write(head(f"Content-Length: {size}", size=500) + b"x" * int(size))
    assert [await answer(reader) for _ in sizes] == [(200, size) for size in sizes]


async def test_too_large_a_head_does_not_speak_into_the_answer_before_it(streams: Streams, app: Counter) -> None:
    app.may_answer.clear()
    reader, writer = streams
    writer.write(head())
    await until(lambda: app.heads)
    await write_all(writer, head(size=100_000))
    assert await rest(reader) == b""
    app.may_answer.set()


async def test_an_upgrade_that_we_do_not_know_is_an_ordinary_request(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    reader, writer = streams
    for _ in range(2):
        writer.write(head("Connection: Upgrade", "Upgrade: h2c"))
        assert await answer(reader) == (200, "0")


GARBAGE = pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", "invalid_http"),
        (b"GET / HTTP/9.9\r\n\r\n", "invalid_http"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", "invalid_http"),
        (b"GET / HTTP/1.1\r\nContent-Length : 4\r\n\r\n", "invalid_http"),
        (head(*(["a: b"] * 130)), "head_too_large"),
    ],
    ids=["TLS", "a version", "a path", "a length", "many headers"],
)


@GARBAGE
async def test_what_is_no_request_is_told_what_to_send(streams: Streams, app: Counter, data: bytes, code: str) -> None:
    reader, writer = streams
    writer.write(data + head())
    status, body = await answer(reader)
    assert (status, json.loads(body)["error"]["code"]) == (431 if code == "head_too_large" else 400, code)
    assert await rest(reader) == b""
    assert app.heads == []


@GARBAGE
async def test_who_sends_garbage_waits_and_is_not_read_meanwhile(
    waits: list[BoundedHeads],
    parsed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    streams: Streams,
    data: bytes,
    code: str,
) -> None:
    monkeypatch.setattr(BoundedHeads, "refusal_seconds", 1_000)
    reader, writer = streams
    writer.write(data)
    await until(lambda: waits and waits[0]._refused)
    read = sum(parsed)
    deadline = waits[0]._deadline
    assert deadline is not None
    assert 900 < deadline.when() - asyncio.get_running_loop().time() <= 1_000
    waits[0].data_received(head())
    assert sum(parsed) == read
    deadline.cancel()
    waits[0]._tell(RefusalError(400, code, "At last."))
    assert (await answer(reader))[0] == 400
    assert await rest(reader) == b""


# Time


@pytest.mark.parametrize("head_of_body", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_was_answered_already_does_not_go_on_for_ever(
    streams: Streams, app: Counter, monkeypatch: pytest.MonkeyPatch, head_of_body: str
) -> None:
    monkeypatch.setattr(BoundedHeads, "linger_seconds", 0.03)
    app.reads = False
    reader, writer = streams
    writer.write(head(head_of_body))
    assert await answer(reader) == (200, "0")
    assert await dripped(streams, b"", b"1\r\nx\r\n") == b""


DRIPS = pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"\r\n"),
        (b"GET /", b"x"),
        (b"GET / HTTP/1.1\r\nX-Slow: ", b"x"),
        (b"GET / HTTP/1.1\r\n", b"X-Slow: y\r\n"),
    ],
    ids=["empty lines", "the path", "one header", "many headers"],
)


async def dripped(streams: Streams, begin: bytes, drop: bytes) -> bytes:
    """Send a little every few milliseconds until the connection ends; return what came back."""
    reader, writer = streams
    writer.write(begin)
    ended = asyncio.create_task(rest(reader))
    while not ended.done():
        writer.write(drop)
        await asyncio.wait({ended}, timeout=0.005)
    return ended.result()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHeads, "head_seconds", 0.03)


@pytest.mark.usefixtures("hasty")
async def test_a_connection_that_asks_for_nothing_is_ended(streams: Streams) -> None:
    assert await rest(streams[0]) == b""


@DRIPS
@pytest.mark.usefixtures("hasty")
async def test_a_head_that_drips_is_ended(streams: Streams, app: Counter, begin: bytes, drop: bytes) -> None:
    assert await dripped(streams, begin, drop) == b""
    assert app.heads == []


@DRIPS
async def test_a_later_head_that_drips_is_ended(
    streams: Streams, app: Counter, monkeypatch: pytest.MonkeyPatch, begin: bytes, drop: bytes
) -> None:
    reader, writer = streams
    writer.write(head())
    assert await answer(reader) == (200, "0")
    monkeypatch.setattr(BoundedHeads, "head_seconds", 0.03)
    assert await dripped(streams, begin, drop) == b""
    assert len(app.heads) == 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[BoundedHeads]:
    """Return the connection once for every time that it began to wait for a head."""
    begun: list[BoundedHeads] = []
    wait = BoundedHeads._wait_for_head

    def note(self: BoundedHeads) -> None:
        begun.append(self)
        wait(self)

    monkeypatch.setattr(BoundedHeads, "_wait_for_head", note)
    return begun


async def test_each_head_is_waited_for_once_and_bodies_answers_and_pauses_are_not(
    waits: list[BoundedHeads], parsed: list[int], streams: Streams, app: Counter
) -> None:
    reader, writer = streams
    request = head("Transfer-Encoding: chunked")
    of_the_head = request[:9], request[9:20]
    for number in (1, 2):
        app.may_answer.clear()
        for part in (*of_the_head, request[20:], b"1", b"\r\nx\r\n", b"0\r\n", b"\r\n"):
            so_far = len(parsed)
            writer.write(part)
            await until(lambda: len(parsed) > so_far)  # noqa: B023 - it is over before the next turn
            assert (waits[0]._deadline is not None) == (part in of_the_head)
        app.may_answer.set()
        assert await answer(reader) == (200, "1")
        assert waits[0]._deadline is None
        assert len(waits) == number


async def test_a_body_that_was_answered_already_may_end_and_the_next_request_is_answered(
    waits: list[BoundedHeads], streams: Streams, app: Counter
) -> None:
    app.reads = False
    reader, writer = streams
    for _ in range(2):
        writer.write(head("Content-Length: 100") + b"x")
        assert await answer(reader) == (200, "0")
        assert waits[0]._deadline is not None
        await write_all(writer, b"x" * 99)
        await until(lambda: waits[0]._deadline is None)


async def test_the_answer_before_is_not_cut_by_a_head_that_is_slow(
    waits: list[BoundedHeads], parsed: list[int], streams: Streams, app: Counter
) -> None:
    app.may_answer.clear()
    reader, writer = streams
    writer.write(head())
    await until(lambda: app.heads)
    writer.write(head()[:10])
    await until(lambda: len(parsed) == 2)
    waits[0]._too_slow()
    app.may_answer.set()
    assert await answer(reader) == (200, "0")
    waits[0]._too_slow()
    assert await rest(reader) == b""


async def test_a_head_is_not_waited_for_on_a_connection_that_is_gone(waits: list[BoundedHeads], app: Counter) -> None:
    async with serving(app) as port:
        async with connected(port) as (_, writer):
            writer.write(b"GET / HT")
            await until(lambda: waits and waits[0]._unfinished)
            assert waits[0]._deadline is not None
        await until(lambda: waits[0]._deadline is None)


async def test_requests_that_are_sent_without_waiting_are_answered_in_turn(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 60)
    for _ in range(60):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(1) == b"0"


async def test_a_flood_of_requests_that_waits_for_no_answer_ends_the_connection(app: Counter, streams: Streams) -> None:
    app.may_answer.clear()
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 20_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    app.may_answer.set()
    assert len(app.heads) < 100
