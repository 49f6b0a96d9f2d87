"""What whoever waits at a terminal sees meanwhile; nobody else sees anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn


class Busy:
    """A line on `console` that moves while the block lasts, and says what is done; a bar once it is known how much."""

    def __init__(self, console: Console, says: str) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(show_speed=False),
            console=console,
            transient=True,
            # What goes into a pipe stays what goes into a pipe.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(says, total=None)

    def __enter__(self) -> Self:
        """Begin to show it."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._bar.stop()

    def says(self, text: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say something else, and how much of it is done."""
        self._bar.update(self._task, description=text, completed=done, total=total)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take it away while something is printed."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()
