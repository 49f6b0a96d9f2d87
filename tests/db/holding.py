"""Runs statements on the database named first, says that it holds it so, and lets go at the end of its input."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

READ = ("BEGIN", "SELECT count(*) FROM api_keys")
WRITE = ("BEGIN IMMEDIATE",)
EXCLUSIVE = ("BEGIN EXCLUSIVE",)


@contextlib.contextmanager
def held(path: Path, statements: tuple[str, ...]) -> Iterator[int]:
    """Have another process hold the database while the block lasts; yields its id."""
    command = [sys.executable, "-m", "tests.db.holding", str(path), *statements]
    with subprocess.Popen(  # noqa: S603 - this file
        command, cwd=Path(__file__).parent.parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.stdin.close()
        process.wait(30)


def main() -> None:
    """Hold it until nobody writes to us any more."""
    path, *statements = sys.argv[1:]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
