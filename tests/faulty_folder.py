"""A folder on a disk of its own, which can be full, read-only, or away. It takes a root who may mount."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import REQUIRE_ALL, find_program

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FaultyFolder:
    """A small disk in memory, mounted at `path`; what it holds is still there when it comes back."""

    path: Path
    disk: Path

    def goes_away(self) -> None:
        """Be unmounted: what is left is the empty folder below."""
        _run("umount", "--lazy", str(self.path))

    def comes_back(self) -> None:
        """Be mounted again."""
        _run("mount", "--bind", str(self.disk), str(self.path))

    def is_another(self) -> None:
        """Have another, empty disk mounted in its place."""
        _run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self.path))

    def becomes(self, *, writable: bool) -> None:
        """Be mounted anew, for reading alone or for writing, too."""
        _run("mount", "-o", "remount,rw" if writable else "remount,ro", str(self.disk))
        _run("mount", "-o", "remount,bind,rw" if writable else "remount,bind,ro", str(self.path))

    def fill(self, leaving: int = 0) -> None:
        """Leave no more than so many MiB free."""
        with contextlib.suppress(OSError), (self.disk / "fill").open("ab", buffering=0) as file:
            while shutil.disk_usage(self.disk).free > leaving * _MIB:
                file.write(bytes(_MIB))
            while not leaving:  # what is less than a MiB, too
                file.write(bytes(4096))

    def drain(self) -> None:
        """Have room again."""
        (self.disk / "fill").unlink()

    def files(self) -> list[str]:
        """Name everything that is on the disk, folders too, except for what fills it."""
        found = (str(each.relative_to(self.disk)) for each in self.disk.rglob("*"))
        return sorted(name for name in found if name != "fill")


@contextlib.contextmanager
def faulty_folder(base: Path, mib: int = 96) -> Iterator[FaultyFolder]:
    """Mount a disk of some MiB under `base`; skip the test, as `find_program` does, where nobody may mount."""
    find_program("mount", "apt install mount")
    folder = FaultyFolder(base / "videos", base / "disk")
    for each in (folder.path, folder.disk):
        each.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder.disk))
    except subprocess.CalledProcessError as error:
        reason = f"a disk must be mounted, which only root may: {error.stderr.decode().strip()}"
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        folder.comes_back()
        yield folder
    finally:
        for path in (folder.path, folder.disk):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - mount and umount, with our own folders
