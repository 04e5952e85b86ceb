"""What one statement gathers while it is compiled: the places it reads, the tables behind them, its common tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from agnes_mcp.stand_in.googlesql.names import Relation, Scope
from agnes_mcp.stand_in.googlesql.values import Value
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.tables import Table

CompileQuery = Callable[["Session", exp.Expr, Scope | None, Mapping[str, Relation]], Relation]


@dataclass
class Place:
    """One mention of a stored table in FROM: the conditions that its rows alone decide, over its own columns."""

    table: Table
    conditions: list[exp.Expr] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """How names without a project or a dataset are completed."""

    project: str
    dataset: str | None = None


@dataclass
class Session:
    """One statement. `compile_query` is how subqueries are compiled; `find` gives the table of a path."""

    find: Callable[[list[str], Names, Session], Table]
    routine: Callable[[list[str], Names], Routine]
    compile_query: CompileQuery
    compile_view: Callable[[Session, Table], Relation]
    names: Names
    sql: str = ""
    location: str | None = None
    parameter: Callable[[str | int], Value] | None = None
    places: list[Place] = field(default_factory=list)
    named: list[Table] = field(default_factory=list)
    opened: list[Table] = field(default_factory=list)
    routines: list[Routine] = field(default_factory=list)
    commons: list[tuple[str, str]] = field(default_factory=list)  # DuckDB's WITH: name and query, in order
    depth: int = 0
    volatile: bool = False
    _counted: int = 0
    _positional: int = 0

    def fresh(self, prefix: str) -> str:
        """A name that stands nowhere else in the statement."""
        self._counted += 1
        return f"{prefix}{self._counted}"

    def next_position(self) -> int:
        """The 0-based position of the next `?`."""
        self._positional += 1
        return self._positional - 1

    def place(self, table: Table) -> int:
        """A new mention of `table`; its number."""
        self.places.append(Place(table))
        return len(self.places) - 1
