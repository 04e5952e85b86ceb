"""Calls: functions by the name that is written, routines, SAFE., and the functions that no table can describe."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.formats import printed
from agnes_mcp.stand_in.googlesql.grammar import parse_expression
from agnes_mcp.stand_in.googlesql.operators import collated, equal
from agnes_mcp.stand_in.googlesql.rules import Clause, arguments, call, call_rule, rule, value_of, wanted
from agnes_mcp.stand_in.googlesql.signatures import apply, signatures
from agnes_mcp.stand_in.googlesql.values import (
    Value,
    as_type,
    common,
    made,
    no_signature,
    unsupported,
)
from agnes_mcp.stand_in.routines import call_path, opened
from agnes_mcp.stand_in.sql.wording import place_of
from agnes_mcp.stand_in.wire.replies import invalid_query

_VOLATILE = ("RAND", "GENERATE_UUID")


@rule(exp.Anonymous)
def _call(node: exp.Anonymous, clause: Clause) -> Value:
    path = call_path(node)
    if path and path[0].upper() != "HLL_COUNT":
        return _routine(node, path, clause)
    name = ".".join(path).upper() if path else node.name.upper()
    found = call_rule(name)
    if found is not None:
        if clause.safe:
            raise unsupported(f"SAFE.{name}")
        return found(node, clause)
    if name not in signatures():
        raise invalid_query(f"Function not found: {node.name}", *place_of(node.name, clause.session.sql))
    if any(isinstance(part, exp.Kwarg | exp.Star | exp.Query) for part in node.expressions):
        raise unsupported(f"these arguments of {name}")
    values = [value_of(part, clause.unsafe()) for part in node.expressions]
    answer = apply(name, values, clause.safe)
    if name in _VOLATILE:
        clause.session.volatile = True
        return replace(answer, volatile=True)
    return answer


@rule(exp.SafeFunc)
def _safe(node: exp.SafeFunc, clause: Clause) -> Value:
    inner = node.this
    if not isinstance(inner, exp.Anonymous):
        raise unsupported("SAFE of this")
    name = inner.name.upper()
    if name.startswith("PARSE_") and call_rule(name) is not None:
        found = value_of(inner, clause)
        return replace(found, sql=found.sql.replace("error(", "bq_null("))
    if name in ("DATE_ADD", "DATE_SUB", "TIMESTAMP_ADD", "TIMESTAMP_SUB", "DATETIME_ADD", "DATETIME_SUB"):
        found = value_of(inner, clause)
        return replace(found, sql=f"TRY({found.sql})")
    return value_of(inner, replace(clause, safe=True))


@rule(exp.NetFunc)
def _net(node: exp.NetFunc, clause: Clause) -> Value:
    name = node.this.name.upper()
    if name != "HOST":
        raise unsupported(f"NET.{name}")
    [url] = arguments(node.this, clause, 1)
    value = as_type(url, t.STRING, "NET.HOST's argument")
    pattern = r"^\s*(?:(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//)?(?:[^/?#@]*@)?([^/?#:\s]+)"
    return made(f"nullif(regexp_extract({value.sql}, '{pattern}', 1), '')", t.STRING, value)


def _routine(node: exp.Anonymous, path: list[str], clause: Clause) -> Value:
    routine = clause.session.routine(path, clause.session.names)
    if routine not in clause.session.routines:
        clause.session.routines.append(routine)
    return value_of(opened(routine, parse_expression(routine.body), node), clause)


@call("NULLIF")
def _nullif(node: exp.Anonymous, clause: Clause) -> Value:
    a, b = common(arguments(node, clause, 2), "function NULLIF")
    return made(f"CASE WHEN {equal(a, b).sql} THEN NULL ELSE {a.sql} END", a.type, a, b)


@call("GREATEST", "LEAST")
def _extreme(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    if not node.expressions:
        raise no_signature(f"function {name}", [])
    values = common([value_of(part, clause) for part in node.expressions], f"function {name}")
    kind = values[0].type
    if kind.kind in t.UNORDERED or kind.kind == "BIGNUMERIC":
        raise no_signature(f"function {name}", values)
    missing = " OR ".join(f"{value.sql} IS NULL" for value in values)
    taken = f"{name.lower()}({', '.join(value.sql for value in values)})"
    if kind.kind == "FLOAT64":
        nan = " OR ".join(f"isnan({value.sql})" for value in values)
        taken = f"CASE WHEN {nan} THEN CAST('nan' AS DOUBLE) ELSE {taken} END"
    return made(f"CASE WHEN {missing} THEN NULL ELSE {taken} END", kind, *values)


@call("ROUND")
def _rounded(node: exp.Anonymous, clause: Clause) -> Value:
    values = arguments(node, clause, 1, 2)
    return apply("ROUND", values)


@call("FORMAT")
def _format(node: exp.Anonymous, clause: Clause) -> Value:
    if not node.expressions:
        raise no_signature("function FORMAT", [])
    form, *values = [value_of(part, clause) for part in node.expressions]
    if form.literal != "string":
        raise unsupported("FORMAT with a format that is no literal")
    return printed(form.text, values)


@call("COLLATE")
def _collate(node: exp.Anonymous, clause: Clause) -> Value:
    return collated(*arguments(node, clause, 2))


@call("NORMALIZE", "NORMALIZE_AND_CASEFOLD")
def _normalized(node: exp.Anonymous, clause: Clause) -> Value:
    given = wanted(node, 1, 2)
    if len(given) == 2 and given[1].name.upper() != "NFC":
        raise unsupported(f"{node.name.upper()} to {given[1].name.upper()}")
    return apply(node.name.upper(), [value_of(given[0], clause)])


_GROUPS = re.compile(r"(?<!\\)\((?!\?)|\(\?P?<")


@call("REGEXP_INSTR")
def _regexp_position(node: exp.Anonymous, clause: Clause) -> Value:
    """Where the first match begins: what stands before it is the first piece of a split by the pattern."""
    subject, pattern = (as_type(v, t.STRING, "REGEXP_INSTR's argument") for v in arguments(node, clause, 2))
    if pattern.literal != "string" or _GROUPS.search(re.sub(r"\[[^\]]*\]", "", pattern.text)):
        raise unsupported("REGEXP_INSTR with groups, or with a pattern that is no literal")
    told = "error('The stand-in does not answer REGEXP_INSTR of a pattern that matches nothing at all')"
    before = f"length(regexp_split_to_array({subject.sql}, {pattern.sql})[1]) + 1"
    found = f"WHEN regexp_matches({subject.sql}, {pattern.sql}) THEN {before} WHEN {subject.sql} IS NOT NULL THEN 0"
    return made(f"CASE WHEN regexp_matches('', {pattern.sql}) THEN {told} {found} END", t.INT64, subject, pattern)


@call("REGEXP_CONTAINS", "REGEXP_EXTRACT", "REGEXP_SUBSTR", "REGEXP_EXTRACT_ALL", "REGEXP_REPLACE")
def _regexp(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    most = {"REGEXP_CONTAINS": 2, "REGEXP_EXTRACT_ALL": 2, "REGEXP_REPLACE": 3}.get(name, 4)
    values = arguments(node, clause, 3 if name == "REGEXP_REPLACE" else 2, most)
    if values[0].kind not in ("STRING", "NULL") or values[1].kind not in ("STRING", "NULL"):
        raise no_signature(f"function {name}", values)
    subject, pattern, *rest = values
    subject, pattern = (as_type(value, t.STRING, f"{name}'s argument") for value in (subject, pattern))
    if name == "REGEXP_CONTAINS":
        return made(f"regexp_matches({subject.sql}, {pattern.sql})", t.BOOL, subject, pattern)
    if name == "REGEXP_REPLACE":
        by = as_type(rest[0], t.STRING, "REGEXP_REPLACE's replacement")
        return made(f"regexp_replace({subject.sql}, {pattern.sql}, {by.sql}, 'g')", t.STRING, subject, pattern, by)
    if pattern.literal != "string":
        raise unsupported(f"{name} with a pattern that is no literal")
    groups = len(_GROUPS.findall(re.sub(r"\[[^\]]*\]", "", pattern.text)))
    if groups > 1:
        raise invalid_query(f"Regular expression has {groups} capturing groups; {name} takes at most one")
    return _extracted(name, subject, pattern, [as_type(v, t.INT64, f"{name}'s argument") for v in rest], groups)


def _extracted(name: str, subject: Value, pattern: Value, rest: list[Value], group: int) -> Value:
    """What matches, or the one group of it: NULL where nothing does, "" where that is what matched."""
    held = subject.sql if not rest else f"substr({subject.sql}, {rest[0].sql})"
    everything = f"regexp_extract_all({held}, {pattern.sql}, {group})"
    if name == "REGEXP_EXTRACT_ALL":
        return made(everything, t.array_of(t.STRING), subject, pattern)
    nth = rest[1].sql if len(rest) > 1 else "1"
    return made(f"{everything}[{nth}]", t.STRING, subject, pattern, *rest)


@call("ARRAY_TO_STRING")
def _joined(node: exp.Anonymous, clause: Clause) -> Value:
    return apply("ARRAY_TO_STRING", arguments(node, clause, 2, 3))
