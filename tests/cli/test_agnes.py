"""An Agnes directory from the command line: written, put together, described, mirrored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from cli.conftest import Run
from support.agnes import extract, parquet
from support.metadata_server import closed_port
from support.mirrored import TOKEN, Fault, MirroredServer, mirrored


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MirroredServer]:
    monkeypatch.setattr("agnes_mcp.extracts.transfer.PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr("agnes_mcp.extracts.mirroring.PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("AGNES_TOKEN", TOKEN)
    with mirrored() as server:
        for name in ("orders", "people"):
            server.tables[name] = parquet(tmp_path / "server" / f"{name}.parquet").read_bytes()
        server.remote = list("abcdefg")
        yield server


def mirror_of(server: MirroredServer, home: Path) -> Path:
    name = server.url.removeprefix("http://").replace(":", "_")
    return home / ".agnes" / "extracts" / name / "data"


def test_a_mirror_says_what_it_did(run: Run, home: Path, server: MirroredServer) -> None:
    ran = run("sync", "--from", server.url)
    assert ran.code == 0
    assert ran.err == (
        "Skipping 7 remote-mode tables: a, b, c, d, e (+2 more)\n"
        "To serve them from here, instance.yaml needs: data_source: {agnes: {data_dir: ~/.agnes}}\n"
    )
    assert ran.out.splitlines() == [
        "Downloaded: 2",
        "Skipped (unchanged): 0",
        "Skipped (remote-mode): 7",
        "Failed: 0",
    ]
    assert (mirror_of(server, home) / "orders.parquet").read_bytes() == server.tables["orders"]
    ran = run("sync", "--from", server.url, "--json")
    assert (ran.err, json.loads(ran.out)["skipped"]) == ("", ["orders", "people"])


def test_what_was_mirrored_is_served(run: Run, home: Path, server: MirroredServer) -> None:
    run("sync", "--from", server.url)
    (home / "instance.yaml").write_text("data_source: {agnes: {data_dir: .agnes}}\n")
    assert [table["id"] for table in json.loads(run("catalog", "--json").out)["tables"]] == ["orders", "people"]
    assert "To serve them" not in run("sync", "--from", server.url).err
    assert run("query", "SELECT count(*) AS n FROM orders").out == "n\n1\n"
    entries = json.loads(run("manifest", "--json").out)["tables"]
    assert entries["orders"]["hash"] == server.described()["tables"]["orders"]["hash"]
    assert "HASH" in run("manifest").out


def test_a_dry_run_and_another_folder(run: Run, home: Path, server: MirroredServer) -> None:
    assert "Would download: 2" in run("sync", "--from", server.url, "--dry-run").out
    assert not (home / ".agnes").exists()
    assert run("sync", "--from", server.url, "--into", "~/elsewhere").code == 0
    assert (home / "elsewhere" / "people.parquet").is_file()


def test_what_failed_is_told_and_exits_1(run: Run, home: Path, server: MirroredServer) -> None:
    server.faults["orders"] = [Fault(status=500)] * 3
    ran = run("sync", "--from", server.url)
    assert (ran.code, "orders: " in ran.err, "Failed: 1" in ran.out) == (1, True, True)
    ran = run("sync", "--from", server.url, "--json")
    assert (ran.code, json.loads(ran.out)["errors"]) == (0, [])


def test_no_manifest_exits_1_with_the_next_step(
    run: Run, server: MirroredServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        ran = run("sync", "--from", f"http://127.0.0.1:{port}")
    assert (ran.code, ran.err.count("\n"), " Hint: " in ran.err) == (1, 1, True)
    monkeypatch.setenv("OTHER_TOKEN", "agnes_wrong")
    ran = run("sync", "--from", server.url, "--token-env", "OTHER_TOKEN")
    assert (ran.code, "does not know this token" in ran.err, "agnes_wrong" in ran.err) == (1, True, False)
    assert run("sync", "--from", "http://data.example.com").code == 2


def test_a_variable_that_is_not_set_is_told_and_a_token_in_its_place_is_not_repeated(
    run: Run, server: MirroredServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("sync", "--from", server.url, "--token-env", TOKEN)
    assert (ran.code, "is not set" in ran.err, TOKEN in ran.err) == (2, True, False)
    monkeypatch.setenv("OTHER_TOKEN", "tökén")
    ran = run("sync", "--from", server.url, "--token-env", "OTHER_TOKEN")
    assert (ran.code, ran.err.count("\n"), "tök" in ran.err) == (2, 1, False)


def test_an_extract_without_the_extension_is_served_all_the_same(
    run: Run, home: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(home / "none.duckdb_extension"))
    ran = run("extract")
    assert (ran.code, ran.out) == (1, "1 table registered, 0 with a view\n")
    assert "INSTALL bigquery" in ran.err
    file = home / "state" / "extracts" / "bigquery" / "extract.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT table_name FROM _meta").fetchall() == [("sessions",)]
    served = (
        shop.read_text()
        .replace("tables:\n", "tables:\n", 1)
        .replace("data_source:\n", "data_source:\n  agnes: {data_dir: ./state}\n")
    )
    shop.write_text("".join(line for line in served.splitlines(True) if "id: sessions" not in line))
    assert "sessions\tbigquery\tremote" in run("catalog").out
    assert len(run("scan", "sessions", "--limit", "3").out.splitlines()) == 4


def test_an_extract_needs_a_project_and_tables(run: Run, home: Path, shop: Path) -> None:
    text = shop.read_text()
    shop.write_text("".join(line for line in text.splitlines(True) if "id: sessions" not in line))
    ran = run("extract")
    assert (ran.code, "Warning" in ran.err, (home / "state" / "extracts").exists()) == (0, True, False)
    shop.write_text("data_dir: ./state\n")
    ran = run("extract")
    assert (ran.code, "data_source.bigquery.project" in ran.err) == (2, True)


def test_an_extract_without_a_token_exits_7(run: Run, home: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write_text(shop.read_text().replace("project: my-project\n", "project: my-project\n    auth: metadata\n"))
    with closed_port() as port:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        ran = run("extract")
    assert (ran.code, "<auth>" in ran.err, (home / "state" / "extracts").exists()) == (7, True, False)


def test_extracts_are_put_together(run: Run, home: Path) -> None:
    (home / "instance.yaml").write_text("data_source: {agnes: {data_dir: ./shared}}\n")
    assert run("rebuild").out == "(no tables)\n"
    shop = home / "shared" / "extracts" / "shop"
    extract(shop, {"kept": "local"}, "CREATE TABLE kept AS SELECT 1 AS id")
    extract(home / "shared" / "extracts" / "zoo", {"own": "local"}, "CREATE TABLE own AS SELECT 1 AS id")
    ran = run("rebuild")
    assert (ran.code, ran.out.splitlines()[1:]) == (0, ["shop\t1\tkept", "zoo\t1\town"])
    assert json.loads(run("rebuild", "zoo", "--json").out)["sources"] == {"zoo": ["own"]}
    assert "no source 'nope' with tables; there are shop, zoo." in run("rebuild", "nope").err
    (shop / "extract.duckdb").write_bytes(b"nothing")
    ran = run("rebuild")
    assert (ran.code, ran.err.count("extract.duckdb is not served"), ran.err.count("\n")) == (1, 1, 1)
    assert (home / "shared" / "analytics" / "server.duckdb").is_file()
