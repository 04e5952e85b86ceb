"""Which names stand for what, at one place of a statement, by GoogleSQL's rules."""

from __future__ import annotations

from typing import NamedTuple

from agnes_mcp.models import Column
from agnes_mcp.sql.warehouse.places import Use

#: A column of a table in FROM: the table's use, and its top-level column.
Origin = tuple[Use, str]


class Named(NamedTuple):
    """One column of a relation: its spelling, its type where known, and the tables' column that it is, if it is one."""

    name: str
    column: Column | None = None
    origin: Origin | None = None


class Relation(NamedTuple):
    """What a query or a FROM gives. `open`: it may have further columns that are not known here."""

    columns: tuple[Named | None, ...]  # None: without a name
    open: bool = False
    single: bool = False  # exactly one row

    @property
    def named(self) -> dict[str, Named]:
        return {column.name.casefold(): column for column in self.columns if column is not None}


class Range:
    """A range variable: what FROM gives a name to. `value`: it stands for an element of an array, not for a row."""

    __slots__ = ("columns", "hidden", "name", "open", "single", "use", "value")

    def __init__(self, name: str, relation: Relation, *, value: Named | None = None, use: Use | None = None) -> None:
        self.name, self.value, self.use = name, value, use
        self.columns, self.open, self.single = relation.named, relation.open, relation.single
        self.hidden: dict[str, Named] = {}  # pseudo-columns: found by name, not by `*`

    def find(self, name: str) -> Named | None:
        folded = name.casefold()
        return self.columns.get(folded) or self.hidden.get(folded)


class Found(NamedTuple):
    """What a path means: its spelling, part by part; the range and the table's column that it starts in."""

    path: list[str]
    range: Range | None = None
    column: Column | None = None
    origin: Origin | None = None


class UnknownNameError(Exception):
    """No such name. `at` is the part of the path that is wrong, `known` are names that could stand there."""

    def __init__(self, message: str, at: int, known: list[str], hint: str = "") -> None:
        super().__init__(message)
        self.message, self.at, self.known, self.hint = message, at, known, hint


class Scope:
    """The range variables of one FROM, the SELECT's aliases where they are visible, and the scope around."""

    def __init__(self, outer: Scope | None = None) -> None:
        self.ranges: list[Range] = []
        self.outer = outer
        self.aliases: dict[str, Named] = {}
        self.aliases_first = False

    def names(self, first: str) -> bool:
        """Whether a path may begin with this name, so that in FROM it is an array and no table."""
        folded, scope = first.casefold(), self
        while True:
            if folded in scope.aliases or any(r.name == folded or r.find(first) for r in scope.ranges):
                return True
            if scope.outer is None:
                return False
            scope = scope.outer

    def resolve(self, path: list[str]) -> Found:
        """What `path` means here. Raises `UnknownNameError`."""
        scope: Scope | None = self
        maybe: Found | None = None
        while scope is not None:
            found = scope._own(path)
            if found is not None:
                return found
            if maybe is None and any(r.open for r in scope.ranges):
                maybe = Found(path, next(r for r in scope.ranges if r.open))
            scope = scope.outer
        if maybe is not None:
            return maybe
        raise self._unknown(path)

    def _own(self, path: list[str]) -> Found | None:
        folded = path[0].casefold()
        alias = self.aliases.get(folded)
        if alias is not None and self.aliases_first:
            return _inside(alias, path, None)
        for candidate in self.ranges:
            if candidate.name == folded:
                return _of_range(candidate, path)
        for candidate in self.ranges:
            column = candidate.find(path[0])
            if column is not None:
                return _inside(column, path, candidate)
        return None if alias is None else _inside(alias, path, None)

    def _unknown(self, path: list[str]) -> UnknownNameError:
        known: list[str] = []
        scope: Scope | None = self
        while scope is not None:
            known += [c.name for r in scope.ranges for c in r.columns.values()]
            known += [r.name for r in scope.ranges if r.name]
            known += [alias.name for alias in scope.aliases.values()]
            scope = scope.outer
        return UnknownNameError(f"There is no column {path[0][:80]!r} here.", 0, known)


def _of_range(candidate: Range, path: list[str]) -> Found:
    if candidate.value is not None:
        return _inside(candidate.value._replace(name=candidate.name), path, candidate)
    if len(path) == 1:
        return Found([candidate.name], candidate)
    column = candidate.find(path[1])
    if column is not None:
        inner = _inside(column, path[1:], candidate, 1)
        return inner._replace(path=[candidate.name, *inner.path])
    if candidate.open:
        return Found([candidate.name, *path[1:]], candidate)
    known = [c.name for c in candidate.columns.values()]
    raise UnknownNameError(f"{candidate.name[:80]!r} has no column {path[1][:80]!r}.", 1, known)


def _inside(named: Named, path: list[str], candidate: Range | None, offset: int = 0) -> Found:
    """Fields of what `named` is, as far as its type is known."""
    spelled, column = [named.name], named.column
    for step, part in enumerate(path[1:], 1):
        if column is None or column.type.upper() in ("JSON", ""):
            return Found([*spelled, *path[step:]], candidate, None, named.origin)
        if column.mode == "REPEATED":
            hint = f"Join it: CROSS JOIN UNNEST({'.'.join(spelled)[:80]}) AS element, then element.{part[:40]}."
            message = f"{'.'.join(spelled)[:80]} is an array, and {part[:80]!r} looks inside it."
            raise UnknownNameError(message, step + offset, [], hint)
        field = next((f for f in column.fields if f.name.casefold() == part.casefold()), None)
        if field is None:
            message = f"{'.'.join(spelled)[:80]} has no field {part[:80]!r}."
            raise UnknownNameError(message, step + offset, [f.name for f in column.fields])
        spelled.append(field.name)
        column = field
    return Found(spelled, candidate, column, named.origin)
