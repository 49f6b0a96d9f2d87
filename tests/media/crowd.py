"""A process of its own, to be looked at from outside: it examines while native threads enter Python all the time.

Its arguments say how often, and where a storage is. At the end it prints how many videos it understood, and before it
`a copy of me` each time that Python ran in a child before the child's program did. There Python can wait for what a
thread held that was just entering, as obstore's do, and when it waits, all of this process does.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from threading import Thread

import uvloop

from service.media import Examiner
from service.model import Artifact
from service.storage import Storage

_THREADS = 4
_AT_ONCE = 8
_CHILD = """echo 'footage {"duration_ms": null, "width": 1, "height": 1, "codec": "h264"}'"""

_libc = ctypes.CDLL(None)
_entering = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: None)


def _enter() -> None:
    """Start threads for ever that Python knows nothing of until they call it."""
    thread = ctypes.c_ulong()
    while True:
        _libc.pthread_create(ctypes.byref(thread), None, _entering, None)
        _libc.pthread_join(thread, None)


async def _examine(times: int, folder: str) -> None:
    examiner = Examiner(Storage.open(folder), command=("/bin/sh", "-c", _CHILD), at_once=_AT_ONCE)
    artifact = Artifact(0, "not/there.mp4", 1, "ab" * 32, "video/mp4")
    os.register_at_fork(after_in_child=lambda: os.write(1, b"a copy of me\n"))
    for _ in range(_THREADS):
        Thread(target=_enter, daemon=True).start()
    understood = 0
    for _ in range(times // _AT_ONCE):
        found = await asyncio.gather(*(examiner.examine(artifact) for _ in range(_AT_ONCE)))
        understood += sum(footage is not None for footage in found)
    os.write(1, f"{understood}\n".encode())


if __name__ == "__main__":
    uvloop.run(_examine(int(sys.argv[1]), sys.argv[2]))
