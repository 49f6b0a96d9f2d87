"""What a target is: bytes go in, and nothing comes out but the errors that it documents, soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

_MOST_SECONDS = 2.0  # of the processor; what takes longer would keep everybody waiting


class TooSlowError(AssertionError):
    """A target took longer over an input than anybody who waits for it would bear."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser. `reads` says what and where it is, `elsewhere` names the tests of it that exist beside this one."""

    name: str
    reads: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    errors: tuple[type[Exception], ...] = ()
    elsewhere: str = ""

    def give(self, data: bytes) -> None:
        """Give it an input. Raises what it does not document, and TooSlowError."""
        begun = time.process_time()
        with suppress(*self.errors):
            self.run(data)
        if (seconds := time.process_time() - begun) > _MOST_SECONDS:
            raise TooSlowError(f"{self.name} took {seconds:.1f} s over {len(data)} bytes")


@dataclass(slots=True)
class Loop:
    """Runs what is asynchronous, in one loop for all inputs, with what was opened in it."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
        """Return what the work returns."""
        return self.runner.run(work)

    def close(self) -> None:
        """Close what was opened, and the loop."""
        self.runner.run(self.stack.aclose())
        self.runner.close()


LOOP = Loop()
