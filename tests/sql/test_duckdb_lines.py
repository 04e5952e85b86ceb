"""Two lines of DuckDB: one place knows in what they differ, and every place that promises one says the same."""

from __future__ import annotations

import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import pytest
from packaging.requirements import Requirement

from agnes_mcp.sql import duckdb_lines, duckdb_trees
from agnes_mcp.sql.duckdb_types import loses_in_arrow, safe_type, with_null_named
from agnes_mcp.sql.instance import open_instance

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def line_of(version: str) -> str:
    return ".".join(version.split(".")[:2])


def versions() -> tuple[str, str]:
    """What CI installs: by default, and in `make test-duckdb2`."""
    pinned = re.search(r"^duckdb==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    second = re.search(r"^DUCKDB2 := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert second is not None
    return pinned[1], second[1]


def test_every_line_is_installed_somewhere_in_ci() -> None:
    assert tuple(map(line_of, versions())) == duckdb_lines.LINES
    assert duckdb.__version__ in versions()
    assert duckdb_lines.line() == line_of(duckdb.__version__)
    assert "step make test-duckdb2" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_range_admits_these_lines_and_no_other() -> None:
    wanted = next(Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "duckdb")
    assert all(version in wanted.specifier for version in versions())
    others = ["1.4.5", "1.5.3", "1.6.0", "1.6.1", "2.0.0", "2.1.0", "3.0.0"]
    assert [version for version in others if version in wanted.specifier] == []


def test_nobody_else_asks_for_the_version_or_reads_trees_by_himself() -> None:
    asks = re.compile(r"duckdb\.__version__|SELECT version\(\)|library_version|json_serialize_sql\(")
    found = {
        path.name
        for path in (ROOT / "agnes_mcp").rglob("*.py")
        if "stand_in" not in path.parts and asks.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"duckdb_lines.py", "duckdb_trees.py"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("list_transform([1, 2], x -> x + 1)", [2, 3]),
        ("list_transform([1, 2], lambda x: x + 1)", [2, 3]),
        ("list_reduce([1, 2], (a, b) -> a + b)", 3),
        ("""'{"a": 1}'::JSON -> '$.a'""", "1"),
        ("[x + 1 FOR x IN [1, 2] IF x > 1]", [3]),
        ("1 // 0", None),
        ("1 % 0", None),
    ],
)
def test_an_expression_means_the_same(expression: str, value: object) -> None:
    with open_instance(256 * 2**20, 1) as connection:
        assert connection.execute(f"SELECT {expression}").fetchall() == [(value,)]
        assert connection.cursor().execute(f"SELECT {expression}").fetchall() == [(value,)]


def test_a_file_for_others_is_written_as_every_1_x_reads_it(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "x.duckdb"), config={**duckdb_lines.FILE_SETTINGS}) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert tags == [({"storage_version": "v1.0.0+"},)]
    # a file of storage version 64 says so in the first block: what 1.0 to 1.5 write by themselves
    assert int.from_bytes((tmp_path / "x.duckdb").read_bytes()[12:20], "little") == 64


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ('"NULL"', "INTEGER"),
        ('"NULL"[]', "INTEGER[]"),
        ('STRUCT(a "NULL", "NULL" VARCHAR)', 'STRUCT(a INTEGER, "NULL" VARCHAR)'),
        ('MAP("NULL", "NULL")', "MAP(INTEGER, INTEGER)"),
        ('STRUCT("NULL" INTEGER)', 'STRUCT("NULL" INTEGER)'),
        ("VARCHAR", "VARCHAR"),
    ],
)
def test_a_column_of_nulls_alone_is_an_integer(kind: str, named: str) -> None:
    assert with_null_named(kind) == safe_type(kind) == named
    assert loses_in_arrow(kind) is (kind != named)


def literal(kind: str, text: str) -> dict[str, Any]:
    node = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "query_location": 7, "query_location_length": 1}
    return {**node, "literal": {"kind": kind, "text": text}}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INTEGER", "10_000", 10_000),
        ("INTEGER", "-3", -3),
        ("INTEGER", "9" * 5000, "9" * 5000),
        ("NUMERIC", "1.5", 1.5),
        ("NUMERIC", "1e400", float("inf")),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "false", False),
        ("NULL_LITERAL", "", None),
        ("STRING", "3", "3"),
    ],
)
def test_a_literal_is_read_as_the_value_that_it_is(kind: str, text: str, value: object) -> None:
    form = duckdb_trees.one_form(literal(kind, text))
    assert form["value"]["value"] == value
    assert type(form["value"]["value"]) is type(value)
    assert form["value"]["is_null"] is (value is None)
    assert form.keys() == {"class", "type", "alias", "query_location", "value"}


@pytest.mark.parametrize(
    ("node", "left"),
    [
        (literal("SOMETHING_NEW", "1"), "literal"),
        ({**literal("INTEGER", "1"), "literal": {"kind": "INTEGER", "text": "1", "more": 1}}, "literal"),
        ({"class": "FUNCTION", "function_name": "f", "qualified_name": {"path": ["s", "f"]}}, "qualified_name"),
        ({"class": "FUNCTION", "function_name": "f", "qualified_name": {"path": ["f"], "x": 1}}, "qualified_name"),
        ({"type": "BASE_TABLE", "table_name": "t", "qualified_name": {"path": ["u"]}}, "qualified_name"),
        ({"class": "FUNCTION", "arguments": [{"name": "a", "expression": {"alias": "b"}}]}, "arguments"),
        ({"class": "FUNCTION", "arguments": [{"name": "", "expression": {}, "more": 1}]}, "arguments"),
        ({"class": "FUNCTION", "children": [], "arguments": []}, "arguments"),
        ({"class": "FUNCTION", "is_legacy_function_call": True}, "is_legacy_function_call"),
        ({"type": "JOIN", "nearest_count": 2}, "nearest_count"),
        ({"type": "JOIN", "nearest_count": True}, "nearest_count"),
        ({"type": "JOIN", "ranking_expression": {"class": "COLUMN_REF"}}, "ranking_expression"),
        ({"type": "LIMIT_MODIFIER", "limit_type": "SOMETHING_NEW"}, "limit_type"),
        ({"class": "LAMBDA", "syntax_type": "SOMETHING_NEW"}, "syntax_type"),
        ({"class": "CAST", "type_expr": {"class": "FUNCTION"}}, "type_expr"),
        ({"class": "CAST", "type_expr": {"class": "TYPE", "type_name": "t", "more": 1}}, "type_expr"),
        ({"sample_size": {}, "sample_rate": 0.5}, "sample_rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_says_more_than_the_one_form_can_is_left_to_be_refused(node: dict[str, Any], left: str) -> None:
    before = node[left]
    assert duckdb_trees.one_form(dict(node))[left] == before


def test_a_tree_of_any_depth_is_turned_without_recursion() -> None:
    tree: dict[str, Any] = literal("INTEGER", "1")
    for _ in range(50_000):
        tree = {"class": "OPERATOR", "type": "OPERATOR_NOT", "children": [tree]}
    form = duckdb_trees.one_form(tree)
    while "children" in form:
        form = form["children"][0]
    assert form["value"]["value"] == 1


def test_a_text_is_parsed_as_it_is() -> None:
    """Handed over as a literal it means what it means as a parameter, whatever is in it."""
    made = random.Random(1)
    texts = ["".join(made.choices("ab1'\"; -$/*\n\t\\\0\u00a0é😀", k=made.randint(0, 12))) for _ in range(300)]
    with duckdb.connect() as connection:
        for text in ["SELECT 'it''s'", *(f"SELECT {text}" for text in texts)]:
            as_parameter = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone() or ()
            expected = [json.loads(tree) for tree in as_parameter]
            if duckdb_lines.writes_new_trees():
                expected = [duckdb_trees.one_form(tree) for tree in expected]
            assert duckdb_trees.all_parsed(connection, text) == expected, text
