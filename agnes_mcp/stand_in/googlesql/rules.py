"""How an expression is compiled: a rule for each class of node and for each function; what has none is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from agnes_mcp.stand_in.googlesql.names import Relation, Scope
from agnes_mcp.stand_in.googlesql.values import Value, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

if TYPE_CHECKING:
    from agnes_mcp.stand_in.googlesql.session import Session


@dataclass(frozen=True)
class Clause:
    """Where an expression stands: the names it sees, and whether aggregates or window functions may stand there."""

    session: Session
    scope: Scope
    ctes: Mapping[str, Relation] = field(default_factory=dict)
    windows: Mapping[str, exp.Window] = field(default_factory=dict)
    name: str = "this clause"
    aggregates: bool = False
    analytic: bool = False
    safe: bool = False

    def within_aggregate(self) -> Clause:
        """For an aggregate's own arguments: no aggregate stands in another, and SELECT aliases do not count."""
        return replace(self, aggregates=False, analytic=False, scope=self.scope.with_aliases({}), name="an aggregate")

    def within_window(self) -> Clause:
        return replace(self, analytic=False, name="an analytic function")

    def unsafe(self) -> Clause:
        return replace(self, safe=False) if self.safe else self


Rule = Callable[[Any, Clause], Value]
_RULES: dict[type[exp.Expr], Rule] = {}
_CALLS: dict[str, Rule] = {}
#: Calls that may be written without parentheses.
BARE_CALLS = ("CURRENT_DATE", "CURRENT_DATETIME", "CURRENT_TIME", "CURRENT_TIMESTAMP")


def rule(*kinds: type[exp.Expr]) -> Callable[[Rule], Rule]:
    """Register how nodes of these classes are compiled."""

    def register(compile_node: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, compile_node))
        return compile_node

    return register


def call(*names: str) -> Callable[[Rule], Rule]:
    """Register how calls of these functions are compiled, by the name that is written."""

    def register(compile_call: Rule) -> Rule:
        _CALLS.update(dict.fromkeys(names, compile_call))
        return compile_call

    return register


def value_of(node: exp.Expr, clause: Clause) -> Value:
    """`node` compiled. Raises `ApiError` for whatever GoogleSQL, or the stand-in, does not take there."""
    found = _RULES.get(type(node))
    if found is None:
        raise unsupported(_named(node))
    return found(node, clause)


def call_rule(name: str) -> Rule | None:
    return _CALLS.get(name)


def _named(node: exp.Expr) -> str:
    return {
        "Star": "* here",
        "AtTimeZone": "AT TIME ZONE here",
        "Filter": "FILTER",
        "StrToDate": "CAST to a date or time with FORMAT",
        "StrToTime": "CAST to a date or time with FORMAT",
    }.get(type(node).__name__, f"{type(node).__name__} here")


def arguments(node: exp.Anonymous, clause: Clause, low: int, high: int | None = None) -> list[Value]:
    """The compiled arguments of a call that takes `low` to `high` of them."""
    wanted(node, low, high)
    return [value_of(argument, clause) for argument in node.expressions]


def wanted(node: exp.Anonymous, low: int, high: int | None = None) -> list[exp.Expr]:
    """The argument nodes of a call that takes `low` to `high` of them. Raises for fewer and for more."""
    given: list[exp.Expr] = node.expressions
    if not low <= len(given) <= (low if high is None else high):
        raise invalid_query(f"No matching signature for function {node.name.upper()}: wrong number of arguments")
    return given
