"""The command line: `reelkeeper`. Says what each command does; `assembly` builds what it runs. Nothing imports it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from service import logs
from service.assembly import Records, listen, open_records, open_service, serve, stop_on_signals
from service.check import UNSIGNED, Finding, examine
from service.clock import SystemClock
from service.config import Config
from service.errors import ConfigurationError, ReelkeeperError
from service.model import Job, State, is_provider_job_id
from service.stage import USUAL_PORT, demonstrate, manual, playing
from service.tables import print_rows, second
from service.web.views import Views

T = TypeVar("T")

_DAY_MS = 86_400_000
_LARGEST_PORT = 65_535
_HERE = "127.0.0.1"
_SANDBOX_SECRET = "sandbox-webhook-secret"  # noqa: S105 - signs nothing but the sandbox's own messages

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="API keys of callers and operators.")
jobs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Jobs, in the database on this machine.")
app.add_typer(keys_app, name="keys")
app.add_typer(jobs_app, name="jobs")

_out = Console()

Host = Annotated[str, typer.Option(metavar="HOST", help="The address to listen on; 0.0.0.0 for every one.")]


def _port(says: str) -> Any:  # noqa: ANN401 - typer's own type
    return typer.Option(min=0, max=_LARGEST_PORT, metavar="PORT", help=says)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's form of a callback
    if asked:
        typer.echo(f"reelkeeper {next((each.version for each in metadata.distributions(name='reelkeeper')), '?')}")
        raise typer.Exit


@app.callback()
def reelkeeper(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """One call, one paid job, one kept video."""


@app.command("serve")
def serve_command(
    host: Host = _HERE, port: Annotated[int | None, _port("The port to listen on; $PORT or 8080 if left out.")] = None
) -> None:
    """Run the service: web and workers, until SIGTERM."""
    config = _config()
    logs.configure(config.log_format)
    _run(_serve(config, host, config.port if port is None else port))


@app.command()
def check() -> None:
    """Try settings, database, storage and the service's public URL."""
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
    """Create or update the database, as `serve` does when it starts."""
    config = _config()

    async def run(_: Records) -> None:
        typer.echo(f"{config.database.absolute()} is up to date")

    _with_records(config, run)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for people: a backend or a person.")],
    tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="Who owns the jobs made with it; keys of one tenant share jobs.")
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

    config = _config()

    async def run(records: Records) -> None:
        record, key = await records.keys.create(name, tenant, operator=operator)
        role = "an operator key" if operator else "a key"
        about = f"{record.id}: {role} for {name}, tenant {tenant}, in {config.database.absolute()}"
        typer.echo(f"{about}. Only its hash is stored, and it is not shown again:", err=True)
        typer.echo(key)

    _with_records(config, run)


@keys_app.command("list")
def keys_list() -> None:
    """Show every API key, without the keys themselves."""

    async def run(records: Records) -> None:
        rows = []
        for key in await records.keys.all():
            role = "operator" if key.operator else "caller"
            revoked = second(key.revoked_at) if key.revoked_at else ""
            rows.append((key.id, key.name, key.tenant, role, second(key.created_at), revoked))
        head = ("id", "name", "tenant", "role", "created", "revoked")
        none = "no keys; `reelkeeper keys create NAME` makes one"
        print_rows(_out, head, rows, spare=("created", "role"), none=none)

    _with_records(_config(), run)


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it.")],
) -> None:
    """Make an API key useless, at once."""

    async def run(records: Records) -> None:
        if await records.keys.revoke(key_id) is not None:
            typer.echo(f"{key_id} is revoked")
        elif any(key.id == key_id for key in await records.keys.all()):
            typer.echo(f"{key_id} is already revoked")
        else:
            _fail(f"there is no key {key_id}; `reelkeeper keys list` shows them")

    _with_records(_config(), run)


JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id: job_…")]


@jobs_app.command("list")
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
        print_rows(_out, head, rows, spare=("provider", "model", "created"), none="no jobs")

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
    hint = "only a queued job can be cancelled, because the provider makes and bills what was submitted"
    _change(job_id, lambda records: records.store.cancel(job_id), hint)


@jobs_app.command("attach")
def jobs_attach(
    job_id: JobId,
    provider_job_id: Annotated[
        str, typer.Argument(metavar="PROVIDER_JOB_ID", help="The provider's own id of the job.")
    ],
) -> None:
    """Bind an id found at the provider to a job that may be there."""
    if not is_provider_job_id(provider_job_id):
        form = "1 to 512 letters, digits or ._~:/- as the provider shows it, for example gen-1a2b3c"
        _fail(f"the provider's id must be {form}", code=2)
    hint = "only a submission with an unknown outcome can be bound, and only to an id that no other job has"
    _change(job_id, lambda records: records.store.attach(job_id, provider_job_id), hint)


@jobs_app.command("remirror")
def jobs_remirror(job_id: JobId) -> None:
    """Copy the outputs again of a job that gave them up."""
    hint = "only a job that failed with output_unavailable can be copied again"
    _change(job_id, lambda records: records.store.remirror(job_id, _DAY_MS), hint)


def _change(job_id: str, change: Callable[[Records], Awaitable[Job | None]], hint: str) -> None:
    async def run(records: Records) -> None:
        before = await records.store.job(job_id)
        if before is None:
            _fail(f"there is no job {job_id}; `reelkeeper jobs list` shows the newest")
        after = await change(records)
        if after is None:
            code = f" ({before.error.code})" if before.error and before.error.code != before.state.value else ""
            _fail(f"{job_id} is {before.state}{code}; {hint}")
        typer.echo(f"{job_id} is {after.state}")

    _with_records(_config(), run)


@app.command()
def sandbox(
    host: Host = _HERE,
    port: Annotated[int, _port("The port to listen on; 0 finds a free one.")] = 9090,
    webhook_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="Signs OpenRouter's callbacks.")
    ] = _SANDBOX_SECRET,
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The only key to accept; any, when left out.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1000, metavar="TIMES", help="How much faster than life everything goes.")
    ] = 1.0,
) -> None:
    """Run a stand-in provider: genuine wire formats, no costs."""

    async def run() -> None:
        stop = stop_on_signals()
        async with AsyncExitStack() as stack:
            with _explained(host, port, "choose another one with --port or --host"):
                stand_in = playing(host, port, webhook_secret, api_key=api_key, speed=speed)
                url = await stack.enter_async_context(stand_in)
            typer.echo(manual(url, api_key or "any", webhook_secret))
            await stop.wait()

    _run(run())


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit after the summary: 0 if every job ended well.")] = False,
    port: Annotated[int | None, _port("The service's port; 8080, or a free one if that is taken.")] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to keep everything; a new temporary one if left out.")
    ] = None,
) -> None:
    """Put 16 jobs through trouble, with sandbox and service here."""
    where = (folder or Path(tempfile.mkdtemp(prefix="reelkeeper-demo-"))).absolute()
    try:
        where.mkdir(parents=True, exist_ok=True)
        log = (where / "log.jsonl").open("a")
    except OSError as error:
        _fail(f"--folder {where} cannot be used: {error.strerror}; choose one that may be written")

    async def run() -> bool:
        stop = stop_on_signals()
        listener = _listen_beside_others() if port is None else _listen(_HERE, port, "choose another one with --port")
        return await demonstrate(where, listener, stop, once=once, console=_out, log=logs.logger("reelkeeper"))

    with log:
        logs.configure("json", log)
        if not _run(run()):
            raise typer.Exit(1)


def _listen_beside_others() -> socket.socket:
    try:
        return listen(_HERE, USUAL_PORT)
    except OSError:
        free = listen(_HERE, 0)
        _out.print(f"{USUAL_PORT} is taken, so the service is on {free.getsockname()[1]}.", highlight=False)
        return free


def _listen(host: str, port: int, advice: str) -> socket.socket:
    with _explained(host, port, advice):
        return listen(host, port)


async def _serve(config: Config, host: str, port: int) -> None:
    stop = stop_on_signals()
    log = logs.logger("reelkeeper")
    sys.setswitchinterval(0.0002)  # s: the database's thread and the loop's hand over sooner, measured a third faster
    with _listen(host, port, "choose another one with --port, PORT or --host") as listener:
        async with open_service(config, log) as service:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            where = {"database": str(config.database.absolute()), "storage": service.storage.describe()}
            log.info("serve.started", address=address, public_url=config.public_url, **where)
            if config.openrouter and not config.openrouter.webhook_secrets:
                log.warning("serve.unsigned", provider="openrouter", advice=UNSIGNED)
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
    mark = "note" if finding.note else "[green]ok  [/]" if finding.well else "[red]FAIL[/]"
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
