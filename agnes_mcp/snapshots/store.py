"""The store: every snapshot of every principal below one folder, and the only door to them.

Blocking, for worker threads; any number of threads and processes may use one folder. Nothing exists on the disk before
the first write. A principal sees its own snapshots alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import GIB, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Receipt, ScanRequest
from agnes_mcp.snapshots.models import DiskUsage, KeptChart, Snapshot, SnapshotFacts, SnapshotPrune, SnapshotWrite

from .charts import count_charts, forget_charts, keep_chart, load_chart
from .claim import Claim, Rules
from .comparison import newest_covering
from .content import Engine
from .files import disk_errors, exclusive
from .folder import Folder, display_path, free_bytes, nearest_existing, used_bytes
from .index import Index
from .names import check_name, folder_name, is_name
from .reading import Stored, Verifier, computed, load, not_found, reading
from .removal import drop_if, plan_prune, prune_filter, prune_folder
from .retirement import Retired, retire
from .sweeping import folders, forget_lock, sweep_folder, sweep_if_replaced

if TYPE_CHECKING:
    import pyarrow as pa

GB = 1024**3
DEFAULT_MIN_FREE_BYTES = GB // 2
#: How long a call waits for another one that writes or drops the same name.
LOCK_WAIT_S = 2.0


def _now() -> datetime:
    return datetime.now(UTC)


class SnapshotStore:
    """`quota_bytes` is per principal: above it a write warns, and leaves twice `min_free_bytes` free. Below those, as
    they are, nothing is written."""

    def __init__(
        self,
        root: Path,
        *,
        quota_bytes: int,
        stale_warn_days: float = 7,
        min_free_bytes: int = DEFAULT_MIN_FREE_BYTES,
        lock_wait_s: float = LOCK_WAIT_S,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.root = root
        self._lock_wait_s = lock_wait_s
        self._index = Index()
        self._rules = Rules(
            quota_bytes=quota_bytes,
            min_free_bytes=min_free_bytes,
            stale_after=timedelta(days=stale_warn_days),
            now=clock,
            engine=Engine(),
            verifier=Verifier(),
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> SnapshotStore:
        kept = settings.snapshots
        return cls(
            settings.data_dir / "snapshots",
            quota_bytes=int(kept.quota_gb * GIB),
            stale_warn_days=kept.stale_warn_days,
            min_free_bytes=int(kept.min_free_gb * GIB),
        )

    # reading

    def list(self, principal: str) -> list[Snapshot]:
        """Every snapshot of the principal, by name; those that cannot be used say why in `damaged`.

        Reads no rows: damage inside a data file shows once it has been opened. Those of very many columns are without
        columns and SQL; `get` has them.
        """
        with disk_errors("list the snapshots"):
            return [self._public(stored) for stored in self._index.outlines(self._folder(principal))]

    def get(self, principal: str, name: str) -> Snapshot:
        """One snapshot, damaged or not; `snapshot_not_found`."""
        return self._public(self._load(principal, name))

    def verify(self, principal: str, name: str, call: Call | None = None) -> Path:
        """The absolute path of the rows, of which every byte is as it was written; `snapshot_damaged` otherwise.

        A drop or a refresh may remove the file at any time; `reading` prevents that.
        """
        with self.reading(principal, name, call) as (_, path):
            return path

    @contextmanager
    def reading(self, principal: str, name: str, call: Call | None = None) -> Iterator[tuple[Snapshot, Path]]:
        """The snapshot and the verified path of its rows, which stays until the end of the block whatever happens to
        the snapshot meanwhile. Raises `snapshot_not_found`, `snapshot_damaged`."""
        if not is_name(name):
            raise not_found(name)
        folder, path = self._folder(principal), None
        try:
            with reading(folder, name, self._rules.verifier, call) as (stored, path):
                yield self._public(stored), path
        finally:
            if path is not None:
                sweep_if_replaced(folder, name, path)

    def covering(self, principal: str, request: ScanRequest, where_sql: str, max_age: timedelta) -> Snapshot | None:
        """The newest snapshot that holds exactly the rows and columns `request` reads; None: there is none.

        Its grouping, aggregates, order and limit are then to be applied to the snapshot.
        """
        folder, now = self._folder(principal), self._rules.now()
        columns = partial(self._index.columns, folder)
        newest = partial(newest_covering, public=self._public, columns=columns, request=request, where_sql=where_sql)
        with disk_errors("list the snapshots"):
            return self._index.chosen(folder, partial(newest, now=now, max_age=max_age))

    def disk_usage(self, principal: str | None = None) -> DiskUsage:
        """What the snapshots of one principal take, or all of them; right also before there is a folder."""
        owned = list(folders(self.root)) if principal is None else [self._folder(principal)]
        with disk_errors("measure the snapshots"):
            return DiskUsage(
                snapshots_dir=display_path(self.root),
                used_bytes=used_bytes(self.root) if principal is None else used_bytes(owned[0].path),
                snapshot_count=sum(len(self._index.outlines(folder)) for folder in owned),
                chart_count=sum(map(count_charts, owned)),
                free_bytes=free_bytes(self.root),
                quota_gb=self._rules.quota_bytes / GB,
            )

    # writing

    @contextmanager
    def claim(self, principal: str, name: str, call: Call, *, force: bool = False) -> Iterator[Claim]:
        """Hold a name while its rows are paid for and written, so that nobody pays twice to lose at the end.

        Raises `invalid_argument`, `snapshot_exists` (unless `force`), `snapshot_busy`, `disk_full`, `storage_failed`.
        Leaving without a write changes nothing.
        """
        check_name(name)
        folder = self._folder(principal)
        self._require_absent(folder, name, force)
        self._check_space(folder, 0)
        with disk_errors("prepare the snapshots folder"):
            folder.create()
        with exclusive(folder.lock(name), name, self._lock_wait_s, call):
            self._require_absent(folder, name, force)
            try:
                yield Claim(folder, principal, name, self._rules, call)
            finally:
                forget_lock(folder, name)

    def write(
        self,
        principal: str,
        name: str,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        facts: SnapshotFacts,
        *,
        force: bool = False,
        call: Call,
        receipt: Callable[[], Receipt] | None = None,
    ) -> SnapshotWrite:
        """Claim the name and write it; see `claim` and `Claim.write`."""
        with self.claim(principal, name, call, force=force) as claimed:
            return claimed.write(batches, schema, facts, receipt)

    def keep_chart(self, principal: str, spec: str, tables: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The id under which a chart over these tables is kept, and the ids of older ones that went for it. A chart
        goes with those of its tables that are snapshots.

        Raises `disk_full`, `storage_failed`, and `snapshot_not_found` where one of them has gone meanwhile.
        """
        folder = self._folder(principal)
        own = [name for name in tables if is_name(name) and load(folder, name) is not None]
        self._check_space(folder, len(spec))
        with disk_errors("prepare the snapshots folder"):
            folder.create()
        chart = KeptChart(spec=spec, principal=principal, tables=[*tables], snapshots=own)
        chart_id, gone = keep_chart(folder, chart)
        for name in own:
            if load(folder, name) is None:  # dropped after it was looked for, and perhaps before its chart was there
                forget_charts(folder, name)
                raise not_found(name)
        return chart_id, gone

    def chart(self, principal: str, chart_id: str) -> KeptChart | None:
        """A chart that is kept; None: there is none of that id, or none any more."""
        return load_chart(self._folder(principal), chart_id)

    def check_space(self, principal: str, expected_bytes: int) -> None:
        """`disk_full` unless as much stays free as has to once the principal has written `expected_bytes`: ask before
        paying. Beyond its quota it has to leave twice as much as others."""
        self._check_space(self._folder(principal), expected_bytes)

    def drop(self, principal: str, name: str, call: Call | None = None) -> Snapshot:
        """Remove a snapshot, damaged or not, and return what it was. `snapshot_not_found`, `snapshot_busy`."""
        self._load(principal, name)
        dropped = drop_if(self._folder(principal), name, lambda _: True, self._lock_wait_s, call)
        if dropped is None:
            raise not_found(name)
        return dropped

    def prune(
        self,
        principal: str,
        older_than: str | None = None,
        larger_than: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> SnapshotPrune:
        """Drop what meets every given filter; none is `invalid_argument`. Each is looked at again under its lock."""
        wanted = prune_filter(older_than, larger_than, expired)
        folder, now = self._folder(principal), self._rules.now()
        if dry_run:
            return plan_prune(self._index.outlines(folder), wanted, now)
        return prune_folder(folder, self._index.outlines(folder), wanted, now)

    def retire(self, keep_for: timedelta | None, most_bytes: int | None) -> Sequence[Retired]:
        """Remove, of everybody, snapshots that have expired, snapshots and charts that are older, and the oldest while
        all together take more; returns what went. Raises `storage_failed` only where nothing could be looked at."""
        owned, failed = [], None
        for folder in folders(self.root):
            try:
                with disk_errors("look for old snapshots"):
                    owned.append((folder, self._index.outlines(folder)))
            except AgnesError as error:  # one folder that cannot be read is no reason to leave out the others
                failed = failed or error
        if failed is not None and not owned:
            raise failed
        with disk_errors("remove old snapshots"):
            return retire(owned, keep_for, most_bytes, self._rules.now())

    def sweep(self) -> int:
        """Remove, for every principal, the leftovers of dead writers; returns how many files went.

        For the start of a process and now and then; a live writer's files are never touched. Raises `storage_failed` or
        `disk_full`, once all that can be swept is swept.
        """
        removed, failed = 0, None
        for folder in folders(self.root):
            try:
                with disk_errors("remove leftovers"):
                    folder.create()
                    removed += sweep_folder(folder)
            except AgnesError as error:  # one folder that cannot be swept is no reason to leave out the others
                failed = failed or error
        if failed is not None:
            raise failed
        return removed

    # inside

    def _check_space(self, folder: Folder, expected_bytes: int) -> None:
        with disk_errors("ask for free space"):
            self._rules.room(folder).require(nearest_existing(self.root), expected_bytes)

    def _folder(self, principal: str) -> Folder:
        folder = Folder(self.root / folder_name(principal))
        folder.refuse_links()
        return folder

    def _load(self, principal: str, name: str) -> Stored:
        stored = load(self._folder(principal), name) if is_name(name) else None
        if stored is None:
            raise not_found(name)
        return stored

    def _public(self, stored: Stored) -> Snapshot:
        snapshot = computed(stored.snapshot, self._rules.now(), self._rules.stale_after)
        if stored.path is not None:
            reason = self._rules.verifier.known_damage(stored.path, snapshot)
            snapshot = snapshot if reason is None else snapshot.model_copy(update={"damaged": reason})
        return snapshot

    def _require_absent(self, folder: Folder, name: str, force: bool) -> None:
        stored = None if force else load(folder, name)
        if stored is not None:
            state = f"is damaged ({stored.snapshot.damaged})" if stored.snapshot.damaged else "exists"
            raise AgnesError(
                "snapshot_exists",
                f"Snapshot {name!r} {state}.",
                "Query it, refresh it with snapshot_refresh, choose another name, or replace it with force=true.",
                {"name": name},
            )
