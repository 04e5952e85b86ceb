"""What an error tells the agent, and what it never tells."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from support.workbench_cases import Dataset, run

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_errors
from agnes_mcp.sql.views import View
from agnes_mcp.untrusted import without_paths_beside_sql
from agnes_mcp.workbench.workbench import Workbench


def error_of(bench: Workbench, sql: str, views: list[View]) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        run(bench, sql, views)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("sql", "kind", "told"),
    [
        ("SELECT amont FROM orders", "query_failed", '"amount"'),
        ("SELECT lowr(note) FROM orders", "query_refused", "lower"),
        ("SELECT id FROM orders WHERE", "query_failed", "syntax error"),
        ("SELECT id FORM orders", "query_failed", "line 1, column"),
        ("SELECT sum(note) FROM orders", "query_failed", "sum(VARCHAR)"),
        ("SELECT id FROM ordrs", "table_not_found", "orders"),
        ("SELECT * FROM read_csv('x')", "query_refused", "read_csv"),
        ("SELECT 1; SELECT 2", "query_refused", "more than one statement"),
        ("SELECT 1;;", "query_refused", "more than one statement"),
        ("", "query_refused", "The SQL is empty"),
        ("-- only a comment", "query_refused", "The SQL is empty"),
        ("SELECT 'a\x00b'", "query_refused", "U+0000"),
        ("SELECT 1 \x1b[31m", "query_refused", "U+001B"),
        ("SELECT '\ud800'", "query_refused", "U+D800"),
        ("SELECT '" + "x" * 17_000 + "'", "query_refused", "16,384"),
        ("WITH orders AS (SELECT 1) SELECT * FROM orders", "query_refused", "the name of a table"),
        ("PIVOT orders ON country USING sum(amount)", "query_refused", "IN ("),
        ("SELECT * FROM main.orders", "query_refused", "schema name"),
        ("SELECT note.upper() FROM orders", "query_refused", "upper(…)"),
        ("DESCRIBE orders", "query_refused", "schema"),
        ("SELECT random()", "query_refused", "USING SAMPLE"),
        ("DELETE FROM orders", "query_refused", "SELECT"),
    ],
)
def test_an_error_says_what_where_and_what_next(
    sql: str, kind: str, told: str, bench: Workbench, dataset: Dataset
) -> None:
    error = error_of(bench, sql, dataset.views)
    assert error.kind == kind
    assert told in f"{error.message} {error.hint}"


def test_a_refusal_points_at_the_place(bench: Workbench, dataset: Dataset) -> None:
    error = error_of(bench, "SELECT 'č',\n  read_text('x') FROM orders", dataset.views)
    assert error.details["where"] == "line 2, column 3"
    assert error.details["position"] == 14
    assert error.details["fragment"] == "read_text('x') FROM orders"


def test_another_callers_table_and_no_table_answer_alike(bench: Workbench, dataset: Dataset) -> None:
    seen = dataset.views[:1]
    hidden, missing = (error_of(bench, f"SELECT * FROM {name}", seen) for name in ("events", "evenxx"))
    assert hidden.kind == missing.kind == "table_not_found"
    assert hidden.message.replace("events", "?") == missing.message.replace("evenxx", "?")
    assert hidden.hint == missing.hint
    assert hidden.details["nearest"] == missing.details["nearest"] == []


def test_values_of_rows_stay_out_of_errors(bench: Workbench, dataset: Dataset) -> None:
    for sql in (
        "SELECT CAST(name AS INTEGER) FROM customers",
        "SELECT strptime(name, '%Y') FROM customers",
        "SELECT name::DATE FROM customers",
        "SELECT (id + 4200000)::TINYINT FROM customers WHERE id = 3",
        "SELECT json_extract(name, '$.a') FROM customers",
    ):
        error = error_of(bench, sql, dataset.views)
        assert error.kind == "query_failed"
        assert not [word for word in ("Anna", "Nova", "Bea", "4200003") if word in str(vars(error))]


@pytest.mark.parametrize(
    "value", ["it's a canary", 'a "canary" b', "line\ncanary\nline", "'canary", "x' canary 'y", "12 canary"]
)
def test_a_value_with_quotes_and_lines_stays_out_of_errors(value: str, bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.execute(f"COPY (SELECT $v AS v) TO '{path}'", {"v": value}).fetchall()
    for expression in ("v::INT", "v::DATE", "strptime(v, '%Y')", "v::JSON", "v::INT[]", "v::ENUM('a')", "v::UUID"):
        error = error_of(bench, f"SELECT {expression} FROM t", [View("t", "parquet", [str(path)])])
        assert "canary" not in str(vars(error))


def test_the_agents_own_words_stay_in_errors(bench: Workbench) -> None:
    error = error_of(bench, "SELECT CAST('forty two' AS INTEGER)", [])
    assert "'forty two'" in error.message
    assert "LINE 1" in error.message


def test_a_missing_or_damaged_file_is_the_tables_failure_without_its_path(bench: Workbench, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1" + b"\x00" * 100 + b"PAR1")
    views = [
        View("damaged", "parquet", [str(damaged)]),
        View("missing", "parquet", [str(tmp_path / "gone.parquet")]),
        View("no_table", "duckdb_table", [str(tmp_path / "gone.duckdb")], source_table="t"),
        View("no_csv", "csv", [str(tmp_path / "gone.csv")]),
    ]
    for view in views:
        error = error_of(bench, f"SELECT * FROM {view.name}", views)
        assert error.kind == "table_unavailable"
        assert error.details == {"table": view.name}
        assert str(tmp_path) not in str(vars(error))


def test_a_file_damaged_in_the_middle_is_the_tables_failure(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "middle.parquet"
    duckdb.execute(f"COPY (SELECT hash(range) AS h, range AS n FROM range(100000)) TO '{path}'").fetchall()
    content = bytearray(path.read_bytes())
    content[4:4000] = b"\xff" * 3996
    path.write_bytes(content)
    error = error_of(bench, "SELECT sum(h), max(n) FROM middle", [View("middle", "parquet", [str(path)])])
    assert error.kind in ("table_unavailable", "query_failed")
    assert str(tmp_path) not in str(vars(error))


def test_too_much_memory_is_its_own_kind(bench: Workbench) -> None:
    sql = "SELECT list(a.n + b.n) FROM range(30000) a(n), range(30000) b(n)"
    assert error_of(bench, sql, []).kind == "query_out_of_memory"


@pytest.mark.parametrize(
    "exception",
    [kind for kind in vars(duckdb).values() if isinstance(kind, type) and issubclass(kind, duckdb.Error)],
    ids=lambda kind: kind.__name__,
)
def test_every_exception_of_duckdb_is_translated(exception: type[duckdb.Error]) -> None:
    raised = exception("Some Error: cannot read '/srv/secret/folder/t.parquet' at 0x7f")
    error = duckdb_errors.of_agents_sql(raised, "SELECT 1", ["/srv/secret/folder/t.parquet"])
    assert error.kind.startswith(("query_", "table_", "cancelled"))
    assert "/srv" not in error.message


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ("IO Error: Cannot open file '/data/x/y.parquet'", "IO Error: Cannot open file '…'"),
        ("No files in /var/lib/agnes/snapshots/ana", "No files in …"),
        ("at C:\\Users\\ana\\t.csv now", "at … now"),
        ("see file:///etc/passwd", "see …"),
        ("a / b is no path, nor is 1/2/3 or x/y/z", "a / b is no path, nor is 1/2/3 or x/y/z"),
    ],
)
def test_paths_are_cut_out_of_messages(message: str, cleaned: str) -> None:
    assert without_paths_beside_sql(message) == cleaned


def test_long_messages_are_shortened_between_lines(bench: Workbench, dataset: Dataset) -> None:
    error = error_of(bench, "SELECT note + 1 FROM orders", dataset.views)
    assert len(error.message) <= duckdb_errors.MAX_MESSAGE_CHARS + 10
    assert "No function matches" in error.message
    assert "LINE 1: SELECT note + 1" in error.message
