"""GoogleSQL's types: how they are written, kept in DuckDB, and turned into each other without being asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from agnes_mcp.stand_in.fields import DUCKDB_TYPES, Field, from_sql_type, quoted
from agnes_mcp.stand_in.wire.replies import invalid_query


@dataclass(frozen=True)
class Type:
    """`kind` is GoogleSQL's name, or NULL for a NULL of no type yet. `fields` are (name, type), "" for no name."""

    kind: str
    element: Type | None = None
    fields: tuple[tuple[str, Type], ...] = ()
    collation: str = ""

    def __str__(self) -> str:
        if self.kind in ("ARRAY", "RANGE"):
            return f"{self.kind}<{self.element}>"
        if self.kind == "STRUCT":
            return f"STRUCT<{', '.join(f'{name} {kind}'.strip() for name, kind in self.fields)}>"
        return "INT64" if self.kind == "NULL" else self.kind

    @property
    def of(self) -> Type:
        """The element's type."""
        return self.element or NULL

    def duckdb_names(self) -> list[str]:
        """What DuckDB calls a STRUCT's fields: it takes neither nameless fields nor two of one name."""
        names: list[str] = []
        for index, (name, _) in enumerate(self.fields):
            free = name and name.lower() not in {taken.lower() for taken in names}
            names.append(name if free else f"_field_{index + 1}")
        return names

    def duckdb(self) -> str:
        if self.kind == "ARRAY":
            return f"{self.of.duckdb()}[]"
        if self.kind == "STRUCT":
            pairs = zip(self.duckdb_names(), self.fields, strict=True)
            return "STRUCT(" + ", ".join(f"{quoted(name)} {kind.duckdb()}" for name, (_, kind) in pairs) + ")"
        if self.kind == "RANGE":
            return f'STRUCT("start" {self.of.duckdb()}, "end" {self.of.duckdb()})'
        return DUCKDB_TYPES["INT64" if self.kind == "NULL" else self.kind]


NULL = Type("NULL")
INT64, FLOAT64, NUMERIC, BIGNUMERIC = Type("INT64"), Type("FLOAT64"), Type("NUMERIC"), Type("BIGNUMERIC")
STRING, BYTES, BOOL, JSON = Type("STRING"), Type("BYTES"), Type("BOOL"), Type("JSON")
DATE, TIME, DATETIME, TIMESTAMP = Type("DATE"), Type("TIME"), Type("DATETIME"), Type("TIMESTAMP")
INTERVAL = Type("INTERVAL")

NUMBERS = ("INT64", "NUMERIC", "BIGNUMERIC", "FLOAT64")  # each turns into those after it
TEMPORAL = ("DATE", "DATETIME", "TIMESTAMP", "TIME")
#: Types whose values have no order, and so no MIN, no `<` and no ORDER BY.
UNORDERED = ("STRUCT", "ARRAY", "JSON", "GEOGRAPHY")
#: Types whose values are never grouped or compared.
UNGROUPED = ("JSON", "GEOGRAPHY")


def array_of(element: Type) -> Type:
    return Type("ARRAY", element)


def struct_of(fields: Iterable[tuple[str, Type]]) -> Type:
    return Type("STRUCT", fields=tuple(fields))


def type_of(field: Field) -> Type:
    """The type of a stored column."""
    if field.type == "STRUCT":
        base = struct_of((inner.name, type_of(inner)) for inner in field.fields)
    elif field.type == "RANGE":
        base = Type("RANGE", Type(field.element))
    else:
        base = Type(field.type)
    return array_of(base) if field.repeated else base


def field_of(name: str, kind: Type) -> Field:
    """A column of a result."""
    if kind.kind == "ARRAY":
        inner = field_of(name, kind.of)
        if kind.of.kind == "ARRAY":
            raise invalid_query(f"Cannot create a result with an array of arrays in column {name}")
        return Field(name, inner.type, "REPEATED", "", inner.fields, inner.element)
    if kind.kind == "STRUCT":
        names = [given or f"_field_{index + 1}" for index, (given, _) in enumerate(kind.fields)]
        parts = zip(names, kind.fields, strict=True)
        return Field(name, "STRUCT", fields=tuple(field_of(inner, held) for inner, (_, held) in parts))
    if kind.kind == "RANGE":
        return Field(name, "RANGE", element=kind.of.kind)
    return Field(name, "INT64" if kind.kind == "NULL" else kind.kind)


def named_type(kind: exp.DataType) -> Type:
    """The type that a statement names, as sqlglot parsed it."""
    return type_of(_whole(kind))


def _whole(kind: Any) -> Field:
    if kind.this == exp.DType.STRUCT:
        parts = [_struct_part(part, index) for index, part in enumerate(kind.expressions)]
        return Field("", "STRUCT", fields=tuple(parts))
    if kind.this == exp.DType.ARRAY and kind.expressions:
        element = _whole(kind.expressions[0])
        return Field("", element.type, "REPEATED", "", element.fields, element.element)
    return from_sql_type("", kind)


def _struct_part(part: exp.Expr, index: int) -> Field:
    held = part.args["kind"] if isinstance(part, exp.ColumnDef) else part
    inner = _whole(held)
    name = part.name if isinstance(part, exp.ColumnDef) else ""
    return Field(name, inner.type, inner.mode, "", inner.fields, inner.element)


def coercion_cost(given: Type, wanted: Type, literal: str = "") -> int | None:
    """How far `given` is from `wanted` where GoogleSQL turns one into the other by itself; None where it does not.

    `literal` is "int", "float" or "string" for a literal of that form, which turns into more than other values do.
    """
    if given == wanted or (given.kind == wanted.kind and given.kind not in ("ARRAY", "STRUCT", "RANGE")):
        return 0
    if given.kind == "NULL":
        return 1
    if given.kind in NUMBERS and wanted.kind in NUMBERS:
        return _number_cost(given, wanted, literal)
    if literal == "string" and wanted.kind in TEMPORAL:
        return 2
    if given.kind == "DATE" and wanted.kind == "DATETIME":
        return 2
    if given.kind == wanted.kind == "ARRAY":
        return 1 if given.of.kind == "NULL" else coercion_cost(given.of, wanted.of, literal if literal else "")
    if given.kind == wanted.kind == "STRUCT" and len(given.fields) == len(wanted.fields):
        costs = [coercion_cost(a, b) for (_, a), (_, b) in zip(given.fields, wanted.fields, strict=True)]
        return None if None in costs else 1 + sum(cost or 0 for cost in costs)
    return None


def _number_cost(given: Type, wanted: Type, literal: str) -> int | None:
    distance = NUMBERS.index(wanted.kind) - NUMBERS.index(given.kind)
    if distance > 0:
        return {"FLOAT64": 2, "NUMERIC": 3, "BIGNUMERIC": 4}[wanted.kind] if given.kind == "INT64" else distance + 1
    return 4 - distance if literal == "float" and wanted.kind in ("NUMERIC", "BIGNUMERIC") else None


def supertype(types: Sequence[tuple[Type, str]]) -> Type | None:
    """The type that all of (type, literal form) turn into; values that are no literals decide first."""
    known = [(kind, form) for kind, form in types if kind.kind != "NULL"]
    if not known:
        return NULL
    firm = [kind for kind, form in known if not form] or [kind for kind, _ in known]
    candidates = [*firm, *(kind for kind, _ in known)]
    if all(kind.kind == "STRUCT" for kind, _ in known):
        merged = _merged_struct([kind for kind, _ in known])
        candidates += [merged] if merged else []
    if any(kind.kind in NUMBERS for kind in firm):
        widest = max((kind for kind in firm if kind.kind in NUMBERS), key=lambda kind: NUMBERS.index(kind.kind))
        candidates = [widest, *candidates]
    for candidate in dict.fromkeys(candidates):
        if all(coercion_cost(kind, candidate, form) is not None for kind, form in known):
            return candidate
    return None


def _merged_struct(kinds: Sequence[Type]) -> Type | None:
    if len({len(kind.fields) for kind in kinds}) != 1:
        return None
    merged: list[tuple[str, Type]] = []
    for parts in zip(*(kind.fields for kind in kinds), strict=True):
        common = supertype([(kind, "") for _, kind in parts])
        if common is None:
            return None
        merged.append((parts[0][0], common))
    return struct_of(merged)
