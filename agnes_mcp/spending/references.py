"""What a dry run says that a statement would read, held against the tables that it names."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, TableSchema

if TYPE_CHECKING:
    from agnes_mcp.sql.warehouse import Admitted, Place

_VIEWS = frozenset({"VIEW", "MATERIALIZED VIEW", "MATERIALIZED_VIEW"})
_MAX_KEPT = 1_000
_WANTS_FILTER = re.compile(r"without a filter over column(?:\(s\)|s)? [`'\"]?([A-Za-z_][A-Za-z0-9_]*)")
#: A condition that a partition can be cut by, by the type of its column. Nothing is run with it.
_LITERALS = {
    "DATE": "DATE '2000-01-01'",
    "TIMESTAMP": "TIMESTAMP '2000-01-01'",
    "DATETIME": "DATETIME '2000-01-01'",
    "INT64": "0",
    "INTEGER": "0",
}

DryRun = Callable[[str], Price]


class References:
    """Thread-safe. What a view stands for is learned by a dry run of it alone, and kept as long as the view has
    the etag that it had then."""

    def __init__(self) -> None:
        self._learned: dict[str, tuple[str, frozenset[str]]] = {}  # by place: the view's etag, and what it reads
        self._lock = threading.Lock()

    def check(self, price: Price, admitted: Admitted, dry_run: DryRun) -> None:
        """Raise `referenced_outside` unless `price` is of a SELECT over the places of `admitted`, or over what a view
        among them stands for, that calls no routine. `dry_run` prices a statement of ours."""
        if price.statement_type != "SELECT":
            raise _outside(f"BigQuery reads it as {price.statement_type or 'no statement'}, not as a SELECT.")
        if price.referenced_routines:
            raise _outside("It would call a routine of a dataset.")
        if not price.referenced_tables:
            raise _outside("BigQuery does not say which tables it would read.")
        strange = _beyond(price.referenced_tables, admitted)
        views = [place for place in admitted.tables if _is_view(place)]
        for anew in (False, True):
            if not strange:
                return
            known = frozenset().union(*(self._of(view, dry_run, anew=anew) for view in views))
            if strange <= known:
                return
        raise _outside("It would read a table that it does not name.")

    def _of(self, view: Place, dry_run: DryRun, *, anew: bool) -> frozenset[str]:
        etag = view.schema.etag if view.schema else ""
        with self._lock:
            kept = self._learned.get(view.path)
        if kept is not None and kept[0] == etag and etag and not anew:
            return kept[1]
        learned = frozenset(_ask(view, dry_run))
        with self._lock:
            if len(self._learned) >= _MAX_KEPT:
                self._learned.clear()
            self._learned[view.path] = (etag, learned)
        return learned


def _ask(view: Place, dry_run: DryRun) -> list[str]:
    """The tables that the view alone reads."""
    sql = f"SELECT * FROM `{view.path}`"  # noqa: S608 - a place of the catalog
    try:
        return dry_run(sql).referenced_tables
    except AgnesError as error:
        wanted = _WANTS_FILTER.search(error.message) if error.kind == "bq_bad_request" else None
        column = view.schema.column(wanted[1]) if wanted and view.schema else None
        if column is None:
            raise
    literal = _LITERALS.get(column.type.upper(), "''")
    return dry_run(f"{sql} WHERE `{column.name}` >= {literal}").referenced_tables


def _beyond(referenced: list[str], admitted: Admitted) -> set[str]:
    """The references that are no place of the statement, nor a shard of one."""
    places = {place.path for place in admitted.tables}
    families = tuple(place.path.removesuffix("*") for place in admitted.tables if place.table.endswith("*"))
    return {path for path in referenced if path not in places and not (families and path.startswith(families))}


def _is_view(place: Place) -> bool:
    schema = place.schema or TableSchema(table_id=place.table_id, columns=[])
    return schema.entity_type.upper() in _VIEWS


def _outside(why: str) -> AgnesError:
    return AgnesError(
        "referenced_outside",
        f"The statement was not run. {why}",
        "Name tables of the catalog only, views among them as they are; `schema` says what each is.",
    )
