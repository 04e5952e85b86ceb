"""What a caller asks to be drawn: a mark, and channels like `column`, `sum(column)`, `month(column)`, `count()`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from agnes_mcp.charts.labels import MAX_TITLE_CHARS, shown
from agnes_mcp.errors import AgnesError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

Mark = Literal["bar", "line", "area", "point", "histogram", "heatmap", "box", "map"]
Kind = Literal["quantitative", "temporal", "nominal"]
MARKS: tuple[Mark, ...] = get_args(Mark)

#: How a caller may write an aggregate, and what it is called here.
AGGREGATES = {
    "count": "count", "sum": "sum", "avg": "mean", "average": "mean", "mean": "mean", "median": "median",
    "min": "min", "max": "max", "distinct": "distinct", "count_distinct": "distinct",
}  # fmt: skip
#: Time units that cut time into stretches, from the finest.
STRETCHES = ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")
#: Time units that fold time.
CYCLES = ("hourofday", "weekday", "monthofyear")
TIME_UNITS = {
    **{name: name for name in (*STRETCHES, *CYCLES)},
    "date": "day", "yearmonth": "month", "yearmonthdate": "day", "yearquarter": "quarter", "yearweek": "week",
    "hour_of_day": "hourofday", "dayofweek": "weekday", "day_of_week": "weekday", "month_of_year": "monthofyear",
}  # fmt: skip
_CALL = re.compile(r"\s*([A-Za-z_]+)\s*\((.*)\)\s*", re.DOTALL)
#: How many columns a message names.
_NAMED_COLUMNS = 40


@dataclass(frozen=True)
class ChartRequest:
    """What to draw. Channels are texts as in `channel`; "" is not given. On a map x is longitude, y latitude.

    `counted` names a column that says how many rows each row stands for, where rows were counted before they came.
    """

    mark: Mark
    x: str = ""
    y: str = ""
    color: str = ""
    size: str = ""
    title: str = ""
    counted: str = ""


@dataclass(frozen=True)
class Channel:
    """One channel, understood: the column (None: rows are counted), how its values are folded, and what they are."""

    name: str
    column: str | None
    kind: Kind
    aggregate: str | None = None
    time_unit: str | None = None
    counts: bool = False

    @property
    def column_shown(self) -> str:
        return shown(self.column or "", MAX_TITLE_CHARS)

    @property
    def title(self) -> str:
        """What an axis says: "sum of amount", "month of ts", "count"."""
        column = self.column_shown
        if self.counts:
            return "count"
        if self.aggregate:
            return f"{self.aggregate} of {column}" if column else "count"
        return f"{self.time_unit} of {column}" if self.time_unit else column


def channel(name: str, text: str, schema: pa.Schema, counted: str = "") -> Channel:
    """The channel that `text` asks for; `counted` as in `ChartRequest`.

    Raises `unknown_column`, `invalid_argument`: both name the columns.
    """
    exact = _find(text.strip(), schema)
    match = None if exact else _CALL.fullmatch(text)
    if match is None:
        column = exact or _required(name, text.strip(), schema)
        return Channel(name, column, kind_of(column, schema))
    function, inner = match[1].casefold(), match[2].strip()
    if counted and function == "count" and inner in ("", "*"):
        return Channel(name, counted, "quantitative", "sum", counts=True)
    if function in AGGREGATES:
        return _aggregated(name, AGGREGATES[function], inner, schema)
    if function in TIME_UNITS:
        return _timed(name, TIME_UNITS[function], inner, schema)
    known = sorted({*AGGREGATES.values(), *STRETCHES, *CYCLES})
    raise AgnesError(
        "invalid_argument",
        f"{name}: {function[:40]!r} is no aggregate or time unit.",
        f"Write a column, or one of {', '.join(known)} around it, as in sum(amount).",
        {"argument": name},
    )


def _aggregated(name: str, aggregate: str, inner: str, schema: pa.Schema) -> Channel:
    if aggregate == "count" and inner in ("", "*"):
        return Channel(name, None, "quantitative", "count")
    column = _required(name, inner, schema)
    kind = kind_of(column, schema)
    if aggregate in ("sum", "mean", "median") and kind != "quantitative":
        raise _mismatch(name, column, schema, f"{aggregate} needs numbers", "Use count, distinct, min or max.")
    if aggregate in ("min", "max") and kind == "nominal":
        raise _mismatch(name, column, schema, f"{aggregate} needs numbers or times", "Use count or distinct.")
    return Channel(name, column, kind if aggregate in ("min", "max") else "quantitative", aggregate)


def _timed(name: str, unit: str, inner: str, schema: pa.Schema) -> Channel:
    column = _required(name, inner, schema)
    if kind_of(column, schema) != "temporal":
        raise _mismatch(name, column, schema, f"{unit} needs a date or timestamp", "Cast it in the SQL.")
    return Channel(name, column, "nominal" if unit in CYCLES else "temporal", time_unit=unit)


def kind_of(column: str, schema: pa.Schema) -> Kind:
    """What the values of a column are to a picture. Raises `invalid_argument` for what cannot be drawn."""
    import pyarrow as pa

    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration)
    if any(test(kind) for test in numeric):
        return "quantitative"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "temporal"
    textual = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_boolean)
    if any(test(kind) for test in (*textual, pa.types.is_time, pa.types.is_null)):
        return "nominal"
    raise AgnesError(
        "invalid_argument",
        f"{shown(column)!r} cannot be drawn: its type is {shown(str(kind), 80)}.",
        "Choose another column, or take one field of it, or cast it to text, in the SQL.",
        {"column": shown(column, 300)},
    )


def _find(text: str, schema: pa.Schema) -> str | None:
    """The column of that name: as it is written, else the only one that differs in case alone."""
    if text in schema.names:
        return text
    folded = [name for name in schema.names if name.casefold() == text.casefold()]
    return folded[0] if len(folded) == 1 else None


def _required(name: str, text: str, schema: pa.Schema) -> str:
    unquoted = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in '"`' else text
    found = _find(text, schema) or _find(unquoted, schema)
    if found is not None:
        return found
    columns = [shown(column, 80) for column in schema.names]
    close = nearest(text, columns)
    hint = f"Did you mean {close[0]}? " if close else ""
    more = f" and {len(columns) - _NAMED_COLUMNS} more" if len(columns) > _NAMED_COLUMNS else ""
    raise AgnesError(
        "unknown_column",
        f"{name}: there is no column {shown(text, 80)!r}.",
        f"{hint}The rows have {', '.join(columns[:_NAMED_COLUMNS])}{more}.",
        {"argument": name, "nearest": close},
    )


def _mismatch(name: str, column: str, schema: pa.Schema, why: str, hint: str) -> AgnesError:
    said = f"{name}: {why}; {shown(column)!r} is {shown(str(schema.field(column).type), 40)}."
    return AgnesError("invalid_argument", said, hint, {"argument": name, "column": shown(column, 300)})


def channels(request: ChartRequest, schema: pa.Schema) -> dict[str, Channel]:
    """The channels of a request by name. Raises `invalid_argument`, `unknown_column`."""
    if request.mark not in MARKS:
        raise AgnesError(
            "invalid_argument", f"There is no mark {shown(str(request.mark))!r}.", f"There are {', '.join(MARKS)}."
        )
    given = {name: getattr(request, name) for name in ("x", "y", "color", "size")}
    found = {name: channel(name, text, schema, request.counted) for name, text in given.items() if text.strip()}
    _COMPLETE[request.mark](found, schema)
    if request.counted:
        found = {name: _counting(c, request.counted) for name, c in found.items()}
    shown_by = _SHOWN_BY.get(request.mark, ("x", "y", "color"))
    for name in found:
        if name not in shown_by:
            _refuse(name, f"A {request.mark} chart has no {name}.", "Leave it out, or choose another mark.")
    return found


def columns_read(request: ChartRequest, schema: pa.Schema) -> list[str]:
    """The columns that a request needs of rows of this schema, once each. Raises as `channels`."""
    return list(dict.fromkeys(c.column for c in channels(request, schema).values() if c.column is not None))


def _counting(channel: Channel, counted: str) -> Channel:
    """A count of rows, where rows were counted before."""
    if channel.aggregate != "count" or channel.column is not None:
        return channel
    return Channel(channel.name, counted, "quantitative", "sum", counts=True)


def _need(found: dict[str, Channel], schema: pa.Schema, mark: str, *names: str) -> None:
    for name in names:
        if name not in found:
            columns = ", ".join(shown(column, 80) for column in schema.names[:_NAMED_COLUMNS])
            raise AgnesError(
                "invalid_argument", f"A {mark} needs {name}.", f"Name a column: {columns}.", {"argument": name}
            )


def _need_numbers(found: dict[str, Channel], schema: pa.Schema, mark: str, *names: str) -> None:
    for name in names:
        column = found[name].column
        if found[name].kind != "quantitative" or (found[name].aggregate and mark in ("box plot", "map")):
            said = f"{name} of a {mark} is a column of numbers as it is"
            raise _mismatch(name, column or schema.names[0], schema, said, "Choose a column of numbers.")


def _complete_series(found: dict[str, Channel], schema: pa.Schema) -> None:
    """Bars, lines and areas measure something: where nothing is measured, rows are counted."""
    if "x" not in found and "y" not in found:
        _need(found, schema, "bar, line or area", "x")
    for name, other in (("y", "x"), ("x", "y")):
        if name not in found:
            counted = found[other].aggregate is None
            if not counted:
                _need(found, schema, "chart of a measure", name)
            found[name] = Channel(name, None, "quantitative", "count")
    if found["x"].aggregate and found["y"].aggregate:
        _refuse("x", "x and y are both aggregates; one of them is what is grouped by.")
    if not any(found[name].aggregate or found[name].kind == "quantitative" for name in ("x", "y")):
        _refuse("y", "Neither x nor y is a measure.", "Write y as count(), or as sum(column), avg(column), …")
    _refuse_measured_color(found)


def _refuse_measured_color(found: dict[str, Channel]) -> None:
    if "color" in found and found["color"].aggregate:
        _refuse("color", "Color separates series here, so it is a column.", "Use the mark heatmap to color a measure.")


def _complete_point(found: dict[str, Channel], schema: pa.Schema) -> None:
    _need(found, schema, "point chart", "x", "y")


def _complete_histogram(found: dict[str, Channel], schema: pa.Schema) -> None:
    _need(found, schema, "histogram", "x")
    if found["x"].aggregate:
        _refuse("x", "x of a histogram is a column as it is.")
    found.setdefault("y", Channel("y", None, "quantitative", "count"))
    if not found["y"].aggregate:
        _refuse("y", "y of a histogram is an aggregate.", "Leave y out to count rows, or write sum(column).")
    _refuse_measured_color(found)


def _complete_heatmap(found: dict[str, Channel], schema: pa.Schema) -> None:
    _need(found, schema, "heatmap", "x", "y")
    for name in ("x", "y"):
        if found[name].aggregate:
            _refuse(name, f"{name} of a heatmap is grouped by; the measure is color.")
    found.setdefault("color", Channel("color", None, "quantitative", "count"))
    if found["color"].kind != "quantitative":
        _refuse("color", "color of a heatmap is a measure.", "Write count(), sum(column), avg(column), …")
    if not found["color"].aggregate:
        measured = found["color"]
        found["color"] = Channel("color", measured.column, "quantitative", "mean")


def _complete_box(found: dict[str, Channel], schema: pa.Schema) -> None:
    _need(found, schema, "box plot", "y")
    _need_numbers(found, schema, "box plot", "y")
    if "x" in found and found["x"].aggregate:
        _refuse("x", "x of a box plot is what is grouped by.")


def _complete_map(found: dict[str, Channel], schema: pa.Schema) -> None:
    _need(found, schema, "map", "x", "y")
    _need_numbers(found, schema, "map", "x", "y")


def _refuse(argument: str, message: str, hint: str = "Write it as a column, or put the aggregate elsewhere.") -> None:
    raise AgnesError("invalid_argument", message, hint, {"argument": argument})


#: The channels of marks that have others than x, y and color.
_SHOWN_BY = {"point": ("x", "y", "color", "size"), "map": ("x", "y", "color", "size"), "box": ("x", "y")}
_COMPLETE = {
    "bar": _complete_series, "line": _complete_series, "area": _complete_series, "point": _complete_point,
    "histogram": _complete_histogram, "heatmap": _complete_heatmap, "box": _complete_box, "map": _complete_map,
}  # fmt: skip
