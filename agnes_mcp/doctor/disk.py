"""Whether the data directory can be written, and whether there is room."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from agnes_mcp.config.settings import GIB, Settings
from agnes_mcp.doctor.findings import Finding

#: What is written into the data directory to see whether it can be: a full disk takes an empty file.
_WRITTEN_BYTES = 1 << 16


def check_directory(folder: Path) -> Finding:
    """By a real write: permissions alone say nothing of a full disk, or of /proc."""
    probe = folder / f".doctor-{secrets.token_hex(4)}"
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "xb") as file:
            file.write(bytes(_WRITTEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
        return Finding(
            subject="data_dir",
            state="fail",
            found=f"cannot be written: {reason}",
            cure="Set data_dir to a folder of your own, on a disk with space.",
        )
    finally:
        _take_back(probe, folder, existing)
    return Finding(subject="data_dir", state="pass", found="writable")


def _take_back(probe: Path, folder: Path, existing: Path) -> None:
    """Remove what was written, and folders that were not there."""
    with suppress(OSError):
        probe.unlink()
    for made in (folder, *folder.parents):
        if made == existing:
            return
        with suppress(OSError):
            made.rmdir()


def free_space(settings: Settings) -> Finding:
    folder = next(parent for parent in (settings.data_dir, *settings.data_dir.parents) if parent.exists())
    free, wanted = shutil.disk_usage(folder).free, settings.snapshots.min_free_gb * GIB
    found = f"{free / GIB:.1f} GiB"
    if free >= wanted:
        return Finding(subject="free space", state="pass", found=found)
    return Finding(
        subject="free space",
        state="fail",
        found=f"{found}, and {wanted / GIB:g} GiB have to stay free: no snapshot is written",
        cure="Free space, prune snapshots (`agnes-mcp snapshot prune`), or lower snapshots.min_free_gb.",
    )
