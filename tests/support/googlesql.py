"""Google's own parser of GoogleSQL, as WebAssembly: exact, and slow the first time it is compiled."""

from __future__ import annotations

from zetasql.api import Parser
from zetasql.types import LanguageOptions


def parse(sql: str) -> None:
    """Raises where the text is not one GoogleSQL statement."""
    Parser.parse_statement_static(sql, LanguageOptions.maximum_features())
