"""The examples that the catalog shows: each is taken by the validator, and means the column that it names."""

from __future__ import annotations

import pytest

from agnes_mcp.models import Column, Dialect, Partition, Relation, ScanRequest, TableSchema
from agnes_mcp.sql.dialects import QUOTED_WORDS, where_examples
from agnes_mcp.sql.predicate import RULES, render_predicate, validate_predicate
from agnes_mcp.sql.predicate.cursor import OPERATOR_WORDS, QUERY_WORDS, STATEMENT_WORDS
from agnes_mcp.sql.statement import build_statement

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")
NAMES = ("order", "Order", "a b", " lead", "a-b", "1st", "Straße", "日本", "อำ", "emoji 😀", "a%b", "x", "_x", "a'b")
#: DuckDB takes these in quotes; BigQuery has no column of such a name, and no way to write one.
ODD = ('a"b', "a`b", "a.b", "a\\b", "a\nb", "")


def _schema(name: str, type_: str) -> TableSchema:
    return TableSchema(table_id="my_table", columns=[Column(name=name, type=type_)])


def _words() -> list[str]:
    listed = [RULES[d].words | RULES[d].reserved | set(RULES[d].bare_calls) | RULES[d].literals for d in DIALECTS]
    grammar = (STATEMENT_WORDS | QUERY_WORDS | OPERATOR_WORDS) - {"=", "!=", "<>", "<", ">"}
    return sorted(frozenset().union(*listed, grammar, QUOTED_WORDS))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_example_means_its_column_whatever_that_is_called(dialect: Dialect) -> None:
    quote = "`" if dialect == "bigquery" else '"'
    text = "STRING" if dialect == "bigquery" else "VARCHAR"
    for name in (*NAMES, *_words(), *map(str.lower, _words())):
        schema = _schema(name, text)
        (example,) = where_examples(schema, dialect)
        tree = validate_predicate(example, schema, dialect)
        assert render_predicate(tree, dialect) == f"{quote}{name}{quote} = 'value'"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ODD)
def test_a_name_that_no_condition_can_hold_has_no_example(dialect: Dialect, name: str) -> None:
    schema = _schema(name, "DATE")
    for example in where_examples(schema, dialect):
        validate_predicate(example, schema, dialect)
    assert bool(where_examples(schema, "duckdb")) == bool(name)
    assert bool(where_examples(schema, "bigquery")) == (name == 'a"b')


@pytest.mark.parametrize(
    ("dialect", "type_", "example"),
    [
        ("bigquery", "INTERVAL", None),
        ("bigquery", "STRUCT", None),
        ("bigquery", "RANGE<DATE>", None),
        ("bigquery", "DATETIME", "x >= DATETIME '2026-01-01 00:00:00'"),
        ("bigquery", "BIGNUMERIC", "x > 0"),
        ("duckdb", "INTEGER[]", None),
        ("duckdb", "STRUCT(a INTEGER)", None),
        ("duckdb", "MAP(VARCHAR, INTEGER)", None),
        ("duckdb", "ENUM('INT')", None),
        ("duckdb", "INTERVAL", None),
        ("duckdb", "DECIMAL(18,3)", "x > 0"),
        ("duckdb", "HUGEINT", "x > 0"),
        ("duckdb", "TIMESTAMP WITH TIME ZONE", "x >= TIMESTAMP '2026-01-01 00:00:00'"),
    ],
)
def test_an_example_fits_its_type(dialect: Dialect, type_: str, example: str | None) -> None:
    assert where_examples(_schema("x", type_), dialect) == ([example] if example else [])


def test_the_partition_comes_first_and_three_are_shown() -> None:
    columns = [Column(name=name, type="DATE") for name in ("a", "b", "c", "day", "order")]
    schema = TableSchema(
        table_id="my_table", columns=columns, partition=Partition(column="day"), clustered_by=["order"]
    )
    shown = [example.split()[0] for example in where_examples(schema, "bigquery")]
    assert shown == ["day", "`order`", "a"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_type_that_the_reference_lists_can_be_cast_to(dialect: Dialect) -> None:
    schema = _schema("x", "STRING" if dialect == "bigquery" else "VARCHAR")
    for type_ in RULES[dialect].casts:
        for cast in ("CAST", RULES[dialect].try_cast):
            request = ScanRequest(table_id="my_table", where=f"{cast}(x AS {type_}) IS NULL")
            assert "WHERE" in build_statement(request, schema, Relation("", "", "my_table"), dialect, 10).sql
