"""Measures what copying one large video costs in memory: `python -m tests.bench.mirror_memory [--mib 512] [--s3]`.

One process serves a generated, structurally whole MP4 on loopback; another copies it with the code of the service into
a directory (or, with `--s3`, into a real S3 server) and reports its own resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from service.model import Artifact
from service.outbound import open_download, public_client
from service.storage import Storage
from service.workers.copying import copy_output
from tests.servers import free_ports, seaweedfs

_MIB = 1024 * 1024


def _box(name: bytes, size: int) -> bytes:
    return b"\0\0\0\1" + name + size.to_bytes(8, "big")


async def _serve(port: int, mib: int) -> None:
    """Serve the same file to everyone who asks: ftyp, a small moov, and an mdat of all the rest."""
    start = b"\0\0\0\x10ftypisom\0\0\0\0" + _box(b"moov", 4096) + bytes(4080)
    left = mib * _MIB - len(start)
    block = os.urandom(_MIB)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % (mib * _MIB))
            writer.write(start + _box(b"mdat", left))
            for at in range(16, left, _MIB):
                writer.write(block[: min(_MIB, left - at)])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


def _server(port: int, mib: int) -> None:
    asyncio.run(_serve(port, mib))


def _resident(field: str) -> int:
    """Return a line of this process's memory status, such as VmRSS or VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


async def _copy(url: str, where: str, host: str) -> tuple[Artifact, int, int, float]:
    storage = Storage.open(where)
    await storage.check()
    async with public_client([host]) as client:
        idle = _resident("VmRSS")
        begun = time.monotonic()
        async with open_download(client, url, {}) as download:
            artifact = await copy_output(download, storage, "bench", index=0, max_bytes=download.length or 0)
        return artifact, idle, _resident("VmHWM"), time.monotonic() - begun


def _copier(url: str, where: str, host: str) -> None:
    try:
        import uvloop  # noqa: PLC0415 - the service runs on it where it exists
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    artifact, idle, peak, seconds = run(_copy(url, where, host))
    place = "bucket" if "://" in where else "folder"
    sys.stdout.write(
        f"{place}  {artifact.bytes / _MIB:.0f} MiB in {seconds:.2f} s  "
        f"idle {idle / _MIB:.1f} MiB  peak {peak / _MIB:.1f} MiB  difference {(peak - idle) / _MIB:.1f} MiB\n"
    )


@contextlib.contextmanager
def _running(process: multiprocessing.process.BaseProcess) -> Iterator[None]:
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _measure(mib: int, where: str) -> None:
    context = multiprocessing.get_context("spawn")
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    with _running(context.Process(target=_server, args=(port, mib))):
        _wait_for(port)
        copier = context.Process(target=_copier, args=(f"http://{host}/video", where, host))
        copier.start()
        copier.join()


def _wait_for(port: int) -> None:
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the memory that copying a large video takes.")
    parser.add_argument("--mib", type=int, default=512, help="size of the video in MiB")
    parser.add_argument("--s3", action="store_true", help="copy into a real S3 server, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        _measure(arguments.mib, f"{directory}/videos")
        if arguments.s3:
            data = Path(directory, "seaweedfs")
            data.mkdir()
            with seaweedfs(data) as server:
                os.environ.update(server.environment)
                _measure(arguments.mib, f"s3://{server.bucket}")


if __name__ == "__main__":
    main()
