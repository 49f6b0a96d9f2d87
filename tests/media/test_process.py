"""How a child is started and reaped: the service never stands still for it, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import uvloop
from structlog.typing import FilteringBoundLogger

from service.media import Examiner
from service.media.process import Process
from service.storage import Storage
from tests.media.films import children, keep
from tests.turns import Turn, until

Scripted = Callable[..., Examiner]
Reasons = Callable[[], list[str]]
Loop = Callable[[], asyncio.AbstractEventLoop]

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
TIMES = 800
MIB = 1024 * 1024
STUBBORN = """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
"""
WAIT = "import threading\nthreading.Event().wait()\n"
ASK = f"print('read 0 {MIB}', flush=True)\n"


def running(loop: Loop) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=loop)


def opened() -> int:
    """Return how many files and sockets this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    return sum(thread.name == "media-process" for thread in threading.enumerate())


def test_native_threads_that_enter_python_never_make_it_stand_still(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tests.media.crowd", str(TIMES), str(tmp_path))
    house = Path(__file__).parents[2]
    with Popen(command, cwd=house, stdout=PIPE, start_new_session=True) as crowd:  # noqa: S603 - our own program
        try:
            said, _ = crowd.communicate(timeout=12)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(crowd.pid, signal.SIGKILL)  # with it a copy that waits for ever
    assert said.decode().splitlines() == [str(TIMES)]


@LOOPS
def test_a_child_that_ignores_everything_and_never_listens_is_killed(
    storage: Storage, scripted: Scripted, reasons: Reasons, loop: Loop
) -> None:
    async def examine() -> None:
        artifact = await keep(storage, bytes(MIB))
        assert await scripted(STUBBORN + ASK + WAIT, seconds=0.5).examine(artifact) is None
        assert reasons() == ["it took longer than 0.5 s"]

    before = children()
    with running(loop) as runner:
        runner.run(examine())
        assert children() <= before


@LOOPS
def test_a_child_that_cannot_be_started_is_no_footage(
    storage: Storage, reasons: Reasons, log: FilteringBoundLogger, loop: Loop
) -> None:
    async def examine() -> None:
        examiner = Examiner(storage, log=log, command=("/not/there",))
        assert await examiner.examine(await keep(storage, b"any")) is None

    with running(loop) as runner:
        runner.run(examine())
    assert len(reasons()) == 1
    assert "/not/there" in reasons()[0]


@LOOPS
def test_a_child_that_dies_without_reading_what_it_asked_for_ends_as_it_ended(
    storage: Storage, scripted: Scripted, reasons: Reasons, loop: Loop
) -> None:
    script = f"{ASK}import os, select\nselect.select([0], [], [])\nos.kill(os.getpid(), 9)"

    async def examine() -> None:
        assert await scripted(script).examine(await keep(storage, bytes(MIB))) is None

    with running(loop) as runner:
        runner.run(examine())
    assert reasons() == ["the decoder died of SIGKILL"]


@pytest.mark.parametrize("turns", range(0, 12, 2))
@LOOPS
def test_a_cancellation_while_another_is_obeyed_leaves_no_child(
    storage: Storage, scripted: Scripted, loop: Loop, turns: int
) -> None:
    async def cancelled() -> None:
        examining = asyncio.create_task(scripted(WAIT).examine(await keep(storage, b"any")))
        for _ in range(turns):
            await Turn()
        while not examining.done():
            examining.cancel()
            await Turn()
        await until(lambda: not threads())
        assert children() <= before

    before = children()
    with running(loop) as runner:
        runner.run(cancelled())


@LOOPS
def test_nothing_stays_open(storage: Storage, scripted: Scripted, loop: Loop) -> None:
    async def examine() -> None:
        artifact = await keep(storage, bytes(MIB))
        scripts = ["", ASK, ASK + WAIT, WAIT, "print('nothing', flush=True)\n" + WAIT]
        await scripted("").examine(artifact)  # the loop and the threads open what they need
        before = opened()
        await asyncio.gather(*(scripted(script, seconds=0.5).examine(artifact) for script in scripts * 2))
        await asyncio.gather(*(Examiner(storage, command=("/not/there",)).examine(artifact) for _ in range(5)))
        await until(lambda: opened() == before)
        assert not threads()

    with running(loop) as runner:
        runner.run(examine())


async def test_a_process_that_ended_can_be_ended_again() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        process = Process(("/bin/sh", "-c", "exit 3"), theirs, env={})
        assert await process.wait() == 3
        await process.end()
        await process.end()
        assert await process.wait() == 3
