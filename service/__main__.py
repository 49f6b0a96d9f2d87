"""The command line: `reelkeeper`. Builds every object, wires them, runs; nothing imports this module."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from service import logs
from service.assembly import Records, listen, open_records, open_service, serve, stop_on_signals
from service.check import Finding, examine
from service.clock import SystemClock
from service.config import Config
from service.errors import ConfigurationError, ReelkeeperError
from service.model import Job, State
from service.stage import demonstrate, playing
from service.web.views import Views, rfc3339

T = TypeVar("T")

_DAY_MS = 86_400_000
_LARGEST_PORT = 65_535
_SANDBOX_SECRET = "sandbox-webhook-secret"  # noqa: S105 - signs nothing but the sandbox's own messages

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One call, one paid job, one kept video.",
)
keys_app = typer.Typer(no_args_is_help=True, help="API keys of callers and operators.")
jobs_app = typer.Typer(no_args_is_help=True, help="Jobs, in the database on this machine.")
app.add_typer(keys_app, name="keys")
app.add_typer(jobs_app, name="jobs")

_out = Console()

Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every one.")]


@app.command("serve")
def serve_command(host: Host = "127.0.0.1") -> None:
    """Run the service: web and workers, on $PORT (8080), until SIGTERM."""
    config = _config()
    logs.configure(config.log_format)
    _run(_serve(config, host))


@app.command()
def check() -> None:
    """Try everything the service depends on: settings, database, storage, and the public URL of a running service."""
    config = _config()

    async def run() -> bool:
        well = True
        async for finding in examine(config, SystemClock()):
            _out.print(_line(finding), highlight=False, soft_wrap=True)
            well = well and finding.well
        return well

    if not _run(run()):
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Create the database or bring its tables up to date; `serve` does the same when it starts."""
    config = _config()

    async def run(_: Records) -> None:
        typer.echo(f"{config.database} is up to date")

    _with_records(config, run)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people: a backend or a person.")],
    tenant: Annotated[
        str, typer.Option(help="Who owns the jobs made with it; keys of one tenant share jobs.")
    ] = "default",
    *,
    operator: Annotated[bool, typer.Option("--operator", help="May see the status of the whole service.")] = False,
) -> None:
    """Make an API key. The key alone is the last line of standard output, this once."""
    if not name.strip() or not name.isprintable():
        _fail("NAME must be text on one line; for example my-backend", code=2)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", tenant):
        _fail(
            f"--tenant {tenant!r} must be 1 to 63 lower-case letters, digits, - or _; for example --tenant studio",
            code=2,
        )

    async def run(records: Records) -> None:
        record, key = await records.keys.create(name, tenant, operator=operator)
        role = "an operator key" if operator else "a key"
        about = f"{record.id}: {role} for {name}, tenant {tenant}. It is not stored and not shown again:"
        typer.echo(about, err=True)
        typer.echo(key)

    _with_records(_config(), run)


@keys_app.command("list")
def keys_list() -> None:
    """Show every API key, without the keys themselves; tab-separated lines when not on a terminal."""

    async def run(records: Records) -> None:
        rows = []
        for key in await records.keys.all():
            role = "operator" if key.operator else "caller"
            revoked = rfc3339(key.revoked_at) if key.revoked_at else ""
            rows.append((key.id, key.name, key.tenant, role, rfc3339(key.created_at), revoked))
        _print_rows(("id", "name", "tenant", "role", "created", "revoked"), rows)

    _with_records(_config(), run)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Make an API key useless, at once."""

    async def run(records: Records) -> None:
        if await records.keys.revoke(key_id) is None:
            _fail(f"there is no valid key {key_id}; `reelkeeper keys list` shows them")
        typer.echo(f"{key_id} is revoked")

    _with_records(_config(), run)


JobId = Annotated[str, typer.Argument(help="The job's id: job_…")]


@jobs_app.command("list")
def jobs_list(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
) -> None:
    """Show the newest jobs: a table on a terminal, tab-separated lines without a head elsewhere."""

    async def run(records: Records) -> None:
        rows = []
        for job in await records.store.jobs(tenant, state=state, limit=limit):
            code = job.error.code if job.error else ""
            rows.append((job.id, job.state, job.provider, job.model, rfc3339(job.created_at), code))
        _print_rows(("id", "state", "provider", "model", "created", "error"), rows)

    _with_records(_config(), run)


@jobs_app.command("show")
def jobs_show(job_id: JobId) -> None:
    """Show one job with its history, as JSON."""
    config = _config()

    async def run(records: Records) -> None:
        job = await records.store.job(job_id)
        if job is None:
            _fail(f"there is no job {job_id}; `reelkeeper jobs list` shows the newest")
        views = Views(config.public_url)
        events = [views.event(event) for event in await records.store.events(job_id)]
        _out.print_json(json.dumps({**views.job(job), "events": events}))

    _with_records(config, run)


@jobs_app.command("cancel")
def jobs_cancel(job_id: JobId) -> None:
    """Cancel a job that was not submitted yet."""
    hint = "only a queued job can be cancelled: once submitted, the provider makes and bills it"
    _change(job_id, lambda records: records.store.cancel(job_id), hint)


@jobs_app.command("attach")
def jobs_attach(
    job_id: JobId, provider_job_id: Annotated[str, typer.Argument(help="The provider's own id of the job.")]
) -> None:
    """Bind the provider's id, which you found there, to a job whose submission has an unknown outcome."""
    if not re.fullmatch(r"[!-~]{1,200}", provider_job_id):
        _fail("the provider's id must be 1 to 200 visible ASCII characters, as the provider shows it", code=2)
    hint = "only a submission with an unknown outcome can be bound, and only to an id that no other job has"
    _change(job_id, lambda records: records.store.attach(job_id, provider_job_id), hint)


@jobs_app.command("remirror")
def jobs_remirror(job_id: JobId) -> None:
    """Copy the outputs again of a job that failed with `output_unavailable`."""
    hint = "only a job that failed with output_unavailable can be copied again"
    _change(job_id, lambda records: records.store.remirror(job_id, _DAY_MS), hint)


def _change(job_id: str, change: Callable[[Records], Awaitable[Job | None]], hint: str) -> None:
    async def run(records: Records) -> None:
        before = await records.store.job(job_id)
        if before is None:
            _fail(f"there is no job {job_id}; `reelkeeper jobs list` shows the newest")
        after = await change(records)
        if after is None:
            code = f" ({before.error.code})" if before.error else ""
            bound = f", and has the provider's id {before.provider_job_id}" if before.provider_job_id else ""
            _fail(f"{job_id} is {before.state}{code}{bound}: {hint}")
        typer.echo(f"{job_id} is {after.state}")

    _with_records(_config(), run)


@app.command()
def sandbox(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=_LARGEST_PORT, help="The port to listen on; 0 finds a free one.")
    ] = 9090,
    webhook_secret: Annotated[str, typer.Option(help="Signs OpenRouter's callbacks.")] = _SANDBOX_SECRET,
    api_key: Annotated[str | None, typer.Option(help="The only key to accept; any, when left out.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="How much faster than life everything goes.")] = 1.0,
) -> None:
    """Run a stand-in provider: both wire formats, genuine signatures, no videos made and no costs."""

    async def run() -> None:
        stop = stop_on_signals()
        async with AsyncExitStack() as stack:
            with _explained(host, port, "choose another one with --port or --host"):
                stand_in = playing(host, port, webhook_secret, api_key=api_key, speed=speed)
                url = await stack.enter_async_context(stand_in)
            typer.echo(
                f"{url}/ says what each model name does, {url}/sandbox/ledger what was asked.\n"
                "For `reelkeeper serve`:\n\n"
                f"export OPENROUTER_BASE_URL={url}/api/v1 OPENROUTER_API_KEY={shlex.quote(api_key or 'any')} "
                f"OPENROUTER_WEBHOOK_SECRET={shlex.quote(webhook_secret)}\n"
                f"export LLMGATEWAY_BASE_URL={url}/v1 LLMGATEWAY_API_KEY={shlex.quote(api_key or 'any')}\n",
            )
            await stop.wait()

    _run(run())


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit after the summary: 0 if every job ended well.")] = False,
    port: Annotated[int, typer.Option(min=0, max=_LARGEST_PORT, help="The service's port; 0 finds a free one.")] = 8080,
    folder: Annotated[
        Path | None, typer.Option(help="Where to keep everything; a new temporary folder if left out.")
    ] = None,
) -> None:
    """Run sandbox and service on this machine, put a dozen jobs through trouble, and show what became of them."""
    where = (folder or Path(tempfile.mkdtemp(prefix="reelkeeper-demo-"))).absolute()
    try:
        where.mkdir(parents=True, exist_ok=True)
        log = (where / "log.jsonl").open("a")
    except OSError as error:
        _fail(f"--folder {where} cannot be used: {error.strerror}; choose one that may be written")

    async def run() -> bool:
        stop = stop_on_signals()
        try:
            listener = listen("127.0.0.1", port)
        except OSError:
            listener = listen("127.0.0.1", 0)  # it works beside whatever holds its usual port
        return await demonstrate(where, listener, stop, once=once, console=_out, log=logs.logger("reelkeeper"))

    with log:
        logs.configure("json", log)
        if not _run(run()):
            raise typer.Exit(1)


async def _serve(config: Config, host: str) -> None:
    stop = stop_on_signals()
    log = logs.logger("reelkeeper")
    sys.setswitchinterval(0.0002)  # s: the database's thread and the loop's hand over sooner, measured a third faster
    with _explained(host, config.port, "set PORT or --host to another one"):
        listener = listen(host, config.port)
    with listener:
        async with open_service(config, log) as service:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            log.info("serve.started", address=address, public_url=config.public_url)
            await serve(service, listener, stop)
    log.info("serve.stopped")


@contextmanager
def _explained(host: str, port: int, advice: str) -> Iterator[None]:
    """Say in a sentence why an address cannot be listened on."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0: a name that was not found
        why = os.strerror(number) if number > 0 else error.strerror
    except UnicodeError:
        why = "this cannot be the name of a host"
    else:
        return
    _fail(f"cannot listen on {host}, port {port}: {why}; {advice}")


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is never cut; for other programs one tab-separated line a row."""
    # What callers and operators named may hold anything, also what would steer a terminal.
    plain = [["".join(each if each.isprintable() else "\ufffd" for each in cell) for cell in row] for row in rows]
    if not _out.is_terminal:
        for row in plain:
            typer.echo("\t".join(row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, no_wrap=place == 0, overflow="fold")
    for row in plain:
        table.add_row(*map(Text, row))
    _out.print(table)


def _config() -> Config:
    try:
        return Config.read()
    except ConfigurationError as error:
        _fail(*error.mistakes, code=2)


def _with_records(config: Config, work: Callable[[Records], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_records(config) as records:
            await work(records)

    _run(run())


def _run(main: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(main)
    except ConfigurationError as error:
        _fail(*error.mistakes, code=2)
    except BrokenPipeError:
        raise  # who read our output has seen enough; typer ends the process quietly
    except (ReelkeeperError, OSError) as error:
        _fail(str(error))


def _line(finding: Finding) -> str:
    mark = "[green]ok  [/]" if finding.well else "[red]FAIL[/]"
    return f"{mark} {finding.part}: {escape(finding.says)}"


def _fail(*sentences: str, code: int = 1) -> NoReturn:
    for sentence in sentences:
        typer.echo(f"reelkeeper: {sentence}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no reason to stop
    app()


if __name__ == "__main__":
    main()
