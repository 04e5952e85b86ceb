"""A resolved GoogleSQL statement as DuckDB SQL, with the output names that BigQuery gives."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import ErrorLevel, exp
from sqlglot.optimizer.scope import traverse_scope

from agnes_mcp.stand_in.sql.arrays import count_offsets_from_zero
from agnes_mcp.stand_in.sql.functions import GOOGLE_FUNCTIONS, translate
from agnes_mcp.stand_in.sql.wording import place_of
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

TableKey = tuple[str, str, str]


def to_duckdb(node: exp.Expr) -> str:
    """GoogleSQL's meaning in DuckDB's words; table names are left as they are."""
    return node.copy().transform(translate, copy=False).sql(dialect="duckdb", unsupported_level=ErrorLevel.IGNORE)


def executable(query: exp.Query, tables: Mapping[TableKey, Table], rows: Mapping[Table, str], sql: str) -> str:
    """The DuckDB SELECT that answers `query`; `rows` is what stands in FROM for each table.

    Raises for functions that the stand-in does not answer.
    """
    refuse_unknown_functions(query, sql)
    tree: exp.Expr = query.copy()
    count_offsets_from_zero(tree)
    _hide_pseudo_columns(tree, tables)
    _number_big_texts(tree, tables)
    _print_as_google(tree, tables)
    tree = tree.transform(translate, copy=False)
    for reference in list(tree.find_all(exp.Table)):
        table = tables.get((reference.catalog, reference.db, reference.name))
        if table is not None:
            _point_at_rows(reference, rows[table])
    return tree.sql(dialect="duckdb", unsupported_level=ErrorLevel.IGNORE)


def refuse_unknown_functions(query: exp.Expr, sql: str = "") -> None:
    for call in query.find_all(exp.Anonymous):
        if call.name.upper() not in GOOGLE_FUNCTIONS:
            raise invalid_query(f"Function not found: {call.name}", *place_of(call.name, sql))


def refuse_repeated_names(names: list[str]) -> None:
    folded = [name.lower() for name in names]
    repeated = sorted({name for name in folded if folded.count(name) > 1})
    if repeated:
        found = ", ".join(repeated)
        message = f"Duplicate column names in the result are not supported. Found duplicate(s): {found}"
        raise ApiError(400, "invalidQuery", message, "q")


def _hide_pseudo_columns(tree: exp.Expr, tables: Mapping[TableKey, Table]) -> None:
    """Leave `_PARTITIONTIME` and `_TABLE_SUFFIX` out of every `*` over a table that has them."""
    for scope in traverse_scope(tree):
        sources = [s for s in scope.sources.values() if isinstance(s, exp.Table)]
        pseudo = {name for s in sources for name in _pseudo_columns(tables.get((s.catalog, s.db, s.name)))}
        if not pseudo:
            continue
        for star in scope.expression.find_all(exp.Star):
            if star.find_ancestor(exp.Select) is scope.expression and not isinstance(star.parent, exp.Count):
                star.set("except_", [*(star.args.get("except_") or []), *map(exp.column, sorted(pseudo))])


def _pseudo_columns(table: Table | None) -> list[str]:
    return [field.name for field in table.pseudo_fields] if table is not None else []


def _number_big_texts(tree: exp.Expr, tables: Mapping[TableKey, Table]) -> None:
    """Count with BIGNUMERIC columns, which are stored as text, as numbers wherever they are not just passed on."""
    names = {f.name.lower() for table in tables.values() for f in table.fields if f.type == "BIGNUMERIC"}
    passed_on = (exp.Select, exp.Alias, exp.Group, exp.Count, exp.Distinct, exp.Tuple)
    for column in list(tree.find_all(exp.Column)) if names else ():
        if column.name.lower() in names and not isinstance(column.parent, passed_on):
            column.replace(exp.cast(column.copy(), exp.DataType.build("DECIMAL(38, 18)", dialect="duckdb")))


def _print_as_google(tree: exp.Expr, tables: Mapping[TableKey, Table]) -> None:
    """CAST of a BYTES or FLOAT64 column to STRING: DuckDB would write `\\xFF` and `2.0`."""
    kinds = {f.name.lower(): f.type for table in tables.values() for f in table.fields if not f.repeated}
    printers = {"BYTES": "DECODE", "FLOAT64": "BQ_FLOAT_TEXT"}
    for cast in list(tree.find_all(exp.Cast)):
        printer = printers.get(kinds.get(cast.this.name.lower(), "")) if isinstance(cast.this, exp.Column) else None
        if printer is not None and cast.to.this == exp.DataType.Type.TEXT:
            cast.replace(exp.Anonymous(this=printer, expressions=[cast.this.copy()]))


def _point_at_rows(reference: exp.Table, rows: str) -> None:
    """Read the stored rows under the name the statement gave the table."""
    physical: exp.Expr
    if rows.startswith("("):
        physical = exp.Subquery(this=exp.maybe_parse(rows[1:-1], dialect="duckdb"))
    else:
        physical = exp.maybe_parse(rows, into=exp.Table, dialect="duckdb")
    for key in ("alias", "joins", "sample", "pivots"):
        if reference.args.get(key) is not None:
            physical.set(key, reference.args[key])
    reference.replace(physical)
