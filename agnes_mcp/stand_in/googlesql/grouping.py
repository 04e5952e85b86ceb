"""GROUP BY: keys by expression, number or alias, ROLLUP, CUBE, GROUPING SETS and ALL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.values import Read, Value, comparable, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

Outputs = Sequence[tuple[str, Value, exp.Expr | None]]


@dataclass
class Groups:
    """`sql` is what follows GROUP BY; `keys` the texts of all keys."""

    sql: str = ""
    keys: dict[str, Value] = field(default_factory=dict)
    reads: frozenset[Read] = frozenset()
    sets: bool = False

    def covers(self, value: Value) -> bool:
        """Whether `value` is a field of a key."""
        return any(value.sql.startswith(f"({key}).") for key in self.keys)


def grouped(node: exp.Select, clause: Clause, outputs: Outputs, aliases: Mapping[str, Value]) -> Groups | None:
    """What the SELECT groups by; None where it has no GROUP BY."""
    group = node.args.get("group")
    if group is None:
        return None
    if unread(group, "expressions", "all"):
        raise unsupported("this GROUP BY")
    found = Groups()
    inner = replace(clause, aggregates=False, analytic=False, name="GROUP BY clause")
    if group.args.get("all"):
        plain = [value for _, value, _ in outputs if not (value.aggregated or value.windowed or value.literal)]
        found.sql = ", ".join(_key(found, value) for value in plain)
        return found
    parts = [_part(part, inner, outputs, aliases, found) for part in group.expressions]
    found.sql = ", ".join(part for part in parts if part)
    return found


def _part(part: exp.Expr, clause: Clause, outputs: Outputs, aliases: Mapping[str, Value], found: Groups) -> str:
    if isinstance(part, exp.Rollup | exp.Cube):
        found.sets = True
        word = "ROLLUP" if isinstance(part, exp.Rollup) else "CUBE"
        return f"{word} ({', '.join(_set(inner, clause, outputs, aliases, found) for inner in part.expressions)})"
    if isinstance(part, exp.GroupingSets):
        found.sets = True
        inside = [
            _part(inner, clause, outputs, aliases, found)
            if isinstance(inner, exp.Rollup | exp.Cube)
            else _set(inner, clause, outputs, aliases, found)
            for inner in part.expressions
        ]
        return f"GROUPING SETS ({', '.join(inside)})"
    if isinstance(part, exp.Tuple) and not part.expressions:
        return ""
    return _key(found, _keyed(part, clause, outputs, aliases))


def _set(part: exp.Expr, clause: Clause, outputs: Outputs, aliases: Mapping[str, Value], found: Groups) -> str:
    if isinstance(part, exp.Tuple):
        return f"({', '.join(_key(found, _keyed(key, clause, outputs, aliases)) for key in part.expressions)})"
    return _key(found, _keyed(part, clause, outputs, aliases))


def _keyed(part: exp.Expr, clause: Clause, outputs: Outputs, aliases: Mapping[str, Value]) -> Value:
    """A number is an output, a name is a SELECT alias before it is a column."""
    if isinstance(part, exp.Literal) and not part.is_string and part.name.isdigit():
        if not 1 <= int(part.name) <= len(outputs):
            raise invalid_query(f"GROUP BY column number item is out of range. It should be in [1, {len(outputs)}]")
        value = outputs[int(part.name) - 1][1]
    elif isinstance(part, exp.Column) and len(part.parts) == 1 and part.name.lower() in aliases:
        value = aliases[part.name.lower()]
    else:
        value = value_of(part, clause)
    if value.aggregated or value.windowed:
        raise invalid_query("Cannot GROUP BY an aggregate function")
    return value


def _key(found: Groups, value: Value) -> str:
    if value.kind in (*t.UNGROUPED, "ARRAY") or value.type.collation:
        raise invalid_query(f"Grouping by expressions of type {value.type} is not allowed")
    if value.literal:
        raise invalid_query("Cannot GROUP BY literal values")
    found.keys[value.sql] = value
    found.reads |= value.reads
    return value.sql if value.kind != "BIGNUMERIC" else comparable(value) and value.sql
