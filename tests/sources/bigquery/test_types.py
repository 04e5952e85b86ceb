"""Every BigQuery type with known values, along every path that rows take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from support.bigquery import call, read_all, statement, table

from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.fields import ARROW_TYPES, arrow_schema, decoder, table_of_rows
from agnes_mcp.sources.bigquery.readings import logical_bytes
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

SCHEMA = """
    n INT64 NOT NULL, f FLOAT64, flag BOOL, text STRING, raw BYTES, money NUMERIC, big BIGNUMERIC,
    day DATE, at TIME, local DATETIME, moment TIMESTAMP, doc JSON, place GEOGRAPHY, span INTERVAL,
    during RANGE<DATE>, tags ARRAY<STRING>, person STRUCT<name STRING, born DATE, marks ARRAY<INT64>>,
    visits ARRAY<STRUCT<at TIMESTAMP, cost NUMERIC>>
"""

FULL: dict[str, Any] = {
    "n": 9223372036854775807,
    "f": -0.1,
    "flag": True,
    "text": "žluťoučký\n'\"` \U0001f986",
    "raw": b"\x00\xff\x10abc",
    "money": Decimal("-99999999999999999999999999999.999999999"),
    "big": Decimal("12345678901234567890123456789012345678.12345678901234567890123456789012345678"),
    "day": date(2024, 2, 29),
    "at": time(23, 59, 59, 999999),
    "local": datetime(1999, 12, 31, 23, 59, 59, 1),
    "moment": datetime(2024, 6, 30, 12, 0, 0, 123456, tzinfo=UTC),
    "doc": {"a": [1, None, "x"]},
    "place": "POINT(14.42 50.09)",
    "span": "14 months 3 days 04:05:06.789",  # as DuckDB, which holds the stand-in's rows, writes it
    "during": {"start": date(2024, 1, 1), "end": date(2024, 2, 1)},
    "tags": ["a", "", "č"],
    "person": {"name": "Ana", "born": date(1990, 1, 2), "marks": [1, 2]},
    "visits": [{"at": datetime(2024, 1, 1, tzinfo=UTC), "cost": Decimal("1.5")}, {"at": None, "cost": None}],
}
NAMES = list(FULL)
READ: dict[str, Any] = {
    **FULL,
    "doc": '{"a":[1,null,"x"]}',
    "span": pa.scalar((14, 3, (4 * 3600 + 5 * 60 + 6) * 10**9 + 789_000_000), pa.month_day_nano_interval()).as_py(),
}
NULLS: dict[str, Any] = dict.fromkeys(NAMES) | {"n": 0, "tags": [], "visits": []}

ARROW = {
    "n": pa.int64(),
    "f": pa.float64(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "raw": pa.binary(),
    "money": pa.decimal128(38, 9),
    "big": pa.decimal256(76, 38),
    "day": pa.date32(),
    "at": pa.time64("us"),
    "local": pa.timestamp("us"),
    "moment": pa.timestamp("us", tz="UTC"),
    "doc": pa.string(),
    "place": pa.string(),
    "span": pa.month_day_nano_interval(),
    "during": pa.struct([("start", pa.date32()), ("end", pa.date32())]),
    "tags": pa.list_(pa.string()),
    "person": pa.struct([("name", pa.string()), ("born", pa.date32()), ("marks", pa.list_(pa.int64()))]),
    "visits": pa.list_(pa.struct([("at", pa.timestamp("us", tz="UTC")), ("cost", pa.decimal128(38, 9))])),
}


@pytest.fixture
def typed(bq: StandIn) -> StandIn:
    bq.create_table("my_dataset", "typed", schema=SCHEMA, rows=[FULL, {"n": 0}])
    return bq


def preview(source: BigQuerySource, typed: StandIn) -> pa.Table:
    of = table("typed")
    rows = source.preview(of, source.schema(of, call()), NAMES, 5, call())
    assert rows is not None
    return rows


def direct(source: BigQuerySource, typed: StandIn) -> pa.Table:
    of = table("typed")
    rows, receipt = read_all(source, of, statement(of, NAMES))
    assert receipt.job_id is None
    return rows


def query(source: BigQuerySource, typed: StandIn) -> pa.Table:
    of = table("typed")
    rows, receipt = read_all(source, of, statement(of, NAMES, "WHERE n >= 0"))
    assert receipt.job_id is not None
    return rows


def without_storage_read(read: Callable[[BigQuerySource, StandIn], pa.Table]) -> Callable[..., pa.Table]:
    def fallback(source: BigQuerySource, typed: StandIn) -> pa.Table:
        typed.faults.add(Fault("CreateReadSession", status=403, times=None))
        rows = read(source, typed)
        assert typed.requests.named("ReadRows") == []
        assert len(typed.requests.named("tabledata.list")) == 1
        return rows

    return fallback


PATHS = {
    "tabledata preview": preview,
    "direct read": direct,
    "query job": query,
    "direct read through REST": without_storage_read(direct),
    "query job through REST": without_storage_read(query),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_every_type_arrives_as_it_is(path: Callable[..., pa.Table], source: BigQuerySource, typed: StandIn) -> None:
    rows = path(source, typed)
    full, nulls = sorted(rows.to_pylist(), key=lambda row: -row["n"])
    assert full == READ
    assert nulls == NULLS
    for name, kind in ARROW.items():
        assert same_type(rows.schema.field(name).type, kind), name


def same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether two types hold the same values; names of list items and nullability aside."""
    if pa.types.is_list(expected):
        return pa.types.is_list(found) and same_type(found.value_type, expected.value_type)
    if pa.types.is_struct(expected):
        return (
            pa.types.is_struct(found)
            and [field.name for field in found] == [field.name for field in expected]
            and all(same_type(a.type, b.type) for a, b in zip(found, expected, strict=True))
        )
    return bool(found == expected)


def test_columns_come_in_the_order_asked_for(source: BigQuerySource, typed: StandIn) -> None:
    of = table("typed")
    rows, _ = read_all(source, of, statement(of, ["text", "n", "flag"]))
    assert rows.schema.names == ["text", "n", "flag"]


@pytest.mark.parametrize("name", NAMES)
def test_a_direct_read_is_counted_as_the_dry_run_counts_it(source: BigQuerySource, typed: StandIn, name: str) -> None:
    """What a Storage Read bills, by BigQuery's own table of sizes: for each type."""
    of = table("typed")
    asked = statement(of, [name])
    price = source.price(of, source.schema(of, call()), asked, call())
    _, receipt = read_all(source, of, asked, price=price)
    assert receipt.bytes_billed == price.scan_bytes


def test_sizes_follow_the_published_table() -> None:
    columns = [
        Column(name="a", type="STRING"),
        Column(name="b", type="INT64", mode="REPEATED"),
        Column(name="c", type="STRUCT", fields=[Column(name="x", type="BOOL"), Column(name="y", type="NUMERIC")]),
    ]
    batch = pa.RecordBatch.from_pydict(
        {
            "a": ["", "čs", None],
            "b": [[1, 2, 3], [], [4]],
            "c": [{"x": True, "y": Decimal(1)}, None, {"x": None, "y": Decimal(2)}],
        },
        schema=arrow_schema(columns),
    )
    assert logical_bytes(batch, columns) == (2 + 2 + 3) + 4 * 8 + (1 + 16 + 16)


CELLS: list[tuple[str, str, Any]] = [
    ("FLOAT64", "Infinity", float("inf")),
    ("FLOAT64", "-Infinity", float("-inf")),
    ("TIMESTAMP", "-62135596800000000", datetime(1, 1, 1, tzinfo=UTC)),
    ("TIMESTAMP", "253402300799999999", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ("DATETIME", "2024-01-01T00:00:00", datetime(2024, 1, 1)),
    ("INTERVAL", "-1-2 -3 -4:5:6", (-14, -3, -(4 * 3600 + 5 * 60 + 6) * 10**9)),
    ("INTERVAL", "0-0 0 0:0:0", (0, 0, 0)),
    ("RANGE<DATE>", "[UNBOUNDED, 2024-01-01)", {"start": None, "end": date(2024, 1, 1)}),
    ("RANGE<TIMESTAMP>", "[0, UNBOUNDED)", {"start": datetime(1970, 1, 1, tzinfo=UTC), "end": None}),
    ("BOOL", "false", False),
    ("SOMETHING_NEW", "as text", "as text"),
]


@pytest.mark.parametrize(("type_", "cell", "value"), CELLS)
def test_cells_of_rest_are_decoded(type_: str, cell: str, value: Any) -> None:
    assert decoder(Column(name="x", type=type_))(cell) == value


def test_nan_stays_nan() -> None:
    value = decoder(Column(name="x", type="FLOAT64"))("NaN")
    assert value != value


ODD_CELLS: list[Any] = [
    "", " ", "abc", "1_000", "1e999", "9" * 40, "-", "2026-13-01", "10000-01-01", "24:00:00", "2026-01-01T00:00:00Z",
    "P1Y", "1-2", "9999999999-0 0 0:0:0", "[2020-01-01, )", "[a,b)", "====", "\x00", {}, {"v": "1"}, {"f": []}, [],
    [{"v": "1"}], 5, 1.5, True,
]  # fmt: skip
TYPES = [*sorted(ARROW_TYPES), "RANGE<DATE>", "RANGE<TIMESTAMP>", "STRUCT", "SOMETHING_NEW"]


@pytest.mark.parametrize("mode", ["NULLABLE", "REPEATED"])
@pytest.mark.parametrize("type_", TYPES)
def test_a_cell_that_is_none_of_its_type_is_its_text_and_the_next_is_read(type_: str, mode: Any) -> None:
    """Whatever comes, of whatever type: a value, or NULL beside its text; never an error."""
    column = Column(name="x", type=type_, mode=mode, fields=[Column(name="y", type="INT64")] * (type_ == "STRUCT"))
    for cell in ODD_CELLS:
        found = table_of_rows([column], [{"f": [{"v": cell}]}, {"f": [{"v": None}]}])
        assert found.num_rows == 2
        assert found.column(0)[1].as_py() in (None, [])
