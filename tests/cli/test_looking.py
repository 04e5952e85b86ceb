"""What a person reads is what the tool answers: the same tables, columns, rows and figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli.conftest import Run
from support.metadata_server import closed_port

from agnes_mcp.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("shop")


def test_the_catalog_is_a_table_and_its_json_the_tools_answer(run: Run) -> None:
    lines = run("catalog").out.splitlines()
    assert lines[0].split("\t") == ["ID", "SOURCE", "MODE", "FLAVOR", "ROWS", "SIZE", "NAME"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["orders", "people", "sessions"]
    answer = json.loads(run("catalog", "--json").out)
    assert [table["id"] for table in answer["tables"]] == ["orders", "people", "sessions"]
    assert [
        table["id"] for table in json.loads(run("catalog", "--source-type", "bigquery", "--json").out)["tables"]
    ] == ["sessions"]
    page = run("catalog", "--limit", "1")
    assert "--cursor" in page.err
    assert run("catalog", "nothing-like-it").out == "(no tables)\n"


def test_a_schema_shows_columns_and_sizes(run: Run) -> None:
    out = run("schema", "orders").out
    assert "order_id\tBIGINT\tNULLABLE\t" in out
    assert "visit.channel\tVARCHAR" in out
    assert "Rows:" in out
    assert json.loads(run("schema", "orders", "--json").out)["table_id"] == "orders"
    assert "1,000" in out


def test_rows_are_on_standard_output_and_words_beside_it(run: Run) -> None:
    ran = run("sample", "orders", "-n", "3", "--select", "order_id,country")
    assert ran.out.splitlines()[0] == "order_id\tcountry"
    assert len(ran.out.splitlines()) == 4
    assert "3 rows" in ran.err
    answer = json.loads(run("describe", "orders", "-n", "2", "--profile", "--json").out)
    assert set(answer) == {"schema", "sample", "profile"}
    assert "DISTINCT" in run("describe", "orders", "--profile").out


def test_usage_is_in_words(run: Run) -> None:
    out = run("usage").out
    assert "50.0 GB" in out
    assert json.loads(run("usage", "--json").out)["tables_visible"] == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("schema", "gone"), 8),
        (("sample", "gone"), 8),
        (("sample", "orders", "--select", "nope"), 2),
        (("catalog", "--source-type", "x"), 2),
        (("catalog", "--cursor", "x"), 2),
        (("sample", "orders", "-n", "0"), 2),
        (("nothing",), 2),
    ],
)
def test_what_cannot_be_is_one_line_and_a_code(run: Run, arguments: tuple[str, ...], code: int) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (code, "")
    if arguments[0] != "nothing" and "0" not in arguments:
        assert ran.err.startswith("Error: ")
        assert " Hint: " in ran.err
        assert ran.err.count("\n") == 1


def test_a_file_that_is_not_there_is_told(run: Run) -> None:
    ran = run("catalog", "-c", "gone.yaml")
    assert (ran.code, "no file" in ran.err) == (2, True)


def test_a_cell_cannot_move_the_cursor(run: Run, home: Path) -> None:
    (home / "evil.csv").write_text('a\n"x\x1b[2Jy\nz"\n')
    (home / "other.yaml").write_text("data_dir: ./state\ntables: [{id: evil, path: evil.csv}]\n")
    ran = run("sample", "evil", "-c", "other.yaml")
    assert "\x1b" not in ran.out
    assert len(ran.out.splitlines()) == 2


def test_one_of_something_is_not_several(run: Run, shop: Path, bq: StandIn) -> None:
    with closed_port() as port:
        shop.write_text(shop.read_text().replace(bq.api_endpoint, f"http://127.0.0.1:{port}"))
        asked = run("catalog", "sessions")
    assert (asked.code, "1 remote table " in asked.err, "1 remote tables" in asked.err) == (0, True, False), asked.err
    page = run("catalog", "--source-type", "bigquery", "--limit", "1")
    assert "1 tables" not in page.out + page.err
    assert re.search(r"of \d+ scans?\b", run("usage").out)
