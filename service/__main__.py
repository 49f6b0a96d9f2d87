"""The command line: `reelkeeper`. Says what each command does; `assembly` builds what it runs. Nothing imports it."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from service import logs
from service.commands import (
    actions,
    backup,
    callbacks,
    fail,
    keys,
    read_config,
    receivers,
    run_loop,
    with_records,
)
from service.commands.places import AsJson, KeyFile, NoUrl, Url, here_alone
from service.config import Config, LocalConfig
from service.records import Records

_LARGEST_PORT = 65_535
_HERE = "127.0.0.1"
_SANDBOX_SECRET = "sandbox-webhook-secret"  # noqa: S105 - signs nothing but the sandbox's own messages


class _Explaining(TyperGroup):
    """Says what is wrong with a value without the words of the library that reads it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own types
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            message = re.sub(r"^Value error, |, unable to parse .*", "", error.message)
            error.message = message.replace("Input should be", "must be")
            raise


app = typer.Typer(cls=_Explaining, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(keys.app, name="keys")
app.add_typer(actions.app, name="jobs")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(receivers.app, name="receivers")

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
    """One call, one paid job, one kept video.

    Commands about jobs, keys, callbacks and receivers work with the database on this machine, or with --url (or
    REELKEEPER_URL) and an API key at a running service. They end with 0 when what was asked is done, with 1 when it is
    not, and with 2 when it was asked in a wrong way.
    """


@app.command("serve")
def serve_command(
    host: Host = _HERE, port: Annotated[int | None, _port("The port to listen on; $PORT or 8080 if left out.")] = None
) -> None:
    """Run the service: web and workers, until SIGTERM."""
    config = read_config(Config)
    logs.configure(config.log_format)
    from service.commands import serving  # noqa: PLC0415 - as for a sandbox

    run_loop(serving.serve(config, host, config.port if port is None else port))


@app.command("check")
def check_command(*, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Try all that the service depends on; say what to do.

    On the service's own machine: settings, a write to the database, a file in storage, a signed callback through the
    public URL, overdue jobs and rejected callbacks. With --url: whether it is ready, its version, its clock, the API
    key's role and, with an operator key, how jobs and callbacks go. Exit code 1 when a part is ill.
    """
    from service.commands import check  # noqa: PLC0415 - loads what speaks to storage, for which no other command waits

    check.check(url, key_file, as_json=as_json)


@app.command()
def migrate(url: NoUrl = None) -> None:
    """Create or update the database, as `serve` does when it starts.

    It is done on the service's own machine.
    """
    here_alone("migrate", url)
    config = read_config(LocalConfig)

    async def run(_: Records) -> None:
        typer.echo(f"{config.database.absolute()} is up to date")

    with_records(config, run, create=True)


app.command("backup")(backup.backup)


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
    from service.commands import serving  # noqa: PLC0415 - loads the whole service, for which no other command waits

    run_loop(serving.sandbox(host, port, webhook_secret, api_key=api_key, speed=speed))


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
        fail(f"--folder {where} cannot be used: {error.strerror}; choose one that may be written")

    from service.commands import serving  # noqa: PLC0415 - as for a sandbox

    with log:
        logs.configure("json", log)
        if not run_loop(serving.demo(where, port, once=once)):
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no reason to stop
    app(prog_name="reelkeeper")


if __name__ == "__main__":
    main()
