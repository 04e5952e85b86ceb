"""Persistent SQL functions: found by their path, opened where they are called, and listed as referenced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from agnes_mcp.stand_in.wire.replies import invalid_query


@dataclass(frozen=True)
class Routine:
    """`body` is a GoogleSQL expression over the names in `arguments`."""

    project: str
    dataset: str
    name: str
    arguments: tuple[str, ...]
    body: str

    @property
    def reference(self) -> dict[str, str]:
        return {"projectId": self.project, "datasetId": self.dataset, "routineId": self.name}


def call_path(call: exp.Anonymous) -> list[str]:
    """The path of a call of a persistent function: `` p.d.f(x) ``, `` `p.d.f`(x) ``; empty for a built-in one."""
    if isinstance(call.this, exp.Identifier):
        return [part for part in call.this.name.split(".") if part]
    parts = [call.name]
    node: exp.Expr = call
    while isinstance(node.parent, exp.Dot) and node.parent.expression is node:
        left = node.parent.this
        while isinstance(left, exp.Dot):
            parts.insert(0, left.expression.name)
            left = left.this
        parts.insert(0, left.name)
        node = node.parent
    return parts if len(parts) > 1 else []


def opened(routine: Routine, body: exp.Expr, call: exp.Anonymous) -> exp.Expr:
    """The call with the routine's body in its place. Raises for the wrong number of arguments."""
    if len(call.expressions) != len(routine.arguments):
        wanted = len(routine.arguments)
        raise invalid_query(f"Number of arguments does not match for function {routine.name}: wants {wanted}")
    given: Mapping[str, exp.Expr] = {
        name.lower(): value for name, value in zip(routine.arguments, call.expressions, strict=True)
    }
    for column in list(body.find_all(exp.Column)):
        value = given.get(column.name.lower()) if not column.table else None
        if value is not None:
            replaced = column.replace(exp.paren(value.copy()))
            body = replaced if column is body else body
    return exp.paren(body)
