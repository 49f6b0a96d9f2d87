"""`reelkeeper jobs`: what operators see and do, in the database on this machine."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn

import typer

from service.assembly import Records
from service.commands import fail, out, read_config, with_records
from service.config import Config
from service.logs import redact
from service.model import Job, State, is_provider_job_id
from service.store import Created, OutOfCredits
from service.tables import print_rows, second
from service.web.views import Views

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Jobs, in the database on this machine.")


JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id: job_…")]


@app.command("list")
def jobs_list(
    state: Annotated[State | None, typer.Option(metavar="STATE", help="Only jobs in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's jobs.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many at most.")] = 20,
) -> None:
    """Show the newest jobs; other programs get tab-separated lines."""

    async def run(records: Records) -> None:
        rows = []
        for job in await records.store.jobs(tenant, state=state, limit=limit):
            code = job.error.code if job.error else ""
            rows.append((job.id, job.state, job.provider, job.model, second(job.created_at), code))
        head = ("id", "state", "provider", "model", "created", "error")
        print_rows(out, head, rows, spare=("provider", "model", "created"), none="no jobs")

    with_records(read_config(), run)


@app.command("show")
def jobs_show(job_id: JobId) -> None:
    """Show one job with its history, as JSON."""
    config = read_config()

    async def run(records: Records) -> None:
        job = await records.store.job(job_id)
        if job is None:
            _no_job(job_id, config)
        views = Views(config.public_url)
        shown = views.job(job)
        shown["request"] = redact(
            shown["request"]
        )  # it may hold signed addresses, and terminals are copied into tickets
        events = [views.event(event) for event in await records.store.events(job_id)]
        out.print_json(json.dumps({**shown, "events": events}))

    with_records(config, run)


@app.command("cancel")
def jobs_cancel(job_id: JobId) -> None:
    """Cancel a job that was not submitted yet."""
    hint = "only a queued job can be cancelled, because the provider makes and bills what was submitted"
    _change(job_id, lambda records: records.store.cancel(job_id), hint)


@app.command("attach")
def jobs_attach(
    job_id: JobId,
    provider_job_id: Annotated[
        str, typer.Argument(metavar="PROVIDER_JOB_ID", help="The provider's own id of the job.")
    ],
) -> None:
    """Bind an id found at the provider to a job that may be there."""
    if not is_provider_job_id(provider_job_id):
        form = "1 to 512 letters, digits or ._~:/- as the provider shows it, for example gen-1a2b3c"
        fail(f"the provider's id must be {form}", code=2)
    hint = "only a submission with an unknown outcome can be bound, and only to an id that no other job has"
    _change(job_id, lambda records: records.store.attach(job_id, provider_job_id), hint)


@app.command("remirror")
def jobs_remirror(job_id: JobId) -> None:
    """Copy the outputs again of a job that gave them up."""
    hint = "only a job that failed with output_unavailable can be copied again"
    _change(job_id, lambda records: records.store.remirror(job_id), hint)


@app.command("retry")
def jobs_retry(job_id: JobId) -> None:
    """Make a new job of one that brought no video; it may cost once more."""

    async def retry(records: Records, job: Job) -> str:
        made = await records.store.retry(job)
        if isinstance(made, OutOfCredits):
            fail(f"the account at {made.provider} is out of credits; add some, and try again after a minute")
        if not isinstance(made, Created):
            fail(f"{_is(job)}; only a job that ended without a video can be made again")
        return f"{made.job.id} is {made.job.state}: a new job like {job_id}"

    _about(job_id, retry)


@app.command("redeliver")
def jobs_redeliver(job_id: JobId) -> None:
    """Send the newest message about a job to its caller once more."""

    async def redeliver(records: Records, job: Job) -> str:
        again = await records.deliveries.redeliver(job_id)
        if again is None:
            why = "its caller named no address, it has not ended, or it is being told just now"
            fail(f"{_is(job)}; there is nothing to deliver: {why}")
        return f"{again.id} is owed to {again.receiver} again"

    _about(job_id, redeliver)


def _change(job_id: str, change: Callable[[Records], Awaitable[Job | None]], hint: str) -> None:
    async def run(records: Records, before: Job) -> str:
        after = await change(records)
        if after is None:
            fail(f"{_is(before)}; {hint}")
        return f"{job_id} is {after.state}"

    _about(job_id, run)


def _about(job_id: str, work: Callable[[Records, Job], Awaitable[str]]) -> None:
    """Do something with a job, and say what came of it."""
    config = read_config()

    async def run(records: Records) -> None:
        job = await records.store.job(job_id)
        if job is None:
            _no_job(job_id, config)
        typer.echo(await work(records, job))

    with_records(config, run)


def _is(job: Job) -> str:
    code = f" ({job.error.code})" if job.error and job.error.code != job.state.value else ""
    return f"{job.id} is {job.state}{code}"


def _no_job(job_id: str, config: Config) -> NoReturn:
    where = config.database.absolute()
    fail(f"there is no job {job_id} in {where}; `reelkeeper jobs list` shows the newest")
