"""How a predicate is refused: a stable kind, where it stands in the text, and the next step."""

from __future__ import annotations

from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from agnes_mcp.errors import PredicateError, nearest
from agnes_mcp.sql.predicate.limits import MAX_FRAGMENT_CHARS
from agnes_mcp.untrusted import visible

#: Which failure is told first when a predicate has several: how it is built, whose columns, which functions, which
#: columns, and last whether it is a condition at all. Among equals the first in the text.
_ORDER = ("cross_table_reference", "unknown_function", "unknown_column", "not_boolean")

_LIKENESS = 0.65  # of difflib: below it, what it finds are other words


def refuse(
    kind: str, message: str, hint: str, text: str = "", start: int = 0, end: int | None = None, **details: Any
) -> PredicateError:
    """A refusal of `text[start:end]`. `fragment` is at most 80 printable characters of it, `position` is 0-based."""
    fragment = printable(text[start : len(text) if end is None else end])
    return PredicateError(kind, message, hint, {"fragment": fragment, "position": start, **details})


def printable(fragment: str) -> str:
    """At most 80 characters of it, those that nobody sees, spaces of other scripts too, shown as U+FFFD."""
    return "".join(c if c.isprintable() else "\ufffd" for c in visible(fragment, MAX_FRAGMENT_CHARS))


class Fault(NamedTuple):
    """A failure of meaning that was met while reading went on. `error` builds what is told: only one is told, and the
    search for near names takes time."""

    kind: str
    position: int
    error: Callable[[], PredicateError]


def first_of(faults: list[Fault]) -> PredicateError:
    """The one to tell of several failures."""
    return min(faults, key=lambda fault: (_ORDER.index(fault.kind), fault.position)).error()


def near(name: str, known: list[str]) -> list[str]:
    """Up to three of `known` that `name` may be a misspelling of, best first."""
    folded = name.casefold()[:MAX_FRAGMENT_CHARS]
    return [n for n in nearest(folded, known) if SequenceMatcher(None, folded, n.casefold()).ratio() >= _LIKENESS]
