"""A snapshot as its owner is told of it."""

from __future__ import annotations

from agnes_mcp.answers.fitting import MAX_SQL_CHARS, chars_of, clip, fit
from agnes_mcp.answers.models import AnsweredColumn, SnapshotEntry, SnapshotListAnswer
from agnes_mcp.answers.values import type_name
from agnes_mcp.models import Column
from agnes_mcp.snapshots.models import Snapshot

_ASKED = (
    "select", "group_by", "aggregates", "order_by", "limit", "sql",
)  # fmt: skip
_MORE = "{} more are not shown. Prune what is not needed."


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
    columns = (_kept(column) for column in snapshot.columns)
    entry.columns = fit(columns, columns_chars)
    entry.columns_cut = len(snapshot.columns) - len(entry.columns)
    return entry


def _kept(column: Column) -> AnsweredColumn:
    """In the words of `query`, which reads it."""
    fields = [_kept(field) for field in column.fields]
    return AnsweredColumn(name=column.name, type=type_name(column, "duckdb"), mode=column.mode, fields=fields)


def fetched_entry(snapshot: Snapshot, columns_chars: int) -> SnapshotEntry:
    """The same for whoever has just asked for it: without what was asked."""
    asked = {name: SnapshotEntry.model_fields[name].get_default(call_default_factory=True) for name in _ASKED}
    return snapshot_entry(snapshot, columns_chars).model_copy(update=asked)


def snapshot_list(found: list[Snapshot], budget_chars: int) -> SnapshotListAnswer:
    """As many of them as fit one answer, each without columns and SQL."""
    answer = SnapshotListAnswer(snapshots=[], total=len(found), note=_MORE.format(len(found)))
    answer.snapshots = fit((snapshot_entry(snapshot) for snapshot in found), budget_chars - chars_of(answer))
    cut = len(found) - len(answer.snapshots)
    answer.note = _MORE.format(cut) if cut else None
    return answer


def columns_share(budget_chars: int) -> int:
    """What the columns of one snapshot may take of an answer: half of it, the rest is for the other facts."""
    return budget_chars // 2
