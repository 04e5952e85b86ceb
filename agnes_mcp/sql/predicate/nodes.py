"""The nodes of the tree, built as sqlglot's own parser builds them from the rendered text; and that text.

There is one way of writing for each class of node that a predicate may hold. Nothing is taken on trust: what is written
is parsed by sqlglot and has to be this very tree, so a slip is a predicate refused, and not another one run. It is the
text that sqlglot's generator writes, which takes seven times as long: it may change a tree, and so copies it first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.duckdb import DuckDB

from agnes_mcp.models import Dialect

# Made once: sqlglot would make one for each text. They hold settings alone, whatever thread asks.
#: Its generators write the types, its tokenizers cut the finished statements.
RENDERED: dict[Dialect, sqlglot.Dialect] = {"bigquery": BigQuery(), "duckdb": DuckDB()}
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


_INFIX: dict[type[exp.Expr], str] = {
    exp.And: " AND ", exp.Or: " OR ",
    exp.EQ: " = ", exp.NEQ: " <> ", exp.LT: " < ", exp.LTE: " <= ", exp.GT: " > ", exp.GTE: " >= ",
    exp.NullSafeEQ: " IS NOT DISTINCT FROM ", exp.NullSafeNEQ: " IS DISTINCT FROM ", exp.Is: " IS ",
    exp.Like: " LIKE ", exp.ILike: " ILIKE ", exp.Escape: " ESCAPE ",
    exp.Add: " + ", exp.Sub: " - ", exp.Mul: " * ", exp.Div: " / ", exp.IntDiv: " // ", exp.Mod: " % ",
    exp.DPipe: " || ", exp.BitwiseAnd: " & ", exp.BitwiseOr: " | ", exp.Dot: ".",
}  # fmt: skip
_QUALIFIERS = ("catalog", "db", "table", "this")
_COUNTED = {(0, False): "OFFSET", (0, True): "SAFE_OFFSET", (1, False): "ORDINAL", (1, True): "SAFE_ORDINAL"}


class _Writer:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        sqlglots = RENDERED[dialect]
        escape = sqlglots.tokenizer_class.STRING_ESCAPES[0]
        escaped = sqlglots.ESCAPED_SEQUENCES if sqlglots.STRINGS_SUPPORT_ESCAPED_SEQUENCES else {}
        quote = sqlglots.IDENTIFIER_END
        self._quote = quote
        self._in_names = str.maketrans({**sqlglots.IDENTIFIER_ESCAPED_SEQUENCES, quote: quote * 2})
        self._in_strings = str.maketrans({**escaped, "'": f"{escape}'"})
        self._ways: dict[type[exp.Expr], Callable[[Any], str]] = {
            **dict.fromkeys(_INFIX, self._infix),
            exp.Not: lambda node: f"NOT {self.text(node.args['this'])}",
            exp.Neg: self._negative,
            exp.Paren: lambda node: f"({self.text(node.args['this'])})",
            exp.Between: self._between,
            exp.In: self._in,
            exp.Case: self._case,
            exp.Cast: lambda node: self._cast(node, "CAST"),
            exp.TryCast: lambda node: self._cast(node, "TRY_CAST" if dialect == "duckdb" else "SAFE_CAST"),
            exp.Extract: lambda node: f"EXTRACT({self.text(node.this)} FROM {self.text(node.expression)})",
            exp.Interval: lambda node: f"INTERVAL {self.text(node.this)} {self.text(node.args['unit'])}",
            exp.Anonymous: lambda node: f"{node.args['this']}({self._listed(node.expressions)})",
            exp.Column: self._column,
            exp.Identifier: self._name,
            exp.Literal: lambda node: self._string(node.this) if node.args["is_string"] else node.this,
            exp.Var: lambda node: node.this,
            exp.Null: lambda _: "NULL",
            exp.Boolean: lambda node: "TRUE" if node.this else "FALSE",
            exp.Array: lambda node: f"[{self._listed(node.expressions)}]",
            exp.Bracket: self._bigquery_element if dialect == "bigquery" else self._duckdb_element,
            exp.Exists: lambda node: f"EXISTS({self._select(node.this)})",
            exp.Unnest: self._unnest,
        }

    def text(self, node: exp.Expr) -> str:
        """Raises KeyError for a node of a class that no predicate has, or without what it has to have."""
        return self._ways[type(node)](node)

    def _listed(self, nodes: list[exp.Expr]) -> str:
        return ", ".join([self._ways[type(node)](node) for node in nodes])

    def _infix(self, node: exp.Expr) -> str:
        """`a AND b AND c` hangs on its left, so that hundreds of them need no more of Python's stack than two."""
        backwards: list[str] = []
        while infix := _INFIX.get(type(node)):
            arguments = node.args
            backwards += self.text(arguments["expression"]), f" NOT{infix}" if arguments.get("negate") else infix
            node = arguments["this"]
        backwards.append(self.text(node))
        backwards.reverse()
        return "".join(backwards)

    def _negative(self, node: exp.Neg) -> str:
        inner = self.text(node.this)
        return f"- {inner}" if inner.startswith("-") else f"-{inner}"  # two in a row would begin a comment

    def _between(self, node: exp.Between) -> str:
        value, low, high = (self.text(node.args[part]) for part in ("this", "low", "high"))
        return f"{value} BETWEEN {low} AND {high}"

    def _in(self, node: exp.In) -> str:
        unnest = node.args.get("unnest")
        values = self._unnest(unnest) if unnest else f"({self._listed(node.expressions)})"
        return f"{self.text(node.this)} IN {values}"

    def _case(self, node: exp.Case) -> str:
        base, otherwise = node.args.get("this"), node.args.get("default")
        parts = [f"CASE {self.text(base)}" if base else "CASE"]
        parts += [f"WHEN {self.text(branch.this)} THEN {self.text(branch.args['true'])}" for branch in node.args["ifs"]]
        parts += [f"ELSE {self.text(otherwise)}", "END"] if otherwise else ["END"]
        return " ".join(parts)

    def _cast(self, node: exp.Cast, call: str) -> str:
        value, to = node.this, node.args["to"]
        kind = type_text(to, self._dialect, tries=type(node) is exp.TryCast)
        if type(value) is exp.Array and self._dialect == "bigquery":
            return f"{kind}{self.text(value)}"  # no list is cast there: this is read otherwise, and so refused
        return f"{call}({self.text(value)} AS {kind})"

    def _column(self, node: exp.Column) -> str:
        parts = node.args
        if len(parts) == 1:
            return self._name(parts["this"])
        return ".".join([self._name(parts[qualifier]) for qualifier in _QUALIFIERS if qualifier in parts])

    def _name(self, node: exp.Identifier) -> str:
        return f"{self._quote}{node.args['this'].translate(self._in_names)}{self._quote}"

    def _string(self, value: str) -> str:
        return f"'{value.translate(self._in_strings)}'"

    def _bigquery_element(self, node: exp.Bracket) -> str:
        counted = _COUNTED[node.args["offset"], node.args["safe"]]
        return f"{self.text(node.this)}[{counted}({self._listed(node.expressions)})]"

    def _duckdb_element(self, node: exp.Bracket) -> str:
        (index,) = node.expressions
        shown = self.text(index) if index.is_string else str(int(index.this) + 1)  # in the tree it counts from 0
        return f"{self.text(node.this)}[{shown}]"

    def _select(self, node: exp.Select) -> str:
        where = node.args.get("where")
        kept = f" WHERE {self.text(where.this)}" if where else ""
        listed = self._unnest(node.args["from_"].this)
        return f"SELECT {self._listed(node.expressions)} FROM {listed}{kept}"  # noqa: S608 - of nodes of ours

    def _unnest(self, node: exp.Unnest) -> str:
        alias = node.args.get("alias")
        if alias is None:
            return f"UNNEST({self._listed(node.expressions)})"
        element = self._listed(alias.args["columns"])
        named = element if self._dialect == "bigquery" else f"{self._name(alias.this)}({element})"
        return f"UNNEST({self._listed(node.expressions)}) AS {named}"


def type_text(to: exp.DataType, dialect: Dialect, tries: bool = False) -> str:
    """The type that a cast of the reader names, as sqlglot writes it there."""
    return _type(dialect, tries, to.this, *[number.name for number in to.expressions])


@lru_cache(maxsize=256)
def _type(dialect: Dialect, tries: bool, kind: exp.DType, *numbers: str) -> str:
    """The type in such a cast as sqlglot writes it: by the dialect's own name, and in CAST of BigQuery no numbers."""
    parameters = [exp.DataTypeParam(this=exp.Literal(this=number, is_string=False)) for number in numbers]
    to = exp.DataType(this=kind, expressions=parameters, nested=False)
    cast = (exp.TryCast if tries else exp.Cast)(this=exp.Null(), to=to)
    return RENDERED[dialect].generate(cast).partition(" AS ")[2].removesuffix(")")


_WRITERS: dict[Dialect, _Writer] = {"bigquery": _Writer("bigquery"), "duckdb": _Writer("duckdb")}


def render(tree: exp.Expr, dialect: Dialect) -> str:
    """The text of a tree of the reader. Raises KeyError for one that it cannot have made."""
    return _WRITERS[dialect].text(tree)
