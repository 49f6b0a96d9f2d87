"""The page of rejected callbacks: which came to a job's own address and were not believed, and what to do first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from service.store import Reason, Rejection, Rejections
from service.web.callers import is_job_id
from service.web.filters import as_one_of
from service.web.rejections import as_mark, cursor_after
from service.web.status.pages import Pages, Visitor

PATH = "/status/callbacks"

TITLES: Mapping[Reason, str] = {
    Reason.MISSING_HEADER: "No signature",
    Reason.MALFORMED_HEADER: "Unreadable signature",
    Reason.CLOCK_SKEW: "Clock is off",
    Reason.BODY_ALTERED: "Body changed on its way",
    Reason.WRONG_SECRET: "Wrong secret",
    Reason.NOT_A_CALLBACK: "Not a callback",
    Reason.MISMATCHED: "About another job",
    Reason.WRONG_CONTENT_TYPE: "Wrong content type",
    Reason.TOO_LARGE: "Too large",
    Reason.TOO_SLOW: "Too slow",
}
"""Each reason in the words of people."""

_FILTERS = ("job", "provider", "reason")
_EACH = 20


@dataclass(frozen=True, slots=True)
class Group:
    """All rejections of one provider that have one reason; `newest` is the last of them."""

    provider: str
    reason: Reason
    times: int
    jobs: int
    newest: Rejection


class CallbacksPage:
    """Shows rejected callbacks: to tenants those of their own jobs, to operators all."""

    def __init__(self, pages: Pages, rejections: Rejections, providers: Collection[str]) -> None:
        self._pages = pages
        self._rejections = rejections
        self._providers = providers

    async def page(self, request: Request) -> Response:
        """Show a page of them, newest first: `job`, `provider` and `reason` narrow it, `before` continues it."""
        asked = {name: request.query_params.get(name, "").strip() for name in (*_FILTERS, "before")}

        async def fill(visitor: Visitor) -> dict[str, Any]:
            # No more than these are kept at all: what fits, and the sums, need nothing of the database but this.
            kept = await self._rejections.page(visitor.tenant, limit=self._rejections.most)
            groups = grouped(kept)
            providers = sorted({*self._providers, *(each.provider for each in kept)})
            problem = _problem(asked, providers)
            fitting = [] if problem else [each for each in kept if _fits(each, asked)]
            listed = _after(fitting, asked["before"])
            page, more = listed[:_EACH], len(listed) > _EACH
            return {
                "path": PATH,
                "address": _address,
                "asked": asked,
                "problem": problem,
                "narrowed": any(asked[name] for name in _FILTERS),
                "groups": groups,
                "first": groups[0] if groups else None,
                "full": len(kept) >= self._rejections.most,
                "most": self._rejections.most,
                "providers": providers,
                "reasons": list(Reason),
                "titles": TITLES,
                "rejections": page,
                "later": bool(asked["before"]),
                "older": _address(asked, before=cursor_after(page[-1])) if more else None,
                "newest": _address(asked, before="") if asked["before"] else None,
            }

        return await self._pages.show(request, "callbacks.html", fill)


def grouped(rejections: Sequence[Rejection]) -> list[Group]:
    """Sum up by provider and reason, that which most jobs have first: it is what to look at first.

    Jobs count, not times: whoever knows the address of one job can be rejected there as often as he likes.
    """
    newest: dict[tuple[str, Reason], Rejection] = {}
    times, jobs = Counter[tuple[str, Reason]](), Counter[tuple[str, Reason]]()
    for each in rejections:
        key = each.provider, each.reason
        newest.setdefault(key, each)
        times[key] += each.times
        jobs[key] += 1  # there is one row for all of a job that have one reason
    groups = [Group(*key, times[key], jobs[key], last) for key, last in newest.items()]
    return sorted(groups, key=lambda group: (-group.jobs, -group.newest.last_at))


def _address(asked: Mapping[str, str], **other: str) -> str:
    """Return where what was `asked` is shown, but for what is `other`."""
    query = {name: text for name, text in {**asked, **other}.items() if text}
    return f"{PATH}?{urlencode(query)}" if query else PATH


def _fits(rejection: Rejection, asked: Mapping[str, str]) -> bool:
    shown = {"job": rejection.job_id, "provider": rejection.provider, "reason": rejection.reason}
    return all(not asked[name] or asked[name] == text for name, text in shown.items())


def _after(rejections: Sequence[Rejection], before: str) -> Sequence[Rejection]:
    if not before:
        return rejections
    try:
        mark = as_mark(before)
    except ValueError:
        return rejections  # a page that somebody cut the address of begins anew
    place = mark.last_at, mark.job_id, mark.reason
    return [each for each in rejections if (each.last_at, each.job_id, each.reason) < place]


def _problem(asked: Mapping[str, str], providers: Sequence[str]) -> str | None:
    if asked["job"] and not is_job_id(asked["job"]):
        return "A job's id begins with job_ and has 26 more characters, as the list of jobs shows it."
    for name, known in (("provider", providers), ("reason", tuple(Reason))):
        try:
            if asked[name]:
                as_one_of(known, asked[name])
        except ValueError as error:
            return f"The {name} {error}."
    return None
