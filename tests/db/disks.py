"""Real disks that are full, read-only or broken, made for one test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import REQUIRE_ALL, find_program

MIB = 1024 * 1024


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of `size` bytes at `folder` while the block lasts; it is in memory."""
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


def remount_read_only(folder: Path) -> None:
    """Let nobody write a disk any more; it cannot be done while somebody has a file of it open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)  # noqa: S603, S607 - see find_program


class Image:
    """A disk in a file, with a file system that can break; `folder` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder.with_suffix(".img")
        with self._file.open("wb") as file:
            file.truncate(32 * MIB)
        make = find_program("mkfs.ext4", "apt-get install e2fsprogs")
        subprocess.run([make, "-q", self._file], check=True)  # noqa: S603 - our own file

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Have the disk while the block lasts."""
        with _mounted(self.folder, "-o", "loop", str(self._file)):
            yield

    def breaks(self) -> None:
        """Do as the kernel does when the disk fails: the file system is read-only from now on, open files too."""
        subprocess.run(["mount", "-o", "remount,abort", self.folder], check=True)  # noqa: S603, S607 - see find_program


def read_only(*files: Path, on: bool) -> None:
    """Let nobody write these files of an `Image`, not even who has them open; or let them again."""
    program = find_program("chattr", "apt-get install e2fsprogs")
    subprocess.run([program, "+i" if on else "-i", *files], check=True)  # noqa: S603 - our own files


def fill(folder: Path) -> Path:
    """Write one file until the disk is full, and return it."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    mount = find_program("mount", "apt-get install mount")
    folder.mkdir(exist_ok=True)
    made = subprocess.run([mount, *arguments, folder], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if made.returncode:
        reason = f"nothing can be mounted here ({made.stderr.strip()}); run the tests as root"
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # noqa: S603, S607 - beside mount
