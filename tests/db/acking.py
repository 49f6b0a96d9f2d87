"""Writes rows to the database named by its first argument, and prints each row's name once it is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from service.clock import SystemClock
from service.db.sqlite import SQLiteDatabase
from tests.db.rows import put


async def write(database: SQLiteDatabase, writer: int) -> None:
    """Write one row after the other, for ever."""
    number = 0
    while True:
        number += 1
        name = await database.run(put(f"{writer:02}-{number:06}", size=500))
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


async def main() -> None:
    """Let eight writers share commits."""
    database = await SQLiteDatabase.open(Path(sys.argv[1]), SystemClock())
    await asyncio.gather(*(write(database, writer) for writer in range(8)))


if __name__ == "__main__":
    asyncio.run(main())
