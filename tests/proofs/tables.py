"""How a proof shows what it found: a Markdown table under a line that says where and with what it ran."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Sequence


def machine() -> str:
    """Say in one line what this was measured on."""
    return (
        f"{os.cpu_count()} processors, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.release()}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; columns that hold numbers alone are aligned to the right."""
    columns = list(zip(*rows, strict=True)) or [() for _ in head]
    numbers = [bool(cells) and all(isinstance(cell, int | float) for cell in cells) for cells in columns]
    lines = [list(head), ["---:" if each else "---" for each in numbers]]
    lines += [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
