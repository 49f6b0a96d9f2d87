"""The smallest works there are: rows of a table without rules of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from service.db import Tx

_LIMITS = {"dedupe_window_ms": 0, "creates_per_minute": None}


def put(name: str, size: int = 0) -> Callable[[Tx], str]:
    """Return a work that inserts a row called `name` of about `size` bytes, and returns the name."""

    def work(tx: Tx) -> str:
        tx.do("insert_api_key", id=name, name="x" * size, tenant="acme", operator=False, hash=name, now=1, **_LIMITS)
        return name

    return work


def names(tx: Tx) -> list[str]:
    """Read the names of all rows, sorted."""
    return [row["id"] for row in tx.all("api_keys")]


def on_disk(path: Path) -> list[str]:
    """Read the names of all rows beside the service."""
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM api_keys ORDER BY id")]
