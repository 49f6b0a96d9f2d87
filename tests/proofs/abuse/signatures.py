"""Headers and bodies with signatures that are wrong, odd, old or somebody else's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence

from service import signing
from service.clock import SystemClock
from tests.proofs.abuse.target import Answer, Finding, Target, Victim

Change = Callable[[str, str], dict[str, str | bytes | None]]
"""Makes other headers from a genuine timestamp and signature; None leaves a header out."""

_DAY_MS = 86_400_000
_LEAKS = "500: the Python libraries leak ValueError, binascii.Error, UnicodeDecodeError"
_ACCEPTED = "accepted"
_NAIVE = "500 (`int(t)`)"


def _openrouter(timestamp: str | bytes, *signatures: str | bytes) -> dict[str, str | bytes | None]:
    parts = [b"t=" + _raw(timestamp), *(b"v1=" + _raw(each) for each in signatures)]
    return {signing.OPENROUTER_SIGNATURE: b",".join(parts)}


def _standard(timestamp: str | bytes, *signatures: str | bytes) -> dict[str, str | bytes | None]:
    found = b" ".join(b"v1," + _raw(each) for each in signatures)
    return {signing.WEBHOOK_TIMESTAMP: timestamp, signing.WEBHOOK_SIGNATURE: found}


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _both(change: Callable[[str, str], tuple[str | bytes, Sequence[str | bytes]]]) -> tuple[Change, Change]:
    """Make the same change of the timestamp and the signatures in both schemes."""

    def standard(timestamp: str, signature: str) -> dict[str, str | bytes | None]:
        other, signatures = change(timestamp, signature)
        return _standard(other, *signatures)

    def openrouter(timestamp: str, signature: str) -> dict[str, str | bytes | None]:
        other, signatures = change(timestamp, signature)
        return _openrouter(other, *signatures)

    return standard, openrouter


def _whole(value: str | bytes) -> tuple[Change, Change]:
    """Send this in the place of the whole signature header."""
    return (
        lambda _, __: {signing.WEBHOOK_SIGNATURE: value},
        lambda _, __: {signing.OPENROUTER_SIGNATURE: value},
    )


GRAMMAR: tuple[tuple[str, str, tuple[Change, Change]], ...] = (
    ("signature `v1`", _LEAKS, _whole("v1")),
    ("signature `v1,a,b`", _LEAKS, _whole("v1,a,b")),
    ("signature `v1,abc`", _LEAKS, _whole("v1,abc")),
    ("signature not ASCII", _LEAKS, _whole(b"v1,\xe9\xff")),
    ("no signature header", "Debian webhook: 500", (
        lambda _, __: {signing.WEBHOOK_SIGNATURE: None},
        lambda _, __: {signing.OPENROUTER_SIGNATURE: None},
    )),
    ("empty signature", "svix (Rust) < 1.17: accepted", _both(lambda t, _: (t, [""]))),
    ("one right character", "svix (Rust) < 1.17: accepted", _both(lambda t, s: (t, [s[:1]]))),
    ("short: half of the right one", "Debian webhook: 500", _both(lambda t, s: (t, [s[: len(s) // 2]]))),
    ("over-long: right, and more", "svix (Rust) < 1.17: accepted", _both(lambda t, s: (t, [s + "0"]))),
    ("right, and `!!!!` behind it", _ACCEPTED, _both(lambda t, s: (t, [s + "!!!!"]))),
    ("non-hex / non-base64", "Debian webhook: 500", _both(lambda t, s: (t, ["~" * len(s)]))),
    ("wrong signature", "Debian webhook: 500", _both(lambda t, s: (t, ["A" + s[1:] if s[0] != "A" else "B" + s[1:]]))),
    ("10,000 bogus, then the right one", "accepted in 4 ms", _both(lambda t, s: (t, [*["a"] * 10_000, s]))),
    ("timestamp `1.79e9`", _ACCEPTED, _both(lambda t, s: (f"{int(t) / 1e9:.9f}e9", [s]))),
    ("timestamp with `.9`", _ACCEPTED, _both(lambda t, s: (f"{t}.9", [s]))),
    ("timestamp with spaces", _ACCEPTED, _both(lambda t, s: (f"{t[:4]} {t[4:]}", [s]))),
    ("timestamp with `_`", _ACCEPTED, _both(lambda t, s: (f"{t[:4]}_{t[4:]}", [s]))),
    ("timestamp in Arabic digits", _ACCEPTED, _both(lambda t, s: ("".join(chr(0x660 + int(c)) for c in t), [s]))),
    ("timestamp `abc`", _NAIVE, _both(lambda _, s: ("abc", [s]))),
    ("timestamp `nan`", _NAIVE, _both(lambda _, s: ("nan", [s]))),
    ("timestamp `1e400`", _NAIVE, _both(lambda _, s: ("1e400", [s]))),
    ("timestamp of 5,000 digits", _NAIVE, _both(lambda _, s: ("9" * 5000, [s]))),
)  # fmt: skip


async def findings(target: Target) -> list[Finding]:
    """Probe every grammar in both schemes; then what is signed rightly, but odd, old, doubled or somebody else's."""
    gateway, router = await target.victim("llmgateway"), await target.victim()
    found = [await _grammar(target, (gateway, router), name, theirs, changes) for name, theirs, changes in GRAMMAR]
    found.append(await _a_day_ahead(target, (gateway, router)))
    found += [await _odd_body(target, (gateway, router), *each) for each in ODD_BODIES]
    found.append(await _forged_thrice(target, (gateway, router)))
    found.append(await _somebody_elses(target))
    found.append(await _at_once(target, 3, "3 new rows (dj-stripe)"))
    found.append(await _at_once(target, 50, "several effects (Convoy#2747)"))
    found.append(await _replayed(target))
    untouched = {target.state(each) for each in (gateway, router)} == {"running"}
    found.append(Finding("after all that was refused", "—", "both jobs still `running`", untouched))
    return found


def _parts(victim: Victim, body: bytes) -> tuple[str, str]:
    """Return a genuine timestamp and signature."""
    headers = victim.signed(body)
    if victim.provider == "openrouter":
        timestamp, _, signature = headers[signing.OPENROUTER_SIGNATURE].partition(",")
        return timestamp.removeprefix("t="), signature.removeprefix("v1=")
    return headers[signing.WEBHOOK_TIMESTAMP], headers[signing.WEBHOOK_SIGNATURE].removeprefix("v1,")


async def _grammar(
    target: Target, victims: Sequence[Victim], name: str, theirs: str, changes: tuple[Change, Change]
) -> Finding:
    answers = []
    for victim, change in zip(victims, changes, strict=True):
        body = victim.body()
        headers = victim.signed(body) | change(*_parts(victim, body))
        sent = [(each, value) for each, value in headers.items() if value is not None]
        answers.append(await target.post(victim.path, sent, body))
    return Finding(name, theirs, _told(answers), all(answer.status in (400, 401, 431) for answer in answers))


async def _a_day_ahead(target: Target, victims: Sequence[Victim]) -> Finding:
    answers = []
    for off_ms in (_DAY_MS, -_DAY_MS):
        for victim in victims:
            body = victim.body()
            headers = victim.signed(body, SystemClock().now() + off_ms)
            answers.append(await target.post(victim.path, headers.items(), body))
    kept = {answer.status for answer in answers} == {401}
    return Finding("rightly signed, a day ahead or behind", "stripe: accepted (ahead)", _told(answers), kept)


def _doubled(body: bytes) -> bytes:
    return body.replace(b'"status": ', b'"status": "in_progress", "status": ')


ODD_BODIES: tuple[tuple[str, str, Callable[[bytes], bytes], set[int]], ...] = (
    ("signed body that is not UTF-8", "500 (standardwebhooks, svix, stripe)", lambda _: b'{"type": "\xff\xfe"}', {400}),
    ("signed body that is malformed JSON", "204, and the command runs (Debian webhook)", lambda b: b[:-1], {400}),
    ("signed body `[]`", "—", lambda _: b"[]", {400}),
    ("signed body, nothing but `{`, 100,000 deep", "RecursionError: 500", lambda _: b'{"a":' * 40_000, {400}),
    ("signed body with another job's name", "—", lambda b: json.dumps(json.loads(b) | {"data": {
        "id": "somebody-elses", "status": "failed"}}).encode(), {404}),
)  # fmt: skip


async def _odd_body(
    target: Target, victims: Sequence[Victim], name: str, theirs: str, change: Callable[[bytes], bytes], right: set[int]
) -> Finding:
    answers = []
    for victim in victims:
        body = change(victim.body())
        answers.append(await target.post(victim.path, victim.signed(body).items(), body))
    return Finding(name, theirs, _told(answers), {answer.status for answer in answers} <= right)


async def _forged_thrice(target: Target, victims: Sequence[Victim]) -> Finding:
    before, answers = target.rows(), []
    for victim in [*victims] * 3:
        body = victim.body()
        headers = victim.signed(body + b" ")
        answers.append(await target.post(victim.path, headers.items(), body))
    grown = {name: count for name, count in (target.rows() - before).items() if name != "rejections"}
    kept = {answer.status for answer in answers} == {401} and not grown
    return Finding("forged 3 times", "3 rows of forgeries (dj-stripe)", f"{_told(answers)}, rows: {grown or 0}", kept)


async def _somebody_elses(target: Target) -> Finding:
    """A signature that is genuine for one job comes to the address of another."""
    answers, states = [], []
    for provider in ("llmgateway", "openrouter"):
        ours, other = await target.more(2, provider)
        body = ours.body()
        answers.append(await target.post(other.path, ours.signed(body).items(), body))
        states += [target.state(ours), target.state(other)]
    kept = {answer.status for answer in answers} <= {401, 404} and set(states) == {"running"}
    return Finding("made for one job, sent to another's address", "—", _told(answers), kept)


async def _at_once(target: Target, times: int, theirs: str) -> Finding:
    told, effects = [], Counter[tuple[int, int]]()
    for provider in ("llmgateway", "openrouter"):
        victim = await target.victim(provider)
        body = victim.body()
        headers = victim.signed(body)
        told += await asyncio.gather(*(target.post(victim.path, headers.items(), body) for _ in range(times)))
        effects[target.effects(victim)] += 1
    kept = {answer.status for answer in told} == {204} and set(effects) == {(1, 1)}
    [(ends, receipts), *_] = effects
    return Finding(f"genuine, {times} times at once", theirs, f"204, effects: {ends}, receipts: {receipts}", kept)


async def _replayed(target: Target) -> Finding:
    """The same message comes again with other unsigned headers, and in words that nobody signed twice."""
    victim = await target.victim()
    body = _doubled(victim.body())
    headers = victim.signed(body)
    first = await target.post(victim.path, headers.items(), body)
    again = await target.post(
        victim.path, [*headers.items(), ("X-OpenRouter-Idempotency-Key", "another"), ("User-Agent", "x")], body
    )
    ends, receipts = target.effects(victim)
    kept = (first.status, again.status, ends, receipts) == (204, 204, 1, 1)
    ours = f"{first.status}, then {again.status}; effects: {ends}"
    return Finding("duplicate keys, rightly signed (the last counts); replayed", "replay accepted anew", ours, kept)


def _told(answers: Sequence[Answer]) -> str:
    codes = Counter(f"{answer.status}" for answer in answers)
    slowest = max(answer.seconds for answer in answers)
    return f"{', '.join(codes)} in ≤ {slowest * 1000:.0f} ms"
