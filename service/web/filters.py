"""The query of a list of jobs: which jobs, how many, and after which one to go on; and of a video: which, and how."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from starlette.requests import Request

from service.model import ErrorCode, Problem, State, is_tenant
from service.web.refusals import invalid_request, not_a_name, shown

T = TypeVar("T")

EVERY_TENANT = "*"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_IN_UTC = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,6}", re.ASCII)
_CURSOR = re.compile(r"1:(job_[0-9a-z]{26})", re.ASCII)
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_MOST_JOBS = 100
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """What to list. Times are unix ms: `created_after` is part of what is listed, `created_before` is not."""

    tenant: str | None = None  # or EVERY_TENANT
    state: State | None = None
    provider: str | None = None
    model: str | None = None
    error: ErrorCode | None = None
    text: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 20
    before_id: str | None = None


def cursor_after(job_id: str) -> str:
    """Return what continues a list after a job."""
    return cursor_of(f"1:{job_id}")


def cursor_of(text: str) -> str:
    """Return a place in a list as a cursor. Opaque to callers, and worthless to a forger: it only says where."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_filters(request: Request) -> Filters:
    """Read the query of a list. Raises RefusalError (400) that names everything that is wrong with it."""
    found = read_query(request.query_params.multi_items(), _FILTERS)
    renamed = {_FIELDS.get(name, name): value for name, value in found.items()}
    return Filters(**renamed)  # type: ignore[arg-type] # _FILTERS reads each as its type


def read_index(request: Request) -> int:
    """Read `?index=`, 0 when it is left out; beside it only `?redirect=` may stand. Raises RefusalError (400)."""
    return read_query(request.query_params.multi_items(), {"index": as_index, "redirect": as_switch}).get("index", 0)


def read_redirect(request: Request) -> bool:
    """Read `?redirect=`, True when it is left out, whatever else is in the query. Raises RefusalError (400)."""
    given = [(name, text) for name, text in request.query_params.multi_items() if name == "redirect"]
    return read_query(given, {"redirect": as_switch}).get("redirect", True)


def read_query(query: Sequence[tuple[str, str]], readers: Mapping[str, Callable[[str], T]]) -> dict[str, T]:
    """Read each parameter with its reader, which raises ValueError with what it must be.

    Raises RefusalError (400) that names everything that is wrong with the query.
    """
    problems: list[Problem] = []
    found: dict[str, T] = {}
    for name, text in query:
        reader = readers.get(name)
        if reader is None:
            problems.append(Problem(shown(name), not_a_name(name, tuple(readers), "a query parameter")))
        elif name in found:
            problems.append(Problem(name, "must be given once"))
        else:
            try:
                found[name] = reader(text)
            except ValueError as error:
                problems.append(Problem(name, str(error)))
    if problems:
        raise invalid_request(problems)
    return found


def as_one_of(names: Collection[str], text: str) -> str:
    """Return `text` if it is one of `names`. Raises ValueError."""
    if text not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return text


def as_state(text: str) -> State:
    """Read a state. Raises ValueError."""
    return State(as_one_of(tuple(State), text))


def as_error(text: str) -> ErrorCode:
    """Read an error code. Raises ValueError."""
    return ErrorCode(as_one_of(tuple(ErrorCode), text))


def as_tenant(text: str) -> str:
    """Read a tenant's name. Raises ValueError."""
    if not is_tenant(text):
        raise ValueError("must be the name of a tenant, for example studio")
    return text


def _tenant(text: str) -> str:
    if text != EVERY_TENANT and not is_tenant(text):
        raise ValueError("must be the name of a tenant, for example studio; with an operator key * is every tenant")
    return text


def as_short(text: str) -> str:
    """Read a word or a few. Raises ValueError."""
    if not 0 < len(text) <= _LONGEST_TEXT:
        raise ValueError(f"must have 1 to {_LONGEST_TEXT} characters")
    return text


def as_moment(text: str) -> int:
    """Read a time, in RFC 3339 or in unix seconds, as unix ms. Raises ValueError."""
    try:
        if _SECONDS.fullmatch(text):
            return int(text) * 1000
        if _MOMENT.fullmatch(text):
            return _unix_ms(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        "must be a time such as 2026-11-21T10:00:00Z (RFC 3339; write + as %2B), or unix seconds such as 1795255200"
    )


def as_moment_in_utc(text: str) -> int:
    """Read a time as browsers' fields write it, a day, or all that `as_moment` reads, as unix ms. Raises ValueError."""
    try:
        if _IN_UTC.fullmatch(text):
            return _unix_ms(datetime.fromisoformat(text.upper()).replace(tzinfo=UTC))
        return as_moment(text)
    except (ValueError, OverflowError):
        raise ValueError("must be a time in UTC such as 2026-11-21 10:00, or a day such as 2026-11-21") from None


def _unix_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def as_limit(text: str) -> int:
    """Read how many jobs a page has at most. Raises ValueError."""
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= _MOST_JOBS:
        raise ValueError(f"must be a whole number from 1 to {_MOST_JOBS}")
    return int(text)


def as_index(text: str) -> int:
    """Read which artifact is meant. Raises ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be the index of an artifact, for example 0")
    return int(text)


def as_switch(text: str) -> bool:
    """Read a yes or no. Raises ValueError."""
    found = _SWITCH.get(text.lower())
    if found is None:
        raise ValueError("must be true or false (or 1, 0, yes, no), for example redirect=false")
    return found


def as_cursor(text: str, form: re.Pattern[str]) -> re.Match[str]:
    """Read a cursor that `cursor_of` made of a text of this form. Raises ValueError."""
    try:
        found = form.fullmatch(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode("ascii"))
    except (ValueError, binascii.Error):
        found = None
    if found is None:
        raise ValueError("must be the next_cursor of the page before, unchanged")
    return found


def _cursor(text: str) -> str:
    return as_cursor(text, _CURSOR)[1]


_FILTERS: dict[str, Callable[[str], object]] = {
    "state": as_state,
    "provider": as_short,
    "model": as_short,
    "error": as_error,
    "tenant": _tenant,
    "q": as_short,
    "created_after": as_moment,
    "created_before": as_moment,
    "limit": as_limit,
    "cursor": _cursor,
}
_FIELDS = {"q": "text", "cursor": "before_id"}
