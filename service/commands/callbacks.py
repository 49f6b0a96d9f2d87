"""`reelkeeper callbacks`: which callbacks were not believed, and why, in the database on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from service.assembly import Records
from service.commands import fail, out, read_config, with_records
from service.tables import print_rows, second
from service.web.callers import is_job_id
from service.web.rejections import rejection_view

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Callbacks, in the database on this machine.")


@app.callback()
def callbacks() -> None:
    """Callbacks, in the database on this machine."""  # typer makes a group of one command only with this


@app.command("rejected")
def callbacks_rejected(
    job: Annotated[str | None, typer.Option(metavar="JOB_ID", help="Only those about this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many at most.")] = 20,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything that is kept.")] = False,
) -> None:
    """Show which callbacks were not believed, and why, newest first.

    A terminal shows what to do as well, other programs get tab-separated lines.
    """
    if job is not None and not is_job_id(job):
        fail(f"the job {job!r} must be its id, job_…, as `reelkeeper jobs list` shows it", code=2)

    async def run(records: Records) -> None:
        found = await records.rejections.page(job_id=job, limit=limit)
        if as_json:
            typer.echo(json.dumps([rejection_view(each) for each in found], indent=2))
            return
        rows = [(each.job_id, each.reason, str(each.times), second(each.last_at), each.provider) for each in found]
        head = ("job", "reason", "times", "last", "provider")
        print_rows(out, head, rows, spare=("provider", "last"), none="no rejected callbacks")
        if out.is_terminal:
            for message in dict.fromkeys(f"{each.reason}: {each.message}" for each in found):
                out.print(f"\n{message}", markup=False, highlight=False)

    with_records(read_config(), run)
