"""A `ScanRequest` and a `TableSchema` made into one SELECT in the table's dialect.

Every name is looked up in the schema and quoted, by sqlglot's generator unless columns alone are asked of DuckDB: then
sqlglot, of 8 MB, is not loaded. The predicate comes from `predicate`, which has read what it wrote. No text of a caller
is spliced into the SQL, and the finished statement is compared with what was meant before it is handed out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from agnes_mcp.errors import AgnesError, nearest
from agnes_mcp.models import (
    Aggregate,
    AggregateFunction,
    Column,
    Dialect,
    Relation,
    ScanRequest,
    Statement,
    TableSchema,
)
from agnes_mcp.sql.columns import resolve, split_order
from agnes_mcp.sql.names import selection

if TYPE_CHECKING:
    from sqlglot import exp

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_STAR = "*"
_KEPT_COLUMNS = 100  # of a wider selection the text is not kept
_NUMERIC = ("INT", "FLOAT", "DOUBLE", "REAL", "DECIMAL", "NUMERIC", "BIGNUMERIC", "HUGEINT", "BIGNUM", "INTERVAL")


class _Output(NamedTuple):
    """A column by its path, or what `function` makes of it: of no path, of whole rows."""

    name: str
    path: tuple[str, ...]
    function: str = ""

    @property
    def source(self) -> str | None:
        return self.path[0] if self.path else None

    def expression(self) -> exp.Expression:
        from sqlglot import exp

        value = identifier_path(self.path) if self.path else exp.Star()
        return _aggregate(self.function, value) if self.function else value


def build_statement(
    request: ScanRequest,
    schema: TableSchema,
    relation: Relation,
    dialect: Dialect,
    max_limit: int,
    one_more: bool = False,
) -> Statement:
    """The one statement that answers `request`; with `one_more` its LIMIT asks for one row beyond, to know if there are
    more. Raises `unknown_column`, `invalid_argument`, `limit_too_large`, and what `validate_predicate` raises."""
    check_limit(request.limit, max_limit)
    grouped = request.group_by is not None or request.aggregates is not None
    outputs = _grouped(request, schema) if grouped else _projection(request, schema)
    _refuse_repeated([output.name for output in outputs])
    predicate_sql, bounded = _predicate(request.where, schema, dialect) if request.where else ("", True)
    orders = [_order(entry, outputs, schema, grouped) for entry in request.order_by or []]
    limit = None if request.limit is None else request.limit + int(one_more)
    condition = f"({predicate_sql})\nAND {schema.always}" if predicate_sql and schema.always else ""
    condition = condition or predicate_sql or schema.always
    sql = _render(outputs, relation.apart_from(schema), condition, len(request.group_by or []), orders, limit, dialect)
    return Statement(
        sql=sql,
        dialect=dialect,
        columns=[output.name for output in outputs],
        source_columns=list(dict.fromkeys(output.source for output in outputs if output.source)),
        predicate_sql=predicate_sql,
        plain=not (grouped or predicate_sql or orders) and limit is None and all(o.name == o.source for o in outputs),
        limit=limit,
        bounded=bounded,
    )


def _predicate(where: str, schema: TableSchema, dialect: Dialect) -> tuple[str, bool]:
    """The text for the engine, and whether its cost per row is bounded: BigQuery's is not ours to bound."""
    from agnes_mcp.sql.cost import is_bounded
    from agnes_mcp.sql.predicate import validated

    tree, text = validated(where, schema, dialect)
    return text, dialect != "duckdb" or is_bounded(tree, schema)


def check_limit(limit: int | None, max_limit: int) -> None:
    """Raises `invalid_argument` below 1, `limit_too_large` above `max_limit`."""
    if limit is None:
        return
    if limit < 1:
        raise AgnesError("invalid_argument", f"limit is {limit}; it starts at 1.", "Give a limit of 1 or more.")
    if limit > max_limit:
        raise AgnesError(
            "limit_too_large",
            f"limit {limit:,} exceeds the most this instance gives, {max_limit:,} rows.",
            f"Give a limit of at most {max_limit}, or ask for an aggregate.",
            {"limit": limit, "max_limit": max_limit},
        )


def _projection(request: ScanRequest, schema: TableSchema) -> list[_Output]:
    if request.select is None:
        names = [column.name for column in schema.columns]
        return [_Output(name, (name,)) for name in names]
    if not request.select:
        raise AgnesError("invalid_argument", "select is empty.", "Name columns, or leave select out for all of them.")
    if _STAR not in request.select or schema.column(_STAR) is not None:
        return [_column_output(name, schema) for name in request.select]
    every = [column.name for column in schema.columns]
    known = {_STAR, *(name.casefold() for name in every)}
    beside = [name for name in request.select if name.casefold() not in known]
    return [_column_output(name, schema) for name in [*every, *beside]]


def _grouped(request: ScanRequest, schema: TableSchema) -> list[_Output]:
    keys = [_column_output(name, schema) for name in request.group_by or []]
    aggregates = [_aggregate_output(entry, schema) for entry in request.aggregates or []]
    extra = {n.casefold() for n in request.select or []} - {n.casefold() for n in request.group_by or []}
    if extra:
        raise AgnesError(
            "invalid_argument",
            f"select names {', '.join(sorted(extra))}, which group_by does not.",
            "With group_by or aggregates leave select out: the answer has the group_by columns and the aggregates.",
        )
    if not keys and not aggregates:
        raise AgnesError("invalid_argument", "group_by and aggregates are both empty.", "Name at least one of them.")
    return keys + aggregates


def _column_output(name: str, schema: TableSchema) -> _Output:
    path, column = resolve(name, schema)
    if len(path) > 1 and column.mode == "REPEATED" and column.fields:
        raise AgnesError("invalid_argument", f"{name} is a list of records.", "Fetch it whole: name its column.")
    return _Output("_".join(path), tuple(path))


def _aggregate_output(entry: Aggregate, schema: TableSchema) -> _Output:
    if entry.function not in get_args(AggregateFunction):
        raise AgnesError(
            "invalid_argument",
            f"{entry.function[:80]!r} is no function of aggregates.",
            f"There are {', '.join(get_args(AggregateFunction))}; a column stands in `column`.",
            {"argument": "aggregates.function"},
        )
    if entry.column is None:
        if entry.function != "count":
            raise AgnesError("invalid_argument", f"{entry.function} needs a column.", "Add `column` to that aggregate.")
        return _Output(_alias(entry.alias or "count"), (), "count")
    path, column = resolve(entry.column, schema)
    if entry.function in ("sum", "avg") and not _is_numeric(column):
        raise AgnesError(
            "invalid_argument",
            f"{entry.function} needs a number; {entry.column} is {column.type}.",
            "Use count, count_distinct, min or max, or choose a numeric column.",
        )
    if entry.function == "count_if" and (column.type.upper() not in ("BOOL", "BOOLEAN") or column.mode == "REPEATED"):
        raise AgnesError(
            "invalid_argument",
            f"count_if counts where a BOOL is true; {entry.column} is {column.type}.",
            "Give the condition as where, with count; or count several conditions at once with COUNTIF in sql.",
        )
    alias = _alias(entry.alias or f"{entry.function}_{re.sub(r'[^A-Za-z0-9_]', '_', '_'.join(path))}"[:128])
    return _Output(alias, tuple(path), entry.function)


def _is_numeric(column: Column) -> bool:
    kind = column.type.upper()
    return (
        column.mode != "REPEATED" and any(word in kind for word in _NUMERIC) and not kind.startswith(("STRUCT", "MAP"))
    )


def _aggregate(function: str, column: exp.Expression) -> exp.Expression:
    from sqlglot import exp

    plain: dict[str, type[exp.Expression]] = {
        "count": exp.Count, "sum": exp.Sum, "avg": exp.Avg, "min": exp.Min, "max": exp.Max,
        "approx_count_distinct": exp.ApproxDistinct, "count_if": exp.CountIf,
    }  # fmt: skip
    if function == "count_distinct":
        return exp.Count(this=exp.Distinct(expressions=[column]))
    return plain[function](this=column)


def _alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise AgnesError(
            "invalid_argument",
            f"The alias {alias[:80]!r} is not a plain name.",
            "Use letters, digits and _, at most 128.",
        )
    return alias


def _order(entry: str, outputs: list[_Output], schema: TableSchema, grouped: bool) -> exp.Expression:
    from sqlglot import exp

    known = {o.name.casefold() for o in outputs} | {column.name.casefold() for column in schema.columns}
    name, descending, nulls_first = split_order(entry, known)
    output = next((o for o in outputs if o.name.casefold() == name.casefold()), None)
    if output is not None:
        ordered: exp.Expression = identifier_path([output.name])
    elif grouped:
        raise AgnesError(
            "unknown_column",
            f"order_by names {name[:80]!r}, which is not in the answer.",
            f"Order by one of {', '.join(o.name for o in outputs)}.",
            {"column": name[:80], "nearest": nearest(name, [o.name for o in outputs])},
        )
    else:
        ordered = identifier_path(resolve(name, schema)[0])
    return exp.Ordered(this=ordered, desc=descending, nulls_first=nulls_first)


def _refuse_repeated(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise AgnesError("invalid_argument", f"{name!r} is in the answer twice.", "Name it once, or give an alias.")
        seen.add(name.casefold())


def identifier_path(path: Sequence[str]) -> exp.Expression:
    """A column, or a field inside one, quoted whatever its name is."""
    from sqlglot import exp

    first = exp.column(exp.to_identifier(path[0], quoted=True), copy=False)
    return exp.Dot.build([first, *(exp.to_identifier(p, quoted=True) for p in path[1:])]) if path[1:] else first


def select_from(outputs: list[Any], relation: Relation) -> exp.Select:
    """SELECT these expressions FROM that one table; of expressions that stand nowhere else, no copy is made."""
    from sqlglot import exp

    table = exp.table_(
        relation.name,
        db=relation.schema or None,
        catalog=relation.catalog or None,
        quoted=True,
        alias=exp.to_identifier(relation.alias, quoted=True) if relation.alias else None,
    )
    return exp.select(*outputs, copy=False).from_(table, copy=False)


def _select(outputs: Sequence[_Output], relation: Relation, dialect: Dialect) -> str:
    if dialect == "duckdb" and not any(output.function for output in outputs):
        catalog, schema, name, alias = relation
        return selection([(o.path, o.name) for o in outputs], [*filter(None, (catalog, schema)), name], alias)
    from sqlglot import exp

    # Each copy would be a walk over every column in Python, and a table may have 20,000 of them.
    projections: list[Any] = [exp.alias_(o.expression(), o.name, quoted=True, copy=False) for o in outputs]
    return select_from(projections, relation).sql(dialect=dialect, comments=False, copy=False)


_kept_select = lru_cache(maxsize=64)(_select)  # the same columns are selected under many a condition


def _render(
    outputs: list[_Output],
    relation: Relation,
    predicate_sql: str,
    group_keys: int,
    orders: list[exp.Expression],
    limit: int | None,
    dialect: Dialect,
) -> str:
    written = _kept_select if len(outputs) <= _KEPT_COLUMNS else _select
    prefix = written(tuple(outputs), relation, dialect)
    clauses = _grouping(outputs[:group_keys], orders, dialect) if group_keys or orders else []
    if limit is not None:
        clauses.append(f"LIMIT {limit:d}")
    suffix = "\n".join(clauses)
    if not predicate_sql:
        return "\n".join([prefix, *clauses])
    from agnes_mcp.sql.predicate import confirm_skeleton

    sql = "\n".join([prefix, f"WHERE (\n{predicate_sql}\n)", *clauses])
    confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=predicate_sql, suffix_sql=suffix)
    return sql


def _grouping(keys: Sequence[_Output], orders: list[exp.Expression], dialect: Dialect) -> list[str]:
    from sqlglot import exp

    clauses: list[exp.Expression] = [exp.Group(expressions=[key.expression() for key in keys])] if keys else []
    if orders:
        clauses.append(exp.Order(expressions=orders))
    return [clause.sql(dialect=dialect).strip() for clause in clauses]
