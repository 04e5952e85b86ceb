"""Foreign text made fit to show: no secret, no path of this machine, no value of a row, no character that nobody sees.

redact           credentials, by their shape and by their very text
without_paths    where files are
without_values   what a row holds, in a message of DuckDB
revealed         what a cell holds: every hidden character is shown as `<U+202E>`, and counted
tidy             all else of an answer: names, descriptions, echoes, errors, without hidden characters
clean            text that somebody else wrote, in one line of bounded length
visible          a piece of the agent's own text, repeated to it

Hidden is what a reader does not see and a model reads: controls, bidirectional marks and overrides, what has no width,
tags, fillers, variation selectors, private use, annotations. Scripts and emoji need some of them; those stay where they
do their work, and only there: one joiner after a letter of a script that joins or stacks, or between two emoji; one
variation selector after what has variants; the three flags that are written with tags; a break between words of scripts
without spaces.
"""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

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

_LAYOUT = str.maketrans("\t\r\n", "   ")
# Unicode 16: categories Cc but layout, Cf but the marks of numbers and verses that are seen, Cs, Co, Zl, Zp; what
# Default_Ignorable_Code_Point names beside them; noncharacters. Unassigned ones may be letters of a later Unicode.
_HIDDEN_RANGES = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U0010ffff"
    + "".join(f"{chr(plane + 0xFFFE)}-{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0xF0000, 0x10000))
)
#: Hebrew, Arabic and its likes, the scripts of India, Tibet, Myanmar, Khmer, Mongolian, Adlam: their letters join.
_JOINING = (
    "\u05d0-\u05f2\u0620-\u06d3\u06d5-\u06dc\u06df-\u06ff\u0710-\u088e\u08a0-\u08e1\u08e3-\u0dff\u0f00-\u109f"
    "\u1780-\u17b3\u17b6-\u180a\u1810-\u18aa\u1a00-\u1cff\ua800-\ua8ff\ua980-\uaaff\ufb50-\ufdcf\ufe70-\ufefc"
    "\U00010a00-\U00010a48\U00010d00-\U00010d3f\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
#: What may be drawn in colour, and the shades of skin.
_PICTURES = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u19e0-\u19ff\uaa60-\uaa7f"
_FLAGS = "|".join(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f" for region in ("gbeng", "gbsct", "gbwls")
)
#: What does its work where it stands, and then what is hidden.
_AT_WORK_OR_HIDDEN = re.compile(
    rf"(?P<works>(?<=[{_JOINING}])[\u200c\u200d]"
    rf"|(?<=[{_PICTURES}\ufe0f])\u200d(?=[{_PICTURES}])"
    rf"|(?<=[{_PICTURES}])[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    rf"|(?<=[{_IDEOGRAPHS}])[\ufe00-\ufe02\U000e0100-\U000e011f]|(?<=[\u2229-\u2aff])\ufe00"
    rf"|(?<=[\u1820-\u18aa])[\u180b-\u180f]|(?<=[\u0590-\u05f2])\u034f"
    rf"|(?<=[{_WITHOUT_SPACES}])\u200b(?=[{_WITHOUT_SPACES}])"
    rf"|(?<=\U0001f3f4)(?:{_FLAGS}))"
    rf"|(?P<hidden>[{_HIDDEN_RANGES}])(?P=hidden)*"
)


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


def is_plain(text: str) -> bool:
    """Whether there is surely nothing hidden in it; costs next to nothing. Of other text `revealed` tells."""
    return text.isascii() and text.isprintable()


def find_hidden(text: str) -> int:
    """The place of the first hidden character; -1 where there is none."""
    if not is_plain(text):
        for found in _AT_WORK_OR_HIDDEN.finditer(text):
            if found["hidden"]:
                return found.start()
    return -1


def is_unseen(character: str) -> bool:
    """Whether a reader would not see it where it stands alone, so that what is read and what is run could differ."""
    return find_hidden(character) == 0


def revealed(value: Any) -> tuple[Any, int]:
    """A JSON-ready value with every hidden character in its texts shown as its number, and how many there are.

    One that repeats is shown once, with how often: `<U+200B×12>`.
    """
    count = 0

    def show(run: str) -> str:
        nonlocal count
        count += len(run)
        return f"<U+{ord(run[0]):04X}{f'×{len(run)}' if len(run) > 1 else ''}>"

    return _in_texts(value, show), count


def tidy(value: Any) -> Any:
    """A JSON-ready value without the hidden characters of its texts, names of fields too."""
    return _in_texts(value, lambda run: "")


def visible(text: str, max_chars: int) -> str:
    """At most that many characters, with layout, every space but the plain one and every hidden one as U+FFFD."""
    return re.sub(r"[^\S ]", "\ufffd", _in_texts(text[:max_chars], lambda run: "\ufffd" * len(run)))


def clean(text: str, max_chars: int) -> str:
    """Text that somebody else wrote, for an agent to read: one line, no hidden characters."""
    kept = (text if is_plain(text) else tidy(text.translate(_LAYOUT))).strip()
    return kept if len(kept) <= max_chars else kept[: max_chars - 1] + "…"


def _in_texts(value: Any, shown: Callable[[str], str]) -> Any:
    """`value` with what is hidden in its texts, a run of one character at a time, replaced."""
    if isinstance(value, str):
        if is_plain(value):
            return value
        return _AT_WORK_OR_HIDDEN.sub(lambda run: run[0] if run["works"] else shown(run[0]), value)
    if isinstance(value, dict):
        return {_in_texts(key, shown): _in_texts(item, shown) for key, item in value.items()}
    return [_in_texts(item, shown) for item in value] if isinstance(value, list) else value
