"""Step 1: which characters a text may hold, and how many; and what the string literals of each dialect mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.limits import MAX_CHARS
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.untrusted import find_hidden, is_unseen

_LAYOUT = "\t\r\n"

Refuse = Callable[..., AgnesError]


@dataclass(frozen=True)
class Wanted:
    """What a text is to be: how it is named and refused, how many characters it may have, and each next step."""

    noun: str
    refuse: Refuse
    max_chars: int
    send: str
    shorten: str
    fill: str


PREDICATE = Wanted(
    noun="predicate",
    refuse=refuse,
    max_chars=MAX_CHARS,
    send="Send the WHERE condition as a string.",
    shorten="Narrow it: use BETWEEN instead of a long IN list, or several smaller calls.",
    fill="Leave `where` out to read without a condition.",
)


def check_characters(text: object, wanted: Wanted = PREDICATE) -> str:
    """`text` itself, if it is a string of printable characters and layout. Raises `parse_error`, `too_complex`.

    Of a statement as of a predicate: what nobody sees is refused in both, and in strings too.
    """
    refuse, noun = wanted.refuse, wanted.noun
    if not isinstance(text, str):
        raise refuse("parse_error", f"A {noun} is text, not {type(text).__name__}.", wanted.send)
    if len(text) > wanted.max_chars:
        message = f"The {noun} has {len(text):,} characters; at most {wanted.max_chars:,} are read."
        raise refuse("too_complex", message, wanted.shorten, text, characters=len(text))
    if not text.strip(" " + _LAYOUT):
        raise refuse("parse_error", f"The {noun} is empty.", wanted.fill, text)
    position = find_hidden(text)
    if position >= 0:
        message = f"U+{ord(text[position]):04X} at {position} is not a printable character."
        hint = "Remove control characters and invisible ones, in strings too."
        raise refuse("parse_error", message, hint, text, position, position + 1)
    return text


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
