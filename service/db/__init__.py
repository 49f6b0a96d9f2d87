"""The database seam: a transaction is a plain function.

`await db.run(work)` calls `work(tx)` where the write lock is held and returns its value once the commit is on disk;
`await db.read(work)` does the same on a connection that only reads and never waits for the writer, and
`await db.look(work)` for what people look at, on one more, whose works may be long and are ended in time. Inside `work`
nobody can await a stranger, be cancelled half-way or interleave with another transaction. Queries are named in the
files of `queries/`; no other file of the project holds SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = Mapping[str, Any]


class Tx(Protocol):
    """A transaction in progress: names queries, binds `:parameters`."""

    def one(self, query: str, /, **parameters: object) -> Row | None:
        """Return the first row, or None."""
        ...

    def all(self, query: str, /, **parameters: object) -> list[Row]:
        """Return every row."""
        ...

    def do(self, query: str, /, **parameters: object) -> int:
        """Run a query for its effect; return how many rows it changed."""
        ...


class Database(Protocol):
    """Where transactions run. All ways raise StoreUnavailableError when the disk, the file or a lock is at fault."""

    async def run(self, work: Callable[[Tx], T]) -> T:
        """Run `work` alone in a transaction; return its value after the commit is durable."""
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a snapshot of what is committed; it cannot write."""
        ...

    async def look(self, work: Callable[[Tx], T], whose: str = "") -> T:
        """Run `work` as `read` does, where nothing that is quick waits for it: a list, a search, an overview.

        Those of one `whose` (a tenant, or a job) take turns, so that nobody keeps the others waiting with many of them.
        Raises LookTooLongError when it took about a second, or a few until its turn.
        """
        ...

    async def check(self) -> None:
        """Raise StoreUnavailableError for what will keep us from writing if nobody acts: a disk that is nearly full."""
        ...

    async def close(self) -> None:
        """Finish what is waiting and let the file go."""
        ...


_NAME = re.compile(r"^-- (\w+) --\s*$", re.MULTILINE)


def load_queries(texts: Sequence[str] | None = None) -> dict[str, str]:
    """Read the files of `queries/`: each query stands under a line `-- name --` and a sentence of comment.

    Raises ValueError on a name that is used twice.
    """
    if texts is None:
        texts = [file.read_text("utf-8") for file in resources.files(__name__).joinpath("queries").iterdir()]
    queries: dict[str, str] = {}
    for text in texts:
        parts = _NAME.split(text)[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in queries:
                raise ValueError(f"queries/ names a query twice: {name}")
            queries[name] = body.strip().rstrip(";")
    return queries
