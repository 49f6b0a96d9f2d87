"""`reelkeeper jobs list`, `show` and `watch`: what operators see of jobs; what they do with them is in `actions`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from service.clock import SystemClock
from service.commands import err, note, out, print_json
from service.commands.account import event_line, tell
from service.commands.desk import Desk, Search, View
from service.commands.places import AsJson, KeyFile, Url, at_desk
from service.commands.progress import Busy
from service.config import PROVIDERS
from service.logs import redact
from service.model import ErrorCode, State
from service.tables import plain, print_rows, second

_PAGE = 500
_ROWS = 1_000  # of a table, which is as wide as the widest of them
_HEAD = ("id", "state", "provider", "model", "created", "error", "tenant")
_PROMPT = "prompt"  # on a terminal alone: lines for programs have a form that stays
_LONGEST_PROMPT = 60
_SPARE = (_PROMPT, "tenant", "provider", "model", "created")
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MOST_REJECTED = 100

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Jobs: look at them, and do what has to be done. On this machine, or with --url at a running service.",
)

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id: job_…")]


def _since(text: str) -> int:
    """Read a moment, or how long ago it was, as unix ms."""
    if found := _SPAN.fullmatch(text):
        return max(0, SystemClock().now() - int(found[1]) * _UNITS[found[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter("must be a span such as 30m, 2h, 3d or 1w, or a time such as 2026-11-21T10:00:00Z")
    return int(moment.timestamp() * 1000)


@app.command("list")
def jobs_list(  # noqa: PLR0913 - each is an option
    state: Annotated[
        State | None, typer.Option(metavar="STATE", help=f"Only jobs in this state: {', '.join(State)}.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(metavar="PROVIDER", help="Only jobs of this provider.", autocompletion=lambda: [*PROVIDERS]),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only jobs of this model.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's jobs.")] = None,
    error: Annotated[
        ErrorCode | None,
        typer.Option(metavar="CODE", help=f"Only jobs that ended with this error: {', '.join(ErrorCode)}."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="Only jobs with these words in prompt, model or metadata: all must occur, the last may be only begun "
            "(3 letters). Or with this id.",
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            metavar="SPAN", parser=_since, help="Only jobs made since then: 30m, 2h, 3d, 1w, or an RFC 3339 time."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")] = 20,
    *,
    every: Annotated[bool, typer.Option("--all", help="Show all of them, whatever --limit says.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """List jobs, newest first.

    A terminal gets a table, with how the prompt begins if there is room. Other programs get tab-separated lines: id,
    state, provider, model, created, error, tenant.
    """
    search = Search(state, provider, model, tenant, error, text, since)
    most = None if every else limit
    more = at_desk(url, key_file, lambda desk: _list(desk, search, most, as_json=as_json))
    if more:
        note(f"the newest {limit} are shown, and there are more: --limit N shows N of them, --all shows all")


async def _list(desk: Desk, search: Search, most: int | None, *, as_json: bool) -> bool:
    """Print jobs page by page; return whether there may be more than were wanted."""
    listing = _Listing(f"no {'jobs' if search == Search() else 'such jobs'} {desk.where}", as_json=as_json)
    go_on: str | None = None
    with Busy(err, "looking for jobs") as busy:
        while True:
            left = _PAGE if most is None else min(_PAGE, most - listing.shown)
            page = await desk.jobs(search, go_on=go_on, limit=left)
            with busy.aside():
                listing.add(page.jobs)
            busy.says(f"looking for jobs, {listing.shown:,} found")
            go_on = page.go_on
            if go_on is None or listing.shown == most:
                break
    listing.end()
    return go_on is not None


class _Listing:
    """Prints jobs as they are found: as one JSON array, as a table now and then, or as lines."""

    def __init__(self, none: str, *, as_json: bool) -> None:
        self.shown = 0
        self._none = none
        self._as_json = as_json
        self._waiting: list[View] = []

    def add(self, jobs: Sequence[View]) -> None:
        """Take more jobs."""
        if self._as_json and not out.is_terminal:
            for number, job in enumerate(jobs, start=self.shown):
                print(",\n" if number else "[\n", json.dumps(_discreet(job)), sep="", end="")  # noqa: T201 - a stream
            self.shown += len(jobs)
            return
        self.shown += len(jobs)
        self._waiting += jobs
        if not self._as_json and (not out.is_terminal or len(self._waiting) >= _ROWS):
            self._rows()

    def end(self) -> None:
        """Print what is left."""
        if not self._as_json:
            if self._waiting or not self.shown:
                self._rows()
        elif out.is_terminal:
            print_json(out, [_discreet(job) for job in self._waiting])
        else:
            print("\n]" if self.shown else "[]")  # noqa: T201 - the end of the stream

    def _rows(self) -> None:
        rows = []
        for job in self._waiting:
            code = job["error"]["code"] if job["error"] else ""
            about = (job["provider"], job["model"], second(job["created_at"]), code, job["tenant"])
            prompt = " ".join((_discreet(job)["request"].get("prompt") or "").split())[:_LONGEST_PROMPT]
            rows.append((job["id"], job["state"], *about, *([prompt] if out.is_terminal else [])))
        head = (*_HEAD, _PROMPT) if out.is_terminal else _HEAD
        print_rows(out, head, rows, spare=_SPARE, none=self._none, cut=_PROMPT)
        self._waiting = []


@app.command("show")
def jobs_show(job_id: JobId, *, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Show one job: its state, why, what to do, its history.

    Other programs get JSON: the job as the API has it, with its events, receipts, deliveries and rejected callbacks.
    A terminal on the service's own machine is told which jobs retried it as well.
    """

    async def run(desk: Desk) -> tuple[View, list[str] | None, dict[str, list[View]]]:
        job = await desk.job(job_id)
        retried_by = await desk.retries(job_id)
        found = await asyncio.gather(
            desk.events(job_id), desk.receipts(job_id), desk.deliveries(job_id), desk.rejected(job_id, _MOST_REJECTED)
        )
        return job, retried_by, dict(zip(("events", "receipts", "deliveries", "rejected"), found, strict=True))

    job, retried_by, history = at_desk(url, key_file, run)
    if as_json or not out.is_terminal:
        print_json(out, {**_discreet(job), **history})
    else:
        tell(out, {**_discreet(job), "retried_by": retried_by}, **history)


@app.command("watch")
def jobs_watch(job_id: JobId, *, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Follow one job until it has ended.

    The exit code is 0 when its video is kept, and 1 when there is none. With --json each event is one line of JSON;
    other programs get tab-separated lines: time, event, data.
    """

    async def run(desk: Desk) -> View:
        before: View | None = None
        await desk.job(job_id)  # what is wrong with the address or the key is told now, and not tried for minutes
        with Busy(err, f"{plain(job_id)}: waiting") as busy:
            async for event in desk.follow(job_id):
                with busy.aside():
                    _print_event(event, before, as_json=as_json)
                before = event
                busy.says(f"{plain(job_id)}: {plain(event['type']).removeprefix('job.')}")
        return await desk.job(job_id)

    job = at_desk(url, key_file, run)
    why = f" with {job['error']['code']}: {job['error']['message']}" if job["error"] else ""
    note(f"{job_id} is {job['state']}{why}")
    if job["state"] != State.COMPLETED:
        raise typer.Exit(1)


def _print_event(event: View, before: View | None, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps(event)
    elif out.is_terminal:
        line = "  ".join(filter(None, map(plain, event_line(event, before))))
    else:
        line = f"{plain(event['at'])}\t{plain(event['type'])}\t{json.dumps(event['data'])}"
    print(line, flush=True)  # noqa: T201 - whoever waits for it at the end of a pipe gets it now


def _discreet(job: View) -> dict[str, Any]:
    """Return a job without what may grant access: terminals are copied into tickets."""
    return {**job, "request": redact(job["request"])}
