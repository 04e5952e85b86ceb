"""What comes back: types, names, limits."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support.workbench_cases import Dataset, rows, run

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.sql import duckdb_lines
from agnes_mcp.workbench.columns import unique_names
from agnes_mcp.workbench.workbench import Workbench


def test_a_result_without_rows_keeps_its_columns_and_types(bench: Workbench, dataset: Dataset) -> None:
    result = run(bench, "SELECT id, amount, ts, tags FROM orders WHERE false", dataset.views)
    assert result.row_count == 0
    assert not result.truncated
    assert [str(field.type) for field in result.schema] == [
        "int64",
        "decimal128(10, 2)",
        "timestamp[us]",
        "list<l: string>",
    ]
    assert result.types == ["BIGINT", "DECIMAL(10,2)", "TIMESTAMP", "VARCHAR[]"]


@pytest.mark.parametrize(
    ("limit_rows", "rows_given", "cut_by"),
    [(0, 0, "rows"), (1, 1, "rows"), (59, 59, "rows"), (60, 60, ""), (61, 60, ""), (100_000, 60, "")],
)
def test_a_row_limit_is_announced_only_when_it_cut(
    limit_rows: int, rows_given: int, cut_by: str, bench: Workbench, dataset: Dataset
) -> None:
    result = run(bench, "SELECT id FROM orders ORDER BY id", dataset.views, limit_rows=limit_rows)
    assert rows(result) == [[number] for number in range(rows_given)]
    assert (result.cut_by, result.truncated) == (cut_by, bool(cut_by))


@pytest.mark.parametrize("limit_rows", [2047, 2048, 2049, 16_384, 99_999, 100_000])
def test_limits_hold_across_batches(limit_rows: int, bench: Workbench) -> None:
    result = run(bench, "SELECT n FROM range(100000) t(n)", [], limit_rows=limit_rows)
    assert result.row_count == limit_rows
    assert result.truncated is (limit_rows < 100_000)
    assert result.table().column(0).to_pylist() == list(range(limit_rows))


def test_a_byte_limit_cuts_at_a_whole_row(bench: Workbench) -> None:
    result = run(bench, "SELECT n, repeat('x', 1000) AS t FROM range(5000) t(n)", [], max_bytes=100_000)
    assert result.cut_by == "bytes"
    assert 90 <= result.row_count <= 100
    assert sum(batch.nbytes for batch in result.batches) <= 100_000
    assert {len(row[1]) for row in rows(result)} == {1000}


def test_one_row_over_the_byte_limit_is_an_error(bench: Workbench) -> None:
    with pytest.raises(AgnesError) as refused:
        run(bench, "SELECT repeat('x', 1000) AS t", [], max_bytes=500)
    assert refused.value.kind == "result_too_large"


def test_column_names_are_made_unique(bench: Workbench) -> None:
    result = run(bench, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a, 5 AS A", [])
    assert result.schema.names == ["a", "a_3", "a_2", "a_4", "A"]
    assert rows(result) == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a"], ["a", "a_2"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["", ""], ["", "_2"]),
        (["a", "a", "a", "a_2", "a_2"], ["a", "a_3", "a_4", "a_2", "a_2_2"]),
    ],
)
def test_unique_names_never_collide(names: list[str], unique: list[str]) -> None:
    assert unique_names(names) == unique
    assert len(set(unique)) == len(names)


def test_fields_without_names_are_numbered(bench: Workbench) -> None:
    first, second = ("f1", "f2") if duckdb_lines.line() == "1.5" else ("element1", "element2")  # DuckDB's own by now
    assert rows(run(bench, "SELECT row(1, 'a') AS r, [row(2, 3)] AS l", [])) == [
        [{first: 1, second: "a"}, [{first: 2, second: 3}]]
    ]


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("12::HUGEINT", "HUGEINT", 12),
        ("1.5::DECIMAL(38, 10)", "DECIMAL(38,10)", "1.5000000000"),
        ("TIMESTAMPTZ '2024-01-01 00:00:00+02'", "TIMESTAMP WITH TIME ZONE", "2023-12-31 22:00:00+00:00"),
        ("'2024-01-01 00:00:00'::TIMESTAMP::TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "2024-01-01 00:00:00+00:00"),
        ("DATE '2024-02-29'", "DATE", "2024-02-29"),
        ("TIME '10:00:01'", "TIME", "10:00:01"),
        ("'\\xAB'::BLOB", "BLOB", "qw=="),
        ("'a'::ENUM('a', 'b')", "ENUM('a', 'b')", "a"),
        ("MAP {'k': 1}", "MAP(VARCHAR, INTEGER)", [["k", 1]]),
        ("'{}'::JSON", "JSON", "{}"),
        ("NULL", "INTEGER", None),
        ("'inf'::DOUBLE", "DOUBLE", float("inf")),
    ],
)
def test_a_type_survives_the_way_out(expression: str, kind: str, value: object, bench: Workbench) -> None:
    result = run(bench, f"SELECT {expression} AS v", [])
    assert result.types == [kind]
    assert rows(result) == [[value]]


@pytest.mark.parametrize(
    ("expression", "kind", "text"),
    [
        ("'101'::BIT", "BIT", "101"),
        ("1::BIGNUM", "BIGNUM", "1"),
        ("[1::BIGNUM]", "BIGNUM[]", ["1"]),
        ("1::VARIANT", "VARIANT", "1"),
    ],
)
def test_a_type_that_arrow_cannot_carry_comes_as_text(
    expression: str, kind: str, text: object, bench: Workbench
) -> None:
    result = run(bench, f"SELECT {expression} AS v", [])
    assert (result.types, rows(result)) == ([kind], [[text]])


def test_the_tables_read_are_reported_by_their_ids(bench: Workbench, dataset: Dataset) -> None:
    sql = "WITH x AS (FROM RATES) SELECT 1 FROM Orders JOIN x USING (country) WHERE id IN (SELECT id FROM events)"
    assert sorted(run(bench, sql, dataset.views).tables) == ["events", "orders", "rates"]


def test_a_result_is_a_table_of_its_batches(bench: Workbench) -> None:
    result = run(bench, "SELECT n FROM range(40000) t(n)", [], limit_rows=40_000)
    assert isinstance(result.table(), pa.Table)
    assert len(result.batches) > 1
    assert result.elapsed_s > 0


def test_a_large_sum_is_exact(bench: Workbench) -> None:
    call = Call("query", Principal("ana"), timeout_s=5)
    result = run(bench, "SELECT sum(9223372036854775807) AS s FROM range(10)", [], call=call)
    assert rows(result) == [[92233720368547758070]]
