"""Logs: one line per event, as JSON or for a terminal, with secrets taken out wherever they are.

Events of this project and of the libraries (uvicorn and all others on the standard library's logging) go through the
same steps. Signed URLs are secrets: of every URL the query, the fragment and the user's part are left out.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import FilteringBoundLogger, Processor

_HIDDEN = "[redacted]"
_MOST_CHARACTERS = 4_000  # of one string
_MOST_ITEMS = 100  # of one list or mapping
_MOST_LEVELS = 8

_TELLING = (  # a name with one of these words in it names a secret
    r"authorization|api[_-]?key|private[_-]?key|access[_-]?key|secret|token|signature|cookie|passw(?:or)?d|credential"
)
_SECRET_NAME = re.compile(_TELLING, re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = re.compile(r"(?!rk_|sk_|whsec_|eyJ)\w*")
_GLUED = re.compile(r'[^ \t\n"<>]*')  # what may stand in a URL, generously


def _bare_url(found: re.Match[str]) -> str:
    address, *rest = re.split(r"[?#]", found[1], maxsplit=1)
    return f"://{address.rpartition('@')[2]}{'?…' if rest else ''}"


# What to look for, in order: text without the first part is left alone, which keeps a line of log cheap. Each pattern
# begins with fixed text and then takes all that it passes over or gives up soon, so that no text makes it slow.
_STEPS: Sequence[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]] = (
    ("://", re.compile(rf"://({_GLUED.pattern})"), _bare_url),
    ("?", re.compile(rf"\?[\w.~%\[\]-]+={_GLUED.pattern}"), "?…"),  # an address without a host
    ("/callbacks/", re.compile(r'(/callbacks/[^/\s"<>]{1,100}/[^/\s"<>]{1,100}/)[^/\s"<>?]+'), r"\1…"),
    # A part of a path that is as long as the token of a callback's address: wherever a wrong address has it.
    ("/", re.compile(r"/[\w-]{32}(?![\w-])"), "/…"),
    ("data:", re.compile(r"\b(data:\w{1,20}/[\w.+;=-]{0,100},)[^\s\"'<>]+"), r"\1…"),
    (
        "=",
        re.compile(rf"""((?:{_TELLING})\w{{0,32}}=b?)("[^"]*"?|'[^']*'?|[^\s"',;&}}]+)""", re.IGNORECASE),
        rf"\1{_HIDDEN}",
    ),
    (
        ":",
        re.compile(
            rf"""((?:{_TELLING})\w{{0,32}}\\?["']\s{{0,3}}:\s{{0,3}}b?)(\\?"[^"]*"?|'[^']*'?|[^\s"',;&}}]+)""",
            re.IGNORECASE,
        ),
        rf"\1{_HIDDEN}",
    ),
    (":", re.compile(r"((?:authorization|x-api-key|cookie):\s{0,3})[^\n\"']+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (" ", re.compile(r"\b([Bb]earer|BEARER|Basic)\s{1,8}[\w.~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
    ("", re.compile(r"\b(rk_|sk[-_]|whsec_|eyJ)[\w.~+/=-]{6,}"), rf"\1{_HIDDEN}"),
)


def redact(value: object) -> object:
    """Return `value` without its secrets, as strings, numbers, lists and dicts that can be written as JSON.

    Hidden are the values of keys that name a secret, and in every string the keys and tokens that their form gives
    away, and all of a URL that may grant access. A long string loses its middle, a deep or long collection its rest.
    """
    return _redact(value, _MOST_LEVELS)


def _redact(value: object, levels: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_text(_text(value))
    if not levels:
        return "…"
    if isinstance(value, Mapping):
        return {
            _redact_text(_text(key)): _HIDDEN if _is_secret(key, inner) else _redact(inner, levels - 1)
            for key, inner in islice(value.items(), _MOST_ITEMS)
        }
    if isinstance(value, list | tuple) and len(value) == 2 and _is_secret(*value):  # noqa: PLR2004 - a header's pair
        return [_redact_text(_text(value[0])), _HIDDEN]
    return [_redact(item, levels - 1) for item in islice(value, _MOST_ITEMS)]


def _is_secret(key: object, value: object) -> bool:
    return isinstance(key, str | bytes) and value is not None and not isinstance(value, bool) and _tells(_text(key))


@functools.lru_cache(maxsize=1_000)
def _tells(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


def _redact_text(text: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        text = _cut(text)
    if _PLAIN.fullmatch(text):
        return text
    if not text.isprintable():
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    for part, pattern, instead in _STEPS:
        if part in text:
            text = pattern.sub(instead, text)
    return text


def _cut(text: str) -> str:
    # What is kept begins and ends where a secret cannot be split from what gives it away: whole words before the cut,
    # whole lines after it, such as the last ones of a traceback.
    half = _MOST_CHARACTERS // 2
    head = text[:half]
    split = _GLUED.match(head[::-1])
    head = head[: half - (split.end() if split else 0)]
    tail = text[-half:].partition("\n")[2]
    return f"{head}… ({len(text)} characters) …\n{tail}"


def configure(log_format: str | None = None, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error), as "json" or "console"; None: json unless a terminal.

    Uvicorn is to be run with `log_config=None`. Its access log is off: `web` writes one line for each request.
    """
    lines = _Lines(stream or sys.stderr)
    console = lines.is_terminal if log_format is None else log_format == "console"
    ending: list[Processor] = [
        structlog.processors.format_exc_info,
        _hide,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=lines.is_terminal, exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(),
    ]
    # Both ways end in the same steps; ours does not pass through `logging`, which would double the price of a line.
    structlog.configure(
        processors=[structlog.processors.add_log_level, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, lines)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast(TextIO, lines))
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # what `logging` prints about a broken record is not redacted
    logging.getLogger("uvicorn.access").disabled = True
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose events carry `logger: name`; call `configure` before."""
    return cast(FilteringBoundLogger, structlog.get_logger().bind(logger=name))


def _hide(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], redact(event))


class _Lines:
    """A stream that may break (full disk, closed pipe): that costs a line of log, never a job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty()

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()
