"""Names, literals, casts, conditions, subqueries, arrays and structs."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.casts import cast
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.names import field_of, fields_of, place_of_node, resolved
from agnes_mcp.stand_in.googlesql.operators import equal
from agnes_mcp.stand_in.googlesql.rules import BARE_CALLS, Clause, call, rule, value_of
from agnes_mcp.stand_in.googlesql.values import (
    Value,
    as_type,
    coerced,
    common,
    floating,
    integer,
    made,
    null_of,
    packed,
    string,
    text,
    unsupported,
)
from agnes_mcp.stand_in.wire.replies import invalid_query


@rule(exp.Column)
def _column(node: exp.Column, clause: Clause) -> Value:
    if isinstance(node.this, exp.Star):
        raise unsupported("* here")
    path = [part for part in node.parts if isinstance(part, exp.Identifier)]
    first = path[0]
    if len(path) == 1 and first.name.upper() in BARE_CALLS and not first.args.get("quoted"):
        return value_of(exp.Anonymous(this=first.name.upper()), clause)
    return resolved(clause.scope, path, place_of_node(path[0] if len(path) == 1 else path[1]))


@rule(exp.Dot)
def _dot(node: exp.Dot, clause: Clause) -> Value:
    if isinstance(node.expression, exp.Anonymous):
        return value_of(node.expression, clause)  # a call of HLL_COUNT.X or of a routine knows its path
    if not isinstance(node.expression, exp.Identifier):
        raise unsupported("this path")
    return fields_of(value_of(node.this, clause), [node.expression], place_of_node(node.expression))


@rule(exp.Paren)
def _paren(node: exp.Paren, clause: Clause) -> Value:
    return value_of(node.this, clause)


@rule(exp.Alias)
def _alias(node: exp.Alias, clause: Clause) -> Value:
    return value_of(node.this, clause)


@rule(exp.Literal)
def _literal(node: exp.Literal, clause: Clause) -> Value:
    if node.is_string:
        return string(node.name)
    return integer(int(node.name)) if node.name.isdigit() else floating(node.name)


@rule(exp.RawString)
def _raw_string(node: exp.RawString, clause: Clause) -> Value:
    return string(node.name)


@rule(exp.HexString)
def _hex_number(node: exp.HexString, clause: Clause) -> Value:
    return integer(int(node.name, 16))


@rule(exp.ByteString)
def _bytes(node: exp.ByteString, clause: Clause) -> Value:
    if not node.name.isascii() and not clause.session.sql.isascii():
        raise unsupported("BYTES literals with other than ASCII characters")  # sqlglot has unescaped \\xff by now
    raw = node.name.encode("latin-1")
    return Value(f"from_hex('{raw.hex()}')", t.BYTES)


@rule(exp.Boolean)
def _boolean(node: exp.Boolean, clause: Clause) -> Value:
    return Value("TRUE" if node.this else "FALSE", t.BOOL)


@rule(exp.Null)
def _null(node: exp.Null, clause: Clause) -> Value:
    return null_of()


@rule(exp.Parameter)
def _parameter(node: exp.Parameter, clause: Clause) -> Value:
    if isinstance(node.this, exp.Parameter) or clause.session.parameter is None:
        raise invalid_query(f"Query parameter '{node.name}' not found")
    return clause.session.parameter(node.this.name)


@rule(exp.Placeholder)
def _placeholder(node: exp.Placeholder, clause: Clause) -> Value:
    position = clause.session.next_position()
    if clause.session.parameter is None:
        raise invalid_query("Query parameter number 1 is not defined")
    return clause.session.parameter(position)


@rule(exp.Concat)
def _adjacent(node: exp.Concat, clause: Clause) -> Value:
    parts = [value_of(part, clause) for part in node.expressions]
    if any(part.literal != "string" for part in parts):
        raise unsupported("adjacent literals other than strings")
    return string("".join(part.text for part in parts))


@rule(exp.Cast, exp.TryCast)
def _cast(node: exp.Cast, clause: Clause) -> Value:
    safe = isinstance(node, exp.TryCast)
    if unread(node, "this", "to", "safe", "format") or node.to.args.get("nullable"):
        raise unsupported("this CAST")
    kind = t.named_type(node.to)
    given = node.this
    if isinstance(given, exp.Struct | exp.Array) and not safe:
        return _typed_constructor(given, kind, clause)
    form = node.args.get("format")
    shape = value_of(form, clause) if form is not None else None
    return cast(value_of(given, clause), kind, safe, shape, node.to)


def _typed_constructor(node: exp.Expr, kind: t.Type, clause: Clause) -> Value:
    """`STRUCT<a INT64>(1)` and `ARRAY<INT64>[1]`."""
    values = [value_of(part, clause) for part in node.expressions]
    if kind.kind == "ARRAY":
        return _array([as_type(value, kind.of, "An array element") for value in values], kind.of)
    if len(values) != len(kind.fields):
        raise invalid_query(f"STRUCT type has {len(kind.fields)} fields but constructor call has {len(values)} fields")
    parts = [as_type(v, held, "A STRUCT field") for v, (_, held) in zip(values, kind.fields, strict=True)]
    return made(packed(kind, [part.sql for part in parts]), kind, *parts)


def _array(values: list[Value], element: t.Type) -> Value:
    inside = ", ".join(value.sql for value in values)
    kind = t.array_of(element)
    return made(f"CAST([{inside}] AS {kind.duckdb()})", kind, *values)


@rule(exp.Array)
def _array_literal(node: exp.Array, clause: Clause) -> Value:
    values = [value_of(part, clause) for part in node.expressions]
    if any(value.kind == "ARRAY" for value in values):
        raise invalid_query("Cannot construct array with element type ARRAY because nested arrays are not supported")
    if not values:
        return _array([], t.NULL)
    unified = common(values, "operator ARRAY")
    kind = unified[0].type
    found = _array(unified, kind)
    forms = {value.literal for value in values}
    return replace(found, literal="float" if forms <= {"float", "int"} and "float" in forms else "")


@call("STRUCT")
def _struct(node: exp.Anonymous, clause: Clause) -> Value:
    parts = [value_of(part, clause) for part in node.expressions]
    names = [
        part.alias if isinstance(part, exp.Alias) else part.name if isinstance(part, exp.Column | exp.Dot) else ""
        for part in node.expressions
    ]
    kind = t.struct_of(zip(names, (part.type for part in parts), strict=True))
    return made(packed(kind, [part.sql for part in parts]) if parts else "NULL", kind, *parts)


@rule(exp.Tuple)
def _tuple(node: exp.Tuple, clause: Clause) -> Value:
    parts = [value_of(part, clause) for part in node.expressions]
    kind = t.struct_of(("", part.type) for part in parts)
    return made(packed(kind, [part.sql for part in parts]), kind, *parts)


@rule(exp.Case)
def _case(node: exp.Case, clause: Clause) -> Value:
    tests = [value_of(branch.this, clause) for branch in node.args["ifs"]]
    results = [value_of(branch.args["true"], clause) for branch in node.args["ifs"]]
    default = node.args.get("default")
    results = common([*results, value_of(default, clause) if default is not None else null_of()], "operator CASE")
    if node.this is not None:
        subject = value_of(node.this, clause)
        tests = [equal(subject, case) for case in tests]
    tests = [as_type(case, t.BOOL, "CASE WHEN") for case in tests]
    branches = " ".join(f"WHEN {a.sql} THEN {b.sql}" for a, b in zip(tests, results[:-1], strict=True))
    return made(f"CASE {branches} ELSE {results[-1].sql} END", results[-1].type, *tests, *results)


@rule(exp.Bracket)
def _element(node: exp.Bracket, clause: Clause) -> Value:
    if len(node.expressions) != 1:
        raise unsupported("several subscripts in one bracket")
    held, index = value_of(node.this, clause), value_of(node.expressions[0], clause)
    if held.kind == "JSON":
        return _json_element(held, index)
    if held.kind != "ARRAY":
        raise invalid_query(f"Element access using [] is not supported on values of type {held.type}")
    position = as_type(index, t.INT64, "Array position")
    number = f"({position.sql} - 1)" if node.args.get("offset") == 1 else position.sql
    if node.args.get("safe"):
        return made(f"bq_safe_element({held.sql}, {number})", held.type.of, held, position)
    return made(f"bq_element({held.sql}, {number})", held.type.of, held, position)


def _json_element(held: Value, index: Value) -> Value:
    if index.kind == "STRING":
        if index.literal == "string":
            return field_of(held, index.text)
        return made(f"bq_json_member({held.sql}, {index.sql})", t.JSON, held, index)
    position = as_type(index, t.INT64, "JSON position")
    return made(f"bq_json_item({held.sql}, {position.sql})", t.JSON, held, position)


@rule(exp.Subquery)
def _scalar_subquery(node: exp.Subquery, clause: Clause) -> Value:
    if unread(node, "this"):
        raise unsupported("this subquery")
    return _one_column(node.this, clause, "Scalar subquery", "({})")


@call("ARRAY")
def _array_subquery(node: exp.Anonymous, clause: Clause) -> Value:
    if len(node.expressions) != 1 or not isinstance(node.expressions[0], exp.Query):
        raise unsupported("ARRAY of anything but a subquery")
    found = _one_column(node.expressions[0], clause, "ARRAY subquery", "coalesce(ARRAY({}), [])")
    if found.kind == "ARRAY":
        raise invalid_query(
            "Cannot use array subquery with column of type ARRAY because nested arrays are not supported"
        )
    return replace(found, type=t.array_of(found.type))


def _one_column(query: exp.Expr, clause: Clause, what: str, template: str) -> Value:
    relation = clause.session.compile_query(clause.session, query, clause.scope, clause.ctes)
    if len(relation.columns) != 1:
        raise invalid_query(
            f"{what} cannot have more than one column unless using SELECT AS STRUCT to build STRUCT values"
        )
    value = relation.columns[0].value
    reads = relation.always | value.reads
    return Value(template.format(relation.sql), value.type, reads, volatile=value.volatile)


@rule(exp.Exists)
def _exists(node: exp.Exists, clause: Clause) -> Value:
    relation = clause.session.compile_query(clause.session, node.this, clause.scope, clause.ctes)
    return Value(f"EXISTS ({relation.sql})", t.BOOL, relation.always)


@rule(exp.Interval)
def _interval(node: exp.Interval, clause: Clause) -> Value:
    unit = node.args.get("unit")
    if not isinstance(unit, exp.Var) or unit.name.upper() not in INTERVAL_UNITS:
        raise unsupported("INTERVAL with a range of parts")
    if isinstance(node.this, exp.Literal):
        amount = integer(int(node.this.name)) if node.this.name.lstrip("+-").isdigit() else None
    else:
        amount = coerced(as_type(value_of(node.this, clause), t.INT64, "INTERVAL value"), t.INT64)
    if amount is None:
        raise invalid_query(f"Invalid INTERVAL value {text(node.this.name)}")
    return made(f"{INTERVAL_UNITS[unit.name.upper()]}({amount.sql})", t.INTERVAL, amount)


INTERVAL_UNITS = {
    "MICROSECOND": "to_microseconds",
    "MILLISECOND": "to_milliseconds",
    "SECOND": "to_seconds",
    "MINUTE": "to_minutes",
    "HOUR": "to_hours",
    "DAY": "to_days",
    "WEEK": "to_weeks",
    "MONTH": "to_months",
    "QUARTER": "to_quarters",
    "YEAR": "to_years",
}


@rule(exp.ParseJSON)
def _json_literal(node: exp.ParseJSON, clause: Clause) -> Value:
    return made(f"CAST({text(node.this.name)} AS JSON)", t.JSON)
