"""Gate 2: which classes of nodes a statement may hold, each with the arguments that it may have, and their values.

Whatever sqlglot learns to parse next has a class or an argument of its own, and is refused until it stands here.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.refusals import refuse
from agnes_mcp.sql.warehouse.words import SYNTAX

_PAIR = frozenset({"this", "expression"})
_THIS = frozenset({"this"})
_LIST = frozenset({"expressions"})
_QUERY = frozenset({"with_", "order", "limit", "offset"})
#: Every class of node, with its arguments.
NODES: dict[type[exp.Expr], frozenset[str]] = {
    # queries
    exp.Select: _QUERY | {"kind", "expressions", "distinct", "from_", "joins", "where", "group", "having", "qualify",
                          "windows"},
    **dict.fromkeys((exp.Union, exp.Except, exp.Intersect), _QUERY | _PAIR | {"distinct", "by_name"}),
    exp.Subquery: frozenset({"this", "alias", "with_", "pivots", "sample", "joins"}),
    exp.With: _LIST,
    exp.CTE: frozenset({"this", "alias"}),
    exp.From: _THIS,
    exp.Join: frozenset({"this", "side", "kind", "on", "using"}),
    exp.Table: frozenset({"this", "db", "catalog", "alias", "pivots", "joins", "version", "sample"}),
    exp.TableAlias: frozenset({"this", "columns"}),
    exp.Unnest: frozenset({"expressions", "alias", "offset"}),
    exp.Pivot: frozenset({"expressions", "fields", "unpivot", "alias", "include_nulls", "columns",
                          "identify_pivot_strings", "prefixed_pivot_columns", "pivot_column_naming",
                          "default_on_null", "value_columns_first"}),
    exp.PivotAlias: frozenset({"this", "alias"}),
    exp.Version: frozenset({"this", "expression", "kind"}),
    exp.TableSample: frozenset({"method", "percent"}),
    exp.Where: _THIS,
    exp.Group: frozenset({"expressions", "all"}),
    **dict.fromkeys((exp.Rollup, exp.Cube, exp.GroupingSets, exp.Tuple, exp.Distinct), _LIST),
    exp.Order: frozenset({"this", "expressions"}),
    exp.Having: _THIS,
    exp.Qualify: _THIS,
    exp.Ordered: frozenset({"this", "desc", "nulls_first"}),
    exp.Limit: frozenset({"this", "expression"}),
    exp.Offset: frozenset({"expression"}),
    exp.Window: frozenset({"this", "partition_by", "order", "spec", "alias", "over"}),
    exp.WindowSpec: frozenset({"kind", "start", "start_side", "end", "end_side"}),
    # values
    exp.Alias: frozenset({"this", "alias"}),
    exp.Star: frozenset({"except_", "replace"}),
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Boolean: _THIS,
    exp.Null: frozenset(),
    exp.Var: _THIS,
    **dict.fromkeys((exp.Not, exp.Neg, exp.Paren, exp.BitwiseNot), _THIS),
    **dict.fromkeys((exp.And, exp.Or, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ,
                     exp.NullSafeNEQ, exp.Is, exp.Add, exp.Sub, exp.Mul, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor,
                     exp.BitwiseLeftShift, exp.BitwiseRightShift, exp.Dot, exp.Kwarg), _PAIR),
    exp.AtTimeZone: frozenset({"this", "zone"}),
    exp.Extract: _PAIR,
    exp.Div: _PAIR | {"typed", "safe"},
    exp.DPipe: _PAIR | {"safe"},
    exp.Like: _PAIR | {"negate"},
    **dict.fromkeys((exp.Any, exp.All), _THIS),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.In: frozenset({"this", "expressions", "query", "unnest", "field"}),
    exp.Exists: _THIS,
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.DataType: frozenset({"this", "expressions", "nested"}),
    exp.DataTypeParam: _THIS,
    exp.ColumnDef: frozenset({"this", "kind"}),
    exp.Interval: frozenset({"this", "unit"}),
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.Array: frozenset({"expressions", "value_constructor", "struct_name_inheritance"}),
    exp.Struct: _LIST,
    exp.Bracket: frozenset({"this", "expressions", "offset", "safe"}),
    exp.ParseJSON: frozenset({"this", "is_literal"}),
    exp.IgnoreNulls: _THIS,
    exp.RespectNulls: _THIS,
    exp.HavingMax: frozenset({"this", "expression", "max"}),
}  # fmt: skip
#: Arguments that are words: what they may say.
_VALUES: dict[type[exp.Expr], dict[str, frozenset[object]]] = {
    exp.Select: {"kind": frozenset({"STRUCT", "VALUE"})},
    exp.Join: {"side": frozenset({"LEFT", "RIGHT", "FULL"}), "kind": frozenset({"CROSS", "INNER", "OUTER"})},
    exp.Window: {"over": frozenset({"OVER"})},
    exp.WindowSpec: {
        "kind": frozenset({"ROWS", "RANGE"}),
        "start_side": frozenset({"PRECEDING", "FOLLOWING"}),
        "end_side": frozenset({"PRECEDING", "FOLLOWING"}),
    },
    exp.Version: {"this": frozenset({"TIMESTAMP"}), "kind": frozenset({"AS OF"})},
}
_SHOWN: dict[type[exp.Expr], str] = {exp.Lateral: "LATERAL", exp.Command: "This statement", exp.Hint: "A hint"}


def check_nodes(tree: exp.Expr, text: str) -> list[exp.Expr]:
    """Every node of `tree`, parents first. Raises `disallowed_node` for one that is not on the list."""
    nodes = list(tree.walk(bfs=False))
    for node in nodes:
        kind = type(node)
        permitted = NODES.get(kind)
        if permitted is None:
            raise _unlisted(_SHOWN.get(kind, kind.__name__), text)
        for name, value in node.args.items():
            if name not in permitted and value is not None and value is not False and value != []:
                raise _unlisted(f"{kind.__name__} with {name.strip('_')}", text)
        if kind in _VALUES:
            _check_values(node, _VALUES[kind], text)
        if kind in (exp.Any, exp.All) and type(node.parent) is not exp.Like:
            raise _unlisted(f"{kind.__name__.upper()} behind a comparison", text)
        if kind in _INCOMPLETE and _INCOMPLETE[kind](node):
            raise _unread(node, text)
    return nodes


#: What sqlglot reads without a part that GoogleSQL asks for, or takes a word of the grammar for a name.
_INCOMPLETE: dict[type[exp.Expr], Callable[[exp.Expr], bool]] = {
    exp.Select: lambda node: not node.expressions,
    exp.Identifier: lambda node: (
        "`" in str(node.this) or (not node.args.get("quoted") and str(node.this).upper() in SYNTAX)
    ),
    exp.Group: lambda node: not node.expressions and not node.args.get("all"),
    exp.Order: lambda node: not node.expressions,
    exp.In: lambda node: not (node.expressions or node.args.get("query") or node.args.get("unnest")),
    exp.Tuple: lambda node: not node.expressions and type(node.parent) not in (exp.Group, exp.GroupingSets),
    exp.Is: lambda node: type(node.args["expression"]) not in (exp.Null, exp.Boolean),
    exp.Between: lambda node: node.args.get("low") is None or node.args.get("high") is None,
    exp.Case: lambda node: not node.args.get("ifs"),
    exp.Window: lambda node: node.this is None,
}


def _unread(node: exp.Expr, text: str) -> AgnesError:
    name = str(node.this) if type(node) is exp.Identifier else ""
    message = f"{name} is a word of SQL and no name." if name else "Part of the statement is missing."
    whole = "Complete its SELECT, GROUP BY, IN, IS, BETWEEN or CASE."
    hint = f"As a name it takes backticks: `{name}`." if name else whole
    start = node.meta.get("start") if name else None
    return refuse("parse_error", message, hint, text, 0 if start is None else text.upper().find(name.upper()))


def _check_values(node: exp.Expr, permitted: dict[str, frozenset[object]], text: str) -> None:
    for name, values in permitted.items():
        value = node.args.get(name)
        if isinstance(value, str) and value and value not in values:
            raise _unlisted(f"{type(node).__name__} {value}", text)


def _unlisted(what: str, text: str) -> AgnesError:
    return refuse("disallowed_node", f"{what} is not part of a statement here.", "Write it with plain clauses.", text)
