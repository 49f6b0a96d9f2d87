"""`reelkeeper backup`: a copy of the database while the service runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from service.clock import SystemClock
from service.commands import err, fail, out, print_json, read_config
from service.commands.places import AsJson, NoUrl, here_alone
from service.commands.progress import Busy
from service.config import LocalConfig
from service.db.backup import back_up
from service.errors import ReelkeeperError
from service.web.status.writing import size

_ELSEWHERE = "name a file where you may write, with as much free space as the database has"


def backup(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to make.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
    url: NoUrl = None,
) -> None:
    """Copy the database into a file while the service runs.

    It is done on the service's own machine. The copy is one moment of the database, checked, and readable by its owner
    alone. The videos and the secret key are not in it.
    """
    here_alone("backup", url)
    config = read_config(LocalConfig)
    begun = time.monotonic()
    try:
        with Busy(err, "copying") as busy:
            copied = back_up(
                config.database,
                path,
                taken_at=SystemClock().now(),
                overwrite=force,
                progress=lambda done, pages: busy.says("copying", done=done, total=pages),
            )
    except (ReelkeeperError, OSError) as error:
        system = isinstance(error, OSError) and error.errno is not None  # which names no way out
        fail(f"{error}; {_ELSEWHERE}" if system else str(error))
    database = str(config.database.absolute())
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        print_json(
            out,
            {
                "object": "backup",
                "path": str(path.absolute()),
                "database": database,
                "jobs": copied.jobs,
                "bytes": copied.bytes,
                "seconds": seconds,
            },
        )
    else:
        jobs = "1 job" if copied.jobs == 1 else f"{copied.jobs:,} jobs"
        about = f"a copy of {database} with {jobs}: {size(copied.bytes)}, checked, in {seconds} s"
        typer.echo(f"{path.absolute()}, {about}")
