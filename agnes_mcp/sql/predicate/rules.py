"""What a dialect allows, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.kinds import Kind
from agnes_mcp.sql.predicate.signatures import Signature


@dataclass(frozen=True)
class Rules:
    """`bare_calls` are functions without brackets, each with the call that is written for it. `casts` are the types
    that CAST may name, each with how many numbers may follow it; `literals` those of `DATE '2026-01-31'`. `parts` are
    what EXTRACT and the part arguments may name, `units` what INTERVAL may count."""

    dialect: Dialect
    functions: dict[str, Signature]
    bare_calls: dict[str, tuple[str, Kind]]
    try_cast: str
    casts: dict[str, int]
    literals: frozenset[str]
    parts: frozenset[str]
    units: frozenset[str]
    week_starts: frozenset[str]
    reserved: frozenset[str]
    type_calls: frozenset[str]
    patterns: frozenset[str]
    unnests: bool
    double_colon: bool

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that a rendered predicate may hold without quotes."""
        return frozenset().union(
            _WORDS, self.functions, self.casts, self.parts, self.units, self.week_starts, self.patterns, {self.try_cast}
        )


_GRAMMAR = """
    AND AS BETWEEN CASE CAST DISTINCT ELSE END ESCAPE EXISTS EXTRACT FALSE FROM IN INTERVAL IS NOT NULL OFFSET OR
    ORDINAL SAFE_OFFSET SAFE_ORDINAL SELECT THEN TRUE UNNEST WHEN WHERE
"""
_WORDS = frozenset(_GRAMMAR.split())
