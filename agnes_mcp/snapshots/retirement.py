"""What nobody drops and is kept no longer: what has expired or is old, and what is too much of all together."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots.models import Snapshot

from .charts import drawn, drawn_for
from .files import disk_errors, unlinked
from .folder import Folder
from .reading import Stored, is_expired
from .removal import drop_if


@dataclass(frozen=True)
class Retired:
    """What went: a snapshot by its name, or a chart by its id; whose it was ("": not known), and its bytes."""

    principal: str
    name: str
    bytes_local: int
    is_chart: bool = False


@dataclass(frozen=True)
class _Chart:
    folder: Folder
    path: Path
    since: datetime
    size: int

    def gone(self, principal: str) -> Retired:
        return Retired(principal, self.path.stem, self.size, is_chart=True)


def retire(
    owned: Iterable[tuple[Folder, Sequence[Stored]]], keep_for: timedelta | None, most_bytes: int | None, now: datetime
) -> list[Retired]:
    """Drop what has expired and what is older than `keep_for`; and while all together take more than `most_bytes`, the
    oldest of whoever has most, so that nobody's go for what another keeps.

    Snapshots of unknown age without an expiry, and those that are being written, stay. A snapshot takes along the
    charts that were drawn from it.
    """
    snapshots: list[tuple[Folder, Snapshot]] = []
    charts: list[_Chart] = []
    for folder, found in owned:
        snapshots += [(folder, stored.snapshot) for stored in found]
        charts += _charts_of(folder)
    taken = Counter[Path]()  # by whose folder it is, in bytes
    for folder, snapshot in snapshots:
        taken[folder.path] += snapshot.bytes_local
    for chart in charts:
        taken[chart.folder.path] += chart.size
    by_age: list[tuple[datetime, Folder, Snapshot | _Chart]] = [
        *((one.fetched_at or now, folder, one) for folder, one in snapshots if one.fetched_at or is_expired(one, now)),
        *((one.since, one.folder, one) for one in charts),
    ]
    kept, gone = defaultdict[Path, deque[tuple[Folder, Snapshot | _Chart]]](deque), list[Retired]()

    def remove(folder: Folder, one: Snapshot | _Chart) -> None:
        went = _drop(folder, one, charts) if isinstance(one, Snapshot) else _remove(one, charts)
        taken[folder.path] -= sum(entry.bytes_local for entry in went)
        gone.extend(went)

    for since, folder, one in sorted(by_age, key=lambda entry: entry[0]):
        expired = isinstance(one, Snapshot) and is_expired(one, now)
        if expired or (keep_for is not None and now - since >= keep_for):
            remove(folder, one)
        else:
            kept[folder.path].append((folder, one))
    while most_bytes is not None and taken.total() > most_bytes and kept:
        whose = max(kept, key=lambda path: taken[path])
        remove(*kept[whose].popleft())
        if not kept[whose]:
            del kept[whose]
    return gone


def _charts_of(folder: Folder) -> list[_Chart]:
    return [_Chart(folder, path, datetime.fromtimestamp(at_s, UTC), size) for path, at_s, size in drawn(folder)]


def _drop(folder: Folder, snapshot: Snapshot, charts: list[_Chart]) -> list[Retired]:
    """It, and the charts that went with it. Nothing where it was refreshed or dropped meanwhile, or is written."""

    def is_the_same(present: Snapshot) -> bool:
        return (present.fetched_at, present.expires_at) == (snapshot.fetched_at, snapshot.expires_at)

    try:
        dropped = drop_if(folder, snapshot.name, is_the_same, wait_s=0.0)
    except AgnesError as error:
        if error.kind != "snapshot_busy":
            raise
        return []
    if dropped is None:
        return []
    with_it = [one for one in charts if one.folder is folder and not one.path.exists()]
    charts[:] = [one for one in charts if one not in with_it]
    whole = Retired(dropped.principal, dropped.name, dropped.bytes_local)
    return [whole, *(one.gone(dropped.principal) for one in with_it)]


def _remove(chart: _Chart, charts: list[_Chart]) -> list[Retired]:
    if chart not in charts:  # it went with its snapshot
        return []
    charts.remove(chart)
    principal = drawn_for(chart.path)
    with disk_errors("remove an old chart"):
        was_there = unlinked(chart.path)
    return [chart.gone(principal)] if was_there else []  # otherwise another process has told of it
