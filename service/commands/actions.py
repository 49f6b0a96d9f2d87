"""`reelkeeper jobs cancel`, `retry`, `attach`, `remirror` and `redeliver`: what operators do with a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from service.commands import confirm, err, fail, out, print_json, say
from service.commands.desk import Desk, View
from service.commands.jobs import JobId, app
from service.commands.places import AsJson, KeyFile, Url, Yes, at_desk
from service.commands.progress import Busy
from service.model import State, is_provider_job_id
from service.tables import plain
from service.web.acting import PROVIDER_JOB_ID

__all__ = ["app"]  # with these commands beside those that look


@app.command("cancel")
def jobs_cancel(job_id: JobId, *, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Cancel a job that was not submitted yet.

    With --url a job that was submitted is cancelled at its provider, if that can be asked to.
    """

    def said(job: View) -> str:
        return f"{job['id']} is {job['state']}: {job['cancellation']['message']}"

    _do(url, key_file, lambda desk: desk.cancel(job_id), said, as_json=as_json)


@app.command("retry")
def jobs_retry(
    job_id: JobId, *, yes: Yes = False, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None
) -> None:
    """Make a new job of one that brought no video.

    It may cost once more. A terminal is asked first, a script is not. A job is repeated once, from whatever command or
    page: asked again, it is the same new job. To go on, retry that one.
    """
    confirm(f"A new job like {plain(job_id)} may cost once more.", yes=yes)
    before = False

    async def act(desk: Desk) -> View:
        nonlocal before
        job, before = await desk.retry(job_id)
        return job

    def said(job: View) -> str:
        if not before:
            return f"{job['id']} is {job['state']}: a new job like {job_id}"
        again = job["finished_at"] is not None and job["state"] != State.COMPLETED
        more = f"; `reelkeeper jobs retry {job['id']}` repeats that one" if again else ""
        return f"{job['id']} is {job['state']}: {job_id} was retried before, and no other job was made{more}"

    _do(url, key_file, act, said, as_json=as_json)


@app.command("attach")
def jobs_attach(
    job_id: JobId,
    provider_job_id: Annotated[
        str, typer.Argument(metavar="PROVIDER_JOB_ID", help="The provider's own id of the job, as it shows it.")
    ],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Bind an id that you found at the provider.

    It is for a job whose submission has an unknown outcome. The provider is asked about it at once. An id that no
    report has confirmed yet can be replaced; then it is for good, so a script must write --yes.
    """
    if not is_provider_job_id(provider_job_id):
        fail(f"the provider's id must be {PROVIDER_JOB_ID}", code=2)
    what = f"{plain(job_id)} will be {provider_job_id}; once a report has confirmed that, it is for good."
    confirm(what, yes=yes, final=True)
    _do(url, key_file, lambda desk: desk.attach(job_id, provider_job_id), _is, as_json=as_json)


@app.command("remirror")
def jobs_remirror(job_id: JobId, *, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Copy a video again that was given up.

    It is for a job that failed with output_unavailable, and is tried for a day.
    """
    _do(url, key_file, lambda desk: desk.remirror(job_id), _is, as_json=as_json)


@app.command("redeliver")
def jobs_redeliver(job_id: JobId, *, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Tell a job's caller once more how it ended."""

    def said(delivery: View) -> str:
        return f"{delivery['id']} is owed to {delivery['receiver']} again"

    _do(url, key_file, lambda desk: desk.redeliver(job_id), said, as_json=as_json)


def _is(job: View) -> str:
    return f"{job['id']} is {job['state']}"


def _do(
    url: str | None,
    key_file: str | None,
    act: Callable[[Desk], Awaitable[View]],
    said: Callable[[View], str],
    *,
    as_json: bool,
) -> None:
    """Do something with a job, and say what came of it."""

    async def run(desk: Desk) -> View:
        with Busy(err, "waiting for an answer"):
            return await act(desk)

    done = at_desk(url, key_file, run)
    if as_json:
        print_json(out, done)
    else:
        say(said(done))
