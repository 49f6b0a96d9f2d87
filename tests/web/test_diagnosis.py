"""What is found out about a callback that was not believed."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import BadCallbackError, BadSignatureError, StoreUnavailableError
from service.model import Job
from service.providers import Callback, Provider
from service.store import Reason
from service.web.diagnosis import Diagnosis, close_look, first_look
from service.web.refusals import RefusalError
from tests.web.house import House

EVENT = {
    "type": "video.generation.completed",
    "data": {"id": "gen-1", "status": "completed", "note": "über/ünïcode", "usage": {"cost": 0.25}, "a": [1, None]},
}
BOM = "\ufeff".encode()
COMPACT = json.dumps(EVENT, ensure_ascii=False, separators=(",", ":")).encode()
SPACED = json.dumps(EVENT, ensure_ascii=False).encode()
ESCAPED = json.dumps(EVENT, separators=(",", ":")).encode()
SORTED = json.dumps(EVENT, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
INDENTED = json.dumps(EVENT, ensure_ascii=False, indent=2).encode()

ALTERED: dict[str, tuple[bytes, bytes, str]] = {
    "written with spaces": (COMPACT, SPACED, "written as compact JSON: a proxy or middleware parsed it"),
    "written compactly": (SPACED, COMPACT, "written as JSON with spaces"),
    "indented": (COMPACT, INDENTED, "written as compact JSON"),
    "escaped": (COMPACT, ESCAPED, "written as compact JSON"),
    "unescaped": (ESCAPED, COMPACT, "written as compact JSON, ASCII alone"),
    "put out of order": (SORTED, COMPACT, "written as compact JSON, sorted"),
    "everything of this": (SORTED, json.dumps(EVENT, indent=1).encode(), "written as compact JSON, sorted"),
    "with a newline": (COMPACT, COMPACT + b"\n", "without the white space at its ends"),
    "with blanks": (COMPACT, b"  " + COMPACT + b"\t\r\n", "without the white space at its ends"),
    "without its newline": (COMPACT + b"\n", COMPACT, "with a newline at its end"),
    "without its CRLF": (COMPACT + b"\r\n", COMPACT + b"\n", "with a CRLF at its end"),
    "with a mark": (COMPACT, BOM + COMPACT, "without its byte order mark"),
    "without its mark": (BOM + COMPACT, COMPACT, "with a byte order mark"),
    "with CRLF": (INDENTED, INDENTED.replace(b"\n", b"\r\n"), "with LF for CRLF"),
    "with LF": (INDENTED.replace(b"\n", b"\r\n"), INDENTED, "with CRLF for LF"),
    "packed": (COMPACT, gzip.compress(COMPACT), "once it is unpacked"),
    "packed and written anew": (COMPACT, gzip.compress(SPACED), "written as compact JSON"),
    "genuine, but no callback": (b'{"a":1}', b'{"a": 1}', "written as compact JSON"),
}


def signed(house: House, job: Job, body: bytes) -> dict[str, str]:
    return house.openrouter_headers(body) if job.provider == "openrouter" else house.llmgateway_headers(job, body)


def look(house: House, job: Job, headers: dict[str, str], body: bytes) -> Diagnosis:
    """Return what is found about a callback that must not be believed."""
    provider = house.providers[job.provider]
    callback = Callback(job.id, headers, body, house.clock.now())
    with pytest.raises((BadSignatureError, BadCallbackError)) as refused:
        provider.receive(callback)
    found = first_look(provider, refused.value)
    assert found is not None
    return close_look(provider, callback, found)


@pytest.mark.parametrize("provider", ["openrouter", "llmgateway"])
@pytest.mark.parametrize("case", ALTERED)
async def test_how_a_body_was_altered_is_told(house: House, provider: str, case: str) -> None:
    job = await house.running(provider)
    sent, came, how = ALTERED[case]
    found = look(house, job, signed(house, job, sent), came)
    assert found.reason is Reason.BODY_ALTERED
    assert f"The signature fits the body {how}" in found.message
    assert "byte for byte" in found.message


@pytest.mark.parametrize(
    ("provider", "advice"),
    [("openrouter", "OPENROUTER_WEBHOOK_SECRET must be that secret"), ("llmgateway", "REELKEEPER_SECRET_KEY")],
)
async def test_a_wrong_secret_names_the_setting_and_says_what_looks_the_same(
    house: House, provider: str, advice: str
) -> None:
    job = await house.running(provider)
    other = await house.running(provider, "gen-2")
    wrong = (
        house.openrouter_headers(COMPACT, "another secret")
        if provider == "openrouter"
        else house.llmgateway_headers(other, COMPACT)
    )
    found = look(house, job, wrong, COMPACT)
    assert found.reason is Reason.WRONG_SECRET
    assert advice in found.message
    assert "A body that was changed on its way looks the same" in found.message
    assert "canary" not in found.message
    assert house.vault.callback_secret(job.id) not in found.message


@pytest.mark.parametrize(("encoding", "is_sign"), [("gzip", True), ("br", True), ("identity", False), ("", False)])
async def test_an_encoding_that_no_provider_uses_is_a_sign(house: House, encoding: str, is_sign: bool) -> None:  # noqa: FBT001 - a table
    job = await house.running()
    headers = house.openrouter_headers(COMPACT, "another secret") | {"content-encoding": encoding}
    found = look(house, job, headers, COMPACT)
    assert found.reason is (Reason.BODY_ALTERED if is_sign else Reason.WRONG_SECRET)
    assert (f"Content-Encoding: {encoding}," in found.message) is is_sign
    assert "OPENROUTER_WEBHOOK_SECRET" in found.message


async def test_a_body_that_was_changed_in_its_meaning_is_none_of_the_usual_manners(house: House) -> None:
    job = await house.running()
    other = COMPACT.replace(b"gen-1", b"gen-2")
    assert look(house, job, house.openrouter_headers(COMPACT), other).reason is Reason.WRONG_SECRET


async def test_what_is_no_fault_of_a_callback_has_no_reason(house: House) -> None:
    provider = house.providers["openrouter"]
    for error in (RefusalError(404, "not_found", "no such address"), StoreUnavailableError("locked")):
        assert first_look(provider, error) is None


async def test_what_needs_no_close_look_gets_none(house: House) -> None:
    found = Diagnosis(Reason.CLOCK_SKEW, "301 s behind our clock")
    assert close_look(house.providers["openrouter"], Callback("job_x", {}, b"x", 0), found) is found


# Whatever comes

_HOSTILE: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b"[" * 262_144,
    "deep and closed": lambda: b"[" * 900 + b"]" * 900,
    "deep objects": lambda: b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "wide": lambda: b"[" + b"[]," * 10_000 + b"[]]",
    "keys": lambda: b"{" + b",".join(b'"%x":1' % number for number in range(3_000)) + b"}",
    "digits": lambda: b"[" + b"9" * 30_000 + b"]",
    "exponent": lambda: b"[1e999999999, -Infinity, NaN]",
    "half a pair": lambda: b'["\\ud800"]',
    "blanks": lambda: b" " * 262_144,
    "newlines": lambda: b"\n" * 262_144,
    "bomb": lambda: gzip.compress(b"[" * 100_000_000, 1)[:262_144],
    "half a packed body": lambda: gzip.compress(COMPACT)[:-9],
    "UTF-16": lambda: COMPACT.decode().encode("utf-16"),
    "not text": lambda: b"\xff\xfe\xfd" * 5,
    "nothing": lambda: b"",
    "large JSON": lambda: b"[" + b"1.5e1," * 43_000 + b"1]",
}


@pytest.mark.parametrize("name", _HOSTILE)
async def test_no_hostile_body_makes_it_raise_or_take_long(house: House, name: str) -> None:
    body = _HOSTILE[name]()
    for job in (await house.running(), await house.running("llmgateway")):
        begun = time.process_time()
        assert look(house, job, signed(house, job, b"another"), body).reason is Reason.WRONG_SECRET
        assert time.process_time() - begun < 1  # measured: 0.03


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_bodies = st.binary(max_size=400) | _json.map(lambda value: json.dumps(value).encode()) | st.text().map(str.encode)


class Counting:
    """A provider that believes nothing, and counts how often it is asked."""

    name = "openrouter"
    signing_advice = "Compare"

    def __init__(self, believed: Provider) -> None:
        self._believed = believed
        self.asked = 0

    def receive(self, callback: Callback) -> Any:  # noqa: ANN401 - as it is there
        self.asked += 1
        return self._believed.receive(callback)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_bodies, packed=st.booleans())
async def test_no_body_makes_it_raise_or_try_much(house: House, body: bytes, packed: bool) -> None:  # noqa: FBT001 - a switch
    counting: Any = Counting(house.providers["openrouter"])
    headers = house.openrouter_headers(b"another")
    came = gzip.compress(body) if packed else body
    plain = Diagnosis(Reason.WRONG_SECRET, "plain")
    found = close_look(counting, Callback("job_x", headers, came, house.clock.now()), plain)
    assert found.reason is Reason.WRONG_SECRET
    assert counting.asked <= 16


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(st.text(max_size=6), _json, max_size=4), indent=st.none() | st.integers(0, 4))
async def test_every_json_that_was_written_anew_is_found_out(house: House, value: object, indent: int | None) -> None:
    sent = json.dumps(value, separators=(",", ":")).encode()
    came = json.dumps(value, indent=indent).encode()
    if sent != came:
        provider = house.providers["openrouter"]
        callback = Callback("job_x", house.openrouter_headers(sent), came, house.clock.now())
        found = close_look(provider, callback, Diagnosis(Reason.WRONG_SECRET, "plain"))
        assert found.reason is Reason.BODY_ALTERED
