from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.storage.folder import Folder
from service.threads import in_thread
from tests.turns import Turn, until


async def test_what_was_done_is_returned_and_what_went_wrong_is_raised() -> None:
    def fails() -> None:
        raise UnicodeError("no name")

    assert await in_thread(lambda: threading.current_thread().name, name="look-up") == "look-up"
    with pytest.raises(UnicodeError, match="no name"):
        await in_thread(fails, name="look-up")


async def test_a_thread_that_cannot_be_had_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match="can't start new thread"):
        await in_thread(print, name="look-up")


async def test_a_folder_does_four_things_at_once_and_counts_those_whose_callers_gave_up(tmp_path: Path) -> None:
    folder, release, begun = Folder(tmp_path), threading.Event(), []

    def hang(number: int) -> None:
        begun.append(number)
        release.wait(20)
        raise OSError("away")  # nobody is there to be told

    callers = [asyncio.create_task(folder.run(hang, number)) for number in range(6)]
    await until(lambda: len(begun) == 4)
    for caller in callers[:5]:  # four that have begun, and one whose turn has not come
        caller.cancel()
    await asyncio.wait(callers[:5])
    for _ in range(20):
        await Turn()
    assert begun == [0, 1, 2, 3]
    release.set()
    with pytest.raises(OSError, match="away"):
        await callers[5]
    assert begun == [0, 1, 2, 3, 5]
    assert await asyncio.gather(*(folder.run(int, str(number)) for number in range(9))) == list(range(9))


def test_a_process_ends_although_a_call_hangs() -> None:
    program = """
import asyncio, time
from pathlib import Path
from service.storage.folder import Folder

async def main():
    caller = asyncio.create_task(Folder(Path("/")).run(time.sleep, 600))
    await asyncio.sleep(0.1)
    caller.cancel()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)  # noqa: S603 - our own program
