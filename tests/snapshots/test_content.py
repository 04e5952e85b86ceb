"""The fingerprint of a result: the same for the same rows, all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnes_mcp.calls.call import cancelled
from agnes_mcp.snapshots.content import ContentHash, Engine

ENGINE = Engine()


def fingerprint(table: pa.Table, *, ordered: bool = False, cuts: list[int] | None = None) -> str:
    with ENGINE.cursor() as cursor:
        content = ContentHash(cursor, table.schema, ordered=ordered)
        edges = sorted({0, table.num_rows, *(cut for cut in cuts or [] if cut <= table.num_rows)})
        content.take(table.slice(start, end - start) for start, end in pairwise(edges))
        assert content.rows == table.num_rows
        return content.hexdigest()


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"v": pa.array(values, kind)})


ROWS = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.none(), st.text(max_size=5) | st.none()), max_size=30)


def two_columns(rows: list[tuple[int | None, str | None]]) -> pa.Table:
    return pa.table({"a": pa.array([a for a, _ in rows], pa.int64()), "b": pa.array([b for _, b in rows], pa.string())})


@given(ROWS, st.lists(st.integers(0, 30)), st.booleans())
def test_where_batches_end_does_not_matter(
    rows: list[tuple[int | None, str | None]], cuts: list[int], ordered: bool
) -> None:
    table = two_columns(rows)
    assert fingerprint(table, ordered=ordered, cuts=cuts) == fingerprint(table, ordered=ordered)


@given(ROWS, st.randoms())
def test_the_order_of_rows_matters_only_where_one_was_asked_for(
    rows: list[tuple[int | None, str | None]], chance: random.Random
) -> None:
    shuffled = chance.sample(rows, len(rows))
    assert fingerprint(two_columns(shuffled)) == fingerprint(two_columns(rows))
    same_order = fingerprint(two_columns(shuffled), ordered=True) == fingerprint(two_columns(rows), ordered=True)
    assert same_order == (shuffled == rows)


@given(ROWS, ROWS)
def test_other_rows_give_another_fingerprint(
    one: list[tuple[int | None, str | None]], other: list[tuple[int | None, str | None]]
) -> None:
    def bag(rows: list[tuple[int | None, str | None]]) -> list[str]:
        return sorted(map(repr, rows))

    assert (fingerprint(two_columns(one)) == fingerprint(two_columns(other))) == (bag(one) == bag(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (column([0], pa.int64()), column([None], pa.int64())),
        (column([""]), column([None], pa.string())),
        (column([], pa.int64()), column([0], pa.int64())),
        (column([0], pa.int64()), column([0, 0], pa.int64())),
        (column([1, 1, 2]), column([1, 2, 2])),
        (column([[]], pa.list_(pa.int64())), column([None], pa.list_(pa.int64()))),
        (column([[1], [2]]), column([[1, 2], []])),
        (column([[[1], [2]]]), column([[[1, 2]]])),
        (column([[None]], pa.list_(pa.int64())), column([[]], pa.list_(pa.int64()))),
        (column([["a, b"]]), column([["a", "b"]])),
        (column([["NULL"]]), column([[None]], pa.list_(pa.string()))),
        (column([[Decimal("12345678901234567890.123456789")]]), column([[Decimal("12345678901234567890.123456788")]])),
        (column([{"x": None}], pa.struct([("x", pa.int64())])), column([None], pa.struct([("x", pa.int64())]))),
        (column([1], pa.int64()), column([1], pa.int32())),
        (column(["1"]), column([1], pa.int64())),
        (column([1]), pa.table({"w": [1]})),
        (pa.table({"a": [1], "b": [2]}), pa.table({"a": [2], "b": [1]})),
        (pa.table({"a": [1, 3], "b": [2, 4]}), pa.table({"a": [1, 3], "b": [4, 2]})),
        (column([0.1]), column([0.1 + 2**-56])),
        (column([b"a"]), column([b"a\x00"])),
    ],
)
def test_values_that_look_alike_are_told_apart(one: pa.Table, other: pa.Table) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_a_change_of_one_value_in_the_last_row_of_many_shows() -> None:
    rows = 300_000
    one = pa.table({"id": pa.array(range(rows)), "text": pa.array(["same"] * rows)})
    other = pa.table({"id": pa.array(range(rows)), "text": pa.array(["same"] * (rows - 1) + ["Same"])})
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("error", [cancelled(), RuntimeError("out of rows"), KeyboardInterrupt()])
def test_what_ends_the_tables_is_raised_as_it_was(error: BaseException) -> None:
    def tables() -> Iterator[pa.Table]:
        yield column([1, 2])
        raise error

    with ENGINE.cursor() as cursor:
        with pytest.raises(type(error)) as caught:
            ContentHash(cursor, column([1]).schema, ordered=True).take(tables())
        assert caught.value is error
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_an_asked_order_and_none_are_never_confused() -> None:
    assert fingerprint(column([1]), ordered=True) != fingerprint(column([1]), ordered=False)


def test_the_fingerprint_of_known_rows_stays_between_releases() -> None:
    """If this fails with a new DuckDB, refreshes rewrite their files once after the update: say so in the changelog."""
    table = pa.table(
        {
            "id": pa.array([1, None], pa.int64()),
            "name": pa.array(["ä", ""]),
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a, b", None], None], pa.list_(pa.string())),
        }
    )
    assert fingerprint(table) == "55556f8be26360cf7fa9282840347aef72cc6253c6be9504cde3cbc4f24e095b"
    assert fingerprint(table, ordered=True) == "c37f72de1a5d072f959995bc2ea8676e22357e25cbff02840a51538a9ad0007c"
