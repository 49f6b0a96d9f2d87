"""The page of jobs: looked for by words, narrowed by filters that all stand in its address, page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from service.model import ErrorCode, Job
from service.store import Store, Wanted
from service.web.callers import is_job_id
from service.web.filters import as_error, as_moment_in_utc, as_short, as_state, as_tenant
from service.web.status.pages import Pages, Visitor
from service.web.streams import wants_stream

PATH = "/status/jobs"

_EACH = 50
_INDEXED_EVERY = 30  # looks of a stream: whoever only looks on writes next to nothing
_MOST_PAST = 20  # pages that can be gone back one by one
_PROMPT = 160  # characters that a row shows at most


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of a page asks for: the texts as they stand in it, what they mean, and what is wrong with them.

    `wrong` has a sentence for each filter that means nothing.
    """

    given: Mapping[str, str]
    wanted: Wanted
    wrong: Mapping[str, str]
    before: str | None
    past: tuple[str, ...]  # where the pages before this one began, without the first

    @property
    def filled(self) -> list[str]:
        """Which filters are there."""
        return [name for name, text in self.given.items() if text]

    def address(self, **other: str) -> str:
        """Return the address of the same list, from its beginning, with other texts for some filters."""
        return _address({**self.given, **other})

    def page(self, before: str | None, past: tuple[str, ...]) -> str:
        """Return the address of another page of the same list."""
        return _address({**self.given, "before": before or "", "past": ".".join(past[-_MOST_PAST:])})


def read_asked(request: Request, visitor: Visitor) -> Asked:
    """Read the address of a page; a page that somebody cut the address of begins anew."""
    query = request.query_params
    given = {name: query.get(name, "").strip() for name in _READERS}
    if not visitor.operator:
        given["tenant"] = ""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, text in given.items():
        if not text:
            continue
        try:
            field, read = _READERS[name]
            found[field] = read(text)
        except ValueError as error:
            wrong[name] = f"This {error}."
    before = query.get("before", "")
    past = tuple(each for each in query.get("past", "").split(".") if is_job_id(each))[-_MOST_PAST:]
    return Asked(given, Wanted(**found), wrong, before if is_job_id(before) else None, past)


class JobsPage:
    """Shows jobs: to tenants their own, to operators everybody's."""

    def __init__(self, pages: Pages, store: Store, providers: Collection[str]) -> None:
        self._pages = pages
        self._store = store
        self._providers = providers

    async def page(self, request: Request) -> Response:
        """Show a page of them, newest first."""
        streamed, looks = wants_stream(request), 0

        async def fill(visitor: Visitor) -> dict[str, Any]:
            nonlocal looks
            looks += 1
            asked = read_asked(request, visitor)
            facts = {
                "asked": asked,
                "chips": _chips(asked),
                "providers": sorted({*self._providers, *filter(None, [asked.given["provider"]])}),
                "codes": list(ErrorCode),
                "names": NAMES,
                "path": PATH,
            }
            if asked.wrong:
                return facts | {"rows": [], "newer": None, "older": None, "looked_at_all": True}
            index = not streamed or looks % _INDEXED_EVERY == 0
            found = await self._store.find(
                visitor.tenant, asked.wanted, before_id=asked.before, limit=_EACH, index=index
            )
            older = None
            if found.go_on is not None:
                past = (*asked.past, asked.before) if asked.before else asked.past
                older = asked.page(found.go_on, past)
            newer = None
            if asked.before is not None:
                newer = asked.page(asked.past[-1] if asked.past else None, asked.past[:-1])
            return facts | {
                "rows": [_row(job) for job in found.jobs],
                "newer": newer,
                "older": older,
                "looked_at_all": found.looked_at_all,
            }

        return await self._pages.show(request, "jobs.html", fill)


@dataclass(frozen=True, slots=True)
class Row:
    """A job as its line shows it; `took` is in ms, from its creation to its end."""

    job: Job
    prompt: str
    took: int | None


def _row(job: Job) -> Row:
    prompt = " ".join((job.request.prompt or "")[: 4 * _PROMPT].split())
    cut = prompt if len(prompt) <= _PROMPT else f"{prompt[:_PROMPT]}…"
    return Row(job, cut, None if job.finished_at is None else job.finished_at - job.created_at)


def _chips(asked: Asked) -> list[tuple[str, str, str]]:
    """Return for each filter its name, its text and the address of the list without it."""
    return [(name, text, asked.address(**{name: ""})) for name, text in asked.given.items() if text]


def _address(texts: Mapping[str, str]) -> str:
    query = {name: text for name, text in texts.items() if text}
    return f"{PATH}?{urlencode(query)}" if query else PATH


NAMES: Mapping[str, str] = {
    "q": "words",
    "state": "state",
    "provider": "provider",
    "model": "model",
    "tenant": "tenant",
    "error": "error",
    "created_after": "since",
    "created_before": "before",
}
"""The filters, as a page names those that are set."""

_READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "q": ("text", as_short),
    "state": ("state", as_state),
    "provider": ("provider", as_short),
    "model": ("model", as_short),
    "tenant": ("tenant_named", as_tenant),
    "error": ("error", as_error),
    "created_after": ("created_after", as_moment_in_utc),
    "created_before": ("created_before", as_moment_in_utc),
}
