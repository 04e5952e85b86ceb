"""A name held by one call: from before anything is paid for until the snapshot is there, or nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Receipt
from agnes_mcp.snapshots.models import Snapshot, SnapshotFacts, SnapshotRefresh, SnapshotWrite

from .amounts import format_bytes
from .comparison import compare_columns
from .content import Engine
from .files import discard, disk_errors, remove, sync_folder, write_new
from .folder import Folder, new_token, token_of, used_bytes
from .reading import Stored, Verifier, computed, load, not_found, reading
from .sidecar import Sidecar, render
from .sweeping import current_token, sweep_name
from .writing import Room, Staged, stage

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rules:
    """What a store was given: limits, clock, and the parts that all its calls share."""

    quota_bytes: int
    min_free_bytes: int
    stale_after: timedelta
    now: Callable[[], datetime]
    engine: Engine
    verifier: Verifier

    def room(self, folder: Folder) -> Room:
        return Room(folder.path, self.quota_bytes, self.min_free_bytes)


class Claim:
    """Made by `SnapshotStore.claim`, which holds the lock of the name as long as this is used."""

    def __init__(self, folder: Folder, principal: str, name: str, rules: Rules, call: Call) -> None:
        self.name = name
        self._folder = folder
        self._principal = principal
        self._rules = rules
        self._call = call
        self._claimed_at = rules.now()  # the rows are read after this, so they are at least as fresh

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        facts: SnapshotFacts,
        receipt: Callable[[], Receipt] | None = None,
    ) -> SnapshotWrite:
        """Stream `batches` into the snapshot. It is there, whole, when this returns; when this raises, nothing changed.

        `receipt` is asked once the rows have ended, and fills `bytes_billed` and `job_id`. Raises whatever iterating
        raises, what ended the call, `disk_full`, `storage_failed`, `invalid_argument` (a type that cannot be kept).
        """
        token, current = new_token(), None
        try:
            staged = self._stage(token, batches, schema, facts)
            snapshot = self._describe(staged, facts, receipt)
            warnings = self._commit_rows(token, snapshot)
            current = token
        finally:
            self._clear(token, current)
        return SnapshotWrite(snapshot=self._computed(snapshot), warnings=warnings + self._quota_warnings())

    def replace_if_changed(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        facts: SnapshotFacts,
        receipt: Callable[[], Receipt] | None = None,
    ) -> SnapshotRefresh:
        """As `write`, over an existing snapshot: rows identical to the ones it has leave its file alone and only move
        its times on. Raises `schema_drift` before a row is pulled where a column it has is gone, `snapshot_not_found`.
        """
        old = load(self._folder, self.name)
        if old is None:
            raise not_found(self.name)
        drift = compare_columns(old.snapshot.columns, self._columns_of(schema))
        drift.require_none_dropped(self.name)
        token, current = new_token(), None
        try:
            staged = self._stage(token, batches, schema, facts)
            snapshot = self._describe(staged, facts, receipt)
            kept = self._identical_rows(old, snapshot)
            if kept is None:
                warnings = self._commit_rows(token, snapshot)
            else:
                same = {"bytes_local": old.snapshot.bytes_local, "file_sha256": old.snapshot.file_sha256}
                snapshot = snapshot.model_copy(update=same)
                warnings = self._commit_times(token, snapshot, kept)
            current = kept or token
        finally:
            self._clear(token, current)
        warnings = drift.warnings() + warnings + self._quota_warnings()
        return _refresh(old.snapshot, self._computed(snapshot), kept is not None, warnings)

    def _stage(self, token: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema, facts: SnapshotFacts) -> Staged:
        return stage(
            self._folder.staged_data(self.name, token),
            batches,
            schema,
            engine=self._rules.engine,
            call=self._call,
            ordered=bool(facts.order_by),
            room=self._rules.room(self._folder),
        )

    def _columns_of(self, schema: pa.Schema) -> list[Column]:
        """What DuckDB will call these columns: asked of a file without rows."""
        scratch, room = self._folder.staged_data(self.name, new_token()), self._rules.room(self._folder)
        try:
            staged = stage(scratch, [], schema, engine=self._rules.engine, call=self._call, ordered=False, room=room)
            return staged.columns
        finally:
            remove(scratch)

    def _describe(self, staged: Staged, facts: SnapshotFacts, receipt: Callable[[], Receipt] | None) -> Snapshot:
        now = self._rules.now()
        paid = receipt() if receipt is not None else None
        known = {name: getattr(facts, name) for name in SnapshotFacts.model_fields}  # thousands of columns, not copied
        if paid is not None:
            known.update(bytes_billed=paid.bytes_billed, job_id=paid.job_id)
        known["effective_as_of"] = facts.effective_as_of or self._claimed_at
        return Snapshot(
            **known,
            name=self.name,
            principal=self._principal,
            fetched_at=now,
            rows=staged.rows,
            bytes_local=staged.size_bytes,
            columns=staged.columns,
            content_hash=staged.content_hash,
            file_sha256=staged.sha256,
        )

    def _commit_rows(self, token: str, snapshot: Snapshot) -> list[str]:
        """Trace, rows, and last the trace becomes the sidecar; each is on the disk before the next is begun."""
        folder = self._folder
        with disk_errors("put the snapshot in place"):
            write_new(folder.trace(self.name, token), render(Sidecar(snapshot, token)))
            sync_folder(folder.staging)
            os.replace(folder.staged_data(self.name, token), folder.data(self.name, token))
            sync_folder(folder.path)
        return self._commit(token)

    def _commit_times(self, token: str, snapshot: Snapshot, kept: str) -> list[str]:
        """New facts about the rows that are there already."""
        with disk_errors("put the snapshot in place"):
            write_new(self._folder.trace(self.name, token), render(Sidecar(snapshot, kept)))
        return self._commit(token)

    def _commit(self, token: str) -> list[str]:
        self._call.check()
        with disk_errors("put the snapshot in place"):
            os.replace(self._folder.trace(self.name, token), self._folder.sidecar(self.name))
        try:
            sync_folder(self._folder.path)
        except OSError:
            return ["The disk did not confirm the snapshot: it may be gone after a power failure."]
        return []

    def _identical_rows(self, old: Stored, new: Snapshot) -> str | None:
        """The token of the present rows, if they are the new ones and their file is whole."""
        if old.path is None or old.snapshot.content_hash != new.content_hash:
            return None
        try:
            with reading(self._folder, self.name, self._rules.verifier, self._call) as (_, path):
                return token_of(self.name, path.name)
        except AgnesError as error:
            if error.kind != "snapshot_damaged":
                raise
            return None

    def _clear(self, token: str, current: str | None) -> None:
        """Remove what is not part of the snapshot, whose rows have the token `current`; None: nothing was committed, as
        far as is known. What cannot be removed waits for the sweep, and is never listed."""
        with suppress(OSError):
            remove(self._folder.staged_data(self.name, token))
            current = current or current_token(self._folder, self.name)
            if current != token and discard(self._folder.data(self.name, token)):
                remove(self._folder.trace(self.name, token))
        with suppress(AgnesError):
            sweep_name(self._folder, self.name, current)

    def _computed(self, snapshot: Snapshot) -> Snapshot:
        return computed(snapshot, self._rules.now(), self._rules.stale_after)

    def _quota_warnings(self) -> list[str]:
        used, quota = used_bytes(self._folder.path), self._rules.quota_bytes
        if used <= quota:
            return []
        return [
            f"Your snapshots take {format_bytes(used)}, more than the {format_bytes(quota)} meant for them: "
            "drop what is not needed (snapshot_list, snapshot_drop, snapshot_prune)."
        ]


def _refresh(old: Snapshot, new: Snapshot, identical: bool, warnings: list[str]) -> SnapshotRefresh:
    assert new.rows is not None  # noqa: S101 - it was written just now
    assert new.effective_as_of is not None  # noqa: S101
    return SnapshotRefresh(
        name=new.name,
        identical=identical,
        rows_old=old.rows,
        rows_new=new.rows,
        bytes_local_old=old.bytes_local,
        bytes_local_new=new.bytes_local,
        effective_as_of_old=old.effective_as_of,
        effective_as_of_new=new.effective_as_of,
        snapshot=new,
        warnings=warnings,
    )
