"""What every statement over a table has to say, said of each use of it, such as that a family is its days alone."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import plain
from agnes_mcp.sql.warehouse.binding import Binding
from agnes_mcp.sql.warehouse.places import Place


def narrow(node: exp.Table, alias: str, place: Place, binding: Binding) -> None:
    """Put the condition that `place` always has over the table `node` into what reads it: WHERE, or ON of a LEFT JOIN.

    Raises `disallowed_node` where neither would leave rows out before they are joined.
    """
    holder = node.parent
    select = holder.parent if holder is not None else None
    joins = select.args.get("joins") or [] if type(select) is exp.Select else []
    outer = any(join.args.get("side") in ("RIGHT", "FULL") for join in joins)
    if place.schema is None or type(select) is not exp.Select or node.args.get("pivots") or outer:
        raise _unplaced(node, alias, place, binding)
    read = _qualified(place.schema.always, alias)
    if type(holder) is exp.Join and holder.args.get("side") == "LEFT":
        if holder.args.get("on") is None:
            raise _unplaced(node, alias, place, binding)
        holder.set("on", _both(holder.args["on"], read))
        return
    where = select.args.get("where")
    select.set("where", exp.Where(this=_both(where.this, read) if where is not None else read))


def _both(first: exp.Expr, second: exp.Expr) -> exp.Expr:
    return exp.And(this=exp.Paren(this=first), expression=exp.Paren(this=second))


def _qualified(condition: str, alias: str) -> exp.Expr:
    (query,) = plain.parse(f"SELECT 1 FROM `t` WHERE {condition}")  # noqa: S608 - a condition of ours
    assert query is not None  # noqa: S101 - it is one statement
    read: exp.Expr = query.args["where"].this
    for column in list(read.find_all(exp.Column)):
        column.set("table", exp.Identifier(this=alias, quoted=True))
    return read


def _unplaced(node: exp.Table, alias: str, place: Place, binding: Binding) -> AgnesError:
    return binding.refuse(
        "disallowed_node",
        f"{alias[:80]} is many tables of one day each, and cannot stand in this JOIN or PIVOT as it is.",
        f"Read it in a subquery: (SELECT … FROM {place.table_id} WHERE _TABLE_SUFFIX >= '20260101') AS {alias[:80]}.",  # noqa: S608
        node,
    )
