"""Logs: what is written, and what never is."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import logs
from service.vault import Vault

pytestmark = pytest.mark.usefixtures("logs_restored")

SECRET_NAMES = (
    "authorization",
    "Proxy-Authorization",
    "api_key",
    "x-api-key",
    "apiKey",
    "OPENROUTER_API_KEY",
    "callback_secret",
    "secret_keys",
    "access_token",
    "X-OpenRouter-Signature",
    "webhook-signature",
    "Set-Cookie",
    "password",
)
URL_CHARACTERS = "abcXYZ0189-._~%+/=!$&'()*,;:@"

canaries = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=8, max_size=60).map(
    "canary-".__add__
)
harmless = st.none() | st.booleans() | st.integers() | st.text(max_size=30)


def somewhere(inner: st.SearchStrategy[Any], levels: int = 3) -> st.SearchStrategy[Any]:
    """Put `inner` at some place in nested lists, tuples and dicts."""
    for _ in range(levels):
        inner = st.one_of(
            inner,
            st.builds(lambda before, it, after: [*before, it, *after], st.lists(harmless), inner, st.lists(harmless)),
            st.builds(lambda it, other: (it, other, it), inner, harmless),
            st.builds(
                lambda rest, name, it: {**rest, name: it}, st.dictionaries(st.text(), harmless), st.text(), inner
            ),
        )
    return inner


def written(value: object) -> str:
    return json.dumps(logs.redact(value), ensure_ascii=False)


@given(st.data(), canaries, st.sampled_from(SECRET_NAMES))
def test_what_a_secret_name_holds_never_comes_out(data: st.DataObject, canary: str, name: str) -> None:
    held = data.draw(somewhere(st.just(canary)))
    forms = st.sampled_from([{name: held}, {name.encode(): held}, (name, held), [name.encode(), held]])
    assert canary not in written(data.draw(somewhere(forms)))


@given(
    st.data(),
    canaries,
    st.text(URL_CHARACTERS, max_size=20),
    st.text(URL_CHARACTERS, max_size=20),
    st.sampled_from("?#"),
    st.text(max_size=20),
    st.sampled_from(["", " ", "\n", '"', ">", "'", "\x1d"]),
)
def test_the_query_of_a_url_never_comes_out(
    data: st.DataObject, canary: str, path: str, more: str, mark: str, text: str, end: str
) -> None:
    url = f"https://store.example/{path.replace('?', '')}{mark}{more}X-Sig={canary}{more}"
    forms = st.sampled_from(
        [f"{text}{url}{end}{text}", url.encode(), ValueError(url), {url: 1}, {"error": repr([url])}]
    )
    assert canary not in written(data.draw(somewhere(forms)))


@given(canaries, st.text("abc019-._~%!$&'*,;=", max_size=20))
def test_the_user_part_of_a_url_never_comes_out(canary: str, more: str) -> None:
    for user in (canary, f"{more}:{canary}", f"{canary}:{more}", f"{more}:{more}/{canary}"):
        assert canary not in written(f"s3 at https://{user}@store.example:9000/bucket failed")


@given(canaries)
def test_keys_and_tokens_are_known_by_their_form(canary: str) -> None:
    token = canary.replace("-", "")
    for text in (
        f"Bearer {token}",
        f"authorization: bearer {token}",
        f"Illegal header value b'Bearer {token}\\n'",
        f"Basic {token}",
        f"rk_{token} is revoked",
        f"(sk-or-v1-{token})",
        f"whsec_{token}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJsIjoi{token}.{token}",
        f"POST /callbacks/openrouter/job_01k/{token}",
        f"https://host.example/base/callbacks/llmgateway/job_01k/{token}?x=1",
        f"GET /v1/jobs/job_01k/content?token={token} HTTP/1.1",
        f"GET /0.mp4?Expires=1&Key-Pair={token} HTTP/1.1",
        f"x-api-key: {token}",
        f"Cookie: a=1; session={token}",
        json.dumps({"callback_secret": token}),
        json.dumps(json.dumps({"callback_secret": f"two {token}"})),
        repr({"api_key": f"two words {token}"}),
        f"OpenRouterSettings(api_key='{token}', base_url='x')",
        f"LLMGATEWAY_API_KEY={token}",
    ):
        assert token not in written(text), text


@given(canaries, st.integers(1_900, 2_100), st.sampled_from(["Bearer ", "https://h/p?s=", "x-api-key: ", "sk-"]))
@example("canary-12345678", 1_993, "sk-")
@example("canary-12345678", 1_988, "Bearer ")
@example("canary-12345678", 1_985, "Bearer ")
def test_cutting_a_long_text_leaves_no_piece_of_a_secret(canary: str, place: int, form: str) -> None:
    dots = "." * (place - 1)
    assert "can" not in written(f"{dots} {form}{canary} {dots}\n{dots}")
    assert canary[-8:] not in written(f"{dots}\n{dots} {form}{canary} {dots}")
    assert canary[-8:] not in written(f"{dots}\n{dots}\n{form}{canary} {dots}")


def test_a_long_text_keeps_its_beginning_and_its_last_lines() -> None:
    text = str(logs.redact("Traceback:\n" + "word " * 1_000_000 + "\nTypeError: end"))
    assert text.startswith("Traceback:\nword")
    assert text.endswith("…\nTypeError: end")
    assert len(text) < 4_100


def test_a_deep_or_long_or_circular_value_comes_to_an_end() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert len(written(circle)) < 100
    assert len(written(list(range(1_000_000)))) < 1_000
    assert len(written({str(key): key for key in range(1_000_000)})) < 2_000


@pytest.mark.parametrize(
    "value",
    [
        "job.completed",
        "job_01k5q0c0n0e0r0s0t0u0v0w0x0",
        "https://store.example:8443/bucket/2026/09/job_01k/0.mp4",
        "GET /v1/jobs/job_01k",
        "/callbacks/openrouter/job_01k",
        "Why did the token expire? Because it was old: ask again.",
        "invalid signature: the timestamp is too old",
        "a risk-free disk_usage of 3 % for task-12345678",
        {"status": 204, "ms": 1.5, "final": True, "error": None, "list": [1, "two"]},
        {"secret": None, "token": False},
    ],
)
def test_what_is_no_secret_stays_as_it_is(value: object) -> None:
    assert logs.redact(value) == value


def test_a_url_keeps_its_scheme_host_and_path() -> None:
    assert logs.redact("got https://a.example/b/c.mp4?sig=1 twice") == "got https://a.example/b/c.mp4?… twice"
    assert logs.redact("https://me:secret@a.example/b#c") == "https://a.example/b?…"
    assert logs.redact("/callbacks/openrouter/job_1/abc") == "/callbacks/openrouter/job_1/…"


@pytest.mark.parametrize("before", ["/Callbacks/openrouter/job_1", "//callbacks/x/job_1", "/callbacks/job_1", ""])
@pytest.mark.parametrize("after", ["", "/", "/content", ".", "?a=b", '"'])
def test_a_callbacks_token_is_hidden_in_a_path_that_is_not_quite_its_own(before: str, after: str) -> None:
    token = Vault([b"k" * 32]).callback_token("job_1")
    assert token not in str(logs.redact(f"POST {before}/{token}{after}"))


def test_what_a_data_url_holds_is_left_out() -> None:
    assert logs.redact("first_frame: data:image/png;base64,iVBOR/+w== is odd") == (
        "first_frame: data:image/png;base64,… is odd"
    )
    assert logs.redact("data:text/plain,hello") == "data:text/plain,…"
    assert logs.redact("metadata:a/b,c data: x") == "metadata:a/b,c data: x"


def test_redacting_twice_changes_nothing_more() -> None:
    once = logs.redact({"a": "Bearer abcdefgh https://u:p@h/x?y=1 api_key=1 rk_12345678", "cookie": 1})
    assert logs.redact(once) == once


def test_bytes_and_errors_are_read_as_text() -> None:
    assert logs.redact([b"abc \xff", ValueError("no"), {b"status": 1}]) == [
        "abc \ufffd",
        "ValueError: no",
        {"status": 1},
    ]


def test_an_escape_sequence_does_not_reach_the_terminal() -> None:
    assert logs.redact("a\x1b[31mb\rc\x9bd") == r"a\x1b[31mb\x0dc\x9bd"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(32, "Broken pipe")


def configured(log_format: str | None = "json", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    logs.configure(log_format, stream)
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_utc_time() -> None:
    stream = configured()
    logs.logger("web").info("request", status=204, note="two\nlines")
    (event,) = events(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "request", "level": "info", "logger": "web", "status": 204, "note": "two\nlines"}


def test_the_logs_of_libraries_take_the_same_way() -> None:
    stream = configured()
    logging.getLogger("uvicorn.error").warning("listens on %s", "http://u:canary@127.0.0.1/?canary")
    (event,) = events(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "listens on http://127.0.0.1/?…", "level": "warning", "logger": "uvicorn.error"}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_text_of_an_exception_is_redacted(log_format: str) -> None:
    stream = configured(log_format)

    url, token = "https://h/p?canary", "Bearer canary12345"  # apart from the line that raises, which is logged too
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(url) from ValueError(token)
    logs.logger("mirror").error("broke", error=caught.value, exc_info=caught.value)
    logging.getLogger("asyncio").error("broke", exc_info=caught.value)
    text = stream.getvalue()
    assert text.replace("\\u2026", "…").count("RuntimeError: https://h/p?…") == 3
    assert text.count("ValueError: Bearer [redacted]") == 2
    assert "Traceback" in text
    assert "canary" not in text


def test_warnings_are_logged_and_redacted() -> None:
    address = "https://h/p?canary"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        stream = configured()
        warnings.warn(address, stacklevel=1)
    assert "https://h/p?…" in events(stream)[0]["event"]
    assert "canary" not in stream.getvalue()


def test_uvicorns_access_log_and_chatty_clients_are_silent() -> None:
    stream = configured()
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("httpx").info("HTTP Request: GET")
    logs.logger("web").debug("detail")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [(None, io.StringIO, True), (None, Terminal, False), ("json", Terminal, True), ("console", io.StringIO, False)],
)
def test_the_format_is_as_asked_or_fits_the_terminal(
    log_format: str | None, stream: type[io.StringIO], *, is_json: bool
) -> None:
    text = configured(log_format, stream())
    logs.logger("web").info("request", api_key="canary")
    assert text.getvalue().startswith("{") is is_json
    assert "canary" not in text.getvalue()


def test_a_log_that_cannot_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    configured(stream=Broken())
    logs.logger("web").info("request", token="canary")
    logging.getLogger("uvicorn.error").info("a number: %d", "canary")
    closed = configured()
    closed.close()
    logs.logger("web").info("request", token="canary")
    assert capsys.readouterr() == ("", "")


def test_logs_go_to_standard_error_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.logger("web").info("request")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "request"
