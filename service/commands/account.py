"""A job as people read it at a terminal: how it is, why, what to do, and what happened when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.commands.desk import View
from service.model import ErrorCode, State
from service.tables import STYLES, plain, second
from service.web.status.advice import Ways, advice, awaited
from service.web.status.writing import size, span

_LONGEST_PROMPT = 2_000
_LONGEST_DETAIL = 300


def what_to_do(job: View) -> str:
    """Return what an operator does about a job, or what the job waits for."""
    state, error, provider = job["state"], job["error"], job["provider"]
    if state not in list(State) or (error is not None and error["code"] not in list(ErrorCode)):
        return "The service is of a newer version than this command, which cannot tell; look at the job on its page."
    ways = Ways(
        look="run `reelkeeper check`",
        retry=f"run `reelkeeper jobs retry {job['id']}`",
        attach=f"run `reelkeeper jobs attach {job['id']} PROVIDER_JOB_ID`",
        remirror=f"run `reelkeeper jobs remirror {job['id']}`",
    )
    if error is not None:
        return advice(ErrorCode(error["code"]), provider, ways)
    found = f" If you find it there, {ways.attach}." if state == State.SUBMITTING else ""
    return f"{awaited(State(state), provider)}{found}"


def tell(
    console: Console,
    job: View,
    *,
    events: Sequence[View],
    receipts: Sequence[View],
    deliveries: Sequence[View],
    rejected: Sequence[View],
) -> None:
    """Print a job and all that is known of it."""
    colour = STYLES.get(job["state"], "")
    console.print(Text(plain(job["id"]), "bold"), Text(plain(job["state"]), f"bold {colour}"))
    _pairs(console, _facts(job))
    _section(console, "What happened", _timeline(events))
    if receipts or rejected:
        _section(console, "Callbacks", [*map(_receipt, receipts), *map(_rejection, rejected)])
    if deliveries:
        _section(console, "What its caller was told", [row for each in deliveries for row in _delivery(each)])
    if job["artifacts"]:
        _section(console, "What is kept", [row for each in job["artifacts"] for row in _artifact(each)])


def event_line(event: View, before: View | None) -> tuple[str, str, str, str]:
    """Return an event as time, gap to the one before it, type, and what else it says."""
    gap = "" if before is None else f"+{span(_ms(event['at']) - _ms(before['at']))}"
    return event["at"], gap, event["type"], _details(event["data"])


def _facts(job: View) -> Iterator[tuple[str, str]]:
    error = job["error"]
    if error is not None:
        yield "why", f"{error['code']}: {error['message']}"
        said = ": ".join(filter(None, (error["provider_code"], error["provider_message"])))
        if said:
            yield "provider's words", said
        yield "billed", {"yes": "yes", "no": "no"}.get(error["billable"], "nobody knows")
    yield "what to do", what_to_do(job)
    named = ", ".join(filter(None, (job["provider_job_id"], job["provider_status"])))
    yield "provider", job["provider"] + (f" ({named})" if named else "")
    yield "model", job["model"]
    request: Mapping[str, Any] = job["request"]
    if prompt := request.get("prompt"):
        yield "prompt", _cut(prompt, _LONGEST_PROMPT)
    asked = {name: value for name, value in request.items() if name not in ("prompt", "model")}
    if asked:
        yield "asked for", _details(asked)
    yield "tenant", job["tenant"]
    if job["metadata"]:
        yield "metadata", _details(job["metadata"])
    yield "created", second(job["created_at"])
    if job["finished_at"] is not None:
        took = span(_ms(job["finished_at"]) - _ms(job["created_at"]))
        yield "finished", f"{second(job['finished_at'])}, after {took}"
    if job["cost"] is not None:
        yield "cost", f"{job['cost']:.4f} USD"
    yield from _retries(job)
    if job["notify_url"] is not None:
        yield "tells", job["notify_url"]


def _retries(job: View) -> Iterator[tuple[str, str]]:
    if job["retry_of"] is not None:
        yield "retry of", job["retry_of"]
    if job.get("retried_by"):  # which is known at the database alone
        yield "retried by", ", ".join(job["retried_by"])


def _timeline(events: Sequence[View]) -> Iterator[Sequence[str]]:
    before: View | None = None
    for event in events:
        yield event_line(event, before)
        before = event


def _receipt(receipt: View) -> Sequence[str]:
    times = f"{receipt['times']} times" if receipt["times"] > 1 else ""
    return receipt["first_at"], receipt["verdict"], receipt["provider_status"], times


def _rejection(rejection: View) -> Sequence[str]:
    times = f"{rejection['times']} times: " if rejection["times"] > 1 else ""
    return rejection["last_at"], "rejected", rejection["reason"], f"{times}{rejection['message']}"


def _delivery(delivery: View) -> Iterator[Sequence[str]]:
    yield delivery["created_at"], delivery["state"], delivery["event"], delivery["receiver"]
    for each in delivery["attempts"]:
        outcome = f"answered {each['status']}" if each["status"] else (each["error"] or "no answer")
        said = _cut(" ".join((each["answer"] or "").split()), _LONGEST_DETAIL)
        yield each["at"], f"attempt {each['number']}", outcome, f"in {span(each['duration_ms'])} {said}".rstrip()


def _artifact(artifact: View) -> Iterator[Sequence[str]]:
    shows = f"{artifact['width']} x {artifact['height']}" if artifact["width"] else ""
    lasts = f"{artifact['duration']:.1f} s" if artifact["duration"] else ""
    about = ", ".join(filter(None, (size(artifact["bytes"]), artifact["content_type"], shows, lasts)))
    yield f"video {artifact['index']}", about
    yield "", f"SHA-256 {artifact['sha256']}"
    yield "", artifact["url"]


def _details(data: Mapping[str, Any]) -> str:
    found = []
    for name, value in data.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found.append(f"{name}={_cut(text, _LONGEST_DETAIL)}")
    return " ".join(found)


def _pairs(console: Console, pairs: Iterator[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in pairs:
        grid.add_row(Text(name, "bold"), _lines(text))
    console.print(grid)


def _section(console: Console, title: str, rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> None:
    console.print()
    console.print(Text(title, "bold"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    for cells in rows:
        for _ in range(len(cells) - len(grid.columns)):
            grid.add_column(overflow="fold")
        grid.add_row(*(Text(plain(cell)) for cell in cells))
    for column in grid.columns[:-1]:
        column.no_wrap = True
    console.print(grid)


def _lines(text: str) -> Text:
    return Text("\n".join(map(plain, text.splitlines())))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000
