"""Query parameters, as REST describes them, as GoogleSQL literals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlglot import exp

from agnes_mcp.stand_in.wire.replies import ApiError, invalid

#: Types whose REST names are not GoogleSQL's.
_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "DECIMAL": "NUMERIC"}


def parameters_of(
    given: Sequence[Mapping[str, Any]] | None, mode: str | None
) -> Callable[[str | int], exp.Expr] | None:
    """A look-up of a parameter's value by name or 0-based position; None where the query has none."""
    if not given:
        return None
    named = (mode or ("NAMED" if given[0].get("name") else "POSITIONAL")).upper() == "NAMED"
    values: dict[str | int, exp.Expr] = {
        (str(entry["name"]).lower() if named else index): _literal(
            entry["parameterType"], entry.get("parameterValue") or {}
        )
        for index, entry in enumerate(given)
    }

    def value_of(key: str | int) -> exp.Expr:
        folded = key.lower() if isinstance(key, str) else key
        if folded not in values:
            raise ApiError(400, "invalidQuery", f"Query parameter '{key}' not found", "q")
        return values[folded].copy()

    return value_of


def _literal(kind: Mapping[str, Any], value: Mapping[str, Any]) -> exp.Expr:
    name = _STANDARD.get(str(kind["type"]).upper(), str(kind["type"]).upper())
    if name == "ARRAY":
        elements = [_literal(kind["arrayType"], element) for element in value.get("arrayValues") or ()]
        return exp.Array(expressions=elements)
    if name == "STRUCT":
        fields = value.get("structValues") or {}
        parts = [exp.alias_(_literal(f["type"], fields[f["name"]]), f["name"]) for f in kind["structTypes"]]
        return exp.Struct(expressions=parts)
    given = value.get("value")
    literal = exp.Null() if given is None else exp.Literal.string(str(given))
    try:
        return exp.cast(literal, exp.DataType.build(name, dialect="bigquery"))
    except ValueError:
        raise invalid(f"Invalid parameter type: {name}") from None
