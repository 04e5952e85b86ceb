"""What snapshots take on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .files import disk_errors


def used_bytes(folder: Path) -> int:
    """The sizes of all files below a folder, hard links counted once; 0 where there is no folder. Follows no links."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))
            except FileNotFoundError:
                continue  # removed by another call since it was listed
            key = (status.st_dev, status.st_ino)
            if key not in seen:
                seen.add(key)
                total += status.st_size
    return total


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, or of the nearest parent that exists where the folder does not yet."""
    with disk_errors("ask for free space"):
        return shutil.disk_usage(nearest_existing(folder)).free


def nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def display_path(folder: Path) -> str:
    """The folder as its owner knows it: below the home folder as `~/…`, elsewhere its last name only."""
    try:
        return "~/" + folder.relative_to(Path.home()).as_posix()
    except (ValueError, RuntimeError):
        return folder.name
