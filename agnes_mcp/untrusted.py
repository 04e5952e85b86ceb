"""Foreign text made fit to show: no secret, no path of this machine, no value of a row, no character that nobody sees.

redact           credentials, by their shape and by their very text
without_paths    where files are
without_values   what a row holds, in a message of DuckDB
clean            text that somebody else wrote, for an agent to read
visible          a piece of the agent's own text, repeated to it
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import deque
from collections.abc import Iterable

MASK = "[redacted]"
#: Stands for a path, and for a value, that is not told.
PATH, VALUE = "<path>", "…"

# Shapes of credentials: Google access tokens, bearer headers, JWTs, token fields of JSON, forms and SQL, private keys.
_SHAPES = re.compile(
    r"""
    ya29\.[\w.~+/=-]+
    | (?<=bearer[ ])[\w.~+/-]{12,}=*
    | \beyJ[\w-]+\.[\w-]+\.[\w-]*
    | (?<=_token)(?:["']?\s*[:=]\s*["']?|\s+')[^\s'",;&)}\]]+
    | (?<=_secret)(?:["']?\s*[:=]\s*["']?|\s+')[^\s'",;&)}\]]+
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_held: deque[str] = deque(maxlen=16)

_QUOTED_PATH = re.compile(r"""(["'])(?:[A-Za-z]:)?[\\/][^"']*[\\/][^"']*\1""")
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"`:;,()\[\]]+){2,}[\\/]?|file:\S+")
#: In prose `/key.json` is a path; beside SQL it may be a division.
_PATH_IN_PROSE = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:\\)[^\s'\",;:)]+")
_PATH_BESIDE_SQL = re.compile(r"(?<![\w)\]/:])(?:file://)?(?:/[\w.@%+=~*-]+){2,}/?|\b[A-Za-z]:\\[^\s'\"]+")

#: A quote that is no apostrophe ("can't").
_QUOTE = re.compile(r"""(?<![A-Za-z])['"]""")
#: What may follow a value: "… to INT32 when casting from source column price".
_AFTER_VALUE = re.compile(r"['\"]( to [\w(), \[\]]+?)(?: when casting from source column \w+)?$")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d.,:eE+-]*(?!\w)")

_LAYOUT = "\t\r\n"
#: Control, format (bidi overrides, zero-width), surrogate, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def remember(secret: str) -> None:
    """From now on `redact` removes this very text too, whatever its shape."""
    if secret and secret not in _held:
        _held.append(secret)


def redact(text: str) -> str:
    """`text` without any remembered secret and without anything that has the shape of a credential."""
    for secret in list(_held):
        text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)


def without_paths(text: str) -> str:
    """DuckDB's message about SQL of ours, in one line: without the caret picture that quotes it, and without paths."""
    said = _QUOTED_PATH.sub(PATH, text.split("\n\nLINE ", 1)[0])
    return _PATH.sub(PATH, said).replace("\n", " ").strip()


def without_paths_in_prose(text: str) -> str:
    """A sentence of a library, in which whatever begins with a slash is a path."""
    return _PATH_IN_PROSE.sub("[path]", text)


def without_paths_beside_sql(text: str, known: Iterable[str] = ()) -> str:
    """A message that quotes an agent's SQL, in which `a/b/c` divides: `known` paths go, and what is surely one."""
    places = {sys.prefix, sys.base_prefix, os.path.expanduser("~"), os.getcwd(), *known}
    places |= {os.path.dirname(path) for path in list(places)}
    for path in sorted(places - {"", "/", "~"}, key=len, reverse=True):
        text = text.replace(path, VALUE)
    return _PATH_BESIDE_SQL.sub(VALUE, text)


def without_values(text: str, own: str) -> str:
    """DuckDB's message up to the first value that is not in `own`, the agent's text; other numbers become an ellipsis.

    A value may hold quotes, line ends and colons itself: after its first quote only one known form is trusted.
    """
    quote = _QUOTE.search(text)
    if quote is not None and not _quoted_in(own, text[quote.start() :]):
        after = _AFTER_VALUE.search(text)
        text = text[: quote.start()] + f"'{VALUE}'" + (after[0][1:] if after else "")
    parts = text.partition("\n")[0].split(": ")
    if len(parts) > 2 and parts[-1] not in own and f"'{VALUE}'" not in parts[-1]:
        parts[-1] = VALUE
    own_numbers = set(_NUMBER.findall(own))
    return _NUMBER.sub(lambda found: found[0] if found[0] in own_numbers else VALUE, ": ".join(parts))


def _quoted_in(own: str, rest: str) -> bool:
    """Whether the quoted text with which `rest` begins, and all after its end, is the agent's own or has no quote."""
    end = rest.find(rest[0], 1)
    return end > 0 and rest[: end + 1] in own and not set(rest[end + 1 :]) & set("'\"\n")


def is_unseen(character: str) -> bool:
    """Whether a reader would not see it, so that what is read and what is run could differ. Layout is seen."""
    return character not in _LAYOUT and unicodedata.category(character) in _UNSEEN


def visible(text: str, max_chars: int) -> str:
    """At most that many characters, with every one that a terminal or a log could obey shown as U+FFFD."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:max_chars])


def clean(text: str, max_chars: int) -> str:
    """Text that somebody else wrote, for an agent to read: no control, bidirectional or invisible characters."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " if c in _LAYOUT else "" for c in text).strip()
    return kept if len(kept) <= max_chars else kept[: max_chars - 1] + "…"
