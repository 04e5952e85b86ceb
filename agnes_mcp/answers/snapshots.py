"""A snapshot as its owner is told of it."""

from __future__ import annotations

from agnes_mcp.answers.fitting import MAX_SQL_CHARS, clip, compact
from agnes_mcp.answers.models import AnsweredColumn, SnapshotEntry
from agnes_mcp.snapshots.models import Snapshot


def snapshot_entry(snapshot: Snapshot, columns_chars: int = 0) -> SnapshotEntry:
    """A snapshot as its owner is told of it: with the columns that fit; 0 leaves out columns and SQL."""
    facts = {
        name: getattr(snapshot, name) for name in SnapshotEntry.model_fields if name not in ("columns", "columns_cut")
    }
    facts["complete"] = snapshot.complete if snapshot.rows is not None else True
    if not columns_chars:
        return SnapshotEntry(**{**facts, "sql": ""})
    facts["sql"] = clip(snapshot.sql, MAX_SQL_CHARS)
    entry = SnapshotEntry(**{**facts, "columns_cut": 0})
    for done, column in enumerate(snapshot.columns):
        answered = AnsweredColumn.model_validate(column.model_dump())
        columns_chars -= len(compact(answered.model_dump(mode="json"))) + 1
        if columns_chars < 0:
            entry.columns_cut = len(snapshot.columns) - done
            break
        entry.columns.append(answered)
    return entry
