"""What a command prints: tables fitted to the terminal, sizes and money in words, JSON as it is.

Answers go to standard output, everything said beside them to standard error, so that a pipe gets answers only. Colours
are for terminals.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from agnes_mcp.untrusted import revealed, tidy

if TYPE_CHECKING:
    from rich.console import Console

#: A column is not made narrower than this, or than its own widest cell; between two there is a gap.
_LEAST_WIDTH, _GAP = 10, 2
_LAYOUT = str.maketrans("\t\r\n", "   ")
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not (sys.stderr if stderr else sys.stdout).isatty())


def say(text: str) -> None:
    """Words for whoever watches; what is hidden in a name of a file, or in what was typed, is shown."""
    sys.stderr.write(f"{visible_to_a_person(text)}\n")


def visible_to_a_person(text: str) -> str:
    """Words in which nothing moves a terminal's cursor, and no character is hidden."""
    return str(revealed(text)[0])


def print_json(answer: BaseModel | Any, *, defaults: bool = False) -> None:
    """The structured answer on one line, as the tool gives it: what has its default is left out.

    `defaults`: every key is there, for programs that read what no tool gives.
    """
    content = tidy(
        answer.model_dump(mode="json", exclude_defaults=not defaults) if isinstance(answer, BaseModel) else answer
    )
    sys.stdout.write(json.dumps(content, ensure_ascii=False, default=str, separators=(",", ":")) + "\n")
    _written()


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "(no rows)") -> None:
    """A table as wide as the terminal; in a pipe each row is one line of tab-separated values, never shortened."""
    if not rows:
        sys.stdout.write(f"{empty}\n")
        return
    if not sys.stdout.isatty():
        for row in (headings, *rows):
            sys.stdout.write("\t".join(_one_line(value) for value in row) + "\n")
        _written()
        return
    cells = [[_one_line(value) for value in row] for row in rows]
    widths = [
        max(map(len, (heading, *column))) for heading, column in zip(headings, zip(*cells, strict=True), strict=True)
    ]
    least = [min(width, _LEAST_WIDTH) for width in widths]
    screen = console()
    if sum(least) + _GAP * (len(least) - 1) > screen.width:
        _print_records(headings, cells, screen.width)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        numeric = all(isinstance(row[place], int | float) or row[place] is None for row in rows)
        justify: Literal["right", "left"] = "right" if numeric else "left"
        table.add_column(heading, justify=justify, overflow="ellipsis", no_wrap=True, min_width=least[place])
    for row in cells:
        table.add_row(*map(Text, row))
    screen.print(table)


def _print_records(headings: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> None:
    """Each row as a block of lines, where a terminal is too narrow for columns side by side."""
    label = min(max(map(len, headings)), width // 2)
    for row in cells:
        for heading, cell in zip(headings, row, strict=True):
            line = f"{heading[:label]:<{label}}  {cell}"
            sys.stdout.write((line if len(line) <= width else f"{line[: width - 1]}…") + "\n")
        sys.stdout.write("\n")
    _written()


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Labels and values, one a line; what is not known is left out."""
    known = [(label, value) for label, value in pairs if value not in (None, "", [])]
    width = max((len(label) for label, _ in known), default=0) + 1
    for label, value in known:
        sys.stdout.write(f"{label + ':':<{width}} {_one_line(value)}\n")
    _written()


def _written() -> None:
    """What was printed has arrived before a word is said of it. Raises OSError where it cannot."""
    sys.stdout.flush()


def size_in_words(size_bytes: int | None) -> str:
    """`1.5 GB`, in steps of 1,024; "not known" for None."""
    if size_bytes is None:
        return "not known"
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def cost_in_words(scan_bytes: int | None, usd: float | None) -> str:
    """`$0.42`; what rounds to nothing and is not nothing is `under $0.01`."""
    if usd is None or scan_bytes is None:
        return "not known"
    return "under $0.01" if scan_bytes and usd < 0.01 else f"${usd:,.2f}"


def _one_line(value: Any) -> str:
    """A cell: nested values as JSON, nothing that could move the cursor or break the line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return str(revealed(text)[0]).translate(_LAYOUT)
