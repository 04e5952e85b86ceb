"""How the functions of a dialect may be called. One line each: `NAME(argument, argument?, argument...) result`.

    value      any expression              condition  a boolean expression
    text       a string literal            count      a whole-number literal
    part       a bare date part (DAY)      unit       a date part as a string literal ('day')
    interval   INTERVAL 3 DAY              list       an array column or a list of literals
    growth     a string literal that replaces another: at most 64 characters, and not nested where it is the longer

`?` marks an argument that may be left out, `...` one that may be repeated. The result `same` is the kind of the first
value argument. Patterns and formats are literals, so that nothing of a row is ever compiled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agnes_mcp.sql.predicate.kinds import Kind, list_of

_LINE = re.compile(r"(?P<name>[A-Z0-9_]+)\((?P<arguments>[a-z?., ]*)\) (?P<result>[a-z]+)(?: of (?P<element>[a-z]+))?")
_ARGUMENTS = frozenset({"value", "condition", "text", "count", "part", "unit", "interval", "list", "growth"})


@dataclass(frozen=True)
class Signature:
    """`result` None: the kind of the first value argument."""

    name: str
    arguments: tuple[str, ...]
    least: int
    repeats: bool
    result: Kind | None

    def accepts(self, count: int) -> bool:
        return self.least <= count and (self.repeats or count <= len(self.arguments))

    def argument(self, index: int) -> str:
        """What the argument at `index` has to be; beyond the last one, a value."""
        if index < len(self.arguments):
            return self.arguments[index]
        return self.arguments[-1] if self.repeats else "value"

    def __str__(self) -> str:
        shown = [a if i < self.least else f"[{a}]" for i, a in enumerate(self.arguments)]
        return f"{self.name}({', '.join(shown)}{', …' if self.repeats else ''})"


def read_signatures(table: str) -> dict[str, Signature]:
    """The lines of `table` by name. Raises ValueError for a line that is no signature, or a name that comes twice."""
    signatures: dict[str, Signature] = {}
    for line in filter(None, map(str.strip, table.splitlines())):
        signature = _read(line)
        if signature.name in signatures:
            raise ValueError(f"{signature.name} has two signatures")
        signatures[signature.name] = signature
    return signatures


def _read(line: str) -> Signature:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a signature: {line}")
    marked = match["arguments"].split(", ") if match["arguments"] else []
    arguments = tuple(argument.rstrip("?.") for argument in marked)
    if unknown := set(arguments) - _ARGUMENTS:
        raise ValueError(f"{line}: unknown argument {unknown}")
    result = Kind(match["result"])
    if match["element"]:
        result = list_of(Kind(match["element"]))
    return Signature(
        name=match["name"],
        arguments=arguments,
        least=sum(not argument.endswith("?") for argument in marked),
        repeats=bool(marked) and marked[-1].endswith("..."),
        result=None if match["result"] == "same" else result,
    )
