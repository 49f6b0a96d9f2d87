"""What lasts on a disk: a file is there after a power cut when it was synced, and the folder that names it too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MIB = 1024 * 1024
RESERVE = 64 * _MIB  # bytes: with less free, a disk is about to be full


def sync(path: Path) -> None:
    """Have a file, or what a folder names, written to the disk; raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, so that they last; raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def lack_of_room(folder: Path, reserve: int = RESERVE) -> str | None:
    """Say that the disk of `folder` has less than `reserve` bytes free; None when it has more. Raises OSError."""
    free = shutil.disk_usage(folder).free
    if free >= reserve:
        return None
    return (
        f"the disk of {folder} has {free // _MIB:,} MiB free, less than the reserve of {reserve // _MIB:,} MiB: "
        "make room before it is full"
    )
