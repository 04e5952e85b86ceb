"""Columns named by a caller, found in schemas of any width."""

from __future__ import annotations

import cProfile
import pstats

from agnes_mcp.models import Column, Relation, ScanRequest, TableSchema
from agnes_mcp.sql.columns import select_columns
from agnes_mcp.sql.statement import build_statement


def _schema(width: int) -> TableSchema:
    return TableSchema(table_id="wide", columns=[Column(name=f"C{n}", type="BIGINT") for n in range(width)])


def _calls(width: int) -> int:
    """How many function calls it takes to name every column, one by one, and to build the statement."""
    schema, profile = _schema(width), cProfile.Profile()
    names = [f"c{n}" for n in range(width)]

    def name_all() -> None:
        assert select_columns(names, schema)[-1] == f"C{width - 1}"
        build_statement(ScanRequest(table_id="wide", select=names), schema, Relation("", "", "wide"), "duckdb", 100)

    profile.runcall(name_all)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_the_work_per_column_does_not_grow_with_the_columns() -> None:
    _calls(10)  # what is compiled or imported once
    assert _calls(1_200) < 4.5 * _calls(300)


def test_a_column_is_found_without_regard_to_case_and_of_two_the_first() -> None:
    schema = TableSchema(
        table_id="t",
        columns=[Column(name="a", type="BIGINT"), Column(name="A", type="DATE"), Column(name="É", type="X")],
    )
    found = [schema.column(name) for name in ("A", "é", "b")]
    assert found == [schema.columns[0], schema.columns[2], None]


def test_a_copy_with_other_columns_is_asked_of_those() -> None:
    schema = _schema(3)
    assert schema.column("c2") is not None
    other = schema.model_copy(update={"columns": [Column(name="d", type="DATE")]})
    assert other.column("c2") is None
    assert other.column("D") == other.columns[0]
    assert schema.column("c2") == schema.columns[2]
    assert schema == _schema(3)
