"""The files of one principal, by name. Layout of a folder:

    <name>.meta.json                    the sidecar: a snapshot exists from the moment this has its name
    <name>.<token>.parquet              its rows; immutable; the sidecar says which token
    .staging/<name>.<token>.parquet     rows being written
    .staging/<name>.<token>.meta.json   the trace: `<name>.<token>.parquet`, wherever it is, is not part of a snapshot
    .locks/<name>.lock                  held while the name is written or dropped; empty
    .charts/<id>.json                   charts that were drawn, see `charts`

A write puts the trace down before the rows get their final name, and turns it into the sidecar last. A drop turns the
sidecar into a trace first. So a data file that has neither a sidecar nor a trace was left that way by somebody else.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from agnes_mcp.errors import AgnesError

from .files import disk_errors, sync_folder
from .names import NAME_PATTERN, is_name

_SIDECAR = re.compile(rf"({NAME_PATTERN})\.meta\.json")
_DATA = re.compile(rf"({NAME_PATTERN})\.([0-9a-f]{{16}})\.parquet")
_TRACE = re.compile(rf"({NAME_PATTERN})\.([0-9a-f]{{16}})\.meta\.json")


def new_token() -> str:
    return secrets.token_hex(8)


@dataclass
class Found:
    """The files of one name: whether it has a sidecar, and the tokens of its data files."""

    sidecar: bool = False
    tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folder:
    path: Path

    @property
    def staging(self) -> Path:
        return self.path / ".staging"

    @property
    def charts(self) -> Path:
        return self.path / ".charts"

    def sidecar(self, name: str) -> Path:
        return self.path / f"{name}.meta.json"

    def data(self, name: str, token: str) -> Path:
        return self.path / f"{name}.{token}.parquet"

    def staged_data(self, name: str, token: str) -> Path:
        return self.staging / f"{name}.{token}.parquet"

    def trace(self, name: str, token: str) -> Path:
        return self.staging / f"{name}.{token}.meta.json"

    def lock(self, name: str) -> Path:
        return self.path / ".locks" / f"{name}.lock"

    def create(self) -> None:
        """Make the folder and its two sub-folders, for their owner alone."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.path, self.staging, self.path / ".locks"):
            folder.mkdir(exist_ok=True, mode=0o700)
        self.refuse_links()
        if new:
            sync_folder(self.path.parent)
            sync_folder(self.path.parent.parent)

    def refuse_links(self) -> None:
        """`storage_failed` where the folder, or one inside it, is a symbolic link: it could lead anywhere."""
        for folder in (self.path, self.staging, self.charts, self.path / ".locks"):
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                raise AgnesError(
                    "storage_failed",
                    "The snapshots folder holds a symbolic link in place of a folder.",
                    "Ask whoever runs this server to remove the link from the snapshots folder.",
                )

    def survey(self) -> dict[str, Found]:
        """Every name that has a file here, without opening one."""
        found: dict[str, Found] = defaultdict(Found)
        for entry in _names_in(self.path):
            name, token = _meant(entry)
            if token:
                found[name].tokens.append(token)
            elif name:
                found[name].sidecar = True
        return dict(found)

    def tokens(self, name: str) -> list[str]:
        """The tokens of every data file of this name."""
        return self.survey().get(name, Found()).tokens

    def staged(self) -> dict[str, set[str]]:
        """The tokens in staging, rows or traces, by name."""
        found: dict[str, set[str]] = defaultdict(set)
        for entry in _names_in(self.staging):
            if match := _DATA.fullmatch(entry) or _TRACE.fullmatch(entry):
                found[match[1]].add(match[2])
        return dict(found)

    def orphaned(self, name: str, token: str) -> bool:
        """Whether a data file stands alone for good, and not just because a write or a drop is under way.

        The order of the looks matters: a drop makes its trace before it removes the file, and removes the trace after.
        """
        trace = self.trace(name, token)
        if os.path.lexists(trace) or os.path.lexists(self.sidecar(name)) or os.path.lexists(trace):
            return False
        return os.path.lexists(self.data(name, token))


@lru_cache(maxsize=8_192)  # the same names at every look, and more texts than anything else of it
def _meant(entry: str) -> tuple[str, str]:
    """Whose file that is, by its name alone, and the token of a data file; empty where it is none of ours."""
    if match := _DATA.fullmatch(entry):
        return match[1], match[2]
    match = _SIDECAR.fullmatch(entry)
    return (match[1], "") if match and is_name(match[1]) else ("", "")


def token_of(name: str, file_name: str) -> str | None:
    """The token in a data file's name; None unless it is a name this store gives to data of that snapshot."""
    match = _DATA.fullmatch(file_name)
    return match[2] if match and match[1] == name else None


def _names_in(folder: Path) -> list[str]:
    with disk_errors("list the snapshots"):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []


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
