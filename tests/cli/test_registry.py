"""Tables come and go in instance.yaml, and what is written there can be served."""

from __future__ import annotations

import json
from pathlib import Path

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
