"""String literals: how each dialect writes them, and what they mean."""

from __future__ import annotations

import re

from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.untrusted import is_unseen

_TRIPLE = "|".join(rf"{q * 3}(?:[^\\]|\\.)*?{q * 3}" for q in ("'", '"'))
_SINGLE = "|".join(rf"{q}(?:[^{q}\\\r\n]|\\[^\r\n])*{q}" for q in ("'", '"'))
BIGQUERY_STRING = rf"[rR]?(?s:{_TRIPLE}|{_SINGLE})"
DUCKDB_STRING = r"'(?:[^']|'')*'"

# GoogleSQL, "Escape sequences for string and bytes literals".
_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|(?P<octal>[0-3][0-7]{2})|[xX](?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<wrong>.|\Z))",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def decode(source: str, dialect: Dialect, text: str, start: int) -> str:
    """The value of the literal `source`, which stands at `start` of `text`. Raises `unsupported_literal`."""
    if dialect == "duckdb":
        return source[1:-1].replace("''", "'")
    raw = source[0] in "rR"
    quoted = source[1:] if raw else source
    width = 3 if len(quoted) >= 6 and quoted[:3] in ("'''", '"""') else 1
    body = quoted[width:-width]
    # GoogleSQL reads CR and CR LF in a triple-quoted string as LF.
    body = body.replace("\r\n", "\n").replace("\r", "\n")
    return body if raw else _ESCAPE.sub(lambda escape: _unescape(escape, text, start), body)


def _unescape(escape: re.Match[str], text: str, start: int) -> str:
    if (plain := escape["plain"]) is not None:
        return _PLAIN.get(plain, plain)
    digits, base = (
        (escape["octal"], 8) if escape["octal"] else (escape["byte"] or escape["short"] or escape["long"], 16)
    )
    code = int(digits, base) if digits else -1
    if not 0 < code <= 0x10FFFF or is_unseen(chr(code)):
        raise refuse(
            "unsupported_literal",
            f"The escape {escape.group()} does not stand for a printable character.",
            "Write a backslash as \\\\, or put r before the quote: r'\\d+'.",
            text,
            start,
        )
    return chr(code)
