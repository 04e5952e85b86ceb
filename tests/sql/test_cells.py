"""Heavy cells begin as they did and end early; all others are the very same."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from agnes_mcp.answers.fitting import MAX_CELL_CHARS, compact
from agnes_mcp.answers.values import column_to_json
from agnes_mcp.sql.cells import LEAST_CUT_CHARS, MAX_CELL_WEIGHT, MAX_DEPTH, cut_batch, cut_cells, shown_schema

HEAVY = {
    "a list of records": "SELECT list({'a': i, 'b': 'x' || i, 'c': [i, i + 1]}) FROM range(100000) r(i)",
    "a histogram": "SELECT histogram(i) FROM range(100000) r(i)",
    "one long text": "SELECT repeat('č', 500000) UNION ALL SELECT 'x' UNION ALL SELECT NULL",
    "a long text in a list": "SELECT [repeat('x', 500000)] UNION ALL SELECT ['a', NULL] UNION ALL SELECT NULL",
    "a record": "SELECT {'a': repeat('x', 60000), 'b': range(100000), 'c': 'tail', 'd': repeat('y', 90000)}",
    "bytes": "SELECT repeat('x', 500000)::BLOB UNION ALL SELECT NULL UNION ALL SELECT 'a'::BLOB",
    "a map of texts": "SELECT MAP {'k': repeat('x', 300000), 'l': 'b'}",
    "a map of lists": "SELECT MAP {1: range(90000), 2: range(3)}",
    "lists in a list": "SELECT [[range(200000)], [range(3)]] UNION ALL SELECT []",
    "many": "SELECT list(i) FROM range(400000) t(i) GROUP BY i % 4 UNION ALL SELECT [1]",
    "arrays of texts": "SELECT [repeat('x', 40000), repeat('y', 40000), NULL]::VARCHAR[3] FROM range(3)",
    "arrays inside": "SELECT {'a': [[repeat('x', 90000)]::VARCHAR[1], NULL], 'b': MAP {1: ['x']::VARCHAR[1]}}",
    "beside NULL": "SELECT {'a': NULL::STRUCT(x VARCHAR[]), 'b': range(70000)} UNION ALL SELECT NULL",
}
LIGHT = {
    "numbers": "SELECT i, i / 3 FROM range(100000) r(i)",
    "short texts": "SELECT 'text ' || i FROM range(100000) r(i)",
    "short lists": "SELECT range(i % 20), [{'a': i}], MAP {i: 'x'} FROM range(5000) r(i)",
    "an array": "SELECT range(500)::INT[500] FROM range(200)",
    "enums": "SELECT (['a', 'b'][1 + i % 2])::ENUM('a', 'b') FROM range(90000) r(i)",
    "nothing": "SELECT NULL::INT[], 'x' WHERE false",
}


def arrays(sql: str) -> list[pa.Array]:
    with duckdb.connect() as connection:
        table = connection.sql(sql).to_arrow_table()
    return [chunk for column in table.columns for chunk in column.chunks]


def test_cells_that_are_light_are_told_without_arrows_functions() -> None:
    """They take 9 MB of every server."""
    code = (
        "import sys, pyarrow as pa; from agnes_mcp.sql.cells import cut_batch, cut_cells; "
        "rows = pa.RecordBatch.from_pydict({'a': [1, None], 'b': ['x', 'y'], 'c': [[1], []]}); "
        "assert [cut_cells(c)[1] for c in rows.columns] == [{}, {}, {}]; assert cut_batch(rows)[0] == rows; "
        "assert 'pyarrow.compute' not in sys.modules; "
        "assert cut_cells(pa.array(['x' * 70_000]))[1] == {0: 70_000}; assert 'pyarrow.compute' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def texts(array: pa.Array) -> list[str]:
    return [compact(value) for value in column_to_json(array)]


def _without_fixed_sizes(kind: pa.DataType) -> pa.DataType:
    return shown_schema(pa.schema([("a", kind)])).field(0).type


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_cut_begins_as_it_did_and_is_longer_than_an_answer_shows(name: str) -> None:
    cut = 0
    for array in arrays(HEAVY[name]):
        shorter, lengths = cut_cells(array)
        shorter.validate(full=True)
        assert shorter.type == _without_fixed_sizes(array.type)
        for before, after in zip(texts(array), texts(shorter), strict=True):
            assert after[:MAX_CELL_CHARS] == before[:MAX_CELL_CHARS]
            assert after == before or LEAST_CUT_CHARS < len(after) < 16 * MAX_CELL_WEIGHT
            cut += after != before
        told = {row: len(text) for row, text in enumerate(texts(array)) if row in lengths}
        assert all(chars is None or chars == told[row] - 2 for row, chars in lengths.items())
        assert len(lengths) == sum(a != b for a, b in zip(texts(array), texts(shorter), strict=True))
    assert cut


@pytest.mark.parametrize("name", LIGHT)
def test_all_others_are_the_very_same(name: str) -> None:
    for array in arrays(LIGHT[name]):
        assert cut_cells(array)[0] is array


def test_numbers_of_a_fixed_size_are_cut() -> None:
    """Made by hand: DuckDB reserves rows times size for them, and soon has no memory."""
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(range(4 * 90_000)), 90_000)
    shorter, lengths = cut_cells(numbers.slice(1, 2))
    assert lengths == {0: None, 1: None}
    assert [len(cell) for cell in shorter.to_pylist()] == [MAX_CELL_WEIGHT + 1] * 2
    assert shorter[1].as_py()[:3] == [180_000, 180_001, 180_002]


@pytest.mark.parametrize("sql", [*HEAVY.values(), *LIGHT.values()])
def test_every_batch_has_the_shown_schema(sql: str) -> None:
    with duckdb.connect() as connection:
        reader = connection.sql(sql).to_arrow_reader(1_000)
        for batch in reader:
            cut, _ = cut_batch(batch)
            cut.validate(full=True)
            assert cut.schema == shown_schema(reader.schema)
            assert not any("fixed_size" in str(kind) for kind in cut.schema.types)


def test_a_slice_is_cut_like_the_whole() -> None:
    whole = arrays("SELECT range(i * 40000), MAP {i: range(i * 40000)} FROM range(6) r(i)")
    for array in whole:
        parts = [text for start in range(6) for text in texts(cut_cells(array.slice(start, 1))[0])]
        assert parts == texts(cut_cells(array)[0])


@pytest.mark.parametrize(("levels", "deep"), [(MAX_DEPTH, False), (MAX_DEPTH + 1, True), (120, True)])
def test_what_is_nested_too_deep_is_told_in_words(levels: int, deep: bool) -> None:
    value: Any = 1
    kind: pa.DataType = pa.int64()
    for _ in range(levels):
        value, kind = [value], pa.list_(kind)
    batch = pa.record_batch([pa.array([value, None], kind)], names=["a"])
    shown, _ = cut_batch(batch)
    assert shown.schema == shown_schema(batch.schema)
    assert pa.types.is_string(shown.schema.field(0).type) == deep
    assert shown.column(0).null_count == 1
