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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from service.disk import sync
from service.model import PROBES, TENANT
from service.threads import in_thread

P = ParamSpec("P")
T = TypeVar("T")

PROBE = r"[0-9a-f]{16}\.txt"
YEAR, MONTH, JOB = r"[0-9]{4}", r"(?:0[1-9]|1[0-2])", r"job_[0-7][0-9a-hjkmnp-tv-z]{25}"

_AT_ONCE = 4
_LEVELS = (TENANT, YEAR, MONTH, JOB)
_PART = r"\.[0-9a-f]{8}\.part(#[0-9]+)?"
_PART_OF_A_JOB = re.compile(rf".+{_PART}")
_OF_A_PROBE = re.compile(rf"{PROBE}({_PART})?")


class Folder:
    """A folder that is there, and may go away and come back.

    One that was `used` before and holds nothing is the place of a disk that is not mounted yet.
    """

    def __init__(self, path: Path, *, used: bool = False) -> None:
        self.path = path
        self._found = None if used and _is_empty(path) else _Place.of(path)
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
        """Raise OSError while the folder is not there, is another one, or its file system is not mounted.

        What is written into an empty mount point is hidden once the file system is back, and a video that seems to be
        gone because of it, or because of an empty folder in the place of the one that held it, would be reported as
        gone. A file system that was mounted anew may have another device number: then its folder must hold something.
        """
        if not self.path.is_dir():
            raise OSError("it is not there any more")
        now = _Place.of(self.path)
        if self._found is not None and now.mount != self._found.mount:
            raise OSError(f"the file system that was mounted at {self._found.mount} is not there any more")
        if self._found is not None and now.inode != self._found.inode:
            raise OSError(
                "another folder is there now: move back the one that held the videos, or restart the service "
                "if it is to go on with this one"
            )
        if now != self._found and _is_empty(self.path):
            raise OSError(
                "it is empty, although videos were kept in it: mount or move back what held them, "
                "or put any file into it if they are gone for good"
            )
        self._found = now

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
        """Remove what is ours, unfinished and untouched since unix time `before`; return how many files and folders.

        That is: files `reelkeeper-check/<16 hex digits>.txt`, with their parts; parts in `tenant/yyyy/mm/job_<ULID>`;
        such a folder of a job itself when it is empty; and of the three above it, those that this left empty. All else
        is somebody's: other files, links, and empty folders that held no folder of a job, such as `lost+found`.
        """
        stop = threading.Event()
        try:
            return await self.run(self._sweep, before, stop)
        finally:
            stop.set()  # whoever was cancelled leaves no thread on a long way

    def _sweep(self, before: float, stop: threading.Event) -> int:
        self.find()
        probes = sum(_sweep_files(folder, _OF_A_PROBE, before) for folder in _folders(self.path, PROBES))
        return probes + sum(_sweep(each, _LEVELS[1:], before, stop)[0] for each in _folders(self.path, _LEVELS[0]))


@dataclass(frozen=True, slots=True)
class _Place:
    """Which folder it is."""

    mount: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> _Place:
        found = path.stat()
        return cls(next(each for each in (path, *path.parents) if each.is_mount()), found.st_dev, found.st_ino)


def discard(path: Path) -> None:
    """Remove a file that may be there."""
    with contextlib.suppress(OSError):
        path.unlink()


def _is_empty(path: Path) -> bool:
    return next(path.iterdir(), None) is None


def _sweep(folder: Path, levels: tuple[str, ...], before: float, stop: threading.Event) -> tuple[int, bool]:
    """Sweep a folder with those under it; return how much was removed, and whether the folder was.

    One that is used again at this moment is not empty, or made anew.
    """
    if stop.is_set():
        return 0, False
    old = _old(folder, before)  # to remove what is in it would make it young
    if levels:
        swept = [_sweep(each, levels[1:], before, stop) for each in _folders(folder, levels[0])]
        removed, ours = sum(count for count, _ in swept), any(gone for _, gone in swept)
    else:
        removed, ours = _sweep_files(folder, _PART_OF_A_JOB, before), True
    if not old or not ours:
        return removed, False
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()
        return removed + 1, True
    return removed, False


def _sweep_files(folder: Path, name: re.Pattern[str], before: float) -> int:
    return sum(_remove(file) for file in _files(folder) if name.fullmatch(file.name) and _old(file, before))


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
