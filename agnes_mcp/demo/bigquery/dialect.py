"""A resolved GoogleSQL statement as DuckDB SQL, with BigQuery's output names and what sqlglot's transpiling leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from agnes_mcp.demo.bigquery.fields import quoted
from agnes_mcp.demo.bigquery.functions import GOOGLE_FUNCTIONS
from agnes_mcp.demo.bigquery.replies import ApiError, invalid_query
from agnes_mcp.demo.bigquery.statement import position
from agnes_mcp.demo.bigquery.tables import Table

TableKey = tuple[str, str, str]


def to_duckdb(node: exp.Expression) -> str:
    """GoogleSQL's meaning in DuckDB's words; table names are left as they are."""
    return node.copy().transform(_translate, copy=False).sql(dialect="duckdb")


def executable(query: exp.Query, tables: Mapping[TableKey, Table]) -> str:
    """The DuckDB SELECT that answers `query`. Raises for functions that BigQuery does not have."""
    refuse_unknown_functions(query)
    tree = query.copy()
    name_outputs(tree)
    _hide_pseudo_columns(tree, tables)
    tree = tree.transform(_translate, copy=False)
    for reference in list(tree.find_all(exp.Table)):
        table = tables.get((reference.catalog, reference.db, reference.name))
        if table is not None:
            _point_at_rows(reference, table)
    return tree.sql(dialect="duckdb")


def refuse_unknown_functions(query: exp.Expression) -> None:
    for call in query.find_all(exp.Anonymous):
        if call.name.upper().removeprefix("SAFE.") not in GOOGLE_FUNCTIONS:
            raise invalid_query(f"Function not found: {call.name}", *position(call))


def name_outputs(query: exp.Expression) -> None:
    """Name every unnamed output column `f0_`, `f1_`, …; refuse two of the same name."""
    select = query
    while not isinstance(select, exp.Select):
        select = select.this
    count = 0
    for projection in list(select.expressions):
        if not isinstance(projection, exp.Alias | exp.Column | exp.Dot) and not projection.is_star:
            projection.replace(exp.alias_(projection.copy(), f"f{count}_"))
            count += 1
    repeated = Counter(p.output_name.lower() for p in select.expressions if p.output_name and p.output_name != "*")
    duplicates = [name for name, times in repeated.items() if times > 1]
    if duplicates:
        found = ", ".join(duplicates)
        message = f"Duplicate column names in the result are not supported. Found duplicate(s): {found}"
        raise ApiError(400, "invalidQuery", message, "q")


def _hide_pseudo_columns(tree: exp.Expression, tables: Mapping[TableKey, Table]) -> None:
    """Leave `_PARTITIONTIME` out of every `*` over an ingestion-time partitioned table."""
    for scope in traverse_scope(tree):
        sources = [s for s in scope.sources.values() if isinstance(s, exp.Table)]
        if not any(_has_pseudo_columns(tables.get((s.catalog, s.db, s.name))) for s in sources):
            continue
        for star in scope.expression.find_all(exp.Star):
            if star.find_ancestor(exp.Select) is scope.expression and not isinstance(star.parent, exp.Count):
                hidden = [*(star.args.get("except_") or []), exp.column("_PARTITIONTIME"), exp.column("_PARTITIONDATE")]
                star.set("except_", hidden)


def _has_pseudo_columns(table: Table | None) -> bool:
    return table is not None and bool(table.pseudo_fields)


def _point_at_rows(reference: exp.Table, table: Table) -> None:
    """Read the stored rows under the name the statement gave the table."""
    physical: exp.Expression
    if table.pseudo_fields:
        # S608: an identifier of the stand-in's own
        inner = f"SELECT *, CAST(_PARTITIONTIME AS DATE) AS _PARTITIONDATE FROM {table.physical}"  # noqa: S608
        physical = exp.Subquery(this=exp.maybe_parse(inner, dialect="duckdb"))
    else:
        physical = exp.maybe_parse(table.physical, into=exp.Table, dialect="duckdb")
    for key in ("alias", "joins", "sample", "pivots"):
        if reference.args.get(key) is not None:
            physical.set(key, reference.args[key])
    reference.replace(physical)


def _translate(node: exp.Expression) -> exp.Expression:
    rule = _RULES.get(type(node))
    return rule(node) if rule else node


def _exact_number(node: exp.Expression) -> exp.Expression:
    """A bare NUMERIC is DECIMAL(38, 9); DuckDB's own default would be DECIMAL(18, 3)."""
    if node.this in (exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGDECIMAL) and not node.expressions:
        scale = 9 if node.this == exp.DataType.Type.DECIMAL else 18
        return exp.DataType.build(f"DECIMAL(38, {scale})", dialect="duckdb")
    return node


def _as_date(node: exp.Expression) -> exp.Expression:
    """DATE arithmetic stays a DATE, where DuckDB would answer a TIMESTAMP."""
    if isinstance(node.parent, exp.Cast) and node.parent.meta.get("kept_date"):
        return node
    wrapped = exp.cast(node.copy(), exp.DataType.Type.DATE)
    wrapped.meta["kept_date"] = True
    return wrapped


def _whole_units(node: exp.Expression) -> exp.Expression:
    """TIMESTAMP_DIFF counts completed units; DuckDB's date_diff counts crossed boundaries."""
    unit = exp.Literal.string((node.args.get("unit") or exp.var("MICROSECOND")).name.lower())
    return exp.func("DATE_SUB", unit, node.expression.copy(), node.this.copy(), dialect="duckdb")


def _text_of_timestamp(node: exp.Expression) -> exp.Expression:
    return node


_RULES: dict[type[exp.Expression], Callable[[exp.Expression], exp.Expression]] = {
    exp.DataType: _exact_number,
    exp.DateAdd: _as_date,
    exp.DateSub: _as_date,
}

__all__ = ["executable", "name_outputs", "quoted", "refuse_unknown_functions", "to_duckdb"]
