from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._qs import Querystring
from starlette.requests import Request

from service.model import Problem
from service.web.forms import is_form, read_form
from service.web.refusals import RefusalError

PNG = b"\x89PNG\r\n\x1a\n picture"
DATA = "data:image/png;base64,iVBORw0KGgogcGljdHVyZQ=="
FILES = ("input_reference", "image")


def request_with(body: bytes, content_type: str, piece: int = 1 << 20) -> Request:
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)] or [b""]
    messages = [
        {"type": "http.request", "body": each, "more_body": number < len(pieces)}
        for number, each in enumerate(pieces, start=1)
    ]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return Request({"type": "http", "headers": [(b"content-type", content_type.encode())]}, receive)


def form_of(
    fields: Sequence[tuple[str, str | bytes]] = (), files: Sequence[tuple[str, bytes]] = (), piece: int = 1 << 20
) -> Request:
    """Return a form as httpx writes it, names and texts in UTF-8."""
    parts = [(name, (None, text)) for name, text in fields] + [(name, ("a.png", data)) for name, data in files]
    if not parts:
        return request_with(b"--b--\r\n", "multipart/form-data; boundary=b")
    made = httpx.Request("POST", "http://test", files=parts)
    return request_with(made.read(), made.headers["content-type"], piece)


async def read(request: Request, limit: int = 1 << 20) -> tuple[dict[str, Any], list[Problem]]:
    return await read_form(request, files=FILES, limit=limit, seconds=5)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([], {}),
        ([("prompt", "a cat"), ("seconds", "4")], {"prompt": "a cat", "seconds": "4"}),
        ([("prompt", "ein Kätzchen 🐈\r\n--b--")], {"prompt": "ein Kätzchen 🐈\r\n--b--"}),
        ([("größe", "")], {"größe": ""}),
        ([("a[b]", "1"), ("a[c][d]", "2")], {"a": {"b": "1", "c": {"d": "2"}}}),
        ([("a[]", "1")], {"a": ["1"]}),
        ([("a[]", "1"), ("x", "0"), ("a[]", "2")], {"a": ["1", "2"], "x": "0"}),
        ([("a", "1"), ("a", "2")], {"a": ["1", "2"]}),
        ([("a[1]", "2"), ("a[0]", "1")], {"a": ["1", "2"]}),
        ([("a[1]", "2"), ("a[7]", "1")], {"a": {"1": "2", "7": "1"}}),
        ([("a[00]", "2")], {"a": {"00": "2"}}),
        ([("a[0][b]", "1"), ("a[1][c]", "2")], {"a": [{"b": "1"}, {"c": "2"}]}),
        ([("a[b][]", "1"), ("a[b][]", "2")], {"a": {"b": ["1", "2"]}}),
        # The SDK groups the parts of the elements of an array.
        (
            [("a[][b]", "1"), ("a[][b]", "2"), ("a[][c][d]", "3"), ("a[][c][d]", "4")],
            {"a": [{"b": "1", "c": {"d": "3"}}, {"b": "2", "c": {"d": "4"}}]},
        ),
        ([("a[][b]", "1"), ("a[][c]", "3"), ("a[][b]", "2"), ("a[][c]", "4")],
         {"a": [{"b": "1", "c": "3"}, {"b": "2", "c": "4"}]}),
    ],
)  # fmt: skip
async def test_a_form_reads_as_the_object_that_it_stands_for(fields: list[tuple[str, str]], value: object) -> None:
    assert await read(form_of(fields)) == (value, [])


# Without what httpx escapes in a name.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='[]"\\'), min_size=1, max_size=10
)
VALUES = st.recursive(
    TEXTS,
    lambda inner: st.lists(TEXTS, min_size=1, max_size=3) | st.dictionaries(TEXTS, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
async def test_what_the_sdk_writes_is_read_back(value: dict[str, Any]) -> None:
    written = Querystring(array_format="brackets").stringify_items(value)
    found, problems = await read(form_of(written))
    assert not problems
    assert found == {name: _with_arrays(inner) for name, inner in value.items()}


def _with_arrays(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    """Return the value with `{"0": …, "1": …}` as the array that it looks like."""
    if not isinstance(value, dict):
        return value
    inner = {key: _with_arrays(each) for key, each in value.items()}
    if inner and sorted(inner) == [str(index) for index in range(len(inner))]:
        return [inner[str(index)] for index in range(len(inner))]
    return inner


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ([("a", "1"), ("a[b]", "2")], "a", "either one value or an object"),
        ([("a[]", "1"), ("a[b]", "2")], "a", "either an array, name[], or an object"),
        ([("a[][b]", "1"), ("a[][c]", "2"), ("a[][b]", "3")], "a", "with indexes"),
        ([("a[][b][]", "1"), ("a[][b][]", "2")], "a", "with indexes"),
        ([("a[][]", "1"), ("a[][]", "2")], "a", "with indexes"),
        ([("a[b", "1")], "a[b", "no name of a field"),
        ([("[]", "1")], "[]", "no name of a field"),
        ([("a" * 201, "1")], "a" * 80 + "…", "no name of a field"),
        ([("a" + "[b]" * 16, "1")], "a" + "[b]" * 16, "no name of a field"),
        ([("a", b"\xff")], "a", "text in UTF-8"),
    ],
)
async def test_what_could_mean_two_things_is_not_guessed_at(
    fields: list[tuple[str, str]], field: str, words: str
) -> None:
    found, [problem] = await read(form_of([*fields, ("good", "1")]))
    assert found == {"good": "1"}
    assert problem.field == field
    assert words in problem.message


async def test_a_name_that_is_not_text_is_refused() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--b--\r\n'
    found, [problem] = await read(request_with(body, "multipart/form-data; boundary=b"))
    assert (found, problem.field) == ({}, "\ufffd")


@pytest.mark.parametrize(
    ("begins", "content_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x0a\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
    ],
)
async def test_a_file_is_the_picture_that_its_bytes_say(begins: bytes, content_type: str) -> None:
    found, problems = await read(form_of(files=[("image", begins)]))
    assert not problems
    assert found["image"].startswith(f"data:{content_type};base64,")


@pytest.mark.parametrize("content", [b"", b"<html>", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42", b" \x89PNG\r\n\x1a\n"])
async def test_a_file_that_is_no_picture_is_refused(content: bytes) -> None:
    found, [problem] = await read(form_of([("prompt", "x")], [("image", content)]))
    assert found == {"prompt": "x"}
    assert problem.field == "image"
    assert f"this one has {len(content)} bytes and is none of them" in problem.message


async def test_files_stand_where_they_can_be_read_and_nowhere_else() -> None:
    one = await read(form_of(files=[("input_reference", PNG)]))
    inside = await read(form_of(files=[("input_reference[image_url]", PNG)]))
    several = await read(form_of(files=[("input_reference[]", PNG), ("input_reference[]", PNG)]))
    assert one == ({"input_reference": DATA}, [])
    assert inside == ({"input_reference": {"image_url": DATA}}, [])
    assert several == ({"input_reference": [DATA, DATA]}, [])
    for field in ("prompt", "metadata[input_reference]"):
        found, [problem] = await read(form_of(files=[(field, PNG)]))
        assert found == {}
        assert problem == Problem(field, "must be text; files can be sent as input_reference, image")


async def test_how_a_form_is_cut_into_chunks_changes_nothing() -> None:
    fields, files = [("prompt", "a cat"), ("a[b]", "1")], [("image", PNG * 100)]
    whole = await read(form_of(fields, files))
    assert whole[1] == []
    assert await read(form_of(fields, files, piece=1)) == whole
    assert await read(form_of(fields, files, piece=7)) == whole


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", b"", "names no boundary"),
        ('multipart/form-data; boundary="a\xfc"', b"", "names no boundary"),
        (f"multipart/form-data; boundary={'b' * 71}", b"", "names no boundary"),
        ("multipart/form-data; boundary=b", b"", "breaks off"),
        ("multipart/form-data; boundary=b", b"prompt=x", "Invalid multipart data"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\n1\r\n--b--\r\n", "name"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1', "breaks off"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\n',
         "breaks off"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_whole_form_is_refused(content_type: str, body: bytes, words: str) -> None:
    request = request_with(body, content_type)
    assert is_form(request)
    with pytest.raises(RefusalError) as refused:
        await read(request)
    assert (refused.value.status, refused.value.code) == (400, "invalid_form")
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("fields", "files"),
    [([(f"a{index}", "1") for index in range(501)], []), ([], [("input_reference[]", PNG)] * 21)],
)
async def test_a_form_has_so_many_parts_and_no_more(
    fields: list[tuple[str, str]], files: list[tuple[str, bytes]]
) -> None:
    assert (await read(form_of(fields[1:], files[1:])))[1] == []
    with pytest.raises(RefusalError) as refused:
        await read(form_of(fields, files))
    assert refused.value.status == 400
    assert f"Maximum number of {'fields is 500' if fields else 'files is 20'}." in refused.value.message


async def test_a_form_that_is_too_large_is_refused_as_soon_as_that_is_known() -> None:
    large = form_of(files=[("image", PNG + bytes(5_000_000))], piece=65_536)
    pulled = 0
    receive = large._receive

    async def counting() -> Any:  # noqa: ANN401 - an ASGI message
        nonlocal pulled
        pulled += 1
        return await receive()

    large._receive = counting
    with pytest.raises(RefusalError) as refused:
        await read(large, limit=1_000_000)
    assert (refused.value.status, refused.value.code) == (413, "body_too_large")
    assert pulled == 1_000_000 // 65_536 + 1


async def test_a_form_that_never_ends_is_not_waited_for() -> None:
    request = form_of(files=[("image", PNG)], piece=30)
    first = await request._receive()
    waiting = asyncio.Event()

    async def receive() -> Any:  # noqa: ANN401 - an ASGI message
        if not waiting.is_set():
            waiting.set()
            return first
        return await asyncio.Event().wait()

    request._receive = receive
    with pytest.raises(RefusalError) as refused:
        await read_form(request, files=FILES, limit=1000, seconds=0.01)
    assert (refused.value.status, refused.value.code) == (408, "body_too_slow")


@pytest.fixture
async def spooled(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Any]]:
    files: list[Any] = []

    def spool(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the parser asks for
        files.append(tempfile.SpooledTemporaryFile(*args, **kwargs))  # noqa: SIM115 - the parser's to close
        return files[-1]

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", spool)
    yield files
    assert files
    assert all(file.closed for file in files)


async def test_files_are_closed_whatever_becomes_of_the_form(spooled: list[Any]) -> None:
    large = PNG + bytes(2_000_000)
    await read(form_of(files=[("image", large)]), limit=3_000_000)
    await read(form_of(files=[("image", b"?"), ("prompt", PNG)]))
    with pytest.raises(RefusalError):
        await read(form_of(files=[("image", large)], piece=65_536), limit=1_500_000)
    whole = form_of(files=[("image", PNG)])
    body = (await whole._receive())["body"]
    with pytest.raises(RefusalError):
        await read(request_with(body[:-10], whole.headers["content-type"]))
    assert len(spooled) == 5
