"""Which desk a command works at: the database on this machine, or the service at `--url`, and with which key."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from service.clock import SystemClock
from service.commands import asked, fail, note, read_config, run_loop
from service.commands.desk import Desk
from service.commands.local import LocalDesk
from service.commands.remote import RemoteDesk
from service.config import LocalConfig, RemoteConfig, texts
from service.outbound import configured_client
from service.records import open_records
from service.web.views import Views

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Ask the running service there, not the database on this machine."),
]
NoUrl = Annotated[str | None, typer.Option("--url", hidden=True)]
"""Not offered, and answered with a sentence: `here_alone` is the one that reads it."""

KeyFile = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Where the API key for --url is, - for standard input; else REELKEEPER_API_KEY, or a question.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the fields that the API has.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it is done.")]


def at_desk(url: str | None, key_file: str | None, work: Callable[[Desk], Awaitable[T]], *, create: bool = False) -> T:
    """Do `work` where the options say, or else the environment; end the command when it cannot be.

    On this machine `create` makes a database if there is none.
    """
    remote = read_config(RemoteConfig)
    where = service_url(url, remote)

    async def run() -> T:
        async with _remote(where, key) if where else _local(create=create) as desk:
            return await work(desk)

    key = api_key(key_file, remote) if where else ""
    if not where and key_file is not None:
        fail("--key-file is for a running service; name it with --url, for example --url https://videos.example.com")
    return run_loop(run())


def service_url(url: str | None, remote: RemoteConfig) -> str | None:
    """Return the service that is meant, None for the database on this machine."""
    if url is None:
        return remote.url
    try:
        return texts.service_url(url.strip()) if url.strip() else None
    except ValueError as error:
        fail(f"--url {error}; for example --url https://videos.example.com", code=2)


def api_key(key_file: str | None, remote: RemoteConfig) -> str:
    """Return the API key from where the options say, the environment, or whoever sits at the terminal."""
    if key_file is not None:
        return _read_key(key_file)
    if remote.api_key is not None:
        return remote.api_key
    if asked():
        return _checked(typer.prompt("API key", hide_input=True, err=True), "the API key")
    return fail("an API key is needed to ask a service: set REELKEEPER_API_KEY, or name a file with --key-file", code=2)


def here_alone(command: str, url: str | None) -> None:
    """End a command that can work with this machine's database alone when it is sent elsewhere."""
    advice = f"`reelkeeper {command}` works on the service's own machine alone"
    if url:
        fail(f"{advice}; run it there, without --url", code=2)
    if read_config(RemoteConfig).url is not None:
        note(f"{advice}: REELKEEPER_URL is not asked")


def _read_key(key_file: str) -> str:
    try:
        text = sys.stdin.readline() if key_file == "-" else Path(key_file).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        fail(
            f"--key-file {key_file} cannot be read: {why}; name a file that holds the API key and nothing else", code=2
        )
    return _checked(text, f"--key-file {key_file}")


def _checked(text: str, where: str) -> str:
    try:
        return texts.credential(text.strip())
    except ValueError:
        fail(f"{where} must hold an API key and nothing else, for example rk_… in one line", code=2)


@asynccontextmanager
async def _local(*, create: bool) -> AsyncIterator[Desk]:
    config = read_config(LocalConfig)
    async with open_records(config, create=create) as records:
        yield LocalDesk(
            records, views=Views(config.public_url), database=str(config.database.absolute()), clock=SystemClock()
        )


@asynccontextmanager
async def _remote(url: str, key: str) -> AsyncIterator[Desk]:
    async with configured_client() as client:
        yield RemoteDesk(client, url, key)
