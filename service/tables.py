"""Rows of keys, jobs and callbacks: a table on a terminal, tab-separated lines without a head for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.web.views import rfc3339


def second(milliseconds: int) -> str:
    """Return unix ms as a whole second, "2026-11-21T10:00:00Z"."""
    return f"{rfc3339(milliseconds)[:19]}Z"


def print_rows(
    console: Console, head: Sequence[str], rows: Sequence[Sequence[str]], *, spare: Sequence[str], none: str
) -> None:
    """Print what has the columns `head`. The first one, an id, is never cut.

    A terminal that is too narrow loses columns of `spare`, the first one first; without rows it shows `none`.
    """
    # What callers and operators named may hold anything, also what would steer a terminal.
    plain = [["".join(each if each.isprintable() else "\ufffd" for each in cell) for cell in row] for row in rows]
    if not console.is_terminal:
        for row in plain:
            print("\t".join(row))  # noqa: T201 - rich would break long lines
        return
    if not plain:
        console.print(none, highlight=False)
        return
    columns = dict(zip(head, zip(*plain, strict=True), strict=True))
    widths = {name: max(map(len, (name, *cells))) for name, cells in columns.items()}
    for name in spare:
        if sum(widths.values()) + len(widths) - 1 > console.width:
            del columns[name], widths[name]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=name == head[0], overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
