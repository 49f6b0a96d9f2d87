from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service import outbound
from service.addresses import is_public
from service.clock import ManualClock
from service.errors import ConfigurationError, OutputError, OutputGoneError, OutputNotReadyError
from service.outbound import (
    Answer,
    AnswerTooLargeError,
    ask,
    configured_client,
    connections,
    open_download,
    public_client,
    reason,
)
from service.outbound.connections import NotPublicError
from tests.servers import Loopback, answer, free_ports, loopback
from tests.turns import Turn, until

KEY = {"Authorization": "Bearer canary-key"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with configured_client() as client:
        yield client


async def ask_for(client: httpx.AsyncClient, server: Loopback, *, seconds: float = 5, limit: int = 100) -> Answer:
    return await ask(client, client.build_request("GET", server.url()), seconds=seconds, limit=limit)


async def fetch(
    url: str, *allowed: str, headers: dict[str, str] | None = None, idle_seconds: float = 5, seconds: float = 10
) -> bytes:
    async with (
        public_client(allowed) as client,
        open_download(client, url, headers or {}, idle_seconds=idle_seconds, seconds=seconds) as download,
    ):
        return b"".join([chunk async for chunk in download.chunks()])


async def silent(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"begun", length=1000))
    await writer.drain()
    await asyncio.Event().wait()


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return what a server needs to call itself 127.0.0.1, signed by nobody but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


# One exchange


async def test_an_answer_comes_back_whole(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b'{"a": 1}', "X-Word: yes", status=202)) as server:
        got = await ask_for(client, server)
    assert (got.status, got.headers["x-word"], got.body) == (202, "yes", b'{"a": 1}')


async def test_a_body_of_exactly_the_limit_is_taken_and_one_more_byte_is_not(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b"x" * 100)) as server:
        assert len((await ask_for(client, server)).body) == 100
    async with loopback(answer(b"x" * 101, length=-1)) as server:
        with pytest.raises(AnswerTooLargeError):
            await ask_for(client, server)


async def test_an_endless_body_is_cut(client: httpx.AsyncClient) -> None:
    async def endless(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=-1))
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with loopback(endless) as server:
        with pytest.raises(AnswerTooLargeError):
            await ask_for(client, server, limit=1_000_000)


async def test_a_storm_of_answers_before_the_answer_is_cut(client: httpx.AsyncClient) -> None:
    async def storm(_: str, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000)
            await writer.drain()

    async with loopback(storm) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="has more than 256 headers"):
            await ask_for(client, server, seconds=60)


async def test_some_answers_before_the_answer_and_a_head_of_64_kib_are_passed_over(client: httpx.AsyncClient) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50
    body = b"x" * 200_000
    async with loopback(hints + answer(body, f"X-Long: {'y' * 60_000}")) as server:
        assert (await ask_for(client, server, limit=200_000)).body == body
    async with loopback(answer(b"", f"X-Long: {'y' * 66_000}")) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="head of the answer is longer than 65,536 bytes"):
            await ask_for(client, server)


async def test_a_server_may_end_its_lines_with_lf_alone(client: httpx.AsyncClient) -> None:
    body = bytes(200_000)  # more than a head may have
    async with loopback(b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(body), body)) as server:
        got = await ask(client, client.build_request("GET", server.url()), seconds=5)
    assert (got.status, got.body) == (200, body)


async def test_a_storm_of_answers_whose_lines_end_with_lf_alone_is_cut_too(client: httpx.AsyncClient) -> None:
    async with loopback(b"HTTP/1.1 103 Early Hints\nLink: </a>\n\n" * 1_000) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="has more than 256 headers"):
            await ask(client, client.build_request("GET", server.url()), seconds=5)


async def test_an_answer_has_at_most_256_headers(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b"{}", *(["a: b"] * 254))) as server:
        assert (await ask_for(client, server)).body == b"{}"
    async with loopback(answer(b"{}", *(["a: b"] * 255))) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="more than 256 headers"):
            await ask_for(client, server)


async def test_every_answer_on_a_connection_may_have_a_head_of_its_own(client: httpx.AsyncClient) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 40_000 + b"\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server = Loopback(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    assert [(await ask_for(client, server)).body for _ in range(3)] == [b"{}"] * 3
    listener.close()


async def test_a_passed_deadline_counts_as_sent(client: httpx.AsyncClient) -> None:
    async with loopback(silent) as server:
        with pytest.raises(httpx.ReadTimeout, match=r"within 0\.05 s"):
            await ask_for(client, server, seconds=0.05)


async def test_a_refused_connection_counts_as_not_sent(client: httpx.AsyncClient) -> None:
    (port,) = free_ports(1)
    with pytest.raises(httpx.ConnectError):
        await ask_for(client, Loopback(f"127.0.0.1:{port}"))


async def test_a_redirect_is_an_answer_and_is_not_followed(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b"", "Location: /elsewhere", status=307)) as server:
        assert (await ask_for(client, server)).status == 307
        assert len(server.requests) == 1


async def test_a_packed_body_is_not_unpacked(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b"\x1f\x8bbomb", "Content-Encoding: gzip")) as server:
        assert (await ask_for(client, server)).body == b"\x1f\x8bbomb"
        assert "accept-encoding: identity\r\n" in server.requests[0]


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request(client: httpx.AsyncClient) -> None:
    async with loopback(answer(b"", "Set-Cookie: a=b; Path=/")) as server:
        await ask_for(client, server)
        await ask_for(client, server)
        assert "cookie" not in server.requests[1]


# Which addresses are public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3",  # noqa: S104 - an address, not a listener
        "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
        "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1", "100::1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "2001::1", "2001:2::1",
        "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "3fff:fff:ffff::1", "5f00::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1", "198.20.0.1",
     "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2620:fe::fe", "3ffe::1", "64:ff9b::808:808"],
)  # fmt: skip
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ip_address(address))


# Which hosts a stranger's URL may name


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0"],  # noqa: S104 - an address, not a listener
)  # fmt: skip
async def test_a_host_of_our_own_is_refused_however_it_is_written(host: str) -> None:
    async with loopback(answer(b"secret")) as server:
        port = server.host.rpartition(":")[2]
        with pytest.raises(OutputError) as caught:
            await fetch(f"https://{host}:{port}/")
        assert server.connections == 0
    if "::" not in host:  # the server listens on IPv4: an IPv6 name may fail before it is judged
        assert "REELKEEPER_ALLOWED_PRIVATE_HOSTS" in str(caught.value)


class Names:
    """Stands in for the names of the internet: each look at a name brings its next answer, and then the last again.

    What is connected to is noted, and nothing beyond loopback is reached.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Sequence[Sequence[str]]) -> None:
        self.looks: list[str] = []
        self.connected: list[str] = []
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self._look_up = socket.getaddrinfo
        loop = asyncio.get_running_loop()
        self._connect = loop.sock_connect
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)
        monkeypatch.setattr(loop, "sock_connect", self._note)

    def _answer(self, host: Any, port: Any, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - as it is there
        if host not in self._answers:
            return self._look_up(host, port, *rest, **options)
        self.looks.append(host)
        answers = self._answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def _note(self, sock: socket.socket, address: Any) -> None:  # noqa: ANN401 - as it is there
        self.connected.append(address[0])
        if not ip_address(address[0]).is_loopback:
            raise OSError(errno.ENETUNREACH, "nothing leaves this machine")
        await self._connect(sock, address)


async def test_a_name_that_changes_its_address_between_two_looks_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch, rebinds_example=[["8.8.8.8"], ["127.0.0.1"]])
    async with loopback(answer(b"secret")) as server:
        with pytest.raises(OutputError, match="connect error: All connection attempts failed"):
            await fetch(f"https://rebinds.example:{server.host.rpartition(':')[2]}/")
        assert server.connections == 0
    assert names.looks == ["rebinds.example"]
    assert names.connected == ["8.8.8.8"]


async def test_a_name_with_one_address_that_is_not_public_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, mixed_example=[["8.8.8.8", "127.0.0.1"]])
    with pytest.raises(OutputError, match=r"the host mixed\.example is not on the public internet"):
        await fetch("https://mixed.example/")
    assert names.connected == []


async def test_every_address_of_a_name_is_tried_until_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, many_example=[["8.8.8.8", "1.1.1.1", "9.9.9.9"]])
    with pytest.raises(OutputError, match="connect error: All connection attempts failed"):
        await fetch("https://many.example/")
    assert names.connected == ["8.8.8.8", "1.1.1.1", "9.9.9.9"]


async def test_names_that_nobody_answers_for_keep_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    release, looking = threading.Event(), []
    look_up = socket.getaddrinfo

    def stuck(host: str | bytes, *rest: object, **options: Any) -> Any:  # noqa: ANN401 - as it is there
        if isinstance(host, str) and host.endswith(".dead.example"):
            looking.append(host)
            release.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    async with loopback(answer(b"quick")) as server, public_client([]) as client, configured_client() as asking:
        urls = [f"https://{number}.dead.example/" for number in range(64)]
        hanging = [asyncio.create_task(client.get(url)) for url in urls]
        try:
            await until(lambda: len(looking) == 64)
            quick = server.url().replace("127.0.0.1", "localhost")
            assert (await ask(asking, asking.build_request("GET", quick), seconds=5)).body == b"quick"
        finally:
            release.set()
        errors = await asyncio.gather(*hanging, return_exceptions=True)
    assert {type(error) for error in errors} == {httpx.ConnectError}
    assert "Temporary failure" in str(errors[0])


async def test_a_name_that_is_not_found_in_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20))
    monkeypatch.setattr(connections, "_NAME_SECONDS", 0.05)
    try:
        with pytest.raises(OutputError, match=r"its name was not found within 0\.05 s"):
            await fetch("https://dead.example/")
    finally:
        release.set()


async def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(OutputError, match="there is no port 99999"):
        await fetch("https://8.8.8.8:99999/")


@pytest.mark.parametrize("address", ["[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1"])
async def test_an_address_that_is_not_public_is_refused_before_it_is_connected_to(address: str) -> None:
    with pytest.raises(OutputError, match="is not on the public internet") as caught:
        await fetch(f"https://{address}:9000/video?token=canary")
    assert f"for example {address}:9000" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_a_refusal_comes_as_an_error_of_httpx_so_that_every_caller_handles_it() -> None:
    async with public_client([]) as client:
        with pytest.raises(httpx.HTTPError) as caught:
            await ask(client, client.build_request("POST", "https://127.0.0.1:9000/"), seconds=5)
    assert isinstance(caught.value, NotPublicError)
    assert "add it to REELKEEPER_ALLOWED_PRIVATE_HOSTS, for example 127.0.0.1:9000" in reason(caught.value)


async def test_plain_http_is_refused_unless_the_host_is_allowed() -> None:
    async with loopback(answer(b"secret")) as server:
        with pytest.raises(OutputError, match="only https URLs are fetched"):
            await fetch(server.url())
        async with public_client([]) as client:
            with pytest.raises(httpx.UnsupportedProtocol):
                await ask_for(client, server)
        assert server.requests == []


async def test_an_allowed_host_is_reached_and_only_on_its_port() -> None:
    async with loopback(answer(b"ours")) as server, loopback(answer(b"theirs")) as other:
        port = server.host.rpartition(":")[2]
        assert await fetch(server.url(), server.host) == b"ours"
        assert await fetch(f"http://LocalHost:{port}/", f"localhost:{port}") == b"ours"
        with pytest.raises(OutputError):
            await fetch(f"http://localhost:{port}/", server.host)  # allowed as written, not by what it resolves to
        with pytest.raises(OutputError):
            await fetch(other.url(), server.host)
        with pytest.raises(OutputError, match="not on the public internet"):
            await fetch(f"https://{other.host}/", server.host)
        assert other.connections == 0


@pytest.mark.parametrize(
    "entry", ["minio.internal", "", ":9000", "http://minio:9000", "minio:x", "a:1/b", "u@a:1", "a:0"]
)
def test_an_entry_that_is_no_host_and_port_is_refused_with_an_example(entry: str) -> None:
    with pytest.raises(ConfigurationError, match=r"minio\.internal:9000"):
        public_client([entry])


# Downloads


async def test_a_download_tells_what_the_server_said() -> None:
    async with loopback(answer(b"video", "Content-Type: video/mp4")) as server, public_client([server.host]) as client:
        async with open_download(client, server.url(), KEY) as download:
            assert (download.status, download.length, download.headers["content-type"]) == (200, 5, "video/mp4")
            assert [chunk async for chunk in download.chunks()] == [b"video"]
        assert "authorization: bearer canary-key\r\n" in server.requests[0]
        assert "accept-encoding: identity\r\n" in server.requests[0]


async def test_a_redirect_within_the_origin_keeps_the_credentials() -> None:
    async def talk(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"video") if head.startswith("get /there ") else answer(b"", "Location: there", status=302))

    async with loopback(talk) as server:
        assert await fetch(server.url("/here"), server.host, headers=KEY) == b"video"
        assert ["canary-key" in head for head in server.requests] == [True, True]


async def test_credentials_never_leave_the_origin_and_do_not_come_back_with_it() -> None:
    async def home(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            answer(b"video") if head.startswith("get /back ") else answer(b"", f"Location: {away}", status=307)
        )

    async def abroad(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", f"Location: {first.url('/back')}", status=302))

    async with loopback(home) as first, loopback(abroad) as second:
        away = second.url("/cdn")
        headers = KEY | {"X-Api-Key": "canary-key", "Cookie": "canary-key"}
        assert await fetch(first.url("/start"), first.host, second.host, headers=headers) == b"video"
    assert ["canary-key" in head for head in first.requests] == [True, False]
    assert ["canary-key" in head for head in second.requests] == [False]


async def test_a_redirect_into_the_private_network_is_refused() -> None:
    async with loopback(answer(b"metadata")) as inner:
        async with loopback(answer(b"", f"Location: {inner.url()}", status=302)) as outer:
            with pytest.raises(OutputError):
                await fetch(outer.url(), outer.host)
        assert inner.requests == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://example.com/", "gopher://x", "data:,x", "//", "http://["]
)
async def test_a_redirect_to_what_is_no_web_page_is_refused(location: str) -> None:
    async with loopback(answer(b"", f"Location: {location}", status=302)) as server:
        with pytest.raises(OutputError):
            await fetch(server.url(), server.host)


async def test_a_redirect_that_does_not_say_where_is_refused() -> None:
    async with loopback(answer(b"<html>moved", status=301)) as server:
        with pytest.raises(OutputError, match="answered 301 without saying where to go"):
            await fetch(server.url(), server.host)


async def test_redirects_in_a_circle_end() -> None:
    async with loopback(answer(b"", "Location: /again", status=302)) as server:
        with pytest.raises(OutputError, match="redirected more than 5 times"):
            await fetch(server.url(), server.host)
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("status", "kind"),
    [(410, OutputGoneError), (404, OutputNotReadyError), (409, OutputNotReadyError), (425, OutputNotReadyError),
     (429, OutputError), (503, OutputError), (500, OutputError), (401, OutputError), (206, OutputError),
     (204, OutputError)],
)  # fmt: skip
async def test_a_status_says_whether_to_try_again(status: int, kind: type[OutputError]) -> None:
    async with loopback(answer(b"", "Retry-After: 7", status=status)) as server:
        with pytest.raises(OutputError) as caught:
            await fetch(server.url("/canary-path?token=canary"), server.host)
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)
    assert server.host in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.retry_after_ms == (None if kind is OutputGoneError else 7000)


@pytest.mark.parametrize(
    ("said", "wait_ms"),
    [
        ("Retry-After: 1.5", 1_500),
        ("Retry-After: Sat, 21 Nov 2026 08:10:02 GMT", 90_000),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Retry-After: 9999999", 3_600_000),
        ("Retry-After-Ms: 250", 250),
        ("Retry-After: soon", None),
        ("Retry-After: -1", None),
        ("Retry-After: ", None),
        (f"Retry-After: {'9' * 30}", None),
        ("X-Word: 7", None),
    ],
)
async def test_a_server_says_in_many_ways_how_long_to_wait(said: str, wait_ms: int | None) -> None:
    clock = ManualClock(1_795_248_512_000)  # 21 Nov 2026 08:08:32
    async with loopback(answer(b"", said, status=503)) as server, public_client([server.host]) as client:
        with pytest.raises(OutputError) as caught:
            async with open_download(client, server.url(), {}, clock=clock):
                pass
    assert caught.value.retry_after_ms == wait_ms


async def test_a_date_to_wait_for_is_compared_with_the_machines_own_time_unless_another_is_given() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    async with loopback(answer(b"", f"Retry-After: {soon}", status=503)) as server:
        with pytest.raises(OutputError) as caught:
            await fetch(server.url(), server.host)
    assert 540_000 < (caught.value.retry_after_ms or 0) <= 600_000


async def test_a_packed_download_is_refused() -> None:
    async with loopback(answer(b"\x1f\x8b", "Content-Encoding: gzip")) as server:
        with pytest.raises(OutputError, match=r"encoded \(gzip\)"):
            await fetch(server.url(), server.host)


async def test_a_body_that_goes_silent_is_cut() -> None:
    async with loopback(silent) as server:
        with pytest.raises(OutputError, match="broke off: read timeout"):
            await fetch(server.url(), server.host, idle_seconds=0.05)


async def test_a_body_that_trickles_is_cut_in_the_end() -> None:
    async def trickle(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=-1))
        while True:
            writer.write(b"x")
            await writer.drain()
            await Turn()

    async with loopback(trickle) as server:
        with pytest.raises(OutputError, match=r"longer than 0\.1 s"):
            await fetch(server.url(), server.host, idle_seconds=5, seconds=0.1)


async def test_a_body_that_breaks_off_is_an_error_and_not_a_short_video() -> None:
    async with loopback(answer(b"begun", length=1000)) as server:
        with pytest.raises(OutputError, match="broke off"):
            await fetch(server.url("/?token=canary"), server.host)


async def test_a_timeout_of_the_receiver_is_not_taken_for_a_slow_download() -> None:
    async with loopback(answer(b"video")) as server, public_client([server.host]) as client:
        with pytest.raises(TimeoutError):
            async with open_download(client, server.url(), {}):
                raise TimeoutError


async def test_a_server_whose_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with loopback(answer(b"forged"), tls=self_signed(tmp_path)) as server:
        with pytest.raises(OutputError, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(server.url(), server.host)
        async with configured_client() as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await ask_for(client, server)
        assert server.requests == []


async def test_a_download_in_drops_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "_JUDGED_EVERY", 0)
    async with loopback(answer(b"x" * 100)) as server, public_client([server.host]) as client:
        async with open_download(client, server.url("/"), {}) as download:
            monkeypatch.setattr(outbound, "_SLOWEST", 0)
            assert b"".join([chunk async for chunk in download.chunks()]) == b"x" * 100
        async with open_download(client, server.url("/"), {}) as download:
            monkeypatch.setattr(outbound, "_SLOWEST", 1e12)  # bytes a second that nobody reaches
            with pytest.raises(OutputError, match="was too slow: 100 bytes in 0 s"):
                await anext(download.chunks())


@pytest.mark.parametrize("host", ["xn--a", "xn--", "xn--zz--zz"])
async def test_a_host_name_that_cannot_be_is_an_error_of_the_output(host: str) -> None:
    redirect = b"HTTP/1.1 302 -\r\nlocation: https://" + host.encode() + b"/v.mp4\r\ncontent-length: 0\r\n\r\n"
    async with loopback(redirect) as server, public_client([server.host]) as client:
        for url in (f"https://{host}/v.mp4", server.url("/")):
            with pytest.raises(OutputError):
                async with open_download(client, url, {}):
                    pass
