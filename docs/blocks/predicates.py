"""What the WHERE validator allows, from its own lists."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import RULES, limits

from .markdown import table, words


def functions(dialect: Dialect) -> str:
    """Every signature, as the validator spells it in its hints."""
    rules = RULES[dialect]
    signatures = "\n".join(str(signature) for _, signature in sorted(rules.functions.items()))
    lists: list[tuple[str, Iterable[str]]] = [
        ("without brackets", rules.bare_calls),
        (f"types of `CAST` and `{rules.try_cast}`", rules.casts),
        ("typed literals, as in `DATE '2026-01-31'`", sorted(rules.literals)),
        ("parts of a date", sorted(rules.parts)),
        ("units of `INTERVAL`", sorted(rules.units)),
    ]
    return f"```text\n{signatures}\n```\n\n" + table(("", ""), [(name, words(listed)) for name, listed in lists])


def sizes() -> str:
    """The constants of `limits`, each with the comment above it."""
    lines = Path(limits.__file__).read_text(encoding="utf-8").splitlines()
    rows: list[tuple[str, str]] = []
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            comment = lines[node.lineno - 2].removeprefix("#: ").strip()
            rows.append((comment.rstrip("."), f"{getattr(limits, node.targets[0].id):,}"))
    return table(("most", "limit"), rows)
