"""The gate says the same of a statement under every line of DuckDB, and refuses what no line is known to write."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.record_verdicts import TABLES, VERDICTS, corpus, verdict

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_lines, duckdb_trees
from agnes_mcp.workbench import admission
from agnes_mcp.workbench.parser import DuckDBParser

RECORDED: list[dict[str, Any]] = [json.loads(line) for line in VERDICTS.read_text(encoding="utf-8").splitlines()]
#: Where one line admits what another refuses. DuckDB 1.5 makes CASE of if() before anybody sees how it was written.
APART = {
    "SELECT main.if(true, 1, 2)",
    "SELECT if(DISTINCT true, 1, 2)",
    "SELECT if(true, 1, 2) FILTER (true)",
}
#: A statement with every kind of part in it, which both lines admit.
EVERY_PART = """
    WITH t(a) AS MATERIALIZED (SELECT id FROM orders)
    SELECT sum(DISTINCT id ORDER BY id) FILTER (id > 1), if(id = 1, 'a', 'b'), id::DECIMAL(10, 2), [1, 2][1],
        id::STRUCT(a INT, b VARCHAR[]), {'a': 1}, CASE WHEN id IN (1, 2) THEN NULL ELSE TRUE END, x'AB', 1.5,
        row_number() OVER (PARTITION BY country ORDER BY ts), list_transform(tags, lambda x: upper(x)),
        country COLLATE nocase, EXISTS (SELECT 1 FROM t), id BETWEEN 1 AND 3, INTERVAL 3 DAY,
        * EXCLUDE (note) REPLACE (1 AS id)
    FROM orders JOIN events USING (id), range(3) r(i), (VALUES (1, 2)) v(a, b), (FROM orders TABLESAMPLE 10%) s
    WHERE amount > 1 AND note LIKE 'a%' GROUP BY ALL HAVING count(*) > 1 QUALIFY true
    ORDER BY ALL DESC LIMIT 10 OFFSET 2"""


@pytest.fixture(scope="module")
def parser() -> DuckDBParser:
    return DuckDBParser(256 * 2**20)


def test_the_corpus_is_recorded_whole_for_every_line() -> None:
    assert [{"sql": entry["sql"], "hostile": entry["hostile"]} for entry in RECORDED] == corpus()
    assert all(set(duckdb_lines.LINES) <= entry.keys() for entry in RECORDED)
    assert len(RECORDED) > 600
    assert sum(entry["hostile"] for entry in RECORDED) > 300
    assert sum(entry["1.5"].startswith("admitted") for entry in RECORDED) > 200


def test_this_line_says_what_was_recorded_of_it(parser: DuckDBParser) -> None:
    recorded = {entry["sql"]: entry[duckdb_lines.line()] for entry in RECORDED}
    assert {sql: verdict(sql, parser) for sql in recorded} == recorded


def test_the_lines_admit_the_same_statements_over_the_same_tables() -> None:
    """Where both refuse, one may call it wrong syntax: 1.5 cannot parse what 2.0 can."""
    apart = {
        entry["sql"]
        for entry in RECORDED
        if len({entry[line] if entry[line].startswith("admitted") else "" for line in duckdb_lines.LINES}) > 1
    }
    assert apart == APART


def test_no_line_admits_what_is_hostile() -> None:
    verdicts = {entry[line] for entry in RECORDED if entry["hostile"] for line in duckdb_lines.LINES}
    assert verdicts == {"query_refused", "query_failed", "table_not_found"}


class Tampered:
    """The parser, with one thing put into what it gives before it is turned into the one form."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    def tree(self, sql: str) -> dict[str, Any]:
        tree = copy.deepcopy(self._tree)
        form: dict[str, Any] = duckdb_trees.one_form(tree) if duckdb_lines.writes_new_trees() else tree
        return form

    def semicolons(self, sql: str) -> int:
        return 0


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node, but what a literal holds: its value is no syntax."""
    if isinstance(tree, dict):
        yield tree
        for key, value in tree.items():
            if key != "literal" and "is_null" not in tree:
                yield from nodes(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from nodes(item)


@pytest.fixture(scope="module")
def raw(parser: DuckDBParser) -> dict[str, Any]:
    """What this line's DuckDB writes of the statement, as it writes it."""
    import duckdb

    found = duckdb.execute("SELECT json_serialize_sql(?::VARCHAR)", [EVERY_PART]).fetchall()
    assert admission.admit(EVERY_PART, TABLES, parser) == ["orders", "events"]
    tree: dict[str, Any] = json.loads(found[0][0])
    assert admission.admit(EVERY_PART, TABLES, Tampered(tree)) == ["orders", "events"]
    return tree


@pytest.mark.parametrize("value", ["x", 1, True, {"class": "FUNCTION"}, [{"type": "NEW"}]], ids=str)
def test_a_field_that_nobody_knows_is_refused_in_every_node(raw: dict[str, Any], value: object) -> None:
    tree = copy.deepcopy(raw["statements"])
    admitted, tried = [], 0
    for node in nodes(tree):
        tried += 1
        node["new_field"] = value
        if not refused({"error": False, "statements": tree}):
            admitted.append(dict(node))
        del node["new_field"]
    assert tried > 100
    assert admitted == []


@pytest.mark.parametrize("key", ["class", "type"])
def test_a_class_or_type_that_nobody_knows_is_refused_in_every_node(raw: dict[str, Any], key: str) -> None:
    tree = copy.deepcopy(raw["statements"])
    admitted, tried = [], 0
    for node in nodes(tree):
        known = node.get(key)
        # Of a class with one operator each, the class is the tag, and its type says nothing.
        if not isinstance(known, str) or (key == "type" and node.get("class") not in (None, "COMPARISON", "OPERATOR")):
            continue
        tried += 1
        node[key] = "SOMETHING_NEW"
        if not refused({"error": False, "statements": tree}):
            admitted.append(dict(node))
        node[key] = known
    assert tried > 15
    assert admitted == []


def refused(tree: dict[str, Any]) -> bool:
    try:
        admission.admit("SELECT 1", TABLES, Tampered(tree))
    except AgnesError as error:
        return error.kind == "query_refused"
    return False
