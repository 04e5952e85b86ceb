"""A table's aggregate as a chart needs it: grouped where the table is, folded again where the picture is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agnes_mcp.charts.encodings import Channel, ChartRequest, channels
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Aggregate, AggregateFunction, ScanRequest, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

#: Aggregates of aggregates that are aggregates of the rows.
_FOLDED_AGAIN: dict[str, AggregateFunction] = {"sum": "sum", "min": "min", "max": "max"}
_ONCE: dict[str, AggregateFunction] = {"mean": "avg", "distinct": "count_distinct"}
_COUNTED = "count"


@dataclass(frozen=True)
class Aggregated:
    """`scan` reads the groups, `names` are what its columns are called for the chart, `request` draws them."""

    scan: ScanRequest
    names: list[str]
    request: ChartRequest

    def named(self, rows: pa.Table) -> pa.Table:
        return rows.rename_columns(self.names)


def aggregated(request: ChartRequest, schema: TableSchema, where: str, limit: int) -> Aggregated:
    """Raises `unknown_column`, and `invalid_argument` for what is no aggregate or cannot be folded in two steps."""
    found = channels(request, _as_arrow(schema))
    _refuse_points(request)
    grouped = [channel for channel in found.values() if channel.aggregate is None]
    measured = [channel for channel in found.values() if channel.aggregate is not None]
    if len(measured) != 1:
        raise _not_in_two_steps("A chart of a table needs exactly one aggregate.")
    (measure,) = measured
    function, drawn = _function_of(measure, grouped, request)
    columns = list(dict.fromkeys(str(channel.column) for channel in grouped))
    alias = _free_name(columns, _COUNTED if measure.column is None else f"{function} of {measure.column}")
    text = drawn.format(alias=alias)
    scan = ScanRequest(
        table_id=schema.table_id,
        where=where,
        group_by=columns,
        aggregates=[Aggregate(function=function, column=measure.column, alias="agnes_measure")],
        limit=limit,
    )
    counted = alias if measure.column is None else ""
    texts = {"x": request.x, "y": request.y, "color": request.color, measure.name: text}
    drawn_request = replace(request, counted=counted, x=texts["x"], y=texts["y"], color=texts["color"])
    return Aggregated(scan, [*columns, alias], drawn_request)


def _function_of(measure: Channel, grouped: list[Channel], request: ChartRequest) -> tuple[AggregateFunction, str]:
    """The function that the table is asked for, and how the chart folds its results."""
    if measure.column is None:
        return "count", "count()"
    aggregate = str(measure.aggregate)
    if aggregate == "count":
        return "count", "sum({alias})"
    if aggregate in _FOLDED_AGAIN:
        return _FOLDED_AGAIN[aggregate], f"{aggregate}({{alias}})"
    folded = request.mark in ("histogram", "heatmap") or any(c.time_unit or c.kind != "nominal" for c in grouped)
    if aggregate in _ONCE and not folded:
        return _ONCE[aggregate], "{alias}"
    raise _not_in_two_steps(f"{aggregate} cannot be folded again by time or bins.")


def _not_in_two_steps(why: str) -> AgnesError:
    return AgnesError(
        "invalid_argument",
        why,
        "Use count, sum, min or max, or fetch the rows and chart the snapshot.",
        {"argument": "y"},
    )


def _refuse_points(request: ChartRequest) -> None:
    if request.mark in ("point", "box", "map"):
        raise AgnesError(
            "invalid_argument",
            f"A {request.mark} chart draws rows, and table_id gives aggregates.",
            "Fetch the columns and chart the snapshot; of a local table pass sql.",
            {"argument": "mark"},
        )


def _free_name(taken: list[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name


def _as_arrow(schema: TableSchema) -> pa.Schema:
    """The table's columns as the channels see them; what is not listed cannot be drawn."""
    import pyarrow as pa

    return pa.schema([(column.name, _type_of(column.type, column.mode)) for column in schema.columns])


def _type_of(name: str, mode: str) -> pa.DataType:
    import pyarrow as pa

    word = name.upper().partition("(")[0].strip()
    if mode == "REPEATED" or word.endswith("]"):
        return pa.list_(pa.string())
    if word in _NUMBERS:
        return pa.float64()
    if word in _MOMENTS or word.startswith("TIMESTAMP"):
        return pa.timestamp("us")
    return pa.string() if word in _TEXTS else pa.binary()


_NUMBERS = frozenset({
    "INT64", "INTEGER", "FLOAT64", "FLOAT", "NUMERIC", "BIGNUMERIC", "TINYINT", "SMALLINT", "BIGINT", "HUGEINT",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "DOUBLE", "DECIMAL", "REAL",
})  # fmt: skip
_MOMENTS = frozenset({"DATE", "DATETIME"})
_TEXTS = frozenset({"STRING", "VARCHAR", "BOOL", "BOOLEAN", "TIME", "ENUM", "UUID"})
