"""`reelkeeper callbacks`: which callbacks were not believed, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands import fail, out, print_json
from service.commands.places import AsJson, KeyFile, Url, at_desk
from service.tables import plain, print_rows, second
from service.web.callers import is_job_id

_ABOUT = "Callbacks of providers. On this machine, or with --url at a running service."

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_ABOUT)


@app.callback(help=_ABOUT)
def callbacks() -> None:
    """Be a group although there is one command."""


@app.command("rejected")
def callbacks_rejected(
    job: Annotated[str | None, typer.Option(metavar="JOB_ID", help="Only those about this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many at most.")] = 20,
    *,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """List callbacks that were not believed, and why.

    A terminal shows what to do as well. Other programs get tab-separated lines: job, reason, times, last, provider.
    """
    if job is not None and not is_job_id(job):
        fail(f"the job {job!r} must be its id, job_…, as `reelkeeper jobs list` shows it", code=2)
    found = at_desk(url, key_file, lambda desk: desk.rejected(job, limit))
    if as_json:
        print_json(out, found)
        return
    rows = [
        (each["job"], each["reason"], str(each["times"]), second(each["last_at"]), each["provider"]) for each in found
    ]
    head = ("job", "reason", "times", "last", "provider")
    print_rows(out, head, rows, spare=("provider", "last"), none="no rejected callbacks")
    if out.is_terminal:
        for message in dict.fromkeys(f"{each['reason']}: {each['message']}" for each in found):
            out.print(f"\n{plain(message)}", markup=False, highlight=False)
