"""Keys that must not travel, answers that are bombs, and servers that are not who they say."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from unittest.mock import patch

import certifi
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.outbound import ask, configured_client, reason
from tests.proofs.outbound.world import CANARY, KEY, Finding, reach
from tests.servers import Talk, answer, loopback

_MIB = 1_048_576
_MOST_EXTRA = 4.0  # MiB, of Python's own objects, the server's included: an answer of a provider may have one
_ZEROS = bytes(100_000_000)
_SECONDS = 1.5  # for what would go on for ever


async def keys() -> list[Finding]:
    """Redirect a download that carries the provider's key, to every kind of other origin."""
    found = []
    async with loopback(answer(b"video")) as elsewhere:
        port = elsewhere.host.rpartition(":")[2]
        for name, location, right in (
            ("another port", elsewhere.url(), 0),
            ("another name of the same machine", f"http://localhost:{port}/", 0),
            ("another port, the key asked for by name", f"http://{CANARY}@{elsewhere.host}/", 0),
            ("the same origin", "/there", 1),
        ):
            answers = iter([answer(b"", f"Location: {location}", status=307), answer(b"video")])

            async def talk(_: str, writer: asyncio.StreamWriter) -> None:
                writer.write(next(answers))  # noqa: B023 - it is over before the next turn

            async with loopback(talk) as home:
                before = len(elsewhere.requests)
                allowed = [home.host, elsewhere.host, f"localhost:{port}"]
                await reach("download", home.url(), allowed=allowed, headers=KEY)
                told = [
                    head for head in elsewhere.requests[before:] if f"bearer {CANARY}" in head or "x-api-key" in head
                ]
                kept = not told and [CANARY in head for head in home.requests] == [True, *[True] * right]
                found.append(Finding(f"the key, redirected to {name}", f"sent there: {len(told)}", kept))
        found += await _told_nobody(elsewhere.host)
    return found


async def _told_nobody(host: str) -> list[Finding]:
    """A provider's answer that redirects its own API call is an answer; so is that of a receiver."""
    found = []
    for status in (301, 302, 303, 307, 308):
        async with (
            loopback(answer(b"", f"Location: http://{host}/", status=status)) as server,
            configured_client() as http,
        ):
            got = await ask(http, http.build_request("POST", server.url(), headers=KEY, content=b"{}"), seconds=5)
            kept = got.status == status and len(server.requests) == 1
        found.append(Finding(f"the key, an API call answered {status}", "not followed", kept))
    async with loopback(answer(b"", f"Location: http://{host}/", status=307)) as server:
        said = await reach("notify", server.url(), allowed=[server.host])
    found.append(Finding("a notification answered 307", "not followed", said == "answered 307"))
    return found


def _packed() -> list[tuple[str, bytes]]:
    # Nobody here can pack with Brotli; what is never unpacked may as well be anything.
    return [("gzip", gzip.compress(_ZEROS)), ("deflate", zlib.compress(_ZEROS)), ("br", b"\x8b" * 100_000)]


def _endless(start: bytes, more: bytes, drip: float = 0) -> Talk:
    async def talk(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(drip)

    return talk


def bombs() -> list[tuple[str, Talk | bytes]]:
    """Return answers that grow, go on, or drip for ever."""
    ok = b"HTTP/1.1 200 OK\r\n"
    return [
        *((f"{how} of 100 MB of zeros", answer(body, f"Content-Encoding: {how}")) for how, body in _packed()),
        ("an endless body", _endless(answer(length=-1), b"x" * 65_536)),
        ("an endless chunked body", _endless(ok + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 5_000)),
        ("a chunk with an endless extension", _endless(ok + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536)),
        ("endless headers", _endless(ok, b"X-More: 1\r\n" * 1_000)),
        ("one endless header", _endless(ok + b"X-More: ", b"x" * 65_536)),
        ("16,000 headers in 64 KiB", ok + b"a:\r\n" * 16_000 + b"Content-Length: 2\r\n\r\n{}"),
        ("an endless status line", _endless(b"HTTP/1.1 200 ", b"x" * 65_536)),
        ("a storm of 1xx answers", _endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1_000)),
        ("one byte of body each 50 ms", _endless(answer(length=-1), b"x", 0.05)),
        ("one byte of head each 50 ms", _endless(ok + b"X-More: ", b"x", 0.05)),
        ("a length of 10^18", _endless(ok + b"Content-Length: 1000000000000000000\r\n\r\n", b"x" * 65_536)),
        ("a length that is none", ok + b"Content-Length: 1e9\r\n\r\n{}"),
        ("two lengths", ok + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"),
    ]


async def _as_provider(url: str, host: str) -> str:  # noqa: ARG001 - as the others have it
    async with configured_client() as http:
        try:
            got = await ask(http, http.build_request("GET", url, headers=KEY), seconds=_SECONDS)
        except httpx.HTTPError as error:
            return reason(error)
        return f"{got.status}, {len(got.body):,} bytes as they came"


async def _as_notifier(url: str, host: str) -> str:
    return await reach("notify", url, allowed=[host], seconds=_SECONDS)


async def _as_download(url: str, host: str) -> str:
    return await reach("download", url, allowed=[host], seconds=_SECONDS)


_READERS = {"provider": _as_provider, "download": _as_download, "notify": _as_notifier}


async def exploded(names: Sequence[str] = ()) -> list[Finding]:
    """Let every client read every bomb; `names` chooses some."""
    found = []
    for name, talk in bombs():
        if names and name not in names:
            continue
        for client, read in _READERS.items():
            async with loopback(talk) as server:
                tracemalloc.start()
                begun = time.monotonic()
                said = await read(server.url(), server.host)
                seconds = time.monotonic() - begun
                extra = tracemalloc.get_traced_memory()[1] / _MIB
                tracemalloc.stop()
            kept = extra < _MOST_EXTRA and seconds < _SECONDS + 5
            said = said.replace(server.host, "…")
            found.append(
                Finding(f"{name}, to the {client} client", f"{said[:120]}; {seconds:.1f} s, {extra:.1f} MiB", kept)
            )
    return found


def certificate(folder: Path, name: str, *, days: int = 1, authority: bool = False) -> ssl.SSLContext:
    """Return what a server needs to call itself `name`, until `days` from now.

    With `authority` it is signed by an authority of the proof's own, `folder`/ca.pem; else by nobody but itself.
    """
    now = datetime.now(UTC)
    key, issuer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject, issuer = _name(name), _name("an authority")

    def builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        begins = now + timedelta(days=min(days, 0) - 2)
        serial = x509.random_serial_number()
        return x509.CertificateBuilder(issuer, subject, public, serial, begins, now + timedelta(days=days))

    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    if not authority:
        issuer, issuer_key = subject, key
    leaf = (
        builder(subject, issuer, key.public_key())
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    root = (
        builder(issuer, issuer, issuer_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


async def disguised(folder: Path) -> list[Finding]:
    """Serve with certificates that prove nothing, and with one that is right: so the others failed for their reason."""
    found = []
    for name, whom, days, authority, right in (
        ("self-signed", "127.0.0.1", 1, False, "CERTIFICATE_VERIFY_FAILED"),
        ("by an authority that nobody knows", "127.0.0.1", 1, True, "CERTIFICATE_VERIFY_FAILED"),
        ("trusted, but expired", "127.0.0.1", -1, True, "CERTIFICATE_VERIFY_FAILED"),
        ("trusted, but of another host", "other.example", 1, True, "CERTIFICATE_VERIFY_FAILED"),
        ("trusted and right", "127.0.0.1", 1, True, ""),
    ):
        tls = certificate(folder, whom, days=days, authority=authority)
        known = str(folder / "ca.pem") if name.startswith("trusted") else certifi.where()
        for client, read in _READERS.items():
            async with loopback(answer(b"{}"), tls=tls) as server:
                with patch.object(certifi, "where", return_value=known):
                    said = await read(server.url(), server.host)
                asked = len(server.requests)
            kept = (right in said and asked == 0) if right else asked == 1
            ours = f"refused, {asked} requests" if right else f"reached, {asked} request"
            found.append(Finding(f"a certificate {name}, to the {client} client", ours, kept))
    return found
