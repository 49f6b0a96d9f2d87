"""A folder as storage: what is published there lasts, and what dead processes left of it goes.

Everything here asks the disk and may take as long as the disk does, for ever when a file server is away. So it runs in
threads that nothing else needs, and that neither a caller who gave up nor the end of the process waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from service.disk import sync
from service.threads import in_thread

P = ParamSpec("P")
T = TypeVar("T")

PROBES = "reelkeeper-check"  # where the probes of a check lie for a moment

_AT_ONCE = 4
_LEVELS = (r"[A-Za-z0-9_@=+.-]+", r"\d{4}", r"\d{2}", r"job_[0-9a-z]+")  # tenant, year, month, job
_PART = re.compile(r".+\.[0-9a-f]{8}\.part(#\d+)?")


class Folder:
    """A folder that is there, and may go away and come back.

    One that was `used` before and holds nothing is the place of a disk that is not mounted yet.
    """

    def __init__(self, path: Path, *, used: bool = False) -> None:
        self.path = path
        self._mount = None if used and _is_empty(path) else _mount_of(path)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes as long as the disk does; what was begun goes on when its caller is cancelled."""
        await self._turns.acquire()
        done = in_thread(lambda: work(*args, **kwargs), name="folder")
        done.add_done_callback(self._over)
        await asyncio.wait({done})
        return done.result()

    def _over(self, done: asyncio.Future[Any]) -> None:
        self._turns.release()  # and not before, or calls that hang would take ever more threads
        done.exception()  # nobody may be waiting for it any more

    def find(self) -> None:
        """Raise OSError while the folder is not there, or the file system is not mounted that it was on.

        What is written into an empty mount point is hidden once the file system is back, and a video that seems to be
        gone because of it would be reported as gone.
        """
        if not self.path.is_dir():
            raise OSError("it is not there any more")
        if self._mount is None:
            if _is_empty(self.path):
                raise OSError(
                    "it is empty, although videos were kept in it: mount or move back what held them, "
                    "or put any file into it if they are gone for good"
                )
            self._mount = _mount_of(self.path)
        if _mount_of(self.path) != self._mount:
            raise OSError(f"the file system that was mounted at {self._mount} is not there any more")

    def publish(self, part: str, key: str) -> None:
        """Make a finished part the object itself, durably, and sweep up what killed processes left of the same key."""
        target = self.path / key
        sync(self.path / part)
        (self.path / part).replace(target)
        for parent in target.parents:
            sync(parent)
            if parent == self.path:
                break
        for leftover in target.parent.glob(f"{target.name}.*.part*"):
            discard(leftover)

    async def sweep(self, before: float) -> int:
        """Remove parts, probes and empty folders that nobody touched since unix time `before`; return how many."""
        stop = threading.Event()
        try:
            return await self.run(self._sweep, before, stop)
        finally:
            stop.set()  # whoever was cancelled leaves no thread on a long way

    def _sweep(self, before: float, stop: threading.Event) -> int:
        self.find()
        removed = sum(_remove(file) for file in _files(self.path / PROBES) if _old(file, before))
        for folder in _folders(self.path, _LEVELS[0]):
            removed += _sweep(folder, _LEVELS[1:], before, stop)
        return removed


def discard(path: Path) -> None:
    """Remove a file that may be there."""
    with contextlib.suppress(OSError):
        path.unlink()


def _is_empty(path: Path) -> bool:
    return next(path.iterdir(), None) is None


def _mount_of(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.is_mount())


def _sweep(folder: Path, levels: tuple[str, ...], before: float, stop: threading.Event) -> int:
    """Sweep a folder with those under it. One that is used again at this moment is not empty, or made anew."""
    if stop.is_set():
        return 0
    old = _old(folder, before)  # to remove what is in it would make it young
    if levels:
        removed = sum(_sweep(each, levels[1:], before, stop) for each in _folders(folder, levels[0]))
    else:
        removed = sum(_remove(file) for file in _files(folder) if _PART.fullmatch(file.name) and _old(file, before))
    if old:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
            removed += 1
    return removed


def _folders(folder: Path, name: str) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if re.fullmatch(name, entry.name) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _old(path: Path, before: float) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime < before
    return False


def _remove(file: Path) -> bool:
    with contextlib.suppress(OSError):
        file.unlink()
        return True
    return False
