"""What names mean in a clause: range variables, their columns, SELECT aliases, and the same of the queries around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sqlglot import exp

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql.types import STRING, Type, struct_of
from agnes_mcp.stand_in.googlesql.values import Read, Value, made, packed
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query


@dataclass(frozen=True)
class Column:
    """One column of a relation; `pseudo` ones are left out of `*`."""

    name: str
    value: Value
    pseudo: bool = False


@dataclass
class Relation:
    """A compiled query: DuckDB text whose columns are called by `columns[i].value.sql`; `always` is read whatever is
    taken from it; `whole` where its one column is the row itself (SELECT AS STRUCT or VALUE)."""

    sql: str
    columns: list[Column]
    always: frozenset[Read] = frozenset()
    whole: bool = False


@dataclass
class RangeVariable:
    """A name in FROM. `row` is the value that the name alone stands for, where it is not the STRUCT of its columns."""

    name: str
    columns: list[Column]
    row: Value | None = None
    nullable: bool = False  # on the side of an outer join that may have no row

    def named(self, name: str) -> list[Column]:
        return self._by_name.get(name.lower(), [])

    @cached_property
    def _by_name(self) -> Mapping[str, list[Column]]:
        """Columns by their folded names: a statement over thousands of them looks each of them up."""
        found: dict[str, list[Column]] = {}
        for column in self.columns:
            found.setdefault(column.name.lower(), []).append(column)
        return found

    @property
    def shown(self) -> list[Column]:
        return [column for column in self.columns if not column.pseudo]

    def whole(self) -> Value:
        """The row as a value."""
        if self.row is not None:
            return self.row
        if self.nullable:
            raise invalid_query(f"The stand-in does not answer the whole row of {self.name} behind an outer join")
        kind = struct_of((column.name, column.value.type) for column in self.shown)
        parts = [column.value for column in self.shown]
        return made(packed(kind, [part.sql for part in parts]), kind, *parts)


@dataclass
class Scope:
    """The names of one clause. `merged` are USING's columns; `aliases` the SELECT list's, where they count."""

    outer: Scope | None = None
    variables: list[RangeVariable] = field(default_factory=list)
    merged: dict[str, Column] = field(default_factory=dict)
    aliases: Mapping[str, Value] = field(default_factory=dict)

    def with_aliases(self, aliases: Mapping[str, Value]) -> Scope:
        """The same names behind the SELECT list's."""
        return replace(self, aliases=aliases)

    def around(self) -> Iterator[Scope]:
        """This scope, and those of the queries around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def variable(self, name: str) -> RangeVariable | None:
        """The range variable of this clause called `name`."""
        found = [variable for variable in self.variables if variable.name.lower() == name.lower() and variable.name]
        return found[0] if found else None

    def knows(self, name: str) -> bool:
        """Whether a path that begins with `name` begins in this clause or around it, so that it is no table."""
        folded = name.lower()
        return any(
            scope.variable(name) is not None or folded in scope.aliases or folded in scope.merged or scope.column(name)
            for scope in self.around()
        )

    def column(self, name: str) -> list[Column]:
        """The columns of this clause called `name`; more than one is ambiguous."""
        if name.lower() in self.merged:
            return [self.merged[name.lower()]]
        return [column for variable in self.variables for column in variable.named(name)]


def resolved(scope: Scope, path: Sequence[exp.Identifier], place: str) -> Value:
    """The value of a path such as `t.s.x`. Raises in BigQuery's words; `place` is its " at [line:column]"."""
    first = path[0].name
    for around in scope.around():
        if first.lower() in around.aliases:
            return fields_of(around.aliases[first.lower()], path[1:], place)
        variable = around.variable(first)
        if variable is not None:
            return _through(variable, path, place)
        columns = around.column(first)
        if len(columns) > 1:
            raise refusal(f"Column name {first} is ambiguous", place)
        if columns:
            return fields_of(columns[0].value, path[1:], place)
    raise refusal(f"Unrecognized name: {first}", place)


def _through(variable: RangeVariable, path: Sequence[exp.Identifier], place: str) -> Value:
    if len(path) == 1:
        return variable.whole()
    columns = variable.named(path[1].name)
    if len(columns) > 1:
        raise refusal(f"Column name {path[1].name} is ambiguous", place)
    if columns:
        return fields_of(columns[0].value, path[2:], place)
    if variable.row is not None and variable.row.kind in ("STRUCT", "JSON"):
        return fields_of(variable.row, path[1:], place)
    raise refusal(f"Name {path[1].name} not found inside {variable.name}", place)


def fields_of(value: Value, names: Sequence[exp.Identifier], place: str = "") -> Value:
    """The field of a STRUCT, or the member of a JSON, that the rest of a path names."""
    for name in names:
        value = field_of(value, name.name, place)
    return value


def field_of(value: Value, name: str, place: str = "") -> Value:
    if value.kind == "JSON":
        return replace(made(f"bq_json_member({value.sql}, {_text(name)})", value.type, value))
    if value.kind != "STRUCT":
        raise refusal(f"Cannot access field {name} on a value with type {value.type}", place)
    found = [index for index, (held, _) in enumerate(value.type.fields) if held.lower() == name.lower() and held]
    if len(found) > 1:
        raise refusal(f"Struct field name {name} is ambiguous", place)
    if not found:
        raise refusal(f"Field name {name} does not exist in {value.type}", place)
    kind: Type = value.type.fields[found[0]][1]
    taken = made(f"({value.sql}).{quoted(value.type.duckdb_names()[found[0]])}", kind, value)
    if value.path is None:
        return taken
    path = (value.path[0], f"{value.path[1]}.{name.lower()}")
    return replace(taken, path=path, reads=frozenset({path}))


def _text(name: str) -> str:
    return Value("'" + name.replace("'", "''") + "'", STRING).sql


def refusal(message: str, place: str) -> ApiError:
    return invalid_query(message + place)


def place_of_node(node: exp.Expr) -> str:
    """Where an identifier was written, as BigQuery ends its messages; "" where that is not known."""
    meta = node.meta
    if "line" not in meta or "col" not in meta:
        return ""
    return f" at [{meta['line']}:{meta['col'] - (meta['end'] - meta['start'])}]"
