"""Floods: how much slower genuine callbacks become while strangers send forgeries, wrong tokens or garbage."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import service
from tests.proofs.abuse.target import JSON, Finding, Target, Victim, request

_ROOT = Path(service.__file__).parent.parent
_GENUINE_CONNECTIONS = 16
_FLOOD_CONNECTIONS = 64
_QUIET = "quiet"
_MOST_SECONDS = 120  # of one round
_BEFORE_S = 2.0  # the flood is on, and its beginning over, before the first genuine callback


@dataclass(slots=True)
class Measured:
    """Under one kind of flood: p50 and p99 of genuine callbacks in each round (ms), and what was answered."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    genuine: Counter[str] = field(default_factory=Counter)
    flood: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: list[float] = field(default_factory=list)  # ms of the service for each genuine callback, with the flood's part


async def floods(target: Target, *, rounds: int, each: int) -> tuple[list[list[object]], list[Finding]]:
    """Send `each` genuine callbacks in every one of `rounds`, quiet and under every flood in turn.

    Returns the rows of the table and what was promised: that every genuine callback is taken, and that rows are
    bounded. How slow it becomes is told, not judged: this machine does other things, too.
    """
    attacked = await target.victim()
    kinds: dict[str, Sequence[bytes]] = {_QUIET: (), **_kinds(attacked)}
    measured = {name: Measured() for name in kinds}
    await _round(target, await target.more(50), (), Measured())  # what is made once is made now
    grown = Counter[str]()
    for number in range(rounds):
        order = list(kinds)[number % len(kinds) :] + list(kinds)[: number % len(kinds)]
        for name in order:
            victims = await target.more(each)
            before = target.rows()
            await _round(target, victims, kinds[name], measured[name])
            after = target.rows()
            after.subtract(before)
            grown.update(_beyond_genuine(after, len(victims)))
    quiet = statistics.median(measured[_QUIET].p99)
    rows: list[list[object]] = [
        [
            name,
            round(statistics.median(found.p50), 1),
            round(statistics.median(found.p99), 1),
            round(statistics.median(found.p99) / quiet, 2),
            round(statistics.median(found.cpu), 2),
            _told(found.genuine),
            round(found.flood.total() / max(found.seconds, 0.001)),
            _told(found.flood),
        ]
        for name, found in measured.items()
    ]
    taken = all(set(found.genuine) <= {"204"} for found in measured.values())
    whole = sum(found.genuine.total() for found in measured.values()) == rounds * each * len(kinds)
    kept = {name: count for name, count in grown.items() if count}
    few = all(count <= rounds * len(kinds) for name, count in kept.items()) and set(kept) <= {"rejections"}
    return rows, [
        Finding(
            "every genuine callback is taken under every flood",
            "—",
            "yes" if taken and whole else "no",
            taken and whole,
        ),
        Finding("rows that the floods wrote", "one for each forgery (dj-stripe)", f"{kept or 0}", few),
    ]


def _kinds(attacked: Victim) -> dict[str, Sequence[bytes]]:
    """Return the requests of every flood."""
    body = attacked.body()
    forged = [*JSON, *attacked.signed(body + b" ").items()]
    wrong = f"{attacked.path[:-4]}AAAA"
    return {
        "invalid signatures, a valid address": [request(attacked.path, forged, body)],
        "wrong tokens": [request(wrong, forged, body)],
        "garbage": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50, b"GET / HTTP/9.9\r\n\r\n"],
    }


async def _round(target: Target, victims: Sequence[Victim], flood: Sequence[bytes], found: Measured) -> None:
    genuine = []
    for victim in victims:
        body = victim.body()
        genuine.append(request(victim.path, [*JSON, *victim.signed(body).items()], body))
    # A generator that sends nothing is there when it is quiet: what is compared is the flood, not who makes it.
    flooding = await _start(target, _FLOOD_CONNECTIONS, flood, once=False)
    begun = time.monotonic()
    await asyncio.sleep(_BEFORE_S)
    loading = await _start(target, _GENUINE_CONNECTIONS, genuine, once=True)
    cpu = _cpu_ms(target)
    told = await _result(loading)
    found.cpu.append((_cpu_ms(target) - cpu) / len(victims))
    flooded = await _result(flooding)
    found.p50.append(told["p50"])
    found.p99.append(told["p99"])
    found.genuine.update(told["statuses"])
    found.flood.update(flooded["statuses"])
    found.seconds += time.monotonic() - begun


async def _start(
    target: Target, connections: int, requests: Sequence[bytes], *, once: bool
) -> asyncio.subprocess.Process:
    """Start a load generator in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.proofs.abuse.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    told = {
        "port": target.port,
        "connections": connections,
        "requests": [base64.b64encode(each).decode() for each in requests],
        "seconds": _MOST_SECONDS,
        "once": once,
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    await process.stdin.drain()
    return process


async def _result(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Let a generator come to its end, and return what it measured."""
    assert process.stdin is not None
    process.stdin.close()
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


def _cpu_ms(target: Target) -> float:
    """Return how long the service was on a processor so far, which does not depend on what else the machine does."""
    spent = Path(f"/proc/{target.place.lives[-1]}/stat").read_text().rpartition(")")[2].split()
    return (int(spent[11]) + int(spent[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _beyond_genuine(grown: Counter[str], genuine: int) -> Counter[str]:
    """Return what grew beyond what so many genuine callbacks write: a receipt and an event each."""
    expected = Counter({"receipts": genuine, "events": genuine})
    return Counter({name: max(0, count - expected[name]) for name, count in grown.items()})


def _told(statuses: Counter[str]) -> str:
    return ", ".join(f"{count:,} of {status}" for status, count in sorted(statuses.items())) or "—"
