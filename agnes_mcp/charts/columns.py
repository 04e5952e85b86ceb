"""The columns that a chart needs, each as a picture can take it: numbers, moments in UTC, or text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agnes_mcp.charts.encodings import Channel

if TYPE_CHECKING:
    import pyarrow as pa

#: How far longitude (x) and latitude (y) go.
_DEGREES = {"x": 180.0, "y": 90.0}
MICROSECONDS = 1_000_000


def take_columns(channels: dict[str, Channel], rows: pa.Table) -> pa.Table:
    """One column per channel, named as the channel: float64, timestamp[ms] in UTC, or string."""
    import pyarrow as pa

    drawn = {name: _as_drawn(rows, channel) for name, channel in channels.items()}
    return pa.table(drawn)


def _as_drawn(rows: pa.Table, channel: Channel) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if channel.column is None:
        return pa.repeat(1.0, rows.num_rows)
    column = rows.column(channel.column).combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if channel.aggregate == "distinct":
        return column.cast(pa.string(), safe=False)
    if channel.aggregate == "count":
        return column.is_valid().cast(pa.float64())
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("ms"), safe=False)
    if pa.types.is_duration(column.type):
        seconds = column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
        return pc.divide(seconds, float(MICROSECONDS))
    textual = channel.kind == "nominal"
    return column.cast(pa.string() if textual else pa.float64(), safe=False)


def drop_undrawable(drawn: pa.Table, channels: dict[str, Channel], mark: str) -> tuple[pa.Table, list[str]]:
    """Rows that have a place in the picture, and what was left out.

    A missing category is a category. A missing or infinite number or moment has no place, except under an aggregate,
    which passes over it; on a map neither has a point outside the globe.
    """
    import pyarrow.compute as pc

    notes = []
    for name, channel in channels.items():
        if channel.kind == "nominal" or channel.aggregate in ("count", "distinct"):
            continue
        good = _drawable(drawn.column(name), channel, mark)
        lost = drawn.num_rows - (pc.sum(good).as_py() or 0)
        if lost:
            drawn = _passed_over(drawn, name, good) if channel.aggregate else drawn.filter(good)
            where = "missing, infinite or off the globe" if mark == "map" else "missing or not finite"
            passed = "passed over" if channel.aggregate else "left out"
            notes.append(f"{lost:,} rows are {passed}: {channel.column_shown} is {where}.")
    return drawn, notes


def _drawable(column: pa.ChunkedArray, channel: Channel, mark: str) -> Any:
    import pyarrow.compute as pc

    if channel.kind != "quantitative":
        return column.is_valid()
    good = pc.fill_null(pc.is_finite(column), False)
    if mark == "map" and channel.name in _DEGREES:
        good = pc.and_(good, pc.fill_null(pc.less_equal(pc.abs(column), _DEGREES[channel.name]), False))
    return good


def _passed_over(drawn: pa.Table, name: str, good: Any) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = drawn.column(name)
    return drawn.set_column(
        drawn.column_names.index(name), name, pc.if_else(good, column, pa.scalar(None, column.type))
    )
