"""What was found of one part of an instance, in words for whoever keeps it."""

from __future__ import annotations

from typing import Literal

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Model

MAX_CHARS = 300


class Finding(Model):
    """`pass`, `fail`, or `skip` where something is not there to be looked at. `cure` is the next step; "" for none.

    `kind` is the error's, as a caller would get it; "" where there is none.
    """

    subject: str
    state: Literal["pass", "fail", "skip"]
    found: str
    cure: str = ""
    kind: str = ""


def counted(number: int, thing: str) -> str:
    """As in "1 column" and "2,000 columns"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def failed(subject: str, error: AgnesError) -> Finding:
    found, cure = error.message[:MAX_CHARS], error.hint[:MAX_CHARS]
    return Finding(subject=subject, state="fail", found=found, cure=cure, kind=error.kind)


#: What is said to callers, and not to whoever keeps the instance.
_TO_CALLERS = (
    "Other tables are not affected.",
    "Tell whoever keeps this instance; the files of the table need a look.",
)


def to_the_keeper(hint: str) -> str:
    """A hint that was made for callers, as one for the person who reads this."""
    for sentence in _TO_CALLERS:
        hint = hint.replace(sentence, "")
    hint = " ".join(hint.split()).removeprefix("Whoever keeps this instance can ")
    return hint[:1].upper() + hint[1:] or "Correct the table's `path`, or the file."
