"""The gate by itself: what it lets through, and how it counts (no process is started)."""

from __future__ import annotations

from typing import Any

import pytest

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_functions as functions
from agnes_mcp.workbench import admission, grammar, series
from agnes_mcp.workbench.parser import DuckDBParser

TABLES = ["orders", "Events"]


@pytest.fixture(scope="module")
def parser() -> DuckDBParser:
    return DuckDBParser(256 * 2**20)


def refusal(sql: str, parser: DuckDBParser) -> AgnesError:
    with pytest.raises(AgnesError) as refused:
        admission.admit(sql, TABLES, parser)
    return refused.value


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", []),
        ("SELECT 1;", []),
        ("-- why\nSELECT 1 -- because\n;", []),
        ("/* a /* b */ ; */ SELECT ';', \";\" FROM orders", ["orders"]),
        ("FROM EVENTS, orders, events", ["Events", "orders"]),
        ("WITH a AS (FROM orders), b AS (FROM a) FROM b, events", ["orders", "Events"]),
        ("SELECT * FROM (WITH a AS (SELECT 1) FROM a) x, (WITH a AS (FROM orders) FROM a) y", ["orders"]),
        ("WITH a AS (SELECT 1) SELECT 2 UNION (WITH b AS (FROM a) FROM b)", []),
        ("SELECT repeat('x', 1000), lpad('x', 0, 'y'), range(100000), generate_series(5, 1, -1)", []),
        ("SELECT generate_series(DATE '2024-01-01', TIMESTAMP '2024-02-01 00:00:00', INTERVAL 6 HOUR)", []),
        ("SELECT Sum(id) FROM orders", ["orders"]),
        ("SELECT 'DROP TABLE x; --', $$read_text('/etc/passwd')$$", []),
    ],
)
def test_a_plain_select_is_admitted_with_the_tables_it_reads(sql: str, tables: list[str], parser: DuckDBParser) -> None:
    assert admission.admit(sql, TABLES, parser) == tables


@pytest.mark.parametrize(
    ("sql", "kind", "told"),
    [
        ("SELECT 1;;", "query_refused", "more than one statement"),
        ("SELECT 1; -- x\n;", "query_refused", "more than one statement"),
        ("SELECT 'a\x00'", "query_refused", "U+0000"),
        ("SELECT " + "CASE WHEN true THEN " * 300 + "1" + " END" * 300, "query_refused", "nested too deeply"),
        ("SELECT " + "abs(" * 201 + "1" + ")" * 201, "query_refused", "nested too deeply"),
        ("SELECT '" + "x" * 16_376 + "'", "query_refused", "16,385 bytes"),
        ("SELECT '" + "č" * 8_189 + "'", "query_refused", "16,387 bytes"),
        ("SELECT * FROM 'x.csv'", "query_refused", "a file or address"),
        ("SELECT * FROM payroll", "table_not_found", "payroll"),
        ("WITH a AS (FROM b), b AS (SELECT 1) FROM a", "table_not_found", '"b"'),
        ("WITH a AS (FROM a) FROM a", "table_not_found", '"a"'),
        ("SELECT * FROM (WITH a AS (SELECT 1) FROM a) x, a", "table_not_found", '"a"'),
        ('WITH "ORDERS" AS (SELECT 1) SELECT 1', "query_refused", "the name of a table"),
        ("WITH pg_class AS (SELECT 1) FROM pg_class", "query_refused", "pg_class"),
        ('WITH "a.b" AS (SELECT 1) SELECT 1', "query_refused", "a.b"),
        ("SELECT #1 FROM orders", "query_refused", "positional reference"),
        ("SELECT ? ", "query_refused", "a parameter"),
        ("SELECT * FROM orders POSITIONAL JOIN events", "query_refused", "positional join"),
        ("SELECT random() OVER () FROM orders", "query_refused", "random"),
        ("SELECT repeat('x')", "query_refused", "repeat"),
        ("SELECT range()", "query_refused", "range"),
    ],
)
def test_what_is_refused_says_why(sql: str, kind: str, told: str, parser: DuckDBParser) -> None:
    error = refusal(sql, parser)
    assert error.kind == kind
    assert told in error.message


def test_a_text_of_just_the_largest_size_is_admitted(parser: DuckDBParser) -> None:
    sql = "SELECT '" + "x" * (admission.MAX_TEXT_BYTES - 9) + "'"
    assert admission.admit(sql, TABLES, parser) == []


class Forged:
    """A parser of a later release, whose trees hold something new."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    def tree(self, sql: str) -> dict[str, Any]:
        return self._tree

    def semicolons(self, sql: str) -> int:
        return 0


def select(**fields: object) -> dict[str, Any]:
    node = {"type": "SELECT_NODE", "from_table": {"type": "EMPTY"}, **fields}
    return {"error": False, "statements": [{"node": node}]}


COLUMN = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": ["a"]}


@pytest.mark.parametrize(
    "tree",
    [
        select(new_clause={"type": "X"}),
        select(new_flag=True),
        select(select_list=[{**COLUMN, "new_field": 1}]),
        select(select_list=[{**COLUMN, "column_names": [{"class": "FUNCTION"}]}]),
        select(select_list=[{"class": "NEW", "type": "NEW"}]),
        select(select_list=[{"class": "OPERATOR", "type": "OPERATOR_NEW", "children": []}]),
        select(select_list=[{"type": "BASE_TABLE", "table_name": "orders"}]),
        select(from_table={"type": "NEW_REF"}),
        select(from_table={"type": "BASE_TABLE", "table_name": "orders", "at_clause": {"unit": "VERSION"}}),
        select(from_table={"type": "TABLE_FUNCTION", "function": COLUMN}),
        select(modifiers=[{"type": "NEW_MODIFIER"}]),
        select(modifiers=[{"type": "ORDER_MODIFIER", "orders": [{"type": "NEW", "expression": COLUMN}]}]),
        {"error": False, "statements": [{"node": {"type": "INSERT_NODE"}}]},
        {"error": False, "statements": [{"node": {"type": "SELECT_NODE"}, "named_param_map": [{"key": "1"}]}]},
        {"error": False, "statements": []},
    ],
)
def test_whatever_a_tree_holds_that_is_not_known_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(AgnesError) as refused:
        admission.admit("SELECT 1", TABLES, Forged(tree))
    assert refused.value.kind == "query_refused"


def test_every_kind_of_field_in_the_grammar_is_defined() -> None:
    kinds = {kind for tags in grammar.TAGS.values() for fields in tags.values() for kind in fields.values()}
    kinds |= {kind for fields in grammar.RECORDS.values() for kind in fields.values()}
    assert kinds <= {grammar.SCALAR, grammar.OPAQUE, *grammar.TAGGED, *grammar.RECORDS}


def test_every_hint_belongs_to_something_refused() -> None:
    assert not set(functions.INSTEAD) & functions.FUNCTIONS
    assert series.MAX_ELEMENTS <= 100_000


def test_locations_count_characters_and_lines() -> None:
    assert admission.locate("SELECT 'č',\n  x", 14) == {"position": 13, "where": "line 2, column 2", "fragment": " x"}
    assert admission.locate("abc", 0) == {"position": 0, "where": "line 1, column 1", "fragment": "abc"}


@pytest.mark.parametrize("sql", ["", " ", "\n\t", ";", "-- nothing", "/* */"])
def test_a_text_without_a_statement_is_called_empty(sql: str, parser: DuckDBParser) -> None:
    assert refusal(sql, parser).message == "The SQL is empty."
