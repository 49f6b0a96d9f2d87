"""The command line: `reelkeeper`. Builds every object, wires them, runs; nothing imports this module."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import httpx
import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service import logs
from service.assembly import Records, listen, open_records, open_service, serve, stop_on_signals
from service.check import Finding, examine
from service.clock import SystemClock
from service.config import Config
from service.errors import ConfigurationError, ReelkeeperError
from service.model import Job, State
from service.providers import Manners
from service.sandbox import Sandbox, serving
from service.sandbox.demo import Demo
from service.web.views import Views, rfc3339

T = TypeVar("T")

_DAY_MS = 86_400_000
_SANDBOX_SECRET = "sandbox-webhook-secret"  # noqa: S105 - signs nothing but the sandbox's own messages
# Of the demonstration: its jobs take seconds, so it is polled by the second, and silence is judged soon.
_DEMO_MANNERS = Manners(first_poll_ms=4_000, poll_every_ms=1_000, retention_ms=_DAY_MS, per_minute=6_000, burst=100)
_DEMO_DEADLINE = 15  # s

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="One call, one paid job, one kept video.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of callers and operators.")
jobs_app = typer.Typer(no_args_is_help=True, help="Jobs, in the database on this machine.")
app.add_typer(keys_app, name="keys")
app.add_typer(jobs_app, name="jobs")

_out = Console()
_err = Console(stderr=True)

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
            _out.print(_line(finding), highlight=False)
            well = well and finding.well
        return well

    if not _run(run()):
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Create the database or bring its tables up to date; `serve` does the same when it starts."""
    config = _config()

    async def run(_: Records) -> None:
        _out.print(f"{config.database} is up to date", highlight=False)

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
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", tenant):
        _fail(f"--tenant {tenant!r} must be 1 to 63 lower-case letters, digits, - or _; for example --tenant studio")

    async def run(records: Records) -> None:
        record, key = await records.keys.create(name, tenant, operator=operator)
        role = "an operator key" if operator else "a key"
        _err.print(
            f"{record.id}: {role} for {name}, tenant {tenant}. It is not stored and not shown again:", highlight=False
        )
        typer.echo(key)

    _with_records(_config(), run)


@keys_app.command("list")
def keys_list() -> None:
    """Show every API key, without the keys themselves."""

    async def run(records: Records) -> None:
        table = Table("id", "name", "tenant", "role", "created", "revoked", box=None, header_style="bold")
        for key in await records.keys.all():
            role = "operator" if key.operator else "caller"
            revoked = rfc3339(key.revoked_at) if key.revoked_at else ""
            table.add_row(key.id, key.name, key.tenant, role, rfc3339(key.created_at), revoked)
        _out.print(table)

    _with_records(_config(), run)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Make an API key useless, at once."""

    async def run(records: Records) -> None:
        if await records.keys.revoke(key_id) is None:
            _fail(f"there is no valid key {key_id}; `reelkeeper keys list` shows them")
        _out.print(f"{key_id} is revoked", highlight=False)

    _with_records(_config(), run)


JobId = Annotated[str, typer.Argument(help="The job's id: job_…")]


@jobs_app.command("list")
def jobs_list(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
) -> None:
    """Show the newest jobs."""

    async def run(records: Records) -> None:
        table = Table("id", "state", "provider", "model", "created", "error", box=None, header_style="bold")
        for job in await records.store.jobs(tenant, state=state, limit=limit):
            code = job.error.code if job.error else ""
            table.add_row(job.id, job.state, job.provider, job.model, rfc3339(job.created_at), code)
        _out.print(table)

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
    hint = "it has a provider's id already, never reached a provider, or that id belongs to another job"
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
            _fail(f"{job_id} is {before.state}: {hint}")
        _out.print(f"{job_id} is {after.state}", highlight=False)

    _with_records(_config(), run)


@app.command()
def sandbox(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 finds a free one.")] = 9090,
    webhook_secret: Annotated[str, typer.Option(help="Signs OpenRouter's callbacks.")] = _SANDBOX_SECRET,
    api_key: Annotated[str | None, typer.Option(help="The only key to accept; any, when left out.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="How much faster than life everything goes.")] = 1.0,
) -> None:
    """Run a stand-in provider: both wire formats, genuine signatures, no videos made and no costs."""

    async def run() -> None:
        stop = stop_on_signals()
        async with _playing(host, port, webhook_secret, api_key, speed) as url:
            _out.print(
                f"{url}/ says what each model name does, {url}/sandbox/ledger what was asked.\n"
                "For `reelkeeper serve`:\n\n"
                f"export OPENROUTER_BASE_URL={url}/api/v1 OPENROUTER_API_KEY={api_key or 'any'} "
                f"OPENROUTER_WEBHOOK_SECRET={webhook_secret}\n"
                f"export LLMGATEWAY_BASE_URL={url}/v1 LLMGATEWAY_API_KEY={api_key or 'any'}\n",
                highlight=False,
                soft_wrap=True,
            )
            await stop.wait()

    _run(run())


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit after the summary: 0 if every job ended well.")] = False,
    port: Annotated[int, typer.Option(help="The service's port; 0 finds a free one.")] = 8080,
    folder: Annotated[
        Path | None, typer.Option(help="Where to keep everything; a new temporary folder if left out.")
    ] = None,
) -> None:
    """Run sandbox and service on this machine, put a dozen jobs through trouble, and show what became of them."""
    where = (folder or Path(tempfile.mkdtemp(prefix="reelkeeper-demo-"))).absolute()
    where.mkdir(parents=True, exist_ok=True)
    with (where / "log.jsonl").open("a") as log:
        logs.configure("json", log)
        if not _run(_demo(where, port, once=once)):
            raise typer.Exit(1)


async def _demo(folder: Path, port: int, *, once: bool) -> bool:
    try:
        listener = listen("127.0.0.1", port)
    except OSError:
        listener = listen("127.0.0.1", 0)  # the demo works beside whatever holds its usual port
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = stop_on_signals()
    async with _playing("127.0.0.1", 0, "demo-webhook-secret", None, 1.0) as sandbox_url:
        config = Config.read(
            {
                "REELKEEPER_PUBLIC_URL": url,
                "REELKEEPER_SECRET_KEY": secrets.token_urlsafe(32),
                "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
                "REELKEEPER_STORAGE": str(folder / "videos"),
                "REELKEEPER_JOB_DEADLINE": str(_DEMO_DEADLINE),
                # Where the sandbox redirects to: another name of this machine.
                "REELKEEPER_ALLOWED_PRIVATE_HOSTS": f"localhost:{httpx.URL(sandbox_url).port}",
                "OPENROUTER_BASE_URL": f"{sandbox_url}/api/v1",
                "OPENROUTER_API_KEY": "demo",
                "OPENROUTER_WEBHOOK_SECRET": "demo-webhook-secret",
                "LLMGATEWAY_BASE_URL": f"{sandbox_url}/v1",
                "LLMGATEWAY_API_KEY": "demo",
            }
        )
        log = logs.logger("reelkeeper")
        async with open_service(config, log, manners=_DEMO_MANNERS, open_status=True) as service:
            serving_it = asyncio.create_task(serve(service, listener, stop))
            _, key = await service.records.keys.create("demo", "demo", operator=True)
            show = Demo(
                url=url, key=key, sandbox_url=sandbox_url, videos=folder / "videos", clock=SystemClock(), console=_out
            )
            well = await show.play()
            if not once:
                _out.print(
                    f"\nStill serving. Status: {url}/status   What the sandbox can do: {sandbox_url}/\n"
                    f"export REELKEEPER_KEY={key}\nStop with Ctrl-C.",
                    highlight=False,
                    soft_wrap=True,
                )
                await stop.wait()
            stop.set()
            await serving_it
    return well


@asynccontextmanager
async def _playing(host: str, port: int, webhook_secret: str, api_key: str | None, speed: float) -> AsyncIterator[str]:
    """Run a sandbox while the block runs; yields its address."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        stand_in = Sandbox(
            clock=SystemClock(),
            chance=secrets.SystemRandom(),
            webhook_secret=webhook_secret,
            client=client,
            api_key=api_key,
            speed=speed,
        )
        async with serving(stand_in, host, port) as url:
            telling = asyncio.create_task(stand_in.run())
            try:
                yield url
            finally:
                telling.cancel()


async def _serve(config: Config, host: str) -> None:
    log = logs.logger("reelkeeper")
    sys.setswitchinterval(0.0002)  # s: the database's thread and the loop's hand over sooner, measured a third faster
    listener = listen(host, config.port)
    async with open_service(config, log) as service:
        stop = stop_on_signals()
        log.info("serve.started", address=f"http://{host}:{listener.getsockname()[1]}", public_url=config.public_url)
        await serve(service, listener, stop)
    log.info("serve.stopped")


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
    except (ReelkeeperError, OSError) as error:
        _fail(str(error))


def _line(finding: Finding) -> str:
    mark = "[green]ok  [/]" if finding.well else "[red]FAIL[/]"
    return f"{mark} {finding.part}: {escape(finding.says)}"


def _fail(*sentences: str, code: int = 1) -> NoReturn:
    for sentence in sentences:
        _err.print(f"reelkeeper: {escape(sentence)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
