"""LIMIT and OFFSET."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.session import Session
from agnes_mcp.stand_in.googlesql.values import coerced, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query


def tail_text(session: Session, limit: exp.Limit | None, offset: exp.Offset | None) -> str:
    """LIMIT and OFFSET, whose counts are literals or parameters."""
    sql = ""
    for word, part in (("LIMIT", limit), ("OFFSET", offset)):
        if part is None:
            continue
        if unread(part, "expression", "this"):
            raise unsupported(f"this {word}")
        count = part.expression
        if isinstance(count, exp.Parameter | exp.Placeholder) and session.parameter is not None:
            key = count.name if isinstance(count, exp.Parameter) else session.next_position()
            sql += f" {word} {int(coerced(session.parameter(key), t.INT64).text)}"
        elif isinstance(count, exp.Literal) and count.name.isdigit():
            sql += f" {word} {count.name}"
        else:
            raise invalid_query(f"{word} expects an integer literal or parameter")
    return sql
