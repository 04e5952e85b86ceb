"""JSON: what is taken out of it, and what is made of it."""

from __future__ import annotations

import re

from sqlglot import exp

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.rules import Clause, arguments, call, value_of
from agnes_mcp.stand_in.googlesql.values import Value, made, no_signature, string, text, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

#: JSON functions by what they answer: one text, one JSON or JSON-formatted text, and arrays of these.
_JSON_ANSWERS = {
    "JSON_VALUE": "scalar",
    "JSON_EXTRACT_SCALAR": "scalar",
    "JSON_QUERY": "json",
    "JSON_EXTRACT": "json",
    "JSON_QUERY_ARRAY": "jsons",
    "JSON_EXTRACT_ARRAY": "jsons",
    "JSON_VALUE_ARRAY": "scalars",
    "JSON_EXTRACT_STRING_ARRAY": "scalars",
}
_STEP = re.compile(r"\.(?P<name>[\w-]+)|\.\"(?P<quoted>(?:[^\"\\]|\\.)+)\"|\[(?P<index>\d+)\]|\['(?P<old>[^']+)'\]")


@call(*_JSON_ANSWERS)
def _json(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    given = arguments(node, clause, 1, 2)
    held, path = given[0], given[1] if len(given) > 1 else string("$")
    if held.kind not in ("JSON", "STRING", "NULL"):
        raise no_signature(f"function {name}", given)
    if path.literal != "string":
        raise unsupported(f"{name} with a path that is no literal")
    document = (
        held.sql if held.kind == "JSON" else f"CASE WHEN json_valid({held.sql}) THEN CAST({held.sql} AS JSON) END"
    )
    found = document if path.text == "$" else f"json_extract({document}, {text(_json_path(path.text, name))})"
    sql, kind = _json_answer(_JSON_ANSWERS[name], found, held.kind == "JSON")
    if held.kind == "STRING" and _JSON_ANSWERS[name] == "scalar":
        sql = f"bq_as_written({held.sql}, {found}, {sql})"
    return made(sql, kind, held)


def _json_path(path: str, name: str) -> str:
    steps = list(_STEP.finditer(path, 1))
    if not path.startswith("$") or "".join(step[0] for step in steps) != path[1:]:
        raise invalid_query(f"Invalid JSONPath {path!r} in {name}")
    shown = ["$"]
    for step in steps:
        member = step["name"] or step["quoted"] or step["old"]
        shown.append(f'."{member}"' if member is not None else f"[{step['index']}]")
    return "".join(shown)


def _json_answer(answer: str, found: str, typed: bool) -> tuple[str, t.Type]:
    whole = t.JSON if typed else t.STRING
    if answer == "scalar":
        return f"bq_json_scalar({found})", t.STRING
    if answer == "json":
        return (found, t.JSON) if typed else (f"CAST(nullif(CAST({found} AS VARCHAR), 'null') AS VARCHAR)", t.STRING)
    listed = f"CASE WHEN json_type({found}) = 'ARRAY' THEN CAST({found} AS JSON[]) END"
    if answer == "jsons":
        return (listed if typed else f"CAST({listed} AS VARCHAR[])"), t.array_of(whole)
    only = f"len(list_filter({listed}, lambda e: json_type(e) IN ('OBJECT', 'ARRAY'))) = 0"
    return f"CASE WHEN {only} THEN list_transform({listed}, lambda e: bq_json_scalar(e)) END", t.array_of(t.STRING)


@call("TO_JSON_STRING", "TO_JSON")
def _to_json(node: exp.Anonymous, clause: Clause) -> Value:
    [value] = arguments(node, clause, 1)
    sql = _as_json(value)
    return (
        made(f"CAST({sql} AS VARCHAR)", t.STRING, value)
        if node.name.upper() == "TO_JSON_STRING"
        else made(sql, t.JSON, value)
    )


def _as_json(value: Value) -> str:
    """The JSON of a value, as GoogleSQL writes it."""
    if value.kind == "STRUCT":
        names = [given for given, _ in value.type.fields]
        parts = [
            f"{text(given)}, {_as_json(Value(f'({value.sql}).{quoted(name)}', kind))}"
            for given, name, (_, kind) in zip(names, value.type.duckdb_names(), value.type.fields, strict=True)
        ]
        return f"CASE WHEN {value.sql} IS NULL THEN CAST('null' AS JSON) ELSE json_object({', '.join(parts)}) END"
    if value.kind == "ARRAY":
        return f"to_json(list_transform(coalesce({value.sql}, []), lambda e: {_as_json(Value('e', value.type.of))}))"
    if value.kind == "INT64":
        return f"bq_json_number({value.sql}, abs({value.sql}) <= 9007199254740992, CAST({value.sql} AS VARCHAR))"
    if value.kind in ("BOOL", "STRING", "NULL", "JSON", "DATE"):
        return f"coalesce(to_json({value.sql}), CAST('null' AS JSON))"
    if value.kind == "FLOAT64":
        return f"bq_json_float_text({value.sql})"
    if value.kind == "NUMERIC":
        whole = f"{value.sql} = trunc({value.sql}) AND abs({value.sql}) <= 9007199254740992"
        return f"bq_json_number({value.sql}, {whole}, bq_numeric_text({value.sql}))"
    shown = {
        "DATETIME": f"replace(bq_datetime_text({value.sql}), ' ', 'T')",
        "TIMESTAMP": f"replace(bq_datetime_text(CAST({value.sql} AS TIMESTAMP)), ' ', 'T') || 'Z'",
        "TIME": f"bq_time_text({value.sql})",
        "BYTES": f"to_base64({value.sql})",
    }.get(value.kind, "")
    if not shown:
        raise unsupported(f"TO_JSON of {value.type}")
    return f"coalesce(to_json({shown}), CAST('null' AS JSON))"


@call("JSON_OBJECT")
def _json_object(node: exp.Anonymous, clause: Clause) -> Value:
    values = [value_of(part, clause) for part in node.expressions]
    if len(values) % 2 or any(key.kind != "STRING" for key in values[::2]):
        raise unsupported("JSON_OBJECT of anything but names and values")
    pairs = zip(values[::2], values[1::2], strict=True)
    parts = ", ".join(f"{key.sql}, {_as_json(value)}" for key, value in pairs)
    return made(f"json_object({parts})", t.JSON, *values)


@call("JSON_ARRAY")
def _json_array(node: exp.Anonymous, clause: Clause) -> Value:
    values = [value_of(part, clause) for part in node.expressions]
    return made(f"json_array({', '.join(map(_as_json, values))})", t.JSON, *values)


_DEEPEST = 4  # the DuckDB text doubles with each level


@call("JSON_KEYS")
def _json_keys(node: exp.Anonymous, clause: Clause) -> Value:
    """Every path that a JSON's objects have, not those within arrays, in alphabetical order."""
    values = arguments(node, clause, 1, 2)
    if values[0].kind != "JSON" or (len(values) == 2 and values[1].literal != "int"):
        raise no_signature("function JSON_KEYS", values)
    depth = int(values[1].text) if len(values) == 2 else _DEEPEST
    if depth > _DEEPEST:
        raise unsupported(f"JSON_KEYS to a depth of more than {_DEEPEST}")
    sql = _keys(values[0].sql, depth, "''", 0, len(values) == 1)
    return made(
        f"CASE WHEN {values[0].sql} IS NULL THEN NULL ELSE list_sort({sql}) END", t.array_of(t.STRING), values[0]
    )


def _keys(document: str, depth: int, prefix: str, level: int, whole: bool) -> str:
    key = f"k{level}"
    told = "error('The stand-in lists JSON keys of letters, digits, _ and spaces')"
    shown = f"CASE WHEN regexp_full_match({key}, '[\\w ]+') THEN {key} ELSE {told} END"
    path = f"{prefix} || {shown}"
    inner = f"[{path}]"
    if depth == 1 and whole:
        deeper = f"json_type(bq_json_member({document}, {key})) = 'OBJECT'"
        told = f"error('The stand-in lists JSON keys to a depth of {_DEEPEST}')"
        inner = f"CASE WHEN {deeper} THEN {told} ELSE {inner} END"
    if depth > 1:
        member = f"bq_json_member({document}, {key})"
        inner += " || " + _keys(member, depth - 1, f"{path} || '.'", level + 1, whole)
    keys = f"CASE WHEN json_type({document}) = 'OBJECT' THEN json_keys({document}) ELSE [] END"
    return f"flatten(list_transform({keys}, lambda {key}: {inner}))"
