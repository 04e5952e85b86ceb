"""The 22 questions of TPC-H: admitted, and on the stand-in for BigQuery the same rows as DuckDB's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from support.bigquery_backend import Client, rest_client
from support.tpch import DATASET, database, places, questions, write_parquet
from support.warehouse import PROJECT, PrincipalNames

from agnes_mcp.sql.warehouse import admit
from agnes_mcp.stand_in import StandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

QUESTIONS = questions()
NAMES = PrincipalNames(places())


@pytest.fixture(scope="module")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with database() as connection:
        yield connection


@pytest.fixture(scope="module")
def client(tables: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    files = write_parquet(tables, tmp_path_factory.mktemp("tpch"))
    with StandIn(project=PROJECT) as stand_in, rest_client(stand_in.api_endpoint) as client:
        for name, path in files.items():
            stand_in.create_table(DATASET, name, parquet=path)
        yield client


def plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def alike(left: Any, right: Any) -> bool:
    """Equal; of what a division or an average gives, to nine digits: NUMERIC carries no more behind the point."""
    if isinstance(left, float) or isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return bool(left == right)


def test_there_are_22() -> None:
    assert list(QUESTIONS) == [f"q{number}" for number in range(1, 23)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_the_rows_that_duckdb_gives(
    client: Client, tables: duckdb.DuckDBPyConnection, name: str
) -> None:
    expected = [tuple(map(plain, row)) for row in tables.execute(QUESTIONS[name]).fetchall()]
    admitted = admit(QUESTIONS[name], NAMES)
    answered = [tuple(map(plain, row.values())) for row in client.query_and_wait(admitted.sql)]
    assert expected, "a question without rows shows nothing"
    assert len(answered) == len(expected)
    assert all(
        alike(a, e) for got, want in zip(answered, expected, strict=True) for a, e in zip(got, want, strict=True)
    )
    assert {place.table_id for place in admitted.tables} <= {place.table_id for place in places()}
