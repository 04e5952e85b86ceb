"""One SELECT: its names, its list, its groups, its order, and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.grouping import Groups, grouped
from agnes_mcp.stand_in.googlesql.names import Column, Relation, Scope, place_of_node, refusal
from agnes_mcp.stand_in.googlesql.ordering import ordered
from agnes_mcp.stand_in.googlesql.pruning import attach_conditions
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.session import Session
from agnes_mcp.stand_in.googlesql.sources import FromClause, Source
from agnes_mcp.stand_in.googlesql.stars import expanded
from agnes_mcp.stand_in.googlesql.tails import tail_text
from agnes_mcp.stand_in.googlesql.values import Read, Value, as_type, made, packed, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

_PARTS = (
    "expressions from_ joins where group having qualify order limit offset distinct with_ windows kind"
    " operation_modifiers"
)


@dataclass
class _Select:
    """The work of one SELECT, clause by clause."""

    session: Session
    node: exp.Select
    scope: Scope
    clause: Clause
    source: Source | None = None
    outputs: list[tuple[str, Value, exp.Expr | None]] = field(default_factory=list)
    aliases: dict[str, Value] = field(default_factory=dict)
    arrays: list[Value] = field(default_factory=list)
    always: frozenset[Read] = frozenset()


def compile_select(session: Session, node: exp.Select, outer: Scope | None, ctes: Mapping[str, Relation]) -> Relation:
    if unread(node, *_PARTS.split()) or (node.args.get("distinct") and node.args["distinct"].args.get("on")):
        raise unsupported("this SELECT")
    windows = {window.name.lower(): window for window in node.args.get("windows") or ()}
    scope = Scope(outer)
    work = _Select(session, node, scope, Clause(session, scope, ctes, windows, "SELECT list", True, True))
    _from(work)
    where = _condition(work, "where", "WHERE clause")
    _list(work)
    groups = grouped(node, work.clause, work.outputs, work.aliases)
    visible = replace(work.clause, scope=scope.with_aliases(work.aliases))
    having = _condition(work, "having", "HAVING clause", replace(visible, analytic=False))
    qualify = _condition(work, "qualify", "QUALIFY clause", visible)
    _refuse_ungrouped(work, groups)
    if having is not None and groups is None and not any(value.aggregated for _, value, _ in work.outputs):
        raise invalid_query("The HAVING clause requires GROUP BY or aggregation to be present")
    return _assembled(work, where, groups, having, qualify)


def _from(work: _Select) -> None:
    node = work.node
    if node.args.get("from_") is None:
        return
    building = FromClause(replace(work.clause, name="FROM clause", aggregates=False, analytic=False), work.scope)
    found = building.item(node.args["from_"].this)
    found = replace(found, sql=found.sql.removeprefix("LATERAL "))
    for join in node.args.get("joins") or ():
        found = building.join(found, join)
    work.source, work.always = found, found.always
    work.arrays = [array for _, array in building.arrays]


def _condition(work: _Select, part: str, name: str, clause: Clause | None = None) -> Value | None:
    held = work.node.args.get(part)
    if held is None:
        return None
    clause = clause or replace(work.clause, aggregates=False, analytic=False)
    value = as_type(value_of(held.this, replace(clause, name=name)), t.BOOL, name)
    work.always |= value.reads
    return value


def _list(work: _Select) -> None:
    """The SELECT list, its stars written out, with the name of each output."""
    for item in work.node.expressions:
        star = expanded(item, work.scope, work.clause)
        if star is not None:
            work.outputs += [(name, value, None) for name, value in star]
            continue
        value = value_of(item, work.clause)
        if value.literal:
            value = replace(value, type=value.type)
        work.outputs.append((_name_of(item), value, item.unalias()))
        if isinstance(item, exp.Alias):
            work.aliases.setdefault(item.alias.lower(), value)
    if not work.outputs:
        raise invalid_query("SELECT list must not be empty")


def _name_of(item: exp.Expr) -> str:
    if isinstance(item, exp.Alias):
        return item.alias
    return item.name if isinstance(item, exp.Column | exp.Dot) and isinstance(_last(item), exp.Identifier) else ""


def _last(item: exp.Expr) -> exp.Expr:
    last: exp.Expr = item.expression if isinstance(item, exp.Dot) else item.this
    return last


def _refuse_ungrouped(work: _Select, groups: Groups | None) -> None:
    """GoogleSQL names the first column that is neither grouped nor aggregated, where DuckDB would as well."""
    if groups is None and any(value.aggregated for _, value, _ in work.outputs):
        groups = Groups()
    if groups is None or groups.sets:
        return
    for _, value, item in work.outputs:
        if value.aggregated or value.windowed or not (item is None or isinstance(item, exp.Column)):
            continue
        if item is None:
            raise invalid_query("Star expansion expression references a column which is neither grouped nor aggregated")
        if value.sql not in groups.keys and not groups.covers(value):
            message = f"SELECT list expression references column {item.name} which is neither grouped nor aggregated"
            raise refusal(message, place_of_node(item.parts[0]))


def _assembled(
    work: _Select, where: Value | None, groups: Groups | None, having: Value | None, qualify: Value | None
) -> Relation:
    session, node = work.session, work.node
    work.outputs = _as_rows(work)
    outs = [session.fresh("o") for _ in work.outputs]
    shown = ", ".join(f"{value.sql} AS {out}" for (_, value, _), out in zip(work.outputs, outs, strict=True))
    distinct = node.args.get("distinct") is not None
    sql = f"SELECT {'DISTINCT ' if distinct else ''}{shown}"
    if work.source is not None:
        sql += f" FROM {work.source.sql}"
    if where is not None:
        sql += f" WHERE {where.sql}"
    if groups is not None:
        work.always |= groups.reads
        sql += f" GROUP BY {groups.sql}" if groups.sql else ""
    sql += f" HAVING {having.sql}" if having is not None else ""
    sql += f" QUALIFY {qualify.sql}" if qualify is not None else ""
    sql += _order(work, outs, distinct)
    sql += tail_text(session, node.args.get("limit"), node.args.get("offset"))
    return _relation(work, sql, outs, groups, distinct)


def _as_rows(work: _Select) -> list[tuple[str, Value, exp.Expr | None]]:
    """SELECT AS STRUCT makes one column of the list, SELECT AS VALUE takes its only one."""
    kind = work.node.args.get("kind")
    if kind is None:
        return work.outputs
    if kind == "VALUE":
        if len(work.outputs) != 1:
            raise invalid_query("SELECT AS VALUE query must have exactly one column")
        return work.outputs
    if kind != "STRUCT":
        raise unsupported(f"SELECT AS {kind}")
    made_of = [value for _, value, _ in work.outputs]
    row = t.struct_of((name, value.type) for name, value, _ in work.outputs)
    return [("", made(packed(row, [value.sql for value in made_of]), row, *made_of), None)]


def _order(work: _Select, outs: list[str], distinct: bool) -> str:
    order = work.node.args.get("order")
    if order is None:
        return ""
    if work.node.args.get("kind") is not None and distinct:
        raise unsupported("ORDER BY behind SELECT DISTINCT AS")
    named = {name.lower(): index for index, (name, _, _) in reversed(list(enumerate(work.outputs))) if name}
    terms: list[str] = []
    for term in order.expressions:
        index = _position(term.this, work, named, distinct)
        if index is not None:
            value = work.outputs[index][1]
            terms += ordered(term, value, outs[index])
        else:
            if distinct:
                raise unsupported("ORDER BY an expression behind SELECT DISTINCT")
            clause = replace(work.clause, scope=work.scope.with_aliases(work.aliases), name="ORDER BY clause")
            value = value_of(term.this, clause)
            terms += ordered(term, value)
        work.always |= value.reads
    return " ORDER BY " + ", ".join(terms)


def _position(term: exp.Expr, work: _Select, named: Mapping[str, int], distinct: bool) -> int | None:
    """The output that an ORDER BY term is: by its number, by its name, or by being the same expression."""
    if isinstance(term, exp.Literal) and not term.is_string:
        if not 1 <= int(term.name) <= len(work.outputs):
            raise invalid_query(
                f"ORDER BY column number item is out of range. It should be in [1, {len(work.outputs)}]"
            )
        return int(term.name) - 1
    if work.node.args.get("kind") is not None:
        return None
    if isinstance(term, exp.Column) and len(term.parts) == 1 and not isinstance(term.this, exp.Star):
        found = named.get(term.name.lower())
        if found is not None and (term.name.lower() in work.aliases or distinct or work.outputs[found][2] is None):
            return found
    if distinct:
        same = [i for i, (_, _, item) in enumerate(work.outputs) if item is not None and item == term]
        return same[0] if same else None
    return None


def _relation(work: _Select, sql: str, outs: list[str], groups: Groups | None, distinct: bool) -> Relation:
    node, session = work.node, work.session
    cut = any(node.args.get(part) is not None for part in ("limit", "offset", "qualify"))
    cut = cut or any(value.windowed for _, value, _ in work.outputs)
    aggregated = groups is not None or any(value.aggregated for _, value, _ in work.outputs)
    columns = []
    for (name, value, _), out in zip(work.outputs, outs, strict=True):
        if distinct and (value.kind in (*t.UNGROUPED, "ARRAY") or value.type.collation):
            raise invalid_query(f"Column {name} of type {value.type} cannot be used in SELECT DISTINCT")
        passed = () if cut or (aggregated and not (groups and value.sql in groups.keys)) else value.origins
        shown = Value(out, value.type, value.reads, value.path, passed, volatile=value.volatile)
        work.always |= value.reads if distinct else frozenset[Read]()
        columns.append(Column(name, shown))
    _read_arrays(work, columns)
    if work.source is not None:
        attach_conditions(session, work.node, work.source, work.clause)
    return Relation(sql, columns, work.always, node.args.get("kind") is not None)


def _read_arrays(work: _Select, columns: list[Column]) -> None:
    """An unnested array is read whole, unless only some fields of its elements are taken."""
    taken = work.always.union(*(column.value.reads for column in columns))
    for array in work.arrays:
        if array.path is not None and not any(_within(read, array.path) for read in taken):
            work.always |= array.reads


def _within(read: Read, path: Read) -> bool:
    return read[0] == path[0] and (read[1] == path[1] or read[1].startswith(f"{path[1]}."))
