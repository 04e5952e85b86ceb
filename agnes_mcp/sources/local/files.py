"""Which files a local table stands for. Nothing else is ever opened for it.

The operator's path is taken as it is written, through a symlink too. What a pattern or a folder finds is taken only
where it really lies below that folder: a link to elsewhere is somebody else's choice of a file.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from glob import escape, glob, has_magic
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.formats import FOLDER_KINDS, Kind, kind_by_name, kind_of, problem_of
from agnes_mcp.sql.duckdb_errors import unavailable
from agnes_mcp.untrusted import clean

if TYPE_CHECKING:
    from agnes_mcp.models import Table

#: Path, time of change in ns, bytes and inode of each file: equal while nothing has changed, also where a file is
#: replaced by one of the same size within one tick of the clock.
Signature = tuple[tuple[str, int, int, int], ...]

#: Where an operating system shows files that it makes up as they are read; to read some of them waits for ever.
_MADE_UP = ("/proc", "/sys")
_NO_FILE = "its path is that of a pipe or a device, not of a file"
#: Files of which is kept what they are, of all tables together; of more, some are opened again.
_KEPT_LOOKS = 20_000

#: Where a disk keeps what it lost, of which nothing is a table's; nobody but root may read it.
_LOST = "lost+found"
#: Kinds of errors that are about what a file holds: true of that state of it, whoever asks.
OF_FILES = ("table_unavailable", "unsupported_format")
#: As much of a file's name as is shown.
_SHOWN_CHARS = 120

_HIVE_FOLDER = re.compile(r"([A-Za-z_][A-Za-z0-9_ .\-]*)=(.*)", re.DOTALL)


class Files(NamedTuple):
    """What a table's `path` stands for just now. `hive` are the columns that the folders give, outermost first."""

    kind: Kind
    paths: list[str]
    size_bytes: int
    modified: datetime
    hive: list[str]
    signature: Signature


def find_files(table: Table) -> Files:
    """The files that a local table's path stands for now.

    Raises `table_unavailable` where there are none, and `unsupported_format` where they are not what can be read.
    """
    try:
        root, literal = _root(table.path)
        paths = [table.path] if literal else _below(root, _found(table.path, root))
        stats = [os.stat(path) for path in paths]
        # To open one may wait for ever, and to read one never end.
        if not all(S_ISREG(found.st_mode) for found in stats):
            raise _refused(_NO_FILE, table)
        kind = _one_kind(paths, stats, table)
    except PermissionError as error:
        raise _denied(table, error) from None
    except OSError:
        raise unavailable("its files are missing or cannot be read", table.id) from None
    newest = max(stat.st_mtime for stat in stats)
    return Files(
        kind=kind,
        paths=_without_empty(paths, stats) if kind in ("csv", "json") else paths,
        size_bytes=sum(stat.st_size for stat in stats),
        modified=datetime.fromtimestamp(newest, UTC),
        hive=_hive_columns(root, paths) if table.hive is not False and not literal else [],
        signature=tuple((p, s.st_mtime_ns, s.st_size, s.st_ino) for p, s in zip(paths, stats, strict=True)),
    )


def _without_empty(paths: list[str], stats: list[os.stat_result]) -> list[str]:
    """A text without a byte has no rows, nor names of columns; DuckDB would make up one beside the others'."""
    return [path for path, found in zip(paths, stats, strict=True) if found.st_size] or paths


def _root(path: str) -> tuple[str, bool]:
    """The folder below which files are looked for, and whether the path is that of one file. Raises OSError where it is
    neither there nor a pattern."""
    try:
        found = os.stat(path)
    except OSError:
        if has_magic(path):
            return _fixed_part(path), False
        raise
    return (path, False) if S_ISDIR(found.st_mode) else (os.path.dirname(path), True)


def _fixed_part(path: str) -> str:
    """The longest beginning of a pattern that names a folder as it is written."""
    folder = os.sep if path.startswith(os.sep) else ""
    for part in path.split(os.sep):
        deeper = os.path.join(folder, part) if folder else part
        if has_magic(part) and not os.path.isdir(deeper):
            break
        folder = deeper or folder
    return folder


def _found(path: str, root: str) -> Iterator[str]:
    if os.path.isdir(path):
        yield from _walk(path)
        return
    pattern = os.path.join(escape(root), os.path.relpath(path, root))
    yield from (found for found in sorted(_matching(pattern)) if _is_file(found))


def _matching(pattern: str) -> set[str]:
    """What the pattern finds. `**` enters no folder behind a link, which may lead back, and then without end."""
    before, several, after = pattern.partition(f"{os.sep}**")
    if not several or after[:1] not in ("", os.sep):
        return _matching_plainly(pattern)
    found: set[str] = set()
    for base in _matching_plainly(before):
        for place, folders, _ in os.walk(base, onerror=_refuse_denied):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found |= _matching(os.path.join(escape(place), after[1:] or "*"))
    return found


def _matching_plainly(pattern: str) -> set[str]:
    """What a pattern without `**` finds. Raises PermissionError where `glob` would leave out a folder."""
    folder, last = os.path.split(pattern)
    needed = os.X_OK | (os.R_OK if has_magic(last) else 0)
    for place in (_matching_plainly(folder) if has_magic(folder) else (folder,)) if folder else ():
        if os.path.isdir(place) and not os.access(place, needed):
            _refuse_denied(PermissionError(errno.EACCES, "", place))
    return set(glob(pattern))


def _refuse_denied(error: OSError) -> None:
    """As `os.walk` asks: what may not be read could hold rows; what went away meanwhile holds none."""
    if isinstance(error, PermissionError) and os.path.basename(error.filename) != _LOST:
        raise error


def _is_file(path: str) -> bool:
    """Whether a file is there. Raises PermissionError where that may not be looked at, unless a link leads there."""
    try:
        return S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        if os.path.islink(path):
            return False
        raise
    except OSError:
        return False


def _walk(folder: str) -> Iterator[str]:
    """Files of a folder and those below, that are called like tables; folders behind links are not entered."""
    for place, folders, names in os.walk(folder, onerror=_refuse_denied):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")) or "=" in name)
        for name in sorted(names):
            path = os.path.join(place, name)
            if not name.startswith((".", "_")) and kind_by_name(name) in FOLDER_KINDS and _is_file(path):
                yield path


def _below(root: str, paths: Iterator[str]) -> list[str]:
    """Those that really lie below the root, each as the file that it is: a link that changes later changes nothing."""
    real_root = os.path.join(os.path.realpath(root), "")
    kept: dict[str, None] = {}  # in order; what is found by two names is one file
    for path in paths:
        real = os.path.realpath(path)
        if real.startswith(real_root):
            kept[path if os.path.join(real_root, os.path.relpath(path, root)) == real else real] = None
    return list(kept)


def _one_kind(paths: list[str], stats: list[os.stat_result], table: Table) -> Kind:
    if not paths:
        raise unavailable("its files are missing", table.id)
    looks = [_look(path, *_seen(found)) for path, found in zip(paths, stats, strict=True)]
    kinds = {kind for kind, _ in looks}
    if len(kinds) > 1:
        raise _refused(f"its files are of several kinds: {', '.join(sorted(kinds))}", table)
    kind = kinds.pop()
    if len(paths) > 1 and kind in ("duckdb", "xlsx"):
        raise _refused("a database or workbook is served one file at a time", table)
    for path, (_, problem) in zip(paths, looks, strict=True):
        if problem:
            raise of_file(_refused(problem, table), path, paths)
    return kind


def _seen(found: os.stat_result) -> tuple[int, int, int, int, int]:
    """What no two files have in common, nor one file before and after it was written to."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(_KEPT_LOOKS)
def _look(path: str, *seen: int) -> tuple[Kind, str]:
    """The kind of the file that is `seen` there, and why it cannot be read, if so: true for as long as that file is
    there, so it is opened no more than once meanwhile. Raises OSError, which is not kept."""
    if _is_made_up(path, device=seen[0]):
        return kind_by_name(path) or "csv", _NO_FILE
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, "", path)
    kind = kind_of(path)
    return kind, problem_of(path, kind)


def _is_made_up(path: str, device: int) -> bool:
    """Whether a file is none of a disk, under whatever name it is mounted."""
    real = os.path.realpath(path)
    if any(real.startswith(os.path.join(place, "")) for place in _MADE_UP):
        return True
    mounted = {os.stat(place).st_dev for place in _MADE_UP if os.path.isdir(place)} - {os.stat(os.sep).st_dev}
    return device in mounted


def of_file(error: AgnesError, path: str | None, paths: Sequence[str]) -> AgnesError:
    """The same error, saying which of several files it is about: by its name below the folder that they share."""
    if path is None or len(paths) < 2 or error.kind not in OF_FILES or "file" in error.details:
        return error
    shared = os.path.commonpath([os.path.dirname(os.path.realpath(each)) for each in paths])
    name = clean(os.path.relpath(os.path.realpath(path), shared), _SHOWN_CHARS)
    message = f"{error.message} It is the file {name!r}."
    return AgnesError(error.kind, message, error.hint, {**error.details, "file": name})


@contextmanager
def naming(path: str, paths: Sequence[str]) -> Iterator[None]:
    """What is raised of a file says which of several it is."""
    try:
        yield
    except AgnesError as error:
        raise of_file(error, path, paths) from None


def named_in(said: str, paths: Sequence[str]) -> str | None:
    """The file that DuckDB names in what it complains of; below that stands our own statement, with all of them."""
    complaint = said.partition("\n\nLINE ")[0].partition("\nLINE ")[0]
    return max((path for path in paths if path in complaint), key=len, default=None)


def _refused(reason: str, table: Table) -> AgnesError:
    return AgnesError(
        "unsupported_format",
        f"The table {table.id!r} cannot be read: {reason}.",
        "Whoever keeps this instance can name files of one kind in the table's `path`: Parquet, CSV, JSON, Arrow, "
        "a workbook or a DuckDB database. Other tables are not affected.",
    )


def _denied(table: Table, error: PermissionError) -> AgnesError:
    base = table.path if os.path.isdir(table.path) else _fixed_part(table.path)
    name = os.path.relpath(error.filename or base, base)
    which = "it" if name.startswith((".." + os.sep, os.curdir)) else repr(clean(name, _SHOWN_CHARS))
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: this server has no permission to read {which}.",
        "Whoever keeps this instance can permit the user that it runs as to read the table's files, and to enter and "
        "list their folders. Other tables are not affected.",
    )


def _hive_columns(root: str, paths: list[str]) -> list[str]:
    """The names before `=` where every file lies in the same sequence of such folders; otherwise none."""
    layouts = {tuple(_hive_parts(os.path.relpath(path, root))) for path in paths}
    if len(layouts) != 1:
        return []
    names = layouts.pop()
    return list(names) if len({name.casefold() for name in names}) == len(names) else []


def _hive_parts(relative: str) -> Iterator[str]:
    for part in relative.split(os.sep)[:-1]:
        found = _HIVE_FOLDER.fullmatch(part)
        if found:
            yield found[1]
