from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.found import FOUND
from tests.fuzz.running import LOOP, Target, TooSlowError
from tests.fuzz.targets import TARGETS


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    LOOP.close()


@st.composite
def _changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Return a genuine input with some pieces cut out, doubled, or replaced by others."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 12))
        piece = draw(st.binary(max_size=6) | st.sampled_from([b"\n", b'"', b"\0", b"{", b"[", data[at : end + 20] * 2]))
        data = data[:at] + piece + data[end:]
    return data


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bytes_cause_anything_but_the_documented_errors_and_soon(target: Target, data: st.DataObject) -> None:
    target.give(data.draw(st.binary(max_size=200) | _changed(list(target.seeds))))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_genuine_and_what_broke_it_once_is_read(target: Target) -> None:
    for data in [*target.seeds, *FOUND.get(target.name, ())]:
        target.give(data)


def test_an_error_that_is_not_documented_and_a_hang_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        Target("x", "x", lambda _: 1 // 0, [], (KeyError,)).give(b"")
    Target("x", "x", lambda _: 1 // 0, [], (ZeroDivisionError,)).give(b"")
    monkeypatch.setattr("tests.fuzz.running._MOST_SECONDS", -1)
    with pytest.raises(TooSlowError):
        Target("x", "x", lambda _: None, []).give(b"")


def test_every_input_that_was_found_belongs_to_a_target() -> None:
    assert set(FOUND) <= {target.name for target in TARGETS}
