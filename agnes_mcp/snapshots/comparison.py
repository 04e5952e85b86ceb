"""How a snapshot compares: with what a request would read, and with what its table has become."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, ScanRequest
from agnes_mcp.snapshots.models import Snapshot

from .index import Columns
from .reading import Stored


def covers(
    snapshot: Snapshot,
    columns: Callable[[str], Columns],
    request: ScanRequest,
    where_sql: str,
    oldest: datetime,
) -> bool:
    """Whether the rows that `request` reads, before grouping, order and limit, are exactly the rows of `snapshot`.

    `where_sql` is the request's predicate as rendered for the engine: the text that the snapshot was read with; of a
    request by GoogleSQL the whole statement, and its rows are covered as they are.
    `columns` tells those of a snapshot by its name, and is asked last: they may be very many.
    The snapshot may not be from before `oldest`: a text with CURRENT_DATE in it means other rows on another day.
    """
    if not concerns(snapshot, request, where_sql) or not _is_usable(snapshot, oldest):
        return False
    if request.googlesql:
        return snapshot.complete or snapshot.limit == request.limit
    return (_is_raw(snapshot) and _has_columns(columns(snapshot.name), request)) or _is_same(snapshot, request)


def concerns(snapshot: Snapshot, request: ScanRequest, where_sql: str) -> bool:
    """Whether it was read from the same table with the same predicate, or with the same statement."""
    if request.googlesql or snapshot.googlesql:
        return bool(request.googlesql) and snapshot.googlesql == where_sql
    return snapshot.table_id == request.table_id and snapshot.where_sql == where_sql


def newest_covering(
    kept: Iterable[Stored],
    public: Callable[[Stored], Snapshot],
    columns: Callable[[str], Columns],
    request: ScanRequest,
    where_sql: str,
    now: datetime,
    max_age: timedelta,
) -> Snapshot | None:
    """The one with the latest rows among those that cover the request; None: there is none. `public` tells what a
    caller sees of one, and is asked of the newest first, until one covers."""

    def moment(stored: Stored) -> tuple[float, str]:  # numbers: two moments with zones are slow to compare
        return (as_of(stored.snapshot) or oldest_possible(now)).timestamp(), stored.snapshot.name

    concerned = [stored for stored in kept if concerns(stored.snapshot, request, where_sql)]
    newest_first = map(public, sorted(concerned, key=moment, reverse=True))
    return next((each for each in newest_first if covers(each, columns, request, where_sql, now - max_age)), None)


def as_of(snapshot: Snapshot) -> datetime | None:
    return snapshot.effective_as_of or snapshot.fetched_at


def oldest_possible(now: datetime) -> datetime:
    return datetime.min.replace(tzinfo=now.tzinfo)


def _is_raw(snapshot: Snapshot) -> bool:
    """Every row of its predicate, as the table has them."""
    return snapshot.complete and not snapshot.group_by and not snapshot.aggregates


def _is_same(snapshot: Snapshot, request: ScanRequest) -> bool:
    """The answer of that very request, in which nothing is missing."""
    asked, made = (r.model_dump(exclude={"limit", "where", "order_by"}) for r in (request, snapshot.request()))
    return asked == made and (
        snapshot.complete or (snapshot.limit, snapshot.order_by) == (request.limit, request.order_by)
    )


def _is_usable(snapshot: Snapshot, oldest: datetime) -> bool:
    made = as_of(snapshot)
    whole = snapshot.damaged is None and snapshot.cut_by is None and not snapshot.expired
    return whole and made is not None and made >= oldest


def _has_columns(columns: Columns, request: ScanRequest) -> bool:
    needed = _needed(request)
    return columns.every if needed is None else {name.casefold() for name in needed} <= columns.held


def _needed(request: ScanRequest) -> set[str] | None:
    """The source columns behind the answer; None is all of them."""
    if request.group_by or request.aggregates:  # ordered by what they name or make, so that adds nothing
        aggregated = {entry.column for entry in request.aggregates or [] if entry.column is not None}
        return {*(request.group_by or []), *aggregated, *(request.select or [])}
    ordered = {entry.split()[0] for entry in request.order_by or [] if entry.split()}
    return None if request.of_every_column else {*(request.select or ()), *ordered}


@dataclass(frozen=True)
class TypeChange:
    column: str
    old: str
    new: str


@dataclass(frozen=True)
class Drift:
    """`dropped` and `changed` are of the columns that matter to the snapshot; `added` of all."""

    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    changed: list[TypeChange] = field(default_factory=list)

    def require_none_dropped(self, name: str) -> None:
        """`schema_drift`, naming the columns of snapshot `name` that are gone."""
        if self.dropped:
            gone = ", ".join(self.dropped[:10])
            raise AgnesError(
                "schema_drift",
                f"Snapshot {name!r} was not refreshed: its table no longer has {gone}.",
                "The snapshot is as it was. Look at the table's schema, then fetch what it has now under another name.",
                {"name": name, "dropped": self.dropped[:100]},
            )

    def warnings(self) -> list[str]:
        return [f"Column {c.column} was {c.old} and now is {c.new}." for c in self.changed]


def compare_columns(old: Sequence[Column], new: Sequence[Column], needed: Collection[str] | None = None) -> Drift:
    """What is different in `new`. With `needed` (names, in any case), other columns may go or change unnoticed."""
    before = {column.name.casefold(): column for column in old}
    after = {column.name.casefold(): column for column in new}
    matter = set(before) if needed is None else {name.casefold() for name in needed}
    changed = [
        TypeChange(column.name, _type_text(column), _type_text(after[key]))
        for key, column in before.items()
        if key in matter and key in after and _type_text(column) != _type_text(after[key])
    ]
    return Drift(
        added=[column.name for key, column in after.items() if key not in before],
        dropped=[column.name for key, column in before.items() if key in matter and key not in after],
        changed=changed,
    )


def _type_text(column: Column) -> str:
    """A type with all that is inside it: `REPEATED STRUCT<a INT64>`. NULLABLE and REQUIRED are the same here."""
    fields = ", ".join(f"{part.name} {_type_text(part)}" for part in column.fields)
    text = f"{column.type}<{fields}>" if fields else column.type
    return f"REPEATED {text}" if column.mode == "REPEATED" else text
