"""Requests that two servers may read differently: lengths, line ends, paths, types of bodies, headers of proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.proofs.abuse.target import Answer, Finding, Target, Victim, request

_QUIET_S = 3.0  # after which nothing more is expected; what is refused is answered after a second
_INNER = b"GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"


async def findings(target: Target) -> list[Finding]:
    """Smuggle, walk paths, confuse types and spoof proxies."""
    found = await _smuggled(target)
    found += await _paths(target)
    found += await _types(target)
    found += await _forwarded(target)
    return found


async def _smuggled(target: Target) -> list[Finding]:
    """Every probe hides a second request where a lenient parser would see none, or the other way round."""
    victim = await target.victim()
    start = f"POST {victim.path} HTTP/1.1\r\n".encode()
    host = b"Host: x\r\nContent-Type: application/json\r\n"
    cases: tuple[tuple[str, bytes], ...] = (
        ("Content-Length and Transfer-Encoding", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding and Content-Length", b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
        ("two lengths", b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n"),
        ("two equal lengths", b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        ("lengths in a list", b"Content-Length: 0, 44\r\n\r\n"),
        ("length +2", b"Content-Length: +2\r\n\r\n{}"),
        ("length 0x2", b"Content-Length: 0x2\r\n\r\n{}"),
        ("length -1", b"Content-Length: -1\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: identity", b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: xchunked", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding twice", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked twice", b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding, vertical tab", b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ("space before the colon", b"Content-Length : 44\r\n\r\n"),
        ("a folded header (obs-fold)", b"X-A: b\r\n Content-Length: 44\r\n\r\n"),
        ("bare LF", b"X-A: b\nContent-Length: 44\r\n\r\n"),
        ("bare CR", b"X-A: b\rContent-Length: 44\r\n\r\n"),
        ("NUL in a header", b"X-A: b\0c\r\n\r\n"),
        ("a chunk size of 17 digits", b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n"),
        ("a chunk size with a sign", b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk that is longer than it says", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n"),
        ("chunks ended by bare LF", b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n"),
    )
    ran = await asyncio.gather(*(target.talk(start + host + rest + _INNER, seconds=_QUIET_S) for _, rest in cases))
    found = []
    for (name, _), answers in zip(cases, ran, strict=True):
        smuggled = any(answer.status == 200 for answer in answers)
        statuses = ", ".join(str(answer.status) if answer.status else "cut off" for answer in answers)
        kept = not smuggled and all(answer.status < 500 for answer in answers)
        found.append(Finding(f"smuggling: {name}", "—", statuses, kept))
    plain = await target.talk(start + host + b"Content-Length: 2\r\n\r\n{}" + _INNER, seconds=5, most=2)
    both = [answer.status for answer in plain]
    found.append(Finding("no smuggling: two requests, one behind the other", "—", f"{both}", both == [401, 200]))
    trailer = b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    body = victim.body()
    signature = b"".join(f"{name}: {value}\r\n".encode() for name, value in victim.signed(body).items())
    data = start + host + trailer.replace(b"0\r\n", b"%x\r\n%b\r\n0\r\n" % (len(body), body)) + signature + b"\r\n"
    [answer] = await target.talk(data, seconds=5, most=1)
    found.append(Finding("a genuine signature in the trailers", "—", str(answer.status), answer.status == 401))
    return found


async def _paths(target: Target) -> list[Finding]:
    """Send a genuine callback to other spellings of its path: whoever filters by path must not be got around."""
    victim = await target.victim()
    base, token = victim.path.rpartition("/")[::2]
    cases = (
        ("//callbacks/…", f"/{victim.path}"),
        ("/callbacks/../callbacks/…", f"/callbacks/..{victim.path}"),
        ("/%63allbacks/…/../", f"{base}/x/../{token}"),
        ("%2e%2e", f"{base}/%2e%2e/{victim.job_id}/{token}"),
        ("a token that is %2F%2e%2e%2F", f"{base}/%2F%2e%2e%2F"),
        ("a slash at the end", f"{victim.path}/"),
        (";x=y at the end", f"{victim.path};x=y"),
        ("%00 at the end", f"{victim.path}%00"),
        ("upper case", victim.path.replace("/callbacks/", "/Callbacks/")),
        ("the token in upper case", f"{base}/{token.upper()}"),
        ("an empty token", f"{base}/"),
        ("another provider's name", victim.path.replace("/openrouter/", "/llmgateway/")),
        ("no such provider", victim.path.replace("/openrouter/", "/nobody/")),
        ("bytes that are not ASCII", f"{base}/\xff"),
    )
    found = []
    for name, path in cases:
        body = victim.body()
        answer = await target.post(path, victim.signed(body).items(), body)
        kept = answer.status in (400, 401, 404) and target.state(victim) == "running"
        found.append(Finding(f"path: {name}", "—", str(answer.status), kept))
    # An absolute-form target is the same address (RFC 9112, section 3.2.2), and so is one with escapes that mean the
    # same: what proves the sender is the token and the signature, not the spelling.
    for name, path in (
        ("absolute-form", f"http://other.example{victim.path}"),
        ("with a query", f"{victim.path}?x=1"),
        ("%2F before the token", f"{base}%2F{token}"),
        ("%63allbacks", victim.path.replace("/c", "/%63")),
    ):
        body = victim.body()
        answer = await target.post(path, victim.signed(body).items(), body)
        found.append(Finding(f"path: {name}, the same address", "—", str(answer.status), answer.status == 204))
    return found


async def _types(target: Target) -> list[Finding]:
    """Send a genuine body under another type: nothing may be read as something that it was not signed as."""
    victim = await target.victim()
    types: tuple[str | None, ...] = (
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/json; charset=utf-7",
        "application/jsonp",
    )
    found = []
    for sent in types:
        body = victim.body()
        headers = [*victim.signed(body).items(), *([("Content-Type", sent)] if sent else [])]
        answer = await target.ask(request(victim.path, headers, body))
        kept = answer.status == 415 and target.state(victim) == "running"
        theirs = "file read, then code run (n8n CVE-2026-21858)" if sent and "form" in sent else "—"
        found.append(Finding(f"Content-Type: {sent or 'none'}", theirs, str(answer.status), kept))
    body = victim.body()
    answer = await target.post(victim.path, [*victim.signed(body).items(), ("Content-Encoding", "gzip")], body)
    # What is signed are the bytes as they came; nothing is ever unpacked.
    found.append(
        Finding("Content-Encoding: gzip, never unpacked", "—", str(answer.status), answer.status in (204, 415))
    )
    return found


async def _forwarded(target: Target) -> list[Finding]:
    """Whoever claims to come from elsewhere is treated as everybody."""
    spoofed = [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Prefix", "/v1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
        ("X-Original-URL", "/healthz"),
        ("X-Rewrite-URL", "/healthz"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Host", "evil.example"),
    ]
    forger, victim = await target.victim(), await target.victim()
    forged = await target.post(forger.path, spoofed, forger.body())
    genuine = await _genuine(target, victim, spoofed)
    key = ("Authorization", f"Bearer {target.place.key}")
    plain = await target.ask(request(f"/v1/jobs/{victim.job_id}", [key], method="GET"))
    spoof = await target.ask(request(f"/v1/jobs/{victim.job_id}", [key, *spoofed], method="GET"))
    nobody = await target.ask(request("/status", spoofed, method="GET"))
    same = plain.body == spoof.body and b"evil.example" not in spoof.body
    links = "as ever" if same else "changed"
    ours = f"forged {forged.status}, genuine {genuine.status}, no key {nobody.status}; links {links}"
    kept = (forged.status, genuine.status, nobody.status, same) == (401, 204, 401, True)
    return [Finding("X-Forwarded-*, Forwarded, X-Original-URL, Host spoofed", "—", ours, kept)]


async def _genuine(target: Target, victim: Victim, headers: Iterable[tuple[str, str]]) -> Answer:
    body = victim.body()
    return await target.post(victim.path, [*victim.signed(body).items(), *headers], body)
