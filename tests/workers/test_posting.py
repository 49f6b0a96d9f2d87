"""One POST to a receiver that may do anything: it ends in time, and what went wrong is told in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.outbound import public_client
from service.workers.posting import Reply, post
from tests.servers import Loopback, Talk, answer, free_ports, loopback
from tests.turns import until

NOW = 1_795_248_512_000  # 21 Nov 2026 08:08:32


async def send(
    server: Loopback, url: str | None = None, *, allowed: bool = True, seconds: float = 5, body: bytes = b"{}"
) -> Reply:
    async with public_client([server.host] if allowed else []) as client:
        url = url or server.url("/hook?key=canary")
        return await post(client, url, {"x-word": "yes"}, body, now_ms=NOW, seconds=seconds)


async def begun(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"thanks", length=1000))
    await writer.drain()
    await asyncio.Event().wait()


async def silent(_: str, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dripping(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(length=-1))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0)  # the client has its turn


async def endless_head(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-more: 1\r\n" * 1000)
        await writer.drain()


async def test_a_message_is_posted_as_it_was_signed() -> None:
    async with loopback(answer(b"thanks", status=202)) as server:
        assert await send(server, body=b'{"a": 1}') == Reply(202, b"thanks")
        assert server.requests[0].startswith("post /hook?key=canary http/1.1\r\n")
        assert "x-word: yes\r\n" in server.requests[0]
        assert "content-length: 8\r\n" in server.requests[0]
        assert "cookie" not in server.requests[0]


async def test_the_users_part_of_an_address_is_sent_as_its_credentials() -> None:
    async with loopback(answer(status=204)) as server:
        await send(server, f"http://user:canary@{server.host}/")
        assert "authorization: basic dxnlcjpjyw5hcnk=\r\n" in server.requests[0]


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with (
        loopback(answer()) as elsewhere,
        loopback(answer(b"", f"Location: {elsewhere.url()}", status=307)) as server,
    ):
        assert (await send(server)).status == 307
        assert elsewhere.connections == 0


async def test_cookies_of_one_answer_are_not_sent_with_the_next_message() -> None:
    async with loopback(answer(b"", "Set-Cookie: a=b; Path=/")) as server, public_client([server.host]) as client:
        for _ in range(2):
            await post(client, server.url(), {}, b"{}", now_ms=NOW)
        assert "cookie" not in server.requests[1]


async def test_no_more_than_the_beginning_of_an_answer_is_kept_and_the_connection_is_closed() -> None:
    closed = asyncio.Event()

    async def endless(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=-1))
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            closed.set()

    async with loopback(endless) as server:
        reply = await send(server)
        assert (reply.status, reply.error, len(reply.beginning or b"")) == (200, None, 4096)
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.parametrize("talk", [begun, dripping])
async def test_an_answer_that_does_not_end_holds_nothing_up_and_its_status_stands(talk: Talk) -> None:
    async with loopback(talk) as server:
        reply = await send(server, seconds=0.1)
    assert reply.status == 200
    assert reply.beginning or reply.error


async def test_a_receiver_that_is_silent_is_left_in_time() -> None:
    async with loopback(silent) as server:
        assert await send(server, seconds=0.05) == Reply(error="no whole answer within 0.05 s")


async def test_a_head_without_an_end_is_left() -> None:
    async with loopback(endless_head) as server:
        reply = await send(server, seconds=5)
    assert reply.status is None
    assert reply.error is not None
    assert "protocol error" in reply.error


async def test_a_body_that_nobody_reads_is_left_in_time() -> None:
    release = asyncio.Event()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1024)
    host = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    reply = await send(Loopback(host), seconds=0.1, body=b"x" * 20_000_000)
    release.set()
    listener.close()
    assert reply.status is None
    assert reply.error


async def test_nobody_at_home_is_told_in_words() -> None:
    (port,) = free_ports(1)
    reply = await send(Loopback(f"127.0.0.1:{port}"))
    assert reply.status is None
    assert reply.error is not None
    assert reply.error.startswith("connect error: ")
    assert "canary" not in reply.error


@pytest.mark.parametrize("talk", [b"", b"no http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_what_is_no_answer_is_told_in_words(talk: bytes) -> None:
    async with loopback(talk) as server:
        reply = await send(server)
    assert reply.status is None
    assert reply.error
    assert "canary" not in reply.error


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (lambda host: f"https://{host}/", "is not on the public internet; if it is yours, add it to REELKEEPER_"),
        (lambda host: f"http://{host}/", "only https URLs are fetched, or http ones of a host in REELKEEPER_"),
        (lambda _: "https://169.254.169.254/latest/meta-data", "is not on the public internet"),
        (lambda _: "https://[::1]:9/", "is not on the public internet"),
        (lambda _: "ftp://caller.example/", "only https URLs are fetched"),
        (lambda _: "https://xn--a/", "is not a URL"),
        (lambda _: "https://caller.example:99999/", "there is no port 99999"),
    ],
)
async def test_a_receiver_that_may_not_be_reached_is_sent_nothing(url: Callable[[str], str], told: str) -> None:
    async with loopback(answer()) as server:
        reply = await send(server, url(server.host), allowed=False)
        assert reply.status is None
        assert reply.error is not None
        assert told in reply.error
        assert server.connections == 0


@pytest.mark.parametrize(
    ("said", "wait_ms"),
    [
        ("Retry-After: 90", 90_000),
        ("Retry-After: Sat, 21 Nov 2026 10:08:32 GMT", 7_200_000),
        ("Retry-After: 9999999", 86_400_000),
        ("X-Word: 7", None),
    ],
)
async def test_a_receiver_may_ask_us_to_wait_for_up_to_a_day(said: str, wait_ms: int | None) -> None:
    async with loopback(answer(b"", said, status=503)) as server:
        assert (await send(server)).retry_after_ms == wait_ms


async def test_a_stop_of_ours_is_not_taken_for_an_answer() -> None:
    async with loopback(silent) as server, public_client([server.host]) as client:
        task = asyncio.create_task(post(client, server.url(), {}, b"{}", now_ms=NOW))
        await until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
