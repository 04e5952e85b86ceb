"""What `init` writes can be served as it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from cli.conftest import Run
from support.agnes import parquet

from agnes_mcp.config.loading import load_settings
from agnes_mcp.config.settings import TableSettings


@pytest.fixture
def files(home: Path) -> Path:
    folder = home / "my files"
    parquet(folder / "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    for part in ("2026-01", "2026-02"):
        parquet(folder / f"visits_{part}.parquet")
    for day in (1, 2):
        parquet(folder / "events" / f"day={day}" / "a.parquet")
    (folder / "prices.csv").write_text("id,price\n1,2.5\n2,NA\n3,-\n")
    (folder / "latin.csv").write_bytes("id;město\n1;Brno-střed\n".encode("latin-1", "replace"))
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE people AS SELECT 1 AS id; CREATE VIEW v AS SELECT id FROM people")
        connection.execute("CREATE VIEW of_files AS SELECT * FROM glob('/*')")
    (folder / ".hidden.parquet").write_bytes(b"")
    (folder / "broken.parquet").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("not a table")
    return folder


def tables_of(home: Path) -> dict[str, TableSettings]:
    return {table.id: table for table in load_settings(home / "instance.yaml").tables}


def test_a_folder_becomes_tables(run: Run, home: Path, files: Path) -> None:
    ran = run("init", files)
    assert (ran.code, "instance.yaml" in ran.err) == (0, True)
    tables = tables_of(home)
    assert {name: Path(table.path).relative_to(files).as_posix() for name, table in tables.items()} == {
        "orders": "orders.parquet",
        "visits": "visits*.parquet",
        "events": "events",
        "prices": "prices.csv",
        "latin": "latin.csv",
        "people": "shop.duckdb",
        "v": "shop.duckdb",
    }
    assert "Left out: my files/broken.parquet: its file is text, not Parquet." in ran.err
    assert tables["people"].source_table == "people"
    assert tables["prices"].csv is not None
    assert tables["prices"].csv.null_values == ["NA", "-"]
    text = (home / "instance.yaml").read_text()
    assert "# what one row is; 5 rows of id" in text
    assert text.count("\n#") > 3


def test_an_awkward_folder_becomes_an_instance_that_serves(run: Run, home: Path) -> None:
    folder = home / "Data a soubory"
    parquet(folder / "Česká složka" / "rok=2024" / "měsíc=1" / "x.parquet", "SELECT 1 AS id")
    parquet(folder / "Česká složka" / "rok=2025" / "měsíc=2" / "y.parquet", "SELECT 2 AS id")
    parquet(folder / "žluťoučký kůň (kopie).parquet")
    parquet(folder / "売上.parquet")
    (folder / "ragged.csv").write_text("a,b\n1,2\n3\n4,5,6\n")
    (folder / "empty.csv").touch()
    (folder / "wide.csv").write_bytes("id;jméno\n1;Jiří\n2;Šárka\n".encode("utf-16"))
    (folder / "gone.parquet").symlink_to(folder / "nowhere.parquet")
    for number in range(300):
        (folder / f"log_{number:03}.csv").write_text(f"id,n\n{number},1\n")
    ran = run("init", folder)
    assert ran.code == 0
    tables = tables_of(home)
    assert sorted(tables) == ["ceska_slozka", "log", "maishang", "wide", "zlutoucky_kun_kopie"]
    assert {line.split(": ")[1].rpartition("/")[2] for line in ran.err.splitlines() if line.startswith("Left out")} == {
        "ragged.csv",
        "empty.csv",
        "gone.parquet",
    }
    assert "instance.yaml serves 5 tables." in ran.err
    checked = run("doctor", "--config", home / "instance.yaml")
    assert (checked.code, "FAILED" in checked.out) == (0, False), checked.out
    assert "table ceska_slozka: 3 columns, 2 rows" in checked.out


def test_ids_that_yaml_takes_for_something_else_stay_ids(run: Run, home: Path) -> None:
    names = ["no", "Null", "TRUE", "1e5", "0x1F", "12_30_45", "2024-01-31", "(1)", "~", "plain"]
    for name in names:
        (home / "files").mkdir(exist_ok=True)
        (home / "files" / f"{name}.csv").write_text("a,b\n1,2\n")
    assert run("init", "files").code == 0
    ids = sorted(tables_of(home))
    assert len(ids) == len(names)
    assert {"no", "null", "true", "1e5", "0x1f", "12_30_45", "2024_01_31", "1", "plain"} < set(ids)
    for table_id in ids:
        assert run("table", "remove", table_id).code == 0
    assert run("table", "list").out == "(no tables)\n"


def test_a_damaged_file_is_called_damaged(run: Run, home: Path) -> None:
    parquet(home / "files" / "whole.parquet")
    whole = (home / "files" / "whole.parquet").read_bytes()
    for name, content in {"cut": whole[:-9], "small": b"PAR1xxxx", "footer": b"PAR1" + bytes(50) + b"PAR1"}.items():
        (home / "files" / f"{name}.parquet").write_bytes(content)
    lines = [line for line in run("init", "files").err.splitlines() if line.startswith("Left out")]
    assert len(lines) == 3
    assert all("damaged" in line for line in lines), lines


def test_a_project_without_datasets_serves_nothing_yet(run: Run, home: Path) -> None:
    assert "serves no table yet: name datasets" in run("init", "--project", "my-project").err
    parquet(home / "files" / "t.parquet")
    both = run("init", "files", "--project", "my-project", "--dataset", "my_dataset", "-o", "my file.yaml")
    assert "my file.yaml serves 1 table and the dataset my_dataset." in both.err
    assert "doctor -c 'my file.yaml'" in both.err


def test_a_project_becomes_datasets(run: Run, home: Path) -> None:
    ran = run("init", "--project", "my-project", "--dataset", "my_dataset", "--dataset", "other", "-o", "instance.yaml")
    assert ran.code == 0
    bigquery = load_settings(home / "instance.yaml").data_source.bigquery
    assert bigquery is not None
    assert (bigquery.project, bigquery.datasets, bigquery.billing_project) == (
        "my-project",
        ["my_dataset", "other"],
        None,
    )


def test_a_file_that_is_there_stays(run: Run, home: Path) -> None:
    (home / "instance.yaml").write_text("# mine\n")
    ran = run("init", "--project", "my-project")
    assert (ran.code, (home / "instance.yaml").read_text()) == (6, "# mine\n")
    assert run("init", "--project", "my-project", "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to begin with"),
        (("gone",), "no folder"),
        ((".",), "no file that can be a table"),
        (("--project", "My Project"), "as in `my-project`"),
        (("--project", "my-project", "--dataset", "a-b"), "as in `my_dataset`"),
    ],
)
def test_what_cannot_be_served_is_not_written(run: Run, home: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = run("init", *arguments)
    assert (ran.code, said in ran.err) == (2, True)
    assert list(home.iterdir()) == []
