"""Bodies and heads that are far too large, far too slow, or lie about their length; and connections that do nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

from tests.proofs.abuse.target import JSON, Answer, Finding, Memory, Target, read_answer, request

_MIB = 1_048_576
_MOST_EXTRA = 2.0  # MiB
_PIECE = b"x" * 65_536
_CHUNK = b"10000\r\n" + _PIECE + b"\r\n"
_DRIP_S = 0.25
_SLACK_S = 5.0  # of a machine that others use, too
_FRAMINGS = ("announced", "chunked", "no length", "a length of 10")
_LYING = _FRAMINGS[2:]  # what follows is no request, so the connection may just end


async def findings(target: Target, *, megabytes: int = 200, idle: int = 1_000, patient: bool = True) -> list[Finding]:
    """Send bodies of `megabytes`, hold `idle` connections; without `patient`, do not wait for limits beyond 10 s."""
    found = await _large_bodies(target, megabytes)
    found.append(await _many_headers(target))
    held, slow = await asyncio.gather(_idle(target, idle), _slow(target, patient=patient))
    return [*found, held, *slow]


async def _large_bodies(target: Target, megabytes: int) -> list[Finding]:
    victim = await target.victim()
    key = ("Authorization", f"Bearer {target.place.key}")
    wrong = ("Authorization", "Bearer rk_wrong")
    addresses: Sequence[tuple[str, str, Iterable[tuple[str, str]]]] = (
        ("a wrong token", f"{victim.path[:-4]}AAAA", ()),
        ("a valid address", victim.path, ()),
        ("the API, no such key", "/v1/jobs", (wrong,)),
        ("the API, a good key", "/v1/jobs", (key,)),
        ("the form of `/v1/videos`, no such key", "/v1/videos", (wrong,)),
    )
    found = []
    for where, path, headers in addresses:
        for framing in _FRAMINGS:
            await _flooded(target, path, headers, framing, 4)  # whatever is made once is made now
            with Memory(target.place.lives[-1]) as memory:
                answer, sent = await _flooded(target, path, headers, framing, megabytes)
            said = f"{answer.status} {answer.code}" if answer.status else "cut off"
            ours = f"{said} in {answer.seconds * 1000:.0f} ms, +{memory.extra} MiB ({sent} MB taken)"
            theirs = (
                "read whole, 1.1 GB (Debian webhook)" if framing == "announced" else "read whole, 443 MB (starlette)"
            )
            refused = 400 <= answer.status < 500 or (framing in _LYING and answer.status == 0)
            kept = memory.extra < _MOST_EXTRA and refused
            found.append(Finding(f"{megabytes} MB, {framing}, to {where}", theirs, ours, kept))
    return found


async def _flooded(
    target: Target, path: str, headers: Iterable[tuple[str, str]], framing: str, megabytes: int
) -> tuple[Answer, int]:
    """Send all that is taken; return the first answer, and how many MB were taken."""
    size = megabytes * _MIB
    how = {
        "announced": [("Content-Length", str(size))],
        "chunked": [("Transfer-Encoding", "chunked")],
        "a length of 10": [("Content-Length", "10")],
        "no length": [],
    }[framing]
    head = request(path, [*JSON, *headers, *how])
    if not how:
        head = head.replace(b"\r\nContent-Length: 0", b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    begun, sent = time.monotonic(), 0
    answering = asyncio.create_task(read_answer(reader, begun))
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(60):
                writer.write(head)
                while sent < size:
                    writer.write(_CHUNK if framing == "chunked" else _PIECE)
                    await writer.drain()
                    sent += len(_PIECE)
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(10):
                return await answering, sent // _MIB
        return Answer(0, seconds=time.monotonic() - begun), sent // _MIB
    finally:
        answering.cancel()
        await asyncio.wait({answering})
        writer.close()


async def _many_headers(target: Target) -> Finding:
    """Send 50 heads of 64 KiB at once that are nothing but headers."""
    victim = await target.victim()
    data = request(victim.path, [*JSON, *(("a", "") for _ in range(16_000))])
    # One head each that just fits, so that all of it is taken and none is refused for its size alone.
    data = data[:65_000] + b"\r\n\r\n"
    await target.ask(data)
    with Memory(target.place.lives[-1]) as memory:
        answers = await asyncio.gather(*(target.ask(data) for _ in range(50)))
    ours = f"{_statuses(answers)}, +{memory.extra} MiB for 50 at once"
    return Finding("16,000 headers in 64 KiB", "unbounded", ours, {each.status for each in answers} == {431})


async def _idle(target: Target, count: int) -> Finding:
    """Hold connections that send nothing, or half a head, and see whether callbacks still come in."""
    victims = await target.more(20)
    with Memory(target.place.lives[-1]) as memory:
        held = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(count)]
        for number, (_, writer) in enumerate(held):
            if number % 2:
                writer.write(b"POST /callbacks/openrouter HTTP/1.1\r\nHost: x\r\n")
        answers = []
        for victim in victims:
            body = victim.body()
            answers.append(await target.post(victim.path, victim.signed(body).items(), body))
    begun = time.monotonic()
    ends = await asyncio.gather(*(_end(reader, 10 + 2 * _SLACK_S) for reader, _ in held))
    for _, writer in held:
        writer.close()
    slowest = max(answer.seconds for answer in answers) * 1000
    ours = (
        f"callbacks: {_statuses(answers)} in ≤ {slowest:.0f} ms; +{memory.extra} MiB; "
        f"{sum(ends):,} closed after {time.monotonic() - begun:.0f} s"
    )
    kept = {answer.status for answer in answers} == {204} and all(ends) and memory.extra < count * 0.03
    return Finding(f"{count:,} idle connections", "held for ever (uvicorn)", ours, kept)


async def _slow(target: Target, *, patient: bool) -> list[Finding]:
    """Drip heads and bodies, all of them side by side."""
    victim = await target.victim()
    key = ("Authorization", f"Bearer {target.place.key}")
    head = f"POST {victim.path} HTTP/1.1\r\nHost: x\r\n".encode()
    body = [*JSON, ("Content-Length", "100000")]
    chunked = [*JSON, ("Transfer-Encoding", "chunked")]
    wrong = f"{victim.path[:-4]}AAAA"
    cases = [
        ("a head that drips into one header", head + b"X-Slow: ", b"x", 10, {0}),
        ("a head that drips header by header", head, b"a: b\r\n", 10, {0}),
        ("a request line that drips", b"POST /", b"x", 10, {0}),
        ("a body that drips to a valid address", request(victim.path, body), b"x", 10, {408}),
        ("a chunked body that drips there", request(victim.path, chunked), b"1\r\nx\r\n", 10, {408}),
        ("a length of 100,000 and 5 bytes", request(victim.path, body) + b"bytes", b"", 10, {408}),
    ]
    if patient:
        cases += [
            ("a body that drips to the API, a good key", request("/v1/jobs", [*body, key]), b"x", 30, {408}),
            ("a body that drips to a wrong token", request(wrong, body), b"x", 30, {404}),
            ("a body that drips to the API, no key", request("/v1/jobs", body), b"x", 30, {401}),
        ]
    ran = await asyncio.gather(*(_dripped(target, start, drop, most) for _, start, drop, most, _ in cases))
    found = []
    for (name, _, _, most, right), (answer, seconds) in zip(cases, ran, strict=True):
        ours = f"{answer.status or 'no answer'}, closed after {seconds:.1f} s"
        kept = answer.status in right and seconds <= most + _SLACK_S
        found.append(Finding(name, "still open after 20 s (uvicorn)", ours, kept))
    return found


async def _dripped(target: Target, start: bytes, drop: bytes, most: float) -> tuple[Answer, float]:
    """Send `start`, then drops, until the connection ends; return the answer and after how long it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    begun, came, answer = time.monotonic(), list[bytes](), Answer(0)
    ended = asyncio.create_task(_end(reader, most + 2 * _SLACK_S, came))
    with contextlib.suppress(ConnectionError):
        writer.write(start)
        while not ended.done():
            writer.write(drop)
            await writer.drain()
            await asyncio.wait({ended}, timeout=_DRIP_S)
    await ended
    seconds = time.monotonic() - begun
    writer.close()
    if came and came[0].startswith(b"HTTP/1.1 "):
        answer = Answer(int(came[0].split()[1]))
    return answer, seconds


async def _end(reader: asyncio.StreamReader, most: float, came: list[bytes] | None = None) -> bool:
    """Tell whether the other side ends the connection within `most` seconds."""
    try:
        async with asyncio.timeout(most):
            async for data in _pieces(reader):
                if came is not None:
                    came.append(data)
    except TimeoutError:
        return False
    return True


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            yield data


def _statuses(answers: Iterable[Answer]) -> str:
    return ", ".join(f"{status}" for status in Counter(answer.status for answer in answers))
