"""The last look before a specification is rendered: only what we write ourselves, nothing that loads or computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agnes_mcp.errors import AgnesError

MARKS = frozenset({"bar", "line", "area", "point", "rect", "rule", "tick", "circle", "geoshape"})
#: Every key that may stand outside the values. `url`, `href`, `transform`, `params`, `expr`, `usermeta` are not here.
KEYS = frozenset(
    """
    $schema description title subtitle text width height padding background config data values mark encoding layer
    projection type field sort axis legend scale stack tooltip x y x2 y2 color size longitude latitude
    orient point strokeWidth line opacity filled fill stroke clip thickness domain range scheme zero nice
    center translate clipExtent labelAngle labelOverlap labelExpr font view category ramp heatmap
    labelColor titleColor gridColor domainColor tickColor labelFontSize titleFontSize titleFontWeight labelLimit
    titleLimit subtitleColor fontSize fontWeight anchor offset
        """.split()  # noqa: SIM905 - words are read more easily than a column of strings
)
#: The one expression that a specification of ours holds.
EXPRESSIONS = frozenset({"replace(format(datum.value, '.4~s'), 'G', 'B')"})
#: Beyond these the renderer has been seen to give up or to end.
MAX_VALUES = 20_000
MAX_TEXT_CHARS = 4_000
MAX_NODES = 20_000


def check_spec(spec: dict[str, Any]) -> None:
    """Raises `chart_failed` for anything that is not on the lists above."""
    for nodes, (key, value) in enumerate(_parts(spec)):
        wrong = key not in KEYS or nodes > MAX_NODES
        wrong |= key in ("mark",) and _mark_of(value) not in MARKS
        wrong |= key == "values" and not isinstance(value, list)
        wrong |= key == "labelExpr" and value not in EXPRESSIONS
        wrong |= isinstance(value, str) and len(value) > MAX_TEXT_CHARS
        if wrong:
            raise refused(f"{key!r:.40} has no place in it.")


def _mark_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else value


def _parts(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key and its value, without what stands in values: they are data, and only plain ones are let through."""
    stack: list[Any] = [spec]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack.extend(part)
        elif isinstance(part, str):
            yield "text", part
        elif isinstance(part, dict):
            yield from part.items()
            stack.extend(value for key, value in part.items() if key != "values" or not _is_plain(value))


def _is_plain(values: Any) -> bool:
    """Rows of numbers, texts, Booleans; or the shores, which are ours."""
    if not isinstance(values, list) or len(values) > MAX_VALUES:
        return False
    return all(isinstance(row, dict) and (_is_row(row) or _is_shores(row)) for row in values)


def _is_row(row: dict[str, Any]) -> bool:
    return all(
        isinstance(v, int | float | bool) or (isinstance(v, str) and len(v) <= MAX_TEXT_CHARS) for v in row.values()
    )


def _is_shores(row: dict[str, Any]) -> bool:
    from agnes_mcp.charts import maps

    return [row] in (maps.land(), maps.borders())


def refused(why: str) -> AgnesError:
    return AgnesError("chart_failed", f"The picture's specification was refused: {why}", "Draw other columns.")
