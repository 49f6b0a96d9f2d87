"""The commands for operators: what they look at and do, here or at a running service; and how every command fails.

`desk` is what they work with, `local` and `remote` are the two of its kind, and `places` finds the one that is meant.
`keys`, `jobs`, `actions`, `callbacks`, `receivers` and `backup` are the commands, `account` tells of one job;
`serving` is what `serve`, `sandbox` and `demo` run; `shapes` are what `remote` believes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.highlighter import JSONHighlighter

from service.config import Config, LocalConfig, RemoteConfig, SecretConfig
from service.errors import ConfigurationError, ReelkeeperError
from service.records import Records, open_records
from service.tables import plain

T = TypeVar("T")
Settings = TypeVar("Settings", Config, SecretConfig, LocalConfig, RemoteConfig)

out = Console()
err = Console(stderr=True)  # for what is no result: notes, questions and progress


def read_config(kind: type[Settings]) -> Settings:
    """Return the settings that a command needs, or end it and name all that is wrong with them."""
    try:
        return kind.read()
    except ConfigurationError as error:
        fail(*error.mistakes, code=2)


def with_records(config: LocalConfig, work: Callable[[Records], Awaitable[None]], *, create: bool = False) -> None:
    """Open the database of `config` for `work`, as long as it takes; `create` makes one if there is none."""

    async def run() -> None:
        async with open_records(config, create=create) as records:
            await work(records)

    run_loop(run())


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; what goes wrong is told in sentences, without a traceback."""
    try:
        return uvloop.run(main)
    except ConfigurationError as error:
        fail(*error.mistakes, code=2)
    except BrokenPipeError:
        raise  # who read our output has seen enough; typer ends the process quietly
    except (ReelkeeperError, OSError) as error:
        fail(str(error))


def fail(*sentences: str, code: int = 1) -> NoReturn:
    """End the command with `code`, having told why."""
    for sentence in sentences:
        note(sentence)
    raise typer.Exit(code)


def note(sentence: str) -> None:
    """Tell what is no result, beside the output."""
    say(f"reelkeeper: {sentence}", err=True)


def say(sentence: str, *, err: bool = False) -> None:
    """Print one line; nothing that a service or a caller wrote in it can steer a terminal."""
    typer.echo(plain(sentence), err=err)


def print_json(console: Console, value: object) -> None:
    """Print one JSON document, with colours on a terminal; no text in it can steer one."""
    if not console.is_terminal:
        typer.echo(json.dumps(value, indent=2))  # in ASCII, which every locale has
        return
    shown = json.dumps(value, indent=2, ensure_ascii=False)
    safe = (each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in shown)
    console.print(JSONHighlighter()("".join(safe)), soft_wrap=True)


def confirm(question: str, *, yes: bool, final: bool = False) -> None:
    """Ask whoever sits at a terminal before something is done.

    A script is not asked; what is `final`, so that it cannot be undone, it does not do without `--yes`.
    """
    if yes:
        return
    if not asked():
        if final:
            fail(f"{question} Nobody can be asked here, so nothing was done; write --yes to do it", code=2)
    elif not typer.confirm(f"{question} Do it?", err=True):
        fail("nothing was done")


def asked() -> bool:
    """Tell whether somebody can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()
