"""A load generator in a process of its own: it sends what it is told, again and again, and says how long it took.

    python -m tests.proofs.abuse.load

Reads one line of JSON from standard input: `port`, `connections`, `requests` (in base64), `seconds` at most, `once`.
With the last, each is sent one time, and then it is over; else they are sent until standard input ends. Writes one JSON
object: `p50` and `p99` in ms, and how often each status came, as `statuses`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvloop


async def _one(port: int, requests: Iterator[bytes], until: float, ms: list[float], statuses: Counter[int]) -> None:
    """Send one request after another over a connection, and over a new one when it ends."""
    while time.monotonic() < until:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.monotonic() < until:
                    data = next(requests, None)
                    if data is None:
                        return
                    begun = time.perf_counter()
                    writer.write(data)
                    head = await reader.readuntil(b"\r\n\r\n")
                    at = head.lower().find(b"content-length:")
                    if at >= 0:
                        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
                    ms.append((time.perf_counter() - begun) * 1000)
                    statuses[int(head[9:12])] += 1
                    if b"connection: close" in head.lower():
                        break
            finally:
                writer.close()


async def _run(told: dict[str, Any]) -> dict[str, Any]:
    requests = [base64.b64decode(each) for each in told["requests"]]
    each = iter(requests) if told["once"] else itertools.cycle(requests)
    ms: list[float] = []
    statuses = Counter[int]()
    until = time.monotonic() + told["seconds"]
    running = [asyncio.create_task(_one(told["port"], each, until, ms, statuses)) for _ in range(told["connections"])]
    # An answer that is held back, or never comes, ends with the process.
    if running and not told["once"]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(told["seconds"]):
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    else:
        await asyncio.wait(running, timeout=told["seconds"])
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    ms.sort()
    found = {f"p{part}": ms[min(len(ms) - 1, len(ms) * part // 100)] for part in (50, 99) if ms}
    return {**found, "statuses": statuses}


def main() -> None:
    """Do what standard input says."""
    sys.stdout.write(json.dumps(uvloop.run(_run(json.loads(sys.stdin.readline())))))


if __name__ == "__main__":
    main()
