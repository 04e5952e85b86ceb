"""Text of others in a picture: what can be shown of it, as long as fits, and never two values under one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: Beyond these a label hides the picture.
MAX_LABEL_CHARS = 60
MAX_TITLE_CHARS = 200
#: Joins emoji, and keeps letters of some scripts apart.
_JOINERS = "\u200c\u200d"
#: What every JavaScript object has already: the renderer looks categories up in objects, and a bar of this name is not
#: drawn. A no-break space at its end is not seen, and makes another name of it.
_TAKEN = frozenset({
    "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
    "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
})  # fmt: skip
NULL_LABEL = "(null)"
EMPTY_LABEL = "(empty)"


def shown(text: str, limit: int = MAX_LABEL_CHARS) -> str:
    """`text` on one line without characters that no picture shows, cut to `limit` characters."""
    kept = "".join(c if _visible(c) else " " for c in text[: limit * 4])
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _visible(character: str) -> bool:
    """No control, format or surrogate character, and nothing that XML has no place for."""
    if character in _JOINERS:
        return True
    nowhere = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return not nowhere and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def distinct_labels(values: Iterable[str | None]) -> list[str]:
    """One label per value, in order; values that look the same when cut are told apart by a number."""
    labels: list[str] = []
    used: set[str] = set()
    for value in values:
        label = NULL_LABEL if value is None else shown(value) or EMPTY_LABEL
        label += "\u00a0" if label in _TAKEN else ""
        candidate, number = label, 2
        while candidate in used:
            candidate, number = f"{label} ({number})", number + 1
        used.add(candidate)
        labels.append(candidate)
    return labels
