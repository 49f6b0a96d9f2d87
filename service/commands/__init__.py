"""The commands about keys and jobs, in the database on this machine; and how every command reads, runs and fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console

from service.assembly import Records, open_records
from service.config import Config
from service.errors import ConfigurationError, ReelkeeperError

T = TypeVar("T")

out = Console()


def read_config() -> Config:
    """Return the settings, or end the command and name all that is wrong with them."""
    try:
        return Config.read()
    except ConfigurationError as error:
        fail(*error.mistakes, code=2)


def with_records(config: Config, work: Callable[[Records], Awaitable[None]]) -> None:
    """Open the database of `config` for `work`, as long as it takes."""

    async def run() -> None:
        async with open_records(config) as records:
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
        typer.echo(f"reelkeeper: {sentence}", err=True)
    raise typer.Exit(code)
