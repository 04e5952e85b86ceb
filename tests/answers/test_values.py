"""Every DuckDB type, and the Arrow types that BigQuery sends, as JSON: without loss, without a crash."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.instances import ME, settings_of, table

from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.values import column_to_json
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.sql.duckdb_types import loses_in_arrow, safe_type

CASES: dict[str, Any] = {
    "NULL::INT": None,
    "true": True,
    "(-128)::TINYINT": -128,
    "9007199254740992::BIGINT": 2**53,
    "9007199254740993::BIGINT": "9007199254740993",
    "(-9007199254740993)::BIGINT": "-9007199254740993",
    "18446744073709551615::UBIGINT": "18446744073709551615",
    "170141183460469231731687303715884105727::HUGEINT": "170141183460469231731687303715884105727",
    "(-170141183460469231731687303715884105728)::HUGEINT": "-170141183460469231731687303715884105728",
    "5::HUGEINT": 5,
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "12345678901234567890123456789.123456789::DECIMAL(38, 9)": "12345678901234567890123456789.123456789",
    "-0.10::DECIMAL(4, 2)": "-0.10",
    "7::DECIMAL(38, 0)": 7,
    "1.5::DOUBLE": 1.5,
    "'NaN'::DOUBLE": "NaN",
    "'inf'::FLOAT": "Infinity",
    "'-inf'::DOUBLE": "-Infinity",
    "DATE '2026-02-28'": "2026-02-28",
    "DATE '0044-03-15 (BC)'": "-0043-03-15",
    "DATE 'infinity'": "infinity",
    "DATE '-infinity'": "-infinity",
    "DATE '5877642-06-25 (BC)'": "-5877641-06-25",
    "TIMESTAMP '2026-01-02 03:04:05.678901'": "2026-01-02T03:04:05.678901",
    "TIMESTAMP '2026-01-02 03:04:05'": "2026-01-02T03:04:05",
    "TIMESTAMP '290000-12-31 23:59:59'": "290000-12-31T23:59:59",
    "TIMESTAMP '1969-12-31 23:59:59.5'": "1969-12-31T23:59:59.500000",
    "TIMESTAMP '0001-01-01 (BC) 00:00:00'": "0000-01-01T00:00:00",
    "TIMESTAMP 'infinity'": "infinity",
    "TIMESTAMP '-infinity'": "-infinity",
    "TIMESTAMP '1970-01-01 00:35:47.483647'": "1970-01-01T00:35:47.483647",
    "TIMESTAMP_S '2038-01-19 03:14:07'": "2038-01-19T03:14:07",
    "TIMESTAMP_MS '1970-01-25 20:31:23.647'": "1970-01-25T20:31:23.647",
    "TIMESTAMP_NS '2026-01-02 03:04:05.123456789'": "2026-01-02T03:04:05.123456789",
    "TIMESTAMPTZ '2026-01-02 03:04:05+02'": "2026-01-02T01:04:05Z",
    "TIMESTAMPTZ 'infinity'": "infinity",
    "TIME '23:59:59.000001'": "23:59:59.000001",
    "TIME '00:00:00'": "00:00:00",
    "TIME '24:00:00'": "24:00:00",
    "TIMETZ '12:00:00+05:30'": "12:00:00+05:30",
    "INTERVAL '14 months 3 days 1.5 seconds'": "P14M3DT1.5S",
    "INTERVAL '-1 second'": "PT-1S",
    "INTERVAL '0 days'": "PT0S",
    "'00000000-0000-0000-0000-0000000000ff'::UUID": "00000000-0000-0000-0000-0000000000ff",
    "'\\x00\\xFF'::BLOB": "AP8=",
    "'0101'::BIT": "0101",
    "'b'::ENUM('a', 'b')": "b",
    "[1, NULL, 3]": [1, None, 3],
    "[]::INT[]": [],
    "[[1], [], NULL]": [[1], [], None],
    "[1, 2, 3]::INT[3]": [1, 2, 3],
    "NULL::INT[3]": None,
    "[9007199254740993, 1]": ["9007199254740993", 1],
    "['NaN'::DOUBLE, 1.0]": ["NaN", 1.0],
    "{'a': 1, 'b': {'c': NULL}}": {"a": 1, "b": {"c": None}},
    "NULL::STRUCT(a INT)": None,
    "{'at': TIMESTAMP '2026-01-01', 'u': 1::UHUGEINT}": {"at": "2026-01-01T00:00:00", "u": "1"},
    "MAP {'k': 1, 'l': NULL}": {"k": 1, "l": None},
    "MAP {1: 'x', 2: 'y'}": [[1, "x"], [2, "y"]],
    "MAP([]::VARCHAR[], []::INT[])": {},
    "union_value(num := 2)": "2",
    "[union_value(num := 2)]": ["2"],
    "'quote \" and '' and \\n' || chr(10) || chr(9)": "quote \" and ' and \\n\n\t",
    "'emoji 🎉' || chr(8238)": "emoji 🎉<U+202E>",
    "'nul ' || chr(0) || ' inside'": "nul <U+0000> inside",
    "''": "",
    "{'UNION(': 1, 'a \"b\"': [true], 'BIT': 2::UHUGEINT}": {"UNION(": 1, 'a "b"': [True], "BIT": "2"},
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB file with one table per case; three rows each, the value between two NULLs."""
    import duckdb

    database = tmp_path_factory.mktemp("types") / "types.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for index, expression in enumerate(CASES):
            connection.execute(f"CREATE TABLE case_{index} AS SELECT {expression} AS v LIMIT 0")
            connection.execute(f"INSERT INTO case_{index} VALUES (NULL), ({expression}), (NULL)")
    return database


async def test_every_duckdb_type_travels_whole(typed: Path, tmp_path: Path) -> None:
    """Scan and sample agree, NULLs around a value stay NULL."""
    names = [f"case_{index}" for index in range(len(CASES))]
    settings = settings_of(tmp_path, [table(name, typed, source_table=name) for name in names])
    wrong: dict[str, Any] = {}
    async with Gateway(settings) as gateway:
        for name, (expression, expected) in zip(names, CASES.items(), strict=True):
            scanned = await gateway.scans.scan(ME, ScanRequest(table_id=name, limit=10))
            sampled = await gateway.descriptions.sample(ME, name, 3)
            rows = [[None], [expected], [None]]
            for rows_seen in (scanned.rows, sampled.rows):
                if json.loads(compact(rows_seen)) != rows or type(rows_seen[1][0]) is not type(expected):
                    wrong[expression] = rows_seen
    assert wrong == {}


ARROW = [
    (pa.array([Decimal("1" * 60 + ".5")], pa.decimal256(76, 1)), ["1" * 60 + ".5"]),
    (pa.array([Decimal("1.50")], pa.decimal128(38, 9)), ["1.500000000"]),
    (pa.array(["x", None], pa.large_string()), ["x", None]),
    (pa.array([b"\xff", None], pa.large_binary()), ["/w==", None]),
    (pa.array([b"ab"], pa.binary(2)), ["YWI="]),
    (pa.array(["x", None], pa.string_view()), ["x", None]),
    (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
    (pa.array([[1], None, [2, 3]], pa.large_list(pa.int64())), [[1], None, [2, 3]]),
    (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)), [[1, 2], None, [3, 4]]),
    (pa.array([[1, 2], None, [3]], pa.list_view(pa.int64())), [[1, 2], None, [3]]),
    (pa.array([0, None], pa.timestamp("ns", "UTC")), ["1970-01-01T00:00:00Z", None]),
    (pa.array([2**31 - 1], pa.timestamp("s")), ["2038-01-19T03:14:07"]),
    (pa.array([86_400_000], pa.date64()), ["1970-01-02"]),
    (pa.array([1_500], pa.time32("ms")), ["00:00:01.500"]),
    (pa.array([1_500, None], pa.duration("ms")), [1500, None]),
    (pa.array([None, None], pa.null()), [None, None]),
    (pa.array([1.5, None], pa.float16()), [1.5, None]),
    (pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())])), [{"a": 1}, None]),
    (pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())), [{"k": 1}, None, {}]),
    (pa.array([[{"s": [1, None]}], [None]], pa.list_(pa.struct([("s", pa.list_(pa.int8()))]))),
     [[{"s": [1, None]}], [None]]),
    (pa.chunked_array([[1], [2**60]]), [1, str(2**60)]),
]  # fmt: skip


@pytest.mark.parametrize(("array", "expected"), ARROW, ids=[str(array.type) for array, _ in ARROW])
def test_arrow_types_of_other_sources(array: pa.Array, expected: list[Any]) -> None:
    assert column_to_json(array) == expected


@pytest.mark.parametrize(("array", "expected"), ARROW, ids=[str(array.type) for array, _ in ARROW])
def test_a_slice_gives_the_values_of_that_slice(array: pa.Array, expected: list[Any]) -> None:
    padded = pa.concat_arrays([array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array] * 3)
    size = len(expected)
    assert column_to_json(padded.slice(size, size)) == expected
    assert column_to_json(padded.slice(1, 2 * size - 1)) == (expected * 3)[1 : 2 * size]


@pytest.mark.parametrize(
    ("kind", "safe"),
    [
        ("UHUGEINT", "VARCHAR"),
        ("UHUGEINT[]", "VARCHAR[]"),
        ("STRUCT(a UHUGEINT, b INTEGER)", "STRUCT(a VARCHAR, b INTEGER)"),
        ('STRUCT("BIT" INTEGER, b BIT)', 'STRUCT("BIT" INTEGER, b VARCHAR)'),
        ("UNION(a INTEGER, b STRUCT(c INTEGER))", "VARCHAR"),
        ("MAP(VARCHAR, UNION(a INTEGER))[]", "MAP(VARCHAR, VARCHAR)[]"),
        ("TIME WITH TIME ZONE", "VARCHAR"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
    ],
)
def test_only_what_arrow_changes_becomes_text(kind: str, safe: str) -> None:
    assert (safe_type(kind) if loses_in_arrow(kind) else kind) == safe


async def test_wrapping_lossy_columns_keeps_the_order(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "big.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE big AS SELECT i::UHUGEINT AS n, hash(i) AS h FROM range(50000) AS r(i) ORDER BY h"
        )
    async with Gateway(settings_of(tmp_path / "s", [table("big", tmp_path / "big.duckdb")])) as gateway:
        answer = await gateway.scans.scan(
            ME, ScanRequest(table_id="big", select=["n"], order_by=["n DESC"], limit=1000)
        )
    assert [row[0] for row in answer.rows] == [str(n) for n in range(49_999, 48_999, -1)]
