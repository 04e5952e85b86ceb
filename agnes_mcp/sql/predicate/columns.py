"""Which column, or which field of which record, a dotted path means."""

from __future__ import annotations

from dataclasses import dataclass

from agnes_mcp.models import Column, TableSchema
from agnes_mcp.sql.predicate.kinds import Kind, kind_of


class UnresolvedError(Exception):
    """No such column. `kind` is `unknown_column` or `cross_table_reference`; `segment` is where the path breaks off;
    `known` are the names that could have stood there."""

    def __init__(self, kind: str, message: str, segment: int, known: list[str], hint: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.segment, self.known, self._hint = kind, message, segment, known, hint

    def hint(self, close: list[str]) -> str:
        """The next step, when `close` are the names of `known` that were perhaps meant."""
        if self._hint:
            return self._hint
        if close:
            return f"Did you mean {' or '.join(name[:80] for name in close)}?"
        listed = ", ".join(self.known)
        return f"It has {listed}." if len(listed) <= 200 else "Call `schema` for the table's columns."


@dataclass(frozen=True)
class Place:
    """The start of a path: the column's own spelling, its kind, and how many segments that took: 2 after the table."""

    name: str
    kind: Kind
    segments: int


class Columns:
    """The columns of one table, by name without regard to case."""

    def __init__(self, schema: TableSchema) -> None:
        self.table_id = schema.table_id
        self._columns = {c.name.casefold(): c for c in [*schema.pseudo_columns, *schema.columns]}

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._columns

    def find(self, path: list[str]) -> Place:
        """Where the path `a.b.c` starts. A column wins over the table's own name where both could be meant."""
        column = self._columns.get(path[0].casefold())
        own = len(path) > 1 and path[0].casefold() == self.table_id.casefold()
        if own and (column is None or not _leads(column, path[1])):
            inner = self._columns.get(path[1].casefold())
            if inner is None:
                raise self._unknown(path[1], 1)
            return Place(inner.name, kind_of(inner), 2)
        if column is not None:
            return Place(column.name, kind_of(column), 1)
        if len(path) == 1:
            raise self._unknown(path[0], 0)
        message = f"{path[0][:80]!r} is neither a column of {self.table_id} nor {self.table_id} itself."
        hint = f"A predicate reads only the columns of {self.table_id}; leave {path[0][:40]!r} out."
        raise UnresolvedError("cross_table_reference", message, 0, self._names(), hint)

    def _unknown(self, name: str, segment: int) -> UnresolvedError:
        return unknown(name, f"The table {self.table_id!r}", self._names(), segment)

    def _names(self) -> list[str]:
        return [column.name for column in self._columns.values()]


def _leads(column: Column, name: str) -> bool:
    return any(field.name.casefold() == name.casefold() for field in column.fields)


def field_of(record: Kind, path: str, name: str, segment: int) -> Column:
    """The field `name` of what stands at `path`. Raises `UnresolvedError` where there is none."""
    field = next((f for f in record.fields if f.name.casefold() == name.casefold()), None)
    if field is not None:
        return field
    if record.family == "list":
        hint = "Take one element first: [SAFE_OFFSET(0)] in BigQuery, [1] in DuckDB."
        message = f"{path[:80]} is a list, and {name[:80]!r} looks inside it."
        raise UnresolvedError("unknown_column", message, segment, [], hint)
    if not record.fields:
        json = "Use JSON_VALUE(column, '$.path') in BigQuery, json_extract_string(column, '$.path') in DuckDB."
        hint = json if record.family == "json" else f"Compare {path[:80]} itself."
        message = f"{path[:80]} has no fields, so there is no {name[:80]!r} in it."
        raise UnresolvedError("unknown_column", message, segment, [], hint)
    raise unknown(name, path[:80], [f.name for f in record.fields], segment)


def unknown(name: str, where: str, known: list[str], segment: int) -> UnresolvedError:
    return UnresolvedError("unknown_column", f"{where} has no column {name[:80]!r}.", segment, known)
