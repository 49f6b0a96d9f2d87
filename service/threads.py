"""What blocks and may never end is done in a thread of its own, for which nobody has to wait.

A pool keeps the process from ending for as long as one of its threads hangs, and the event loop's own pool is so small
that a few hanging calls keep every other one waiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Begin `work` and return its outcome; whoever gives up waiting leaves it alone, and so does the process's end.

    A thread that cannot be had is an OSError.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        outcome.set_exception(OSError(errno.EAGAIN, str(error)))
    return asyncio.wrap_future(outcome)
