from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.web.ranges import Span, forbidden, known, named, read_range
from service.web.refusals import RefusalError

TAG = '"abc"'


def head(**fields: str) -> Headers:
    return Headers({name.replace("_", "-"): value for name, value in fields.items()})


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-99", Span(0, 100)),
        ("bytes=2-5", Span(2, 6)),
        ("bytes=99-", Span(99, 100)),
        ("bytes=0-", Span(0, 100)),
        ("bytes=90-1000", Span(90, 100)),
        ("bytes=-1", Span(99, 100)),
        ("bytes=-100", Span(0, 100)),
        ("bytes=-101", Span(0, 100)),
        ("bytes=5-" + "9" * 100, Span(5, 100)),
        ("bytes=-" + "9" * 100, Span(0, 100)),
        ("bytes=007-008", Span(7, 9)),
        ("Bytes=2-5", Span(2, 6)),
        ("bytes= 2-5 ,, ", Span(2, 6)),  # an empty element of a list is to be ignored
    ],
)
def test_one_range_is_obeyed(text: str, span: Span) -> None:
    assert read_range(head(range=text), 100, TAG) == span


@pytest.mark.parametrize(
    "text",
    ["", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=5-2", "bytes=a-b", "bytes=1", "bytes=+1-2", "bytes=1--2",
     "bytes=1.0-2", "bytes=0x1-2", "bytes=1 -2", "bytes =1-2", "bits=1-2", "seconds=1-2", "bytes=\xb9-\xb2",
     "bytes=" + "9" * 6000 + "-", "1-2"],
)  # fmt: skip
def test_what_is_no_range_is_ignored(text: str) -> None:
    assert read_range(head(range=text), 100, TAG) is None


@pytest.mark.parametrize("text", ["bytes=0-1,4-5", "bytes=0-1,-1", "bytes=500-,600-"])
def test_several_ranges_are_answered_with_the_whole(text: str) -> None:
    assert read_range(head(range=text), 100, TAG) is None


def test_two_range_headers_are_none() -> None:
    assert read_range(Headers(raw=[(b"range", b"bytes=0-1"), (b"range", b"bytes=0-1")]), 100, TAG) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-0", 0)],
)
def test_a_range_without_a_byte_is_refused_with_the_size(text: str, size: int) -> None:
    with pytest.raises(RefusalError) as caught:
        read_range(head(range=text), size, TAG)
    assert (caught.value.status, caught.value.code) == (416, "range_not_satisfiable")
    assert caught.value.headers is not None
    assert caught.value.headers["content-range"] == f"bytes */{size}"


def test_the_last_bytes_of_nothing_are_all_of_it() -> None:
    assert read_range(head(range="bytes=-5"), 0, TAG) is None


@pytest.mark.parametrize(
    ("version", "obeyed"),
    [
        (TAG, True),
        ('"abd"', False),
        (f"W/{TAG}", False),
        ("abc", False),
        ("*", False),
        (f'{TAG}, "x"', False),
        ("Sat, 21 Nov 2026 10:00:00 GMT", False),
        ("", False),
    ],
)
def test_a_range_of_another_version_is_answered_with_the_whole(version: str, obeyed: bool) -> None:  # noqa: FBT001 - a column of the table
    for text in ("bytes=1-2", "bytes=500-"):
        fields = head(range=text, if_range=version)
        if obeyed and text == "bytes=500-":
            with pytest.raises(RefusalError):
                read_range(fields, 100, TAG)
        else:
            assert read_range(fields, 100, TAG) == (Span(1, 3) if obeyed else None)


@pytest.mark.parametrize(
    ("text", "strongly", "weakly"),
    [
        (TAG, True, True),
        (f'"x", {TAG}', True, True),
        (f'"a,b",{TAG}', True, True),
        ("*", True, True),
        (f"W/{TAG}", False, True),
        ('"abd"', False, False),
        ('"*"', False, False),
        ("abc", False, False),
        ('"xabc"', False, False),
        ('"', False, False),
        ("", False, False),
    ],
)
def test_conditions_name_versions(text: str, strongly: bool, weakly: bool) -> None:  # noqa: FBT001 - columns of the table
    assert forbidden(head(if_match=text), TAG) is not strongly
    assert known(head(if_none_match=text), TAG) is weakly


def test_without_conditions_nothing_is_forbidden_and_nothing_known() -> None:
    assert not forbidden(head(), TAG)
    assert not known(head(), TAG)
    assert not named(head(range="bytes=0-1"), TAG)


def test_a_condition_may_be_spread_over_lines() -> None:
    lines = Headers(raw=[(b"if-none-match", b'"x"'), (b"if-none-match", TAG.encode())])
    assert known(lines, TAG)


@pytest.mark.parametrize("field", ["if-match", "if-none-match", "if-range"])
def test_any_condition_may_name_us(field: str) -> None:
    assert named(Headers({field: TAG}), TAG)
    assert not named(Headers({field: '"of-the-bucket"'}), TAG)


@given(st.text(st.characters(max_codepoint=255), max_size=40), st.integers(0, 50))
def test_whatever_is_written_there_it_is_read_as_something(text: str, size: int) -> None:
    fields = Headers(raw=[(name, text.encode("latin-1")) for name in (b"range", b"if-match", b"if-none-match")])
    forbidden(fields, TAG)
    known(fields, TAG)
    with contextlib.suppress(RefusalError):
        span = read_range(fields, size, TAG)
        assert span is None or 0 <= span.start < span.end <= size
