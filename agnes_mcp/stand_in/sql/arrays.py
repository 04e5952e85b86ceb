"""Arrays in FROM: `FROM t, t.items` spelled as UNNEST, and the fields of its STRUCTs given their element's name."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from agnes_mcp.stand_in.fields import Field
from agnes_mcp.stand_in.tables import Table


def open_implicit_arrays(query: exp.Expr) -> None:
    """Write `FROM t, t.items` as `FROM t, UNNEST(t.items)`, which is what it means."""
    for scope in traverse_scope(query):
        aliases = {name.lower() for name in scope.sources}
        for source in list(scope.sources.values()):
            if not isinstance(source, exp.Table) or source.args.get("catalog") or not source.db:
                continue
            if source.db.lower() in aliases:
                array = exp.column(source.this.copy(), table=source.args["db"].copy())
                alias = exp.TableAlias(columns=[exp.to_identifier(source.alias_or_name)])
                source.replace(exp.Unnest(expressions=[array], alias=alias))


def name_elements(query: exp.Expr, tables: Iterable[Table]) -> None:
    """Write `SELECT v FROM UNNEST(items) WHERE k = 1` as `SELECT e.v FROM UNNEST(items) AS e WHERE e.k = 1`.

    GoogleSQL lets the fields of an unnested STRUCT stand alone; neither sqlglot's scopes nor DuckDB know that.
    """
    columns = [column for table in tables for column in table.fields]
    taken = {column.name.lower() for column in columns}
    for index, scope in enumerate(traverse_scope(query)):
        for unnest in _unnests(scope):
            fields = _element_fields(unnest, columns)
            if not fields:
                continue
            alias = _alias_of(unnest, f"_element{index}")
            for column in scope.columns:
                if not column.table and column.name.lower() in fields - taken - {alias.lower()}:
                    column.set("table", exp.to_identifier(alias))


def count_offsets_from_zero(query: exp.Expr) -> None:
    """UNNEST … WITH OFFSET counts from 0, where DuckDB's WITH ORDINALITY counts from 1."""
    for scope in traverse_scope(query):
        offsets = {unnest.args["offset"].name.lower() for unnest in _unnests(scope) if unnest.args.get("offset")}
        for column in scope.columns if offsets else ():
            if column.name.lower() not in offsets or column.table:
                continue
            counted: exp.Expr = exp.paren(exp.Sub(this=column.copy(), expression=exp.Literal.number(1)))
            projected = isinstance(column.parent, exp.Select)
            column.replace(exp.alias_(counted, column.name) if projected else counted)


def _unnests(scope: Scope) -> list[exp.Unnest]:
    held = [scope.expression.args.get("from_"), *(scope.expression.args.get("joins") or ())]
    return [holder.this for holder in held if holder is not None and isinstance(holder.this, exp.Unnest)]


def _element_fields(unnest: exp.Unnest, columns: Iterable[Field]) -> set[str]:
    """The names of the fields of the STRUCT that the array holds, in lower case; none for other arrays."""
    array = unnest.expressions[0]
    if not isinstance(array, exp.Column | exp.Dot):
        return set()
    return {
        inner.name.lower()
        for field in _all_fields(columns)
        if field.name.lower() == array.name.lower() and field.repeated
        for inner in field.fields
    }


def _all_fields(columns: Iterable[Field]) -> Iterable[Field]:
    for column in columns:
        yield column
        yield from _all_fields(column.fields)


def _alias_of(unnest: exp.Unnest, fallback: str) -> str:
    """The element's name, given where it has none."""
    alias = unnest.args.get("alias")
    if alias is None:
        alias = exp.TableAlias(columns=[])
        unnest.set("alias", alias)
    if not alias.columns:
        alias.set("columns", [exp.to_identifier(alias.name or fallback)])
        alias.set("this", None)
    return str(alias.columns[0].name)
