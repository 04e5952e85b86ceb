"""What the parts of the reading share: the text, the names, and what has been found so far."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.lexemes import Lexeme
from agnes_mcp.sql.warehouse.places import Names, Place, Use
from agnes_mcp.sql.warehouse.refusals import near
from agnes_mcp.sql.warehouse.scope import Found, Relation, Scope, UnknownNameError
from agnes_mcp.sql.warehouse.spelling import Spelling

#: The common table expressions in scope, by folded name.
Ctes = dict[str, Relation]


class Binding:
    """`found` holds what each column of the tree means, by the node's id; `query` reads a subquery in an expression."""

    def __init__(self, spelling: Spelling, names: Names) -> None:
        self.spelling, self.names = spelling, names
        self.uses: list[Use] = []
        self.local: list[Place] = []
        self.found: dict[int, Found] = {}
        self.kept: list[exp.Expr] = []  # nodes of no tree that `found` knows: an id is of a living node only
        self.crosses: list[tuple[str, str]] = []
        self.narrowed: list[tuple[exp.Table, str, Place]] = []  # tables with a condition of their own, by their aliases
        self.changing = False
        self.query: Callable[[exp.Expr, Scope, Ctes], Relation]

    def lexeme_of(self, node: exp.Expr) -> Lexeme:
        """Where a node stands in the caller's text; the first lexeme, where that is not known."""
        for inner in node.walk():
            start = inner.meta_get("start") if hasattr(inner, "meta_get") else None
            if start is not None:
                return self.spelling.lexeme_at(int(start))
        return self.spelling.lexemes[0]

    def refuse(self, kind: str, message: str, hint: str, node: exp.Expr, **details: object) -> AgnesError:
        return self.spelling.refuse(kind, message, hint, self.lexeme_of(node), **details)

    def unknown(self, error: UnknownNameError, node: exp.Expr, name: str) -> AgnesError:
        """What is told of a name that is not there, with the nearest that are."""
        close = near(name, list(dict.fromkeys(error.known)))
        hint = error.hint or (f"Did you mean {' or '.join(c[:80] for c in close)}?" if close else "")
        hint = hint or "Call `schema` for a table's columns; a table with an alias is named by its alias."
        return self.refuse("unknown_column", error.message, hint, node, column=name[:80], nearest=close)
