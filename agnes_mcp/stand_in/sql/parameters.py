"""Query parameters, as REST describes them, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.casts import cast
from agnes_mcp.stand_in.googlesql.values import Value, coerced, floating, integer, made, null_of, packed, string
from agnes_mcp.stand_in.wire.replies import ApiError, invalid

#: Types whose REST names are not GoogleSQL's.
_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "DECIMAL": "NUMERIC"}


def parameters_of(given: Sequence[Mapping[str, Any]] | None, mode: str | None) -> Callable[[str | int], Value] | None:
    """A look-up of a parameter's value by name or 0-based position; None where the query has none."""
    if not given:
        return None
    named = (mode or ("NAMED" if given[0].get("name") else "POSITIONAL")).upper() == "NAMED"
    values: dict[str | int, Value] = {
        (str(entry["name"]).lower() if named else index): _value(
            entry["parameterType"], entry.get("parameterValue") or {}
        )
        for index, entry in enumerate(given)
    }

    def value_of(key: str | int) -> Value:
        folded = key.lower() if isinstance(key, str) else key
        if folded not in values:
            raise ApiError(400, "invalidQuery", f"Query parameter '{key}' not found", "q")
        return values[folded]

    return value_of


def _value(kind: Mapping[str, Any], value: Mapping[str, Any]) -> Value:
    name = _STANDARD.get(str(kind["type"]).upper(), str(kind["type"]).upper())
    if name == "ARRAY":
        elements = [_value(kind["arrayType"], element) for element in value.get("arrayValues") or ()]
        wanted = t.array_of(_value(kind["arrayType"], {}).type)
        inside = ", ".join(coerced(element, wanted.of).sql for element in elements)
        return made(f"CAST([{inside}] AS {wanted.duckdb()})", wanted, *elements)
    if name == "STRUCT":
        fields = value.get("structValues") or {}
        parts = [_value(f["type"], fields[f["name"]]) for f in kind["structTypes"]]
        row = t.struct_of(zip((f["name"] for f in kind["structTypes"]), (p.type for p in parts), strict=True))
        return made(packed(row, [part.sql for part in parts]), row, *parts)
    return _scalar(t.Type(name), value.get("value"))


def _scalar(kind: t.Type, given: Any) -> Value:
    try:
        stored = kind.duckdb()
    except KeyError:
        raise invalid(f"Invalid parameter type: {kind.kind}") from None
    if given is None:
        return null_of(kind)
    if kind == t.INT64:
        return integer(int(given))
    if kind == t.FLOAT64:
        return floating(str(given))
    if kind == t.STRING:
        return string(str(given))
    return cast(string(str(given)), kind, False, None, exp.DataType.build(stored, dialect="duckdb"))
