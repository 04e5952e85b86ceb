"""The skill's references: conditions that the validator admits, and an answer to every kind of error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from agnes_mcp.errors import KINDS, PredicateError
from agnes_mcp.models import Column, Dialect, TableSchema
from agnes_mcp.sql.predicate import validate_predicate

REFERENCES = Path(__file__).parents[2] / "skills" / "agnes-data-querying" / "references"
DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")
TYPES: dict[Dialect, dict[str, str]] = {
    "bigquery": {"d": "DATE", "ts": "TIMESTAMP", "s": "STRING", "x": "STRING", "order": "INT64"},
    "duckdb": {"d": "DATE", "ts": "TIMESTAMP WITH TIME ZONE", "s": "VARCHAR", "x": "VARCHAR", "order": "BIGINT"},
}
#: Rows of the table whose examples are conditions already; the others are values, shown here in `… IS NOT NULL`.
CONDITIONS = {"regular expression", "begins with", "missing", "a nested field", "in an array"}


def schema(dialect: Dialect) -> TableSchema:
    text = TYPES[dialect]["s"]
    tags = (
        Column(name="tags", type=text, mode="REPEATED")
        if dialect == "bigquery"
        else Column(name="tags", type="VARCHAR[]")
    )
    device = Column(name="device", type="STRUCT", fields=[Column(name="browser", type=text)])
    columns = [Column(name=name, type=kind) for name, kind in TYPES[dialect].items()]
    return TableSchema(table_id="my_table", columns=[*columns, device, tags])


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row that is not a heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    ruled = {number for number, line in enumerate(lines) if set(line) <= set("|-")}
    return [row for number, row in enumerate(rows) if number not in ruled and number + 1 not in ruled]


def examples() -> list[tuple[Dialect, str]]:
    found = []
    for about, *cells in rows_of((REFERENCES / "dialects.md").read_text()):
        for dialect, cell in zip(DIALECTS, cells, strict=True):
            for doubled, single in re.findall(r"`` (.*?) ``|`([^`]+)`", cell):
                shown = doubled or single
                found.append((dialect, shown if about in CONDITIONS else f"{shown} IS NOT NULL"))
    return found


def test_every_row_of_the_dialects_has_an_example_in_both() -> None:
    counted = {dialect: sum(of == dialect for of, _ in examples()) for dialect in DIALECTS}
    assert min(counted.values()) >= len(rows_of((REFERENCES / "dialects.md").read_text())) >= 14


@pytest.mark.parametrize(("dialect", "text"), examples())
def test_the_validator_admits_every_example_of_the_dialects(dialect: Dialect, text: str) -> None:
    validate_predicate(text, schema(dialect), dialect)


@pytest.mark.parametrize("spelled", ["DATE_SUB(CURRENT_DATE(), INTERVAL 7 DAY)", "REGEXP_CONTAINS(s, r'a')"])
def test_what_the_table_tells_apart_is_apart(spelled: str) -> None:
    validate_predicate(f"{spelled} IS NOT NULL", schema("bigquery"), "bigquery")
    with pytest.raises(PredicateError):
        validate_predicate(f"{spelled} IS NOT NULL", schema("duckdb"), "duckdb")


def conditions_in_recipes() -> list[str]:
    text = " ".join((REFERENCES / "recipes.md").read_text().split())
    return cast("list[str]", re.findall(r'"where": "([^"]+)"', text))


def test_the_recipes_have_conditions() -> None:
    assert len(conditions_in_recipes()) >= 2


@pytest.mark.parametrize("text", conditions_in_recipes())
def test_the_validator_admits_the_conditions_of_the_recipes(text: str) -> None:
    columns = [Column(name="event_date", type="DATE"), Column(name="customer_id", type="INT64")]
    validate_predicate(text, TableSchema(table_id="web_sessions", columns=columns), "bigquery")


def test_every_kind_of_error_has_one_row_that_says_what_to_do() -> None:
    rows = rows_of((REFERENCES / "errors.md").read_text())
    named = [kind for row in rows for kind in re.findall(r"`([a-z_]+)`", row[0])]
    assert sorted(named) == sorted(KINDS)
    assert all(len(row) == 2 and row[1] for row in rows)
