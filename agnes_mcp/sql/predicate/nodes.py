"""The nodes of the tree, built as sqlglot's own parser builds them from the rendered text."""

from __future__ import annotations

from functools import lru_cache

from sqlglot import exp

from agnes_mcp.models import Dialect

_COLUMN_PARTS = 4  # sqlglot keeps up to four names in one Column; the rest hang on it as Dot


def name(text: str) -> exp.Identifier:
    return exp.Identifier(this=text, quoted=True)


def column(path: list[str]) -> exp.Expr:
    """A column by its canonical path, every part quoted."""
    if len(path) == 1:
        return exp.Column(this=name(path[0]))
    head, tail = path[:_COLUMN_PARTS], path[_COLUMN_PARTS:]
    keys = ("this", "table", "db", "catalog")
    node: exp.Expr = exp.Column(**{key: name(part) for key, part in zip(keys, reversed(head), strict=False)})
    return fields(node, tail)


def fields(node: exp.Expr, path: list[str]) -> exp.Expr:
    for part in path:
        node = exp.Dot(this=node, expression=name(part))
    return node


def call(function: str, arguments: list[exp.Expr]) -> exp.Anonymous:
    """A call by the name it is written with: rendering gives back that name and these arguments."""
    return exp.Anonymous(this=function, expressions=arguments)


def element(node: exp.Expr, index: exp.Expr, offset: int | None = None, safe: bool | None = None) -> exp.Bracket:
    """`offset` is BigQuery's OFFSET (0) or ORDINAL (1). sqlglot keeps DuckDB's index counted from 0."""
    if offset is None:
        return exp.Bracket(this=node, expressions=[index])
    return exp.Bracket(this=node, expressions=[index], offset=offset, safe=safe)


def array(values: list[exp.Expr], dialect: Dialect) -> exp.Array:
    if dialect == "bigquery":
        return exp.Array(expressions=values, value_constructor=False, struct_name_inheritance=True)
    return exp.Array(expressions=values, value_constructor=False)


def interval(count: str, unit: str) -> exp.Interval:
    literal: exp.Expr = exp.Literal(this=count.removeprefix("-"), is_string=False)
    return exp.Interval(this=exp.Neg(this=literal) if count.startswith("-") else literal, unit=exp.Var(this=unit))


@lru_cache(maxsize=256)
def _data_type(spelling: str, dialect: Dialect) -> exp.DataType:
    # Twice, because a synonym is built as another type than the one that it is rendered as (INTEGER as INT64).
    once = exp.DataType.build(spelling, dialect=dialect)
    return exp.DataType.build(once.sql(dialect=dialect), dialect=dialect)


def cast(value: exp.Expr, spelling: str, dialect: Dialect, tries: bool = False) -> exp.Cast:
    target = _data_type(spelling, dialect).copy()
    return exp.TryCast(this=value, to=target, safe=True) if tries else exp.Cast(this=value, to=target)


def exists(listed: exp.Expr, list_name: str, element_name: str, where: exp.Expr | None, dialect: Dialect) -> exp.Exists:
    """`EXISTS(SELECT 1 FROM UNNEST(listed) AS element WHERE …)`; in DuckDB `AS list(element)`."""
    element = [name(element_name)]
    alias = exp.TableAlias(this=name(list_name), columns=element) if dialect == "duckdb" else None
    unnest = exp.Unnest(expressions=[listed], alias=alias or exp.TableAlias(columns=element), offset=False)
    kept = {"where": exp.Where(this=where)} if where is not None else {}
    return exp.Exists(
        this=exp.Select(expressions=[exp.Literal(this="1", is_string=False)], from_=exp.From(this=unnest), **kept)
    )
