"""PIVOT and UNPIVOT as plain SELECTs, with GoogleSQL's columns in GoogleSQL's order."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.aggregates import Aggregate, answer_of, full_name, read_call
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.names import Column, RangeVariable, Scope
from agnes_mcp.stand_in.googlesql.operators import equal
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.values import Read, Value, coerced, common, string, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query


def pivoted(
    node: exp.Pivot, source: str, variable: RangeVariable, clause: Clause
) -> tuple[str, RangeVariable, frozenset[Read]]:
    """The DuckDB text, the names, and what is read whatever is taken, of `source` PIVOTed or UNPIVOTed."""
    inner = replace(clause, scope=Scope(variables=[variable]), ctes={}, name="PIVOT", aggregates=True)
    alias = node.args.get("alias")
    name = alias.name if alias is not None else variable.name if not node.unpivot else ""
    if node.unpivot:
        return _unpivot(node, source, variable, inner, name)
    return _pivot(node, source, variable, inner, name if alias is not None else "")


def _pivot(
    node: exp.Pivot, source: str, variable: RangeVariable, clause: Clause, alias: str
) -> tuple[str, RangeVariable, frozenset[Read]]:
    if len(node.args["fields"]) != 1 or not isinstance(node.args["fields"][0], exp.In):
        raise unsupported("this PIVOT")
    field = node.args["fields"][0]
    key = value_of(field.this, replace(clause, aggregates=False))
    used = set(key.reads)
    answers: list[tuple[str, Value]] = []
    for entry in field.expressions:
        label, wanted = _labelled(entry, replace(clause, aggregates=False))
        for call in node.expressions:
            called = call.unalias()
            if not isinstance(called, exp.Anonymous) or answer_of(full_name(called)) is None:
                raise invalid_query("PIVOT expression must be an aggregate function call")
            value = _only(read_call(called, full_name(called), clause), equal(key, wanted).sql)
            used |= value.reads
            answers.append(("_".join(part for part in (call.alias, label) if part), value))
    touched = {path for _, path in used}
    groups = [column for column in variable.shown if _untouched(column, touched, clause, field, node)]
    return _grouped(source, groups, answers, key, clause, alias)


def _untouched(column: Column, touched: set[str], clause: Clause, field: exp.In, node: exp.Pivot) -> bool:
    """Whether PIVOT groups by `column`: whatever none of its expressions names."""
    named = {c.name.lower() for c in field.this.find_all(exp.Column)}
    for call in node.expressions:
        named |= {c.name.lower() for c in call.find_all(exp.Column)}
    return column.name.lower() not in named


def _labelled(entry: exp.Expr, clause: Clause) -> tuple[str, Value]:
    if isinstance(entry, exp.PivotAlias):
        return entry.args["alias"].name, value_of(entry.this, clause)
    value = value_of(entry, clause)
    if value.literal == "string":
        return value.text, value
    if value.literal == "int":
        return ("_minus_" if value.text.startswith("-") else "_") + value.text.lstrip("-"), value
    if value.kind == "BOOL" and isinstance(entry, exp.Boolean):
        return value.sql, value
    if value.kind == "DATE":
        return "_" + re.sub(r"\W", "_", value.sql.split("'")[1]), value
    raise unsupported("a PIVOT column without an alias whose value is no text, number, date or truth")


def _only(call: Aggregate, condition: str) -> Value:
    """The aggregate over the rows of one pivot value."""
    answer = answer_of(call.name)
    if answer is None or call.order or call.having or call.limit is not None:
        raise unsupported(f"{call.name} with modifiers in PIVOT")
    if call.star:
        call.star = False
        call.values = [Value(f"CASE WHEN {condition} THEN 1 END", t.INT64)]
    elif call.name in ("SUM", "AVG", "COUNT", "MIN", "MAX", "COUNTIF", "LOGICAL_OR", "LOGICAL_AND"):
        head = call.values[0]
        call.values[0] = replace(head, sql=f"CASE WHEN {condition} THEN {head.sql} END", literal="", path=None)
    else:
        raise unsupported(f"{call.name} in PIVOT")
    return answer(call)


def _grouped(
    source: str, groups: list[Column], answers: list[tuple[str, Value]], key: Value, clause: Clause, alias: str
) -> tuple[str, RangeVariable, frozenset[Read]]:
    session = clause.session
    name = session.fresh("r")
    columns, texts = [], []
    for label, value in [*((column.name, column.value) for column in groups), *answers]:
        out = session.fresh("o")
        texts.append(f"{value.sql} AS {out}")
        columns.append(Column(label, Value(f"{name}.{out}", value.type, value.reads, value.path)))
    grouping = " GROUP BY " + ", ".join(column.value.sql for column in groups) if groups else ""
    always = key.reads.union(*(column.value.reads for column in groups))
    return f"(SELECT {', '.join(texts)} FROM {source}{grouping}) AS {name}", RangeVariable(alias, columns), always


def _unpivot(
    node: exp.Pivot, source: str, variable: RangeVariable, clause: Clause, alias: str
) -> tuple[str, RangeVariable, frozenset[Read]]:
    if len(node.expressions) != 1 or unread(node, "expressions", "fields", "unpivot", "include_nulls", "alias"):
        raise unsupported("this UNPIVOT")
    [field] = node.args["fields"]
    labels = _names(node.expressions[0])
    branches = [_branch(entry, len(labels), clause) for entry in field.expressions]
    unpivoted = {value.path or value.sql for _, values in branches for value in values}
    kept = [column for column in variable.shown if (column.value.path or column.value.sql) not in unpivoted]
    firsts = [common([values[i] for _, values in branches], "UNPIVOT") for i in range(len(labels))]
    name, outs = clause.session.fresh("r"), [clause.session.fresh("o") for _ in range(len(kept) + len(labels) + 1)]
    selects = []
    for index, (label, _) in enumerate(branches):
        values = [column.value.sql for column in kept]
        values += [firsts[i][index].sql for i in range(len(labels))] + [label.sql]
        texts = ", ".join(f"{value} AS {out}" for value, out in zip(values, outs, strict=True))
        some = " OR ".join(f"{firsts[i][index].sql} IS NOT NULL" for i in range(len(labels)))
        selects.append(f"SELECT {texts} FROM {source}" + ("" if node.args.get("include_nulls") else f" WHERE {some}"))
    columns = [
        Column(column.name, replace(column.value, sql=f"{name}.{out}")) for column, out in zip(kept, outs, strict=False)
    ]
    read = frozenset[Read]().union(*(value.reads for _, values in branches for value in values))
    for i, shown in enumerate(labels):
        columns.append(Column(shown, Value(f"{name}.{outs[len(kept) + i]}", firsts[i][0].type, read)))
    columns.append(Column(field.this.name, Value(f"{name}.{outs[-1]}", branches[0][0].type)))
    return f"({' UNION ALL '.join(selects)}) AS {name}", RangeVariable(alias, columns), read


def _names(node: exp.Expr) -> list[str]:
    return [part.name for part in node.expressions] if isinstance(node, exp.Tuple) else [node.name]


def _branch(entry: exp.Expr, width: int, clause: Clause) -> tuple[Value, list[Value]]:
    """The label and the columns of one of UNPIVOT's branches."""
    columns, label = entry, None
    if isinstance(entry, exp.PivotAlias):
        columns, label = entry.this, value_of(entry.args["alias"], clause)
    parts = columns.expressions if isinstance(columns, exp.Tuple) else [columns.unnest()]
    if len(parts) != width or any(not isinstance(part, exp.Column) for part in parts):
        raise invalid_query("The number of columns in UNPIVOT's IN clause differs from its values'")
    values = [value_of(part, replace(clause, aggregates=False)) for part in parts]
    shown = label if label is not None else string("_".join(part.name for part in parts))
    return coerced(shown, shown.type), values
