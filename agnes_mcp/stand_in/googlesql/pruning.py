"""Conditions brought down to the stored tables whose rows they alone decide, so that partitions can be left out."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from agnes_mcp.stand_in.googlesql.names import Scope, resolved
from agnes_mcp.stand_in.googlesql.rules import Clause
from agnes_mcp.stand_in.googlesql.session import Session
from agnes_mcp.stand_in.googlesql.sources import Source
from agnes_mcp.stand_in.googlesql.values import Read
from agnes_mcp.stand_in.jobs.partitions import PLACE
from agnes_mcp.stand_in.wire.replies import ApiError


def attach_conditions(session: Session, node: exp.Select, source: Source, clause: Clause) -> None:
    """Give every place below the conjuncts of WHERE, and of inner joins' ON, that speak of its columns alone."""
    where = node.args.get("where")
    conditions = [where.this] if where is not None else []
    for condition in [*conditions, *source.conditions]:
        for part in _conjuncts(condition):
            for number, rebased in _rebased(part, clause.scope):
                session.places[number].conditions.append(rebased)


def _conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    bare = condition.unnest()
    if isinstance(bare, exp.And):
        for part in bare.flatten():
            yield from _conjuncts(part)
    else:
        yield bare


def _rebased(part: exp.Expr, scope: Scope) -> list[tuple[int, exp.Expr]]:
    """The condition over the columns of each place that its columns come from; none where they come from several."""
    if part.find(exp.Query, exp.Window) is not None:
        return []
    origins = [_origins(column, scope) for column in part.find_all(exp.Column)]
    known = [origin for origin in origins if origin is not None]
    width = len(known[0]) if known else 0
    if not width or any(len(origin) != width for origin in known):
        return []
    found = []
    for index in range(width):
        numbers = {origin[index][0] for origin in known}
        if len(numbers) == 1:
            names = [origin[index][1] if origin is not None else None for origin in origins]
            found.append((numbers.pop(), _renamed(part, names)))
    return found


#: Where a function takes a date part, which looks like a column.
_PART_AT = {"TRUNC": 1, "DIFF": 2, "DAY": 1}


def _is_part(column: exp.Column) -> bool:
    called = column.parent
    if not isinstance(called, exp.Anonymous):
        return False
    if called.name.upper() == "WEEK":
        return True
    index = _PART_AT.get(called.name.upper().rpartition("_")[2])
    return index is not None and len(called.expressions) > index and called.expressions[index] is column


def _origins(column: exp.Column, scope: Scope) -> tuple[Read, ...] | None:
    """Where a column comes from; None for a date part, which only looks like one."""
    if _is_part(column):
        return None
    path = [piece for piece in column.parts if isinstance(piece, exp.Identifier)]
    try:
        return resolved(scope, path, "").origins
    except ApiError:
        return None


def _renamed(part: exp.Expr, names: list[str | None]) -> exp.Expr:
    """A copy whose columns are those of `PLACE`."""
    copied = part.copy()
    for column, name in zip(list(copied.find_all(exp.Column)), names, strict=True):
        if name is None:
            continue
        renamed = exp.column(name, table=PLACE)
        if column is copied:
            return renamed
        column.replace(renamed)
    return copied
