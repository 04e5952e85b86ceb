"""Which column, or which field of which record, a dotted path means."""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp

from agnes_mcp.models import Column, TableSchema
from agnes_mcp.sql.columns import left_out
from agnes_mcp.sql.predicate.kinds import OTHER, Kind, kind_of


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


class Place(NamedTuple):
    """The start of a path: the column's own spelling, its kind, and how many segments that took: 2 after the table.
    `within` is what the name stands in: the element of a list whose field it is."""

    name: str
    kind: Kind
    segments: int
    within: str = ""


class Columns:
    """The columns of one table, by name without regard to case."""

    depth = 0  # how many lists they are inside of

    def __init__(self, schema: TableSchema) -> None:
        self.table_id = schema.table_id
        self._schema = schema
        self._pseudo = {c.name.casefold(): c for c in schema.pseudo_columns}
        self._places: dict[str, Place] = {}  # of one predicate, which may name one column a thousand times

    def __contains__(self, name: str) -> bool:
        return self._column(name) is not None

    def _column(self, name: str) -> Column | None:
        return self._schema.column(name) or self._pseudo.get(name.casefold())

    def taken(self) -> set[str]:
        """Every name that there is, folded: of the table, its columns, their fields."""
        every = [column.name for _, column in self._schema.walk()]
        return {
            name.casefold() for name in (self._schema.table_id, *(c.name for c in self._schema.pseudo_columns), *every)
        }

    def find(self, path: list[str]) -> Place:
        """Where the path `a.b.c` starts. A column wins over the table's own name where both could be meant."""
        known = self._places.get(path[0]) if len(path) == 1 else None
        return known or self._find(path)

    def _find(self, path: list[str]) -> Place:
        column = self._column(path[0])
        own = len(path) > 1 and path[0].casefold() == self.table_id.casefold()
        if own and (column is None or not _leads(column, path[1])):
            inner = self._column(path[1])
            if inner is None:
                raise self._unknown(path[1], 1)
            return Place(inner.name, kind_of(inner), 2)
        if column is not None:
            place = self._places[path[0]] = Place(column.name, kind_of(column), 1)
            return place
        if len(path) == 1:
            raise self._unknown(path[0], 0)
        message = f"{path[0][:80]!r} is neither a column of {self.table_id} nor {self.table_id} itself."
        hint = f"A predicate reads only the columns of {self.table_id}; leave {path[0][:40]!r} out."
        raise UnresolvedError("cross_table_reference", message, 0, self._names(), hint)

    def holds(self, node: exp.Expr) -> bool:
        """Whether the path `node` leads into the innermost list's element."""
        return False

    def _unknown(self, name: str, segment: int) -> UnresolvedError:
        unread = left_out(name, self._schema)
        if unread:
            return UnresolvedError("unknown_column", unread, segment, [], "Leave the column out of the predicate.")
        return unknown(name, f"The table {self.table_id!r}", self._names(), segment)

    def _names(self) -> list[str]:
        return [column.name for column in [*self._schema.pseudo_columns, *self._schema.columns]]


class ElementColumns(Columns):
    """What names mean in a condition on the elements of a list: first the element, by `names`, then, where GoogleSQL
    `exposes` them, its fields, then what they mean around it.

    `list_name` and `element_name` are how it is written: by names that no column and no field has.
    """

    def __init__(self, outer: Columns, element: Kind | None, names: list[list[str]], *, exposes: bool) -> None:
        self.table_id, self._schema, self.depth = outer.table_id, outer._schema, outer.depth + 1
        self._outer, self._element = outer, element or OTHER
        self._spellings = [[part.casefold() for part in name] for name in names]
        fields = self._element.fields if exposes else ()
        self._columns = {field.name.casefold(): field for field in fields}
        taken = self.taken()
        self.list_name, self.element_name = (_free(f"{word}_{self.depth}", taken) for word in ("list", "element"))

    def __contains__(self, name: str) -> bool:
        folded = name.casefold()
        return (
            any(spelling[0] == folded for spelling in self._spellings)
            or super().__contains__(name)
            or (name in self._outer)
        )

    def _column(self, name: str) -> Column | None:
        return self._columns.get(name.casefold())

    def find(self, path: list[str]) -> Place:
        folded = [part.casefold() for part in path]
        for spelling in sorted(self._spellings, key=len, reverse=True):
            if folded[: len(spelling)] == spelling:
                return Place(self.element_name, self._element, len(spelling))
        field = self._columns.get(folded[0])
        if field is not None:
            return Place(field.name, kind_of(field), 1, self.element_name)
        place = self._outer.find(path)
        if not place.within and place.name.casefold() in self._columns:
            message = f"{place.name[:80]!r} of the table is hidden here by the element's field of that name."
            hint = "Take that condition out of EXISTS."
            raise UnresolvedError("cross_table_reference", message, 0, [], hint)
        return place

    def holds(self, node: exp.Expr) -> bool:
        column = node
        while isinstance(column, exp.Dot):
            column = column.this
        return isinstance(column, exp.Column) and column.parts[0].name == self.element_name

    def _names(self) -> list[str]:
        fields = [field.name for field in self._columns.values()]
        return [*(".".join(name) for name in self._spellings), *fields, *self._outer._names()]


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"{name}_"
    return name


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
