"""What holds of every predicate: accepted texts are stable, mean what they meant, and nothing else escapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql.fuzz_predicate import check, run
from support.conditions import Conditions
from support.counts import count, tell
from support.predicate_strategies import hostile, predicates
from support.predicates import SCHEMAS, accepted, bigquery_select, duckdb_table

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import render_predicate, validate_predicate

_STEADY = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
# Functions of BigQuery that the open-source analyzer does not have.
_NOT_IN_ZETASQL = ("CONTAINS_SUBSTR",)


def rendered(text: str, dialect: Dialect) -> str:
    return render_predicate(validate_predicate(text, SCHEMAS[dialect], dialect), dialect)


@pytest.fixture(scope="module")
def table() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb_table() as connection:
        yield connection


def selected(table: duckdb.DuckDBPyConnection, predicate: str) -> list[Any]:
    return table.execute(f"SELECT rowid FROM web_sessions WHERE (\n{predicate}\n) ORDER BY 1").fetchall()


@pytest.mark.parametrize("text", accepted("duckdb"))
def test_duckdb_selects_the_same_rows_for_the_rendered_text(table: duckdb.DuckDBPyConnection, text: str) -> None:
    assert selected(table, text) == selected(table, rendered(text, "duckdb"))


@pytest.mark.soak
def test_generated_duckdb_predicates_are_accepted_and_keep_their_meaning(table: duckdb.DuckDBPyConnection) -> None:
    tried = 0

    @given(text=predicates("duckdb"))
    @settings(_STEADY, max_examples=count(150, 10_000))
    def holds(text: str) -> None:
        nonlocal tried
        tried += 1
        assert check(text, "duckdb") == "accepted"
        assert selected(table, text) == selected(table, rendered(text, "duckdb"))

    holds()
    tell("generated predicates, DuckDB", tried=tried, through=tried)


@pytest.mark.soak
def test_generated_bigquery_predicates_are_accepted_and_stable() -> None:
    tried = 0

    @given(text=predicates("bigquery"))
    @settings(_STEADY, max_examples=count(150, 10_000))
    def holds(text: str) -> None:
        nonlocal tried
        tried += 1
        assert check(text, "bigquery") == "accepted"

    holds()
    tell("generated predicates, BigQuery", tried=tried, through=tried)


@pytest.mark.soak
@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
def test_hostile_text_raises_nothing_but_predicate_errors(dialect: Dialect) -> None:
    @given(text=hostile(dialect))
    @settings(_STEADY, max_examples=count(500, 50_000))
    def holds(text: str) -> None:
        outcomes[check(text, dialect)] += 1

    outcomes = Counter[str]()
    holds()
    tell("hostile predicates", tried=outcomes.total(), through=outcomes["accepted"])


@pytest.mark.soak
def test_any_text_raises_nothing_but_predicate_errors() -> None:
    @given(text=st.text(max_size=300))
    @settings(_STEADY, max_examples=count(250, 25_000))
    def holds(text: str) -> None:
        outcomes.update([check(text, "bigquery"), check(text, "duckdb")])

    outcomes = Counter[str]()
    holds()
    tell("any text as a predicate", tried=outcomes.total(), through=outcomes["accepted"])


@given(
    value=st.one_of(st.none(), st.integers(), st.binary(), st.lists(st.text()), st.dictionaries(st.text(), st.text()))
)
@settings(_STEADY, max_examples=50)
def test_any_value_raises_nothing_but_predicate_errors(value: object) -> None:
    with pytest.raises(PredicateError):
        validate_predicate(value, SCHEMAS["bigquery"], "bigquery")


@pytest.mark.soak
def test_mutated_predicates_break_no_promise() -> None:
    tries = count(1_000, 300_000)
    outcomes = run(tries, seed=20260131)
    assert outcomes["accepted"] > tries // 50
    tell("mutated predicates", tried=outcomes.total(), through=outcomes["accepted"])


def test_the_fuzzer_reports_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sql.fuzz_predicate._SLOWEST_S", 0.0)
    with pytest.raises(AssertionError, match="too slow"):
        run(tries=1, seed=1)


@pytest.fixture(scope="module")
def oracle(googlesql: Any) -> Conditions:
    return Conditions(bigquery_select, "user_id")


CORPUS = [text for text in accepted("bigquery") if not any(name in text for name in _NOT_IN_ZETASQL)]


def assert_read_alike(oracle: Conditions, texts: list[str]) -> None:
    written = oracle.kept([rendered(text, "bigquery") for text in texts])
    assert dict(zip(texts, oracle.kept(texts), strict=True)) == dict(zip(texts, written, strict=True))


@pytest.mark.parametrize("start", range(0, len(CORPUS), 15))
def test_googlesql_reads_and_evaluates_both_texts_alike(oracle: Conditions, start: int) -> None:
    assert_read_alike(oracle, CORPUS[start : start + 15])


@pytest.mark.soak
def test_googlesql_evaluates_generated_predicates_alike(oracle: Conditions) -> None:
    generated: list[str] = []

    @given(text=predicates("bigquery"))
    @settings(_STEADY, max_examples=count(150, 5_000))
    def collect(text: str) -> None:
        generated.append(text)

    collect()
    for start in range(0, len(generated), 20):
        assert_read_alike(oracle, generated[start : start + 20])
    tell("generated predicates, evaluated by GoogleSQL", tried=len(generated), through=len(generated))


def test_the_oracle_tells_conditions_apart(oracle: Conditions) -> None:
    assert oracle.kept(["is_paid", "NOT is_paid", "user_id = 2"]) == ["NTF", "NFT", "NFT"]
    with pytest.raises(Exception, match="No matching signature"):
        oracle.kept(["platform"])
