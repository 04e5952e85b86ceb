"""The DuckDB database behind the stand-in: many writers at once, which BigQuery does not mind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.counts import count, tell

from agnes_mcp.stand_in.fields import Field
from agnes_mcp.stand_in.googlesql.macros import _by_name, called_by
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import Partition, Table

WRITERS = 8


@pytest.mark.soak
def test_writers_of_a_new_dataset_do_not_collide() -> None:
    """DuckDB refuses the second of two that make one schema at once: a dataset's first tables are filled together."""
    rounds = count(10, 1_000)
    for number in range(rounds):
        with closing(Store(threads=2)) as store, ThreadPoolExecutor(WRITERS) as writers:
            together = threading.Barrier(WRITERS)

            def write(name: int, store: Store = store, together: threading.Barrier = together) -> Table:
                fields = (Field("id", "INT64"), Field("day", "DATE"))
                table = Table("my-project", "my_dataset", f"t{name}", fields=fields, partition=Partition("day"))
                together.wait(60)
                store.fill(table, f"SELECT {name} AS id, DATE '2026-01-01' + CAST(i AS INT) AS day FROM range(9) t(i)")
                return table

            tables = list(writers.map(write, range(WRITERS)))
            assert [table.rows for table in tables] == [9] * WRITERS, f"round {number}"
    tell("writers of a new dataset at once", tried=rounds * WRITERS, through=rounds * WRITERS)


def test_every_macro_is_made_with_those_that_it_uses() -> None:
    names = _by_name().keys()
    for name in names:
        made = called_by(f"SELECT {name}(1)")
        assert list(made)[-1] == name, "each after those that it uses"
    with closing(Store(threads=1)) as store, store.cursor() as cursor:
        store.knowing(" ".join(f"{name}()" for name in names))
        known = cursor.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'macro'")
        assert names <= {name for (name,) in known.fetchall()}


def test_a_macro_is_there_for_everybody_who_calls_it_at_once() -> None:
    with closing(Store(threads=2)) as store, ThreadPoolExecutor(WRITERS) as readers:
        together = threading.Barrier(WRITERS)

        def read(number: int) -> object:
            together.wait(60)
            return store.rows(f"SELECT bq_float_text(CAST({number} AS DOUBLE)), bq_text('a'::BLOB)")

        assert list(readers.map(read, range(WRITERS))) == [[(str(number), "a")] for number in range(WRITERS)]
