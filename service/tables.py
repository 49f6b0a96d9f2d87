"""Rows of keys, jobs and callbacks: a table on a terminal, tab-separated lines without a head for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.model import State

STYLES: Mapping[str, str] = {
    State.QUEUED: "cyan",
    State.SUBMITTING: "cyan",
    State.RUNNING: "cyan",
    State.MIRRORING: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
    State.EXPIRED: "red",
}
"""The colours of a state on a terminal that has some; its word stands there as well."""


_SHORTEST_CUT = 12


def second(moment: str) -> str:
    """Return "2026-11-21T10:00:00.000Z" as a whole second, "2026-11-21T10:00:00Z"."""
    return f"{moment[:19]}Z"


def plain(text: object) -> str:
    """Return what callers and operators wrote without anything in it that would steer a terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(text))


def _cut(text: str, most: int) -> str:
    """Return text that is as wide as `most` letters at most, "A paper boat cros…"."""
    shown = Text(text)
    shown.truncate(most, overflow="ellipsis")
    return shown.plain


def print_rows(
    console: Console,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    spare: Sequence[str],
    none: str,
    cut: str = "",
) -> None:
    """Print what has the columns `head`. The first one, an id, is never cut; one called "state" is coloured.

    A terminal that is too narrow loses columns of `spare`, the first one first, once the column `cut` is as short as
    it may be; without rows it shows `none`.
    """
    shown = [[plain(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        for row in shown:
            print("\t".join(row))  # noqa: T201 - rich would break long lines
        return
    if not shown:
        console.print(none, markup=False, highlight=False, soft_wrap=True)
        return
    columns = dict(zip(head, zip(*shown, strict=True), strict=True))
    widths = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    if cut in columns:
        room = console.width - sum(widths.values()) - len(widths) + 1 + widths[cut]
        widths[cut] = min(widths[cut], max(room, _SHORTEST_CUT))
        columns[cut] = tuple(_cut(cell, widths[cut]) for cell in columns[cut])
    for name in spare:
        if sum(widths.values()) + len(widths) - 1 > console.width:
            del columns[name], widths[name]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=name == head[0], overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(
            *(
                Text(cell, style=STYLES.get(cell, "") if name == "state" else "")
                for name, cell in zip(columns, cells, strict=True)
            )
        )
    console.print(table)
