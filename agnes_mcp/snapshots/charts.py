"""Charts that were drawn, beside the snapshots of one principal: `.charts/<id>.json`, the newest few.

A chart goes with each snapshot that it was drawn from. One that a crash left half is none.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from agnes_mcp.snapshots.models import KeptChart

from .files import disk_errors, read_regular, remove, unlinked, write_new
from .folder import Folder

#: Charts that are kept for one principal.
KEPT_CHARTS = 32
#: More than any picture's values take.
MAX_CHART_BYTES = 32 * 2**20
_FILE = re.compile(r"([0-9a-f]{16})\.json")


def keep_chart(folder: Folder, chart: KeptChart) -> tuple[str, list[str]]:
    """Write it, for its owner alone; its id, and those of the oldest beyond `KEPT_CHARTS`, which go. Raises
    `disk_full`, `storage_failed`."""
    chart_id = secrets.token_hex(8)
    path = folder.charts / f"{chart_id}.json"
    with disk_errors("keep the chart"):
        folder.charts.mkdir(exist_ok=True, mode=0o700)
        try:
            write_new(path, chart.model_dump_json().encode("utf-8", "surrogatepass"))
        except OSError:
            remove(path)
            raise
        beyond = [old.stem for old in sorted(_files(folder), key=_age)[:-KEPT_CHARTS] if unlinked(old)]
    return chart_id, beyond


def load_chart(folder: Folder, chart_id: str) -> KeptChart | None:
    """None: there is none of that id."""
    name = f"{chart_id}.json"
    return _load(folder.charts / name) if _FILE.fullmatch(name) else None


def forget_charts(folder: Folder, snapshot: str) -> None:
    """Remove what was drawn from that snapshot."""
    for path in _files(folder):
        chart = _load(path)
        if chart is not None and snapshot in chart.snapshots:
            remove(path)


def drawn(folder: Folder) -> Iterator[tuple[Path, float, int]]:
    """Every chart of the folder: its file, when it was drawn (seconds of the epoch), its bytes."""
    for path in _files(folder):
        with suppress(FileNotFoundError):  # removed by another call since it was listed
            found = os.lstat(path)
            yield path, found.st_mtime, found.st_size


def drawn_for(path: Path) -> str:
    """Whose chart it is; "" where it does not say."""
    chart = _load(path)
    return "" if chart is None else chart.principal


def count_charts(folder: Folder) -> int:
    return len(_files(folder))


def _files(folder: Folder) -> list[Path]:
    with suppress(FileNotFoundError):
        return [folder.charts / name for name in os.listdir(folder.charts) if _FILE.fullmatch(name)]
    return []


def _age(path: Path) -> int:
    with suppress(FileNotFoundError):  # removed by another call since it was listed
        return os.lstat(path).st_mtime_ns
    return 0


def _load(path: Path) -> KeptChart | None:
    try:
        content = read_regular(path, MAX_CHART_BYTES)
        return KeptChart.model_validate_json(content) if len(content) <= MAX_CHART_BYTES else None
    except (OSError, ValidationError):
        return None
