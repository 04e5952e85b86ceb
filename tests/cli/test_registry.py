"""Tables come and go in instance.yaml, and what is written there can be served."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from cli.conftest import Run
from support.agnes import parquet

from agnes_mcp.config.loading import load_settings

FILE = """\
# ours
data_dir: ./state
data_source:
  bigquery:
    project: my-project  # pays too
tables: []  # none yet
"""


@pytest.fixture
def instance(home: Path) -> Path:
    file = home / "instance.yaml"
    file.write_text(FILE)
    parquet(home / "files" / "orders.parquet")
    return file


def test_tables_of_both_kinds_are_added_listed_and_removed(run: Run, instance: Path) -> None:
    assert run("table", "add", "Web Sessions", "--dataset", "my_dataset", "--source-table", "sessions_v").code == 0
    added = run(
        "table", "add", "orders", "--path", "files/*.parquet", "--description", "An order", "--primary-key", "id"
    )
    assert added.code == 0
    tables = {table.id: table for table in load_settings(instance).tables}
    assert (tables["web_sessions"].name, tables["web_sessions"].source_table) == ("Web Sessions", "sessions_v")
    assert (tables["orders"].primary_key, tables["orders"].description) == (["id"], "An order")
    listed = json.loads(run("table", "list", "--json").out)
    assert [entry["id"] for entry in listed] == ["web_sessions", "orders"]
    assert "my_dataset.sessions_v" in run("table", "list").out
    assert run("table", "remove", "web_sessions").code == 0
    assert [table.id for table in load_settings(instance).tables] == ["orders"]
    assert "# pays too" in instance.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "orders"), "--path or --dataset"),
        (("add", "orders", "--path", "a", "--dataset", "b"), "not both"),
        (("add", "orders", "--path", "gone.parquet"), "matches no file"),
        (("add", "or-ders", "--path", "files/orders.parquet"), "as in `web_sessions`"),
        (("add", "orders", "--dataset", "my dataset"), "as in `my_dataset`"),
        (("remove", "orders"), "There is no table"),
    ],
)
def test_what_cannot_be_served_is_not_written(run: Run, instance: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = run("table", *arguments)
    assert (ran.code, said in ran.err) == (2, True)
    assert instance.read_text() == FILE


@pytest.mark.parametrize("name", ["no", "2024_01", "1e5", "null", "12_30"])
def test_what_yaml_takes_for_something_else_stays_text(run: Run, instance: Path, name: str) -> None:
    arguments = ("--path", "files/orders.parquet", "--description", "on", "--primary-key", "yes,1_0")
    assert run("table", "add", name, *arguments).code == 0
    (table,) = load_settings(instance).tables
    assert (table.id, table.description, table.primary_key) == (name, "on", ["yes", "1_0"])
    assert run("table", "add", name, *arguments).code == 2
    assert run("table", "remove", name).code == 0
    assert load_settings(instance).tables == []


@pytest.mark.parametrize("beside", ["", "  # beside"])
@pytest.mark.parametrize("below", ["", "# below\n\n# and more\n"])
def test_the_last_table_goes_and_the_comments_stay(run: Run, instance: Path, beside: str, below: str) -> None:
    before = f"# ours\ntables:{beside}\n  - id: orders\n    path: files/*.parquet\n{below}server: {{port: 9000}}\n"
    instance.write_text(before)
    assert run("table", "remove", "orders").code == 0
    assert load_settings(instance).tables == []
    left = f"# ours\ntables: []{beside}\n{below}server: {{port: 9000}}\n"
    assert instance.read_text().replace(" ", "") == left.replace(" ", "")
    assert run("table", "add", "orders", "--path", "files/*.parquet").code == 0
    assert [table.id for table in load_settings(instance).tables] == ["orders"]
    assert all(line in instance.read_text() for line in f"{beside}\n{below}".splitlines())


def test_an_id_is_added_once(run: Run, instance: Path) -> None:
    for code in (0, 2):
        assert run("table", "add", "orders", "--path", "files/orders.parquet").code == code


def test_bigquery_has_to_be_configured_first(run: Run, instance: Path) -> None:
    instance.write_text("data_dir: ./state\n")
    ran = run("table", "add", "orders", "--dataset", "my_dataset")
    assert (ran.code, "BigQuery is not configured" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", b"Remember the milk\nand the bread\n", "its name says no format"),
        ("notes.pdf", b"%PDF-1.7\n", "its file is PDF, not Parquet"),
        ("orders.parquet", b"id\n1\n", "its file is text, not Parquet"),
        ("orders.avro", b"Obj\x01\0\0", "not Parquet"),
        ("folder/readme.md", b"# ours\n", "its files are missing"),
    ],
)
def test_what_no_reader_serves_is_refused(run: Run, instance: Path, name: str, content: bytes, said: str) -> None:
    file = instance.parent / "data" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    ran = run("table", "add", "notes", "--path", "data/folder" if "/" in name else f"data/{name}")
    assert (ran.code, said in ran.err, "Served are" in ran.err) == (2, True, True), ran.err
    assert instance.read_text() == FILE


def test_a_text_is_taken_for_what_it_holds_and_said_so(run: Run, instance: Path) -> None:
    (instance.parent / "a.txt").write_text("id\tname\n1\tx\n2\ty\n")
    (instance.parent / "b.csv").write_bytes("name,n\nÅsa,1\n".encode("latin-1"))
    ran = run("table", "add", "a", "--path", "a.txt")
    assert (ran.code, "id, name; its name says no format, so it is taken for CSV" in ran.err) == (0, True), ran.err
    assert run("table", "add", "b", "--path", "b.csv").code == 0
    assert [table.csv and table.csv.encoding for table in load_settings(instance).tables] == [None, "latin-1"]


def test_a_database_has_the_table_that_is_added(run: Run, instance: Path) -> None:
    with duckdb.connect(str(instance.parent / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS id")
    ran = run("table", "add", "people", "--path", "shop.duckdb")
    assert (ran.code, "no table 'people', but orders" in ran.err) == (2, True), ran.err
    assert run("table", "add", "people", "--path", "shop.duckdb", "--source-table", "orders").code == 0
