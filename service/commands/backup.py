"""`reelkeeper backup`: a copy of the database while the service runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from service.clock import SystemClock
from service.commands import fail, read_config
from service.db.backup import back_up
from service.errors import ReelkeeperError

_ELSEWHERE = "name a file where you may write, with as much free space as the database has"


def backup(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to make.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Copy the database into a file while the service runs."""
    config = read_config()
    terminal = Console(stderr=True)
    begun = time.monotonic()
    try:
        with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            task = bar.add_task("copying", total=None)
            size = back_up(
                config.database,
                path,
                taken_at=SystemClock().now(),
                overwrite=force,
                progress=lambda done, pages: bar.update(task, completed=done, total=pages),
            )
    except (ReelkeeperError, OSError) as error:
        system = isinstance(error, OSError) and error.errno is not None  # which names no way out
        fail(f"{error}; {_ELSEWHERE}" if system else str(error))
    typer.echo(f"{path.absolute()}: {_readable(size)}, checked, in {time.monotonic() - begun:.1f} s")


def _readable(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB" if size >= 1_000_000 else f"{size / 1_000:,.0f} kB"  # noqa: PLR2004 - as written
