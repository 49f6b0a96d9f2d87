"""A program with a thread of its own, which starts and reaps it whatever becomes of the task that wanted it.

The event loop must not start one: uvloop forks, and runs what Python does after a fork in the copy. There it may wait
for ever for a lock that another thread, one that was just entering Python, held when it was copied; and the loop waits
for the copy while it holds the interpreter, so that every thread stands still. `subprocess` lets nothing of Python run
between vfork() and exec(), as long as it is given no `preexec_fn`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from subprocess import DEVNULL, Popen
from threading import Thread

_DYING_SECONDS = 5.0  # more than enough, unless it waits for a disk that has gone


class Process:
    """Runs `command` at once; its standard input and output are `stdio`, which is closed here as soon as it has it."""

    def __init__(self, command: Sequence[str], stdio: socket.socket, *, env: Mapping[str, str]) -> None:
        self._popen: Popen[bytes] | None = None
        self._unwanted = False
        self._ended: Future[int] = Future()
        self._ended.set_running_or_notify_cancel()  # from here on no task that waits for it can cancel it
        # A daemon: the service can exit while a process does not die.
        Thread(target=self._live, args=(command, stdio, env), name="media-process", daemon=True).start()

    async def wait(self) -> int:
        """Return the status that it ended with, below 0 for a signal. Raises OSError when it could not be started."""
        return await asyncio.wrap_future(self._ended)

    async def end(self) -> None:
        """Kill it and wait until it is reaped; when the waiting is cancelled, it is reaped all the same."""
        self._unwanted = True
        if self._popen is not None:
            self._popen.kill()
        with suppress(Exception):  # it was never started, or takes its time to die
            async with asyncio.timeout(_DYING_SECONDS):
                await self.wait()

    def _live(self, command: Sequence[str], stdio: socket.socket, env: Mapping[str, str]) -> None:
        try:
            with stdio:
                self._popen = Popen(  # noqa: S603 - the command is the service's own
                    command,
                    stdin=stdio.fileno(),
                    stdout=stdio.fileno(),
                    stderr=DEVNULL,
                    env=env,
                    start_new_session=True,  # so that the Ctrl-C that stops the service lets it finish
                )
            if self._unwanted:  # since before there was anything to kill
                self._popen.kill()
            self._ended.set_result(self._popen.wait())
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            self._ended.set_exception(error)
