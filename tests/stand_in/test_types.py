"""Every type of BigQuery, over REST and over Arrow, against golden values."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import requests
from support.bigquery_backend import (
    Client,
    StorageClient,
    open_session,
    read_table,
    rest_client,
    session_schema,
    storage_client,
)

from agnes_mcp.stand_in import StandIn

UTC = dt.UTC
BIG = "12345678901234567890123456789012345678.12345678901234567890123456789012345678"
#: column → (value as loaded, v as REST writes it, value as Arrow gives it, Arrow type)
VALUES: dict[str, tuple[Any, Any, Any, pa.DataType]] = {
    "i INT64": (9007199254740993, "9007199254740993", 9007199254740993, pa.int64()),
    "f FLOAT64": (1.5e20, "1.5E20", 1.5e20, pa.float64()),
    "inf FLOAT64": (float("-inf"), "-Infinity", float("-inf"), pa.float64()),
    "n NUMERIC": ("1234.5", "1234.5", decimal.Decimal("1234.500000000"), pa.decimal128(38, 9)),
    "b BIGNUMERIC": (BIG, BIG, decimal.Decimal(BIG), pa.decimal256(76, 38)),
    "s STRING": ('žluť\n"x"', 'žluť\n"x"', 'žluť\n"x"', pa.string()),
    "y BYTES": (b"\x00\xffab", "AP9hYg==", b"\x00\xffab", pa.binary()),
    "o BOOL": (True, "true", True, pa.bool_()),
    "d DATE": ("2024-02-29", "2024-02-29", dt.date(2024, 2, 29), pa.date32()),
    "t TIME": ("10:20:30.5", "10:20:30.500000", dt.time(10, 20, 30, 500_000), pa.time64("us")),
    "dt DATETIME": (
        "2024-02-29 10:20:30",
        "2024-02-29T10:20:30",
        dt.datetime(2024, 2, 29, 10, 20, 30),
        pa.timestamp("us"),
    ),
    "ts TIMESTAMP": (
        "2024-02-29 10:20:30.000001+00",
        "1709202030000001",
        dt.datetime(2024, 2, 29, 10, 20, 30, 1, tzinfo=UTC),
        pa.timestamp("us", tz="UTC"),
    ),
    "j JSON": ({"a": [1, None]}, '{"a":[1,null]}', '{"a":[1,null]}', pa.string()),
    "g GEOGRAPHY": ("POINT(1 2)", "POINT(1 2)", "POINT(1 2)", pa.string()),
    "iv INTERVAL": (
        "14 months 3 days 04:05:06.5",
        "1-2 3 4:5:6.5",
        pa.MonthDayNano([14, 3, 14_706_500_000_000]),
        pa.month_day_nano_interval(),
    ),
    "r RANGE<DATE>": (
        {"start": "2024-01-01"},
        "[2024-01-01, UNBOUNDED)",
        {"start": dt.date(2024, 1, 1), "end": None},
        pa.struct([pa.field("start", pa.date32()), pa.field("end", pa.date32())]),
    ),
    "a ARRAY<INT64>": ([1, 2], [{"v": "1"}, {"v": "2"}], [1, 2], pa.list_(pa.field("item", pa.int64()))),
    "st STRUCT<x INT64, b BIGNUMERIC, l ARRAY<STRING>>": (
        {"x": 1, "b": "2.5", "l": ["p"]},
        {"f": [{"v": "1"}, {"v": "2.5"}, {"v": [{"v": "p"}]}]},
        {"x": 1, "b": decimal.Decimal("2.5").scaleb(0), "l": ["p"]},
        pa.struct(
            [
                pa.field("x", pa.int64()),
                pa.field("b", pa.decimal256(76, 38)),
                pa.field("l", pa.list_(pa.field("item", pa.string()))),
            ]
        ),
    ),
    "ar ARRAY<STRUCT<k STRING, j JSON>>": (
        [{"k": "p", "j": {"z": 1}}],
        [{"v": {"f": [{"v": "p"}, {"v": '{"z":1}'}]}}],
        [{"k": "p", "j": '{"z":1}'}],
        pa.list_(pa.field("item", pa.struct([pa.field("k", pa.string()), pa.field("j", pa.string())]))),
    ),
}
NAMES = [column.split()[0] for column in VALUES]


@pytest.fixture(scope="module")
def typed() -> Iterator[StandIn]:
    """One row with a value of every type, and one of NULLs."""
    with StandIn() as stand_in:
        row = {name: value[0] for name, value in zip(NAMES, VALUES.values(), strict=True)}
        stand_in.create_table("my_dataset", "typed", ", ".join(VALUES), rows=[row, {}])
        stand_in.create_view("my_dataset", "typed_v", "SELECT * FROM my_dataset.typed")
        yield stand_in


def rest_values(stand_in: StandIn, path: str, **asked: str) -> list[list[Any]]:
    url = f"{stand_in.api_endpoint}/bigquery/v2/projects/my-project/{path}"
    answer = requests.get(url, {"formatOptions.useInt64Timestamp": "true"} | asked, timeout=60).json()
    return [[cell["v"] for cell in row["f"]] for row in answer["rows"]]


def test_free_rows_are_written_as_bigquery_writes_them(typed: StandIn) -> None:
    full, empty = rest_values(typed, "datasets/my_dataset/tables/typed/data")
    assert dict(zip(NAMES, full, strict=True)) == {
        name: value[1] for name, value in zip(NAMES, VALUES.values(), strict=True)
    }
    assert empty == [[] if name in ("a", "ar") else None for name in NAMES]


@pytest.mark.parametrize("source", ["typed", "typed_v"])
def test_a_result_is_written_and_typed_as_the_table_is(typed: StandIn, source: str) -> None:
    with rest_client(typed.api_endpoint) as client:
        job = client.query(f"SELECT * FROM my_dataset.{source} WHERE i IS NOT NULL")
        schema = job.result().schema
        stored = client.get_table("my_dataset.typed").schema
        viewed = client.get_table("my_dataset.typed_v").schema
    [full] = rest_values(typed, f"queries/{job.job_id}")
    assert full == [value[1] for value in VALUES.values()]
    shape = [(field.name, field.field_type, field.mode) for field in stored]
    assert [(field.name, field.field_type, field.mode) for field in schema] == shape
    assert [(field.name, field.field_type, field.mode) for field in viewed] == shape


def test_timestamps_are_seconds_where_nobody_asks_for_integers(typed: StandIn) -> None:
    asked = {"formatOptions.useInt64Timestamp": "false", "selectedFields": "ts"}
    [[seconds], [nothing]] = rest_values(typed, "datasets/my_dataset/tables/typed/data", **asked)
    assert (seconds, nothing) == ("1.709202030000001E9", None)


def test_the_official_client_reads_every_type(typed: StandIn) -> None:
    with rest_client(typed.api_endpoint) as client:
        rows = list(client.list_rows(client.get_table("my_dataset.typed")))
    row = dict(rows[0].items())
    assert row["n"] == decimal.Decimal("1234.5")
    assert row["b"] == decimal.Decimal(BIG)
    assert row["y"] == b"\x00\xffab"
    assert row["dt"] == dt.datetime(2024, 2, 29, 10, 20, 30)
    assert row["ts"] == dt.datetime(2024, 2, 29, 10, 20, 30, 1, tzinfo=UTC)
    assert row["j"] == {"a": [1, None]}
    assert row["r"] == {"start": dt.date(2024, 1, 1), "end": None}
    assert row["st"] == {"x": 1, "b": decimal.Decimal("2.5"), "l": ["p"]}
    assert [rows[1][name] for name in ("a", "ar", "st", "i")] == [[], [], None, None]


@pytest.fixture(scope="module")
def storage_of_typed(typed: StandIn) -> Iterator[StorageClient]:
    with storage_client(typed.grpc_target) as client:
        yield client


def test_arrow_types_and_values(storage_of_typed: StorageClient) -> None:
    session = open_session(storage_of_typed, "my_dataset.typed")
    schema = session_schema(session)
    assert {field.name: field.type for field in schema} == {
        name: value[3] for name, value in zip(NAMES, VALUES.values(), strict=True)
    }
    full, empty = read_table(storage_of_typed, session).to_pylist()
    assert full == {name: value[2] for name, value in zip(NAMES, VALUES.values(), strict=True)}
    assert empty == {name: [] if name in ("a", "ar") else None for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_each_column_is_read_alone(storage_of_typed: StorageClient, name: str) -> None:
    session = open_session(storage_of_typed, "my_dataset.typed", columns=[name])
    expected = next(value[2] for column, value in VALUES.items() if column.split()[0] == name)
    assert read_table(storage_of_typed, session).to_pylist()[0] == {name: expected}


def test_arrow_fields_carry_bigquerys_metadata(storage_of_typed: StorageClient) -> None:
    schema = session_schema(open_session(storage_of_typed, "my_dataset.typed"))
    carried = {field.name: field.metadata for field in schema if field.metadata}
    assert carried == {
        "dt": {b"ARROW:extension:name": b"google:sqlType:datetime"},
        "j": {b"ARROW:extension:name": b"google:sqlType:json"},
        "g": {
            b"ARROW:extension:name": b"google:sqlType:geography",
            b"ARROW:extension:metadata": b'{"encoding": "WKT"}',
        },
    }


def test_a_required_column_is_not_nullable_in_arrow(shop_storage: StorageClient) -> None:
    schema = session_schema(open_session(shop_storage, "my_dataset.orders"))
    assert [field.name for field in schema if not field.nullable] == ["id"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("SUM(b)", decimal.Decimal("3")), ("MAX(b) + 1", decimal.Decimal("2.5")), ("COUNTIF(b > 1)", 2)],
)
def test_bignumeric_takes_part_in_expressions(bq: StandIn, client: Client, expression: str, expected: object) -> None:
    bq.create_table("my_dataset", "big", "b BIGNUMERIC", rows=[{"b": "1.5"}, {"b": "1.5"}, {"b": None}])
    [row] = client.query_and_wait(f"SELECT {expression} AS x FROM my_dataset.big")
    assert row.x == expected
