"""Prices and rows at a terminal and in a pipe; rows as files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import pytest
from cli.conftest import Run

pytestmark = pytest.mark.usefixtures("shop")


def rows_of(file: Path) -> list[tuple[object, ...]]:
    return duckdb.sql(f"SELECT * FROM '{file}' ORDER BY 1").fetchall()


def test_an_estimate_is_in_words(run: Run) -> None:
    out = run("estimate", "sessions", "--select", "amount").out
    assert "Scans:" in out
    assert "Verdict:" in out
    answer = json.loads(run("estimate", "sessions", "--select", "amount", "--json").out)
    assert answer["estimated_scan_bytes"] > 0


def test_a_scan_of_both_kinds(run: Run) -> None:
    ran = run("scan", "orders", "--group-by", "country", "--aggregate", "count", "--order-by", "country")
    assert len(ran.out.splitlines()) == 4
    ran = run("scan", "sessions", "--select", "session_id,amount", "--where", "amount < 3", "--json")
    answer = json.loads(ran.out)
    assert (answer["row_count"], answer["bytes_billed"] > 0) == (3, True)
    assert "billed" in run("scan", "sessions", "--aggregate", "sum:amount:total", "--yes").err


def test_rows_beyond_an_agents_answer_are_all_there(run: Run) -> None:
    ran = run("scan", "sessions", "--limit", "3000")
    assert len(ran.out.splitlines()) == 3001
    assert len(run("query", "SELECT * FROM orders", "--limit", "1000").out.splitlines()) == 1001
    assert json.loads(run("scan", "sessions", "--limit", "3000", "--json").out)["truncated"] is True


def test_rows_become_files_with_their_types(run: Run, home: Path) -> None:
    assert run("scan", "sessions", "--limit", "50000", "--csv", "s.csv").code == 0
    assert len((home / "s.csv").read_text().splitlines()) == 5001
    assert run("scan", "sessions", "--select", "amount", "--parquet", "s.parquet", "--limit", "9").code == 0
    assert duckdb.sql("DESCRIBE SELECT * FROM 's.parquet'").fetchall()[0][1] == "BIGINT"
    sql = "SELECT order_id, amount, day, country FROM orders ORDER BY 1"
    assert run("query", sql, "--parquet", "q.parquet").code == 0
    kinds = [row[1] for row in duckdb.sql("DESCRIBE SELECT * FROM 'q.parquet'").fetchall()]
    assert kinds == ["BIGINT", "DECIMAL(12,2)", "DATE", "VARCHAR"]
    assert rows_of(home / "q.parquet")[2][3] is None
    assert run("snapshot", "list").out == "(no snapshots)\n"
    assert sorted(path.name for path in home.iterdir() if path.name.startswith((".", "s.", "q."))) == [
        "q.parquet",
        "s.csv",
        "s.parquet",
    ]


def test_sql_comes_from_standard_input_and_files(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "q.sql").write_text("SELECT count(*) AS n FROM orders")
    assert run("query", "@q.sql").out.splitlines() == ["n", "1000"]
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT count(*) AS n FROM people"))
    assert run("query", "-").out.splitlines() == ["n", "50"]
    (home / "w.txt").write_text("order_id < 2\n")
    assert json.loads(run("scan", "orders", "--where", "@w.txt", "--json").out)["row_count"] == 2
    assert run("query", "@gone.sql").code == 2


def test_a_fetch_shows_its_price_and_keeps_the_rows(run: Run) -> None:
    ran = run("fetch", "sessions", "--select", "amount", "--where", "amount < 9", "--as", "few")
    assert (ran.code, "Scans " in ran.err, "few" in ran.out) == (0, True, True)
    assert "Scans:" in run("fetch", "sessions", "--estimate").out
    assert run("query", "SELECT count(*) FROM few").out.splitlines()[1] == "9"
    listed = run("snapshot", "list").out.splitlines()
    assert listed[0].split("\t") == ["NAME", "ROWS", "SIZE", "AGE", "TABLE", "WHERE"]
    assert listed[1].split("\t")[0] == "few"
    assert "Complete:" in run("snapshot", "show", "few").out
    refreshed = run("snapshot", "refresh", "few")
    assert "9 → 9 (+0)" in refreshed.out
    assert "identical" in refreshed.out
    assert "yes" in refreshed.out
    assert json.loads(run("snapshot", "refresh", "few", "--where", "amount < 4", "--json").out)["rows_new"] == 4


def test_a_snapshot_is_found_copied_and_dropped(run: Run, home: Path) -> None:
    run("fetch", "sessions", "--where", "amount < 9", "--as", "few", "--no-estimate")
    path = Path(run("snapshot", "path", "few").out.strip())
    assert len(rows_of(path)) == 9
    assert run("snapshot", "export", "few", "--csv", "few.csv").code == 0
    assert len((home / "few.csv").read_text().splitlines()) == 10
    assert run("snapshot", "export", "few").code == 2
    assert run("snapshot", "prune", "--older-than", "1d").out == "(no matches)\n"
    assert run("snapshot", "prune").code == 2
    assert run("snapshot", "prune", "--larger-than", "1k", "--dry-run").out.startswith("Would drop few")
    assert "across 1 snapshot\n" in run("disk-info").out
    shown = run("disk-info").out.splitlines()[0].partition(":")[2].strip()
    assert Path(shown).is_dir()
    assert json.loads(run("disk-info", "--json").out)["snapshot_count"] == 1
    assert run("snapshot", "drop", "few").out == "Dropped few\n"
    assert run("snapshot", "drop", "few").code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("scan", "orders", "--where", "1=1; DROP TABLE x"), 2),
        (("scan", "orders", "--aggregate", "median:amount"), 2),
        (("scan", "orders", "--csv", "a", "--parquet", "b"), 2),
        (("scan", "orders", "--csv", "nowhere/a.csv"), 2),
        (("query", "SELECT * FROM gone"), 8),
        (("query", "COPY orders TO 'x'"), 2),
        (("scan", "gone"), 8),
        (("snapshot", "show", "gone"), 2),
        (("snapshot", "path", "gone"), 2),
    ],
)
def test_what_cannot_be_is_one_line_and_a_code(run: Run, arguments: tuple[str, ...], code: int) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("Error: ")
    assert " Hint: " in ran.err
    assert ran.err.count("\n") == 1


def test_sql_over_remote_tables(run: Run, home: Path) -> None:
    sql = "SELECT count(*) AS n FROM sessions WHERE amount < 7"
    assert run("scan", "--sql", sql).out.splitlines() == ["n", "7"]
    (home / "q.sql").write_text(sql)
    assert json.loads(run("estimate", "--sql", "@q.sql", "--json").out)["verdict"] == "ok"
    assert run("scan", "sessions", "--sql", sql).code == 2
    assert run("scan").code == 2


def test_paths_know_home_and_variables(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", str(home / "elsewhere"))
    (home / "elsewhere").mkdir()
    (home / "instance.yaml").rename(home / "elsewhere" / "my.yaml")
    for name in ("orders.parquet", "people.parquet"):
        (home / name).rename(home / "elsewhere" / name)
    assert run("query", "SELECT 1 AS one", "-c", "$PLACE/my.yaml", "--csv", "${PLACE}/one.csv").code == 0
    assert (home / "elsewhere" / "one.csv").read_text() == "one\n1\n"
    monkeypatch.setenv("AGNES_CONFIG", "~/elsewhere/my.yaml")
    monkeypatch.setenv("AGNES_DATA_DIR", "$PLACE/other")
    assert run("query", "SELECT 1").code == 0
    assert (home / "elsewhere" / "other" / "audit").is_dir()


def test_the_audit_names_what_a_query_read(run: Run, home: Path) -> None:
    run("query", "SELECT * FROM orders JOIN people ON order_id = person_id LIMIT 1")
    line = json.loads((home / "state" / "audit" / "audit.jsonl").read_text().splitlines()[-1])
    assert (line["tool"], sorted(line["tables"]), line["client"]) == ("query", ["orders", "people"], None)
