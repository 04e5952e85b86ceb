"""Snapshots from a shell: listed, refreshed, pruned and dropped, and what they take on the disk."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Run
from support.agnes import parquet
from support.mirrored import TOKEN, mirrored

from agnes_mcp.cli.kept import age_in_words
from agnes_mcp.cli.output import cost_in_words, size_in_words

pytestmark = pytest.mark.usefixtures("shop")
LONG = "amount < 5 AND session_id LIKE 's%' AND padding LIKE 'xxx%'"


def keep(run: Run, name: str, *more: str) -> dict[str, Any]:
    ran = run("fetch", "sessions", "--as", name, "--no-estimate", "--json", "--force", *more)
    assert ran.code == 0, ran.err
    kept: dict[str, Any] = json.loads(ran.out)["snapshot"]
    return kept


def sidecar(home: Path, name: str) -> Path:
    (found,) = (home / "state" / "snapshots").glob(f"*/{name}.meta.json")
    return found


def test_they_are_listed_by_name_with_the_beginning_of_their_condition(run: Run, home: Path) -> None:
    for name in ("later", "early"):
        keep(run, name, "--where", LONG)
    heading, *lines = run("snapshot", "list").out.splitlines()
    assert heading.split("\t") == ["NAME", "ROWS", "SIZE", "AGE", "TABLE", "WHERE"]
    rows = [line.split("\t") for line in lines]
    assert [row[:2] + row[4:] for row in rows] == [
        [name, "5", "sessions", LONG[:40]] for name in ("early", "later")
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d+m", row[3]) and re.fullmatch(r"[\d.]+ KB", row[2]) for row in rows)
    listed = json.loads(run("snapshot", "list", "--json").out)["snapshots"]
    assert [(kept["name"], kept["where"]) for kept in listed] == [("early", LONG), ("later", LONG)]


def test_a_damaged_one_is_listed_as_that_and_leaves_the_others(run: Run, home: Path) -> None:
    for name in ("broken", "whole"):
        keep(run, name, "--limit", "2")
    sidecar(home, "broken").write_text("{half")
    ran = run("snapshot", "list")
    assert [line.split("\t")[0] for line in ran.out.splitlines()[1:]] == ["broken", "whole"]
    assert ran.out.splitlines()[1].split("\t")[3] == "?"
    assert "broken is damaged: its metadata is not JSON." in ran.err
    for arguments in (("refresh", "broken"), ("path", "broken")):
        ran = run("snapshot", *arguments)
        assert (ran.code, "cannot be used" in ran.err, "--force" in ran.err) == (5, True, True), ran
    assert "Damaged:" in run("snapshot", "show", "broken").out
    assert run("snapshot", "drop", "broken").out == "Dropped broken\n"


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(seconds=-90), "0m"),
        (timedelta(minutes=59, seconds=59), "59m"),
        (timedelta(hours=23, minutes=59), "23h"),
        (timedelta(days=3, hours=5), "3d"),
    ],
)
def test_an_age_is_in_its_largest_unit(ago: timedelta, said: str) -> None:
    assert age_in_words(datetime.now(UTC) - ago - timedelta(milliseconds=1)) == said
    assert age_in_words(None) == "?"


def test_lists_are_taken_as_people_type_them(run: Run) -> None:
    typed = ("--select", " session_id , , amount,", "--order-by", "amount DESC , session_id", "--limit", "2")
    keep(run, "few", *typed)
    assert run("query", "SELECT * FROM few").out.splitlines()[1:] == ["s4999\t4999", "s4998\t4998"]
    shown = json.loads(run("snapshot", "show", "few", "--json").out)
    assert shown["select"] == ["session_id", "amount"]
    assert [entry.lower() for entry in shown["order_by"]] == ["amount desc", "session_id"]


@pytest.mark.parametrize("more", [(), ("--no-estimate",), ("--force",), ("--json",)])
def test_only_the_price_is_only_the_price(run: Run, more: tuple[str, ...]) -> None:
    ran = run("fetch", "sessions", "--estimate", "--as", "never", *more)
    assert (ran.code, "scan_bytes" in ran.out or "Scans:" in ran.out) == (0, True)
    assert run("snapshot", "list").out == "(no snapshots)\n"


def test_a_price_that_is_not_known_is_never_shown_as_nothing() -> None:
    assert (size_in_words(None), cost_in_words(None, None), cost_in_words(1, None)) == ("not known",) * 3
    assert (size_in_words(0), cost_in_words(0, 0.0), cost_in_words(5, 0.0001)) == ("0 B", "$0.00", "under $0.01")
    assert [size_in_words(n) for n in (1023, 1024, 1536, 2**20, 5 * 2**30)] == [
        "1023 B", "1.0 KB", "1.5 KB", "1.0 MB", "5.0 GB"
    ]  # fmt: skip


def test_what_is_there_already_is_told_before_anything_is_asked_for(run: Run) -> None:
    first = keep(run, "kept", "--where", "amount < 9")
    before = json.loads(run("usage", "--json").out)["quota"]["daily_bytes_used"]
    ran = run("fetch", "sessions", "--as", "kept", "--limit", "3")
    assert (ran.code, "exists" in ran.err) == (6, True)
    assert json.loads(run("usage", "--json").out)["quota"]["daily_bytes_used"] == before
    again = keep(run, "kept", "--where", "amount < 4")
    assert (first["rows"], again["rows"]) == (9, 4)


def test_a_refresh_says_what_changed_and_keeps_another_condition(run: Run, shop: Path) -> None:
    keep(run, "kept", "--where", "amount < 9")
    out = run("snapshot", "refresh", "kept").out
    assert re.search(r"^Rows: +9 → 9 \(\+0\)$", out, re.MULTILINE)
    assert re.search(r"^identical: yes$", out, re.MULTILINE)
    assert re.search(r"^As of: .* UTC → .* UTC$", out, re.MULTILINE)
    out = run("snapshot", "refresh", "kept", "--where", "amount < 4").out
    assert re.search(r"^Rows: +9 → 4 \(-5\)$", out, re.MULTILINE)
    assert re.search(r"^identical: no$", out, re.MULTILINE)
    assert json.loads(run("snapshot", "show", "kept", "--json").out)["where"] == "amount < 4"
    assert run("snapshot", "refresh", "gone").code == 2
    assert run("snapshot", "refresh", "kept", "--where", "nope = 1").code == 2
    shop.write_text("".join(line for line in shop.read_text().splitlines(True) if "id: sessions" not in line))
    assert run("snapshot", "refresh", "kept").code == 8


def test_a_prune_says_what_it_would_do_and_does_it(run: Run) -> None:
    for name in ("one", "two"):
        keep(run, name, "--limit", "5")
    assert run("snapshot", "prune", "--older-than", "1m", "--larger-than", "1k").out == "(no matches)\n"
    assert run("snapshot", "prune", "--larger-than", "1g").out == "(no matches)\n"
    dry = run("snapshot", "prune", "--larger-than", "1k", "--dry-run").out
    assert [line.split(" (")[0] for line in dry.splitlines()] == ["Would drop one", "Would drop two"]
    assert len(run("snapshot", "list").out.splitlines()) == 3
    assert [line.split(" (")[0] for line in run("snapshot", "prune", "--larger-than", "1k").out.splitlines()] == [
        "Dropped one", "Dropped two"
    ]  # fmt: skip
    for arguments in ((), ("--older-than", "x"), ("--older-than", ""), ("--larger-than", "zz"), ("--larger-than", "0")):
        assert run("snapshot", "prune", *arguments).code == 2


@pytest.mark.parametrize("name", ["gone", "../few", "few.meta", "Few", "few\n", ""])
def test_only_a_name_is_dropped(run: Run, name: str) -> None:
    keep(run, "few", "--limit", "1")
    ran = run("snapshot", "drop", name)
    assert (ran.code, ran.out) == (2, "")
    assert len(run("snapshot", "list").out.splitlines()) == 2


def test_the_disk_is_told_before_there_is_a_snapshot_and_with_one(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_SNAPSHOTS__QUOTA_GB", "3")
    out = run("disk-info").out
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "Snapshots dir", "Used by Agnes", "Free disk", "Configured cap", "Retention"
    ]  # fmt: skip
    assert re.search(r"^Used by Agnes: +0 B across 0 snapshots$", out, re.MULTILINE)
    assert re.search(r"^Configured cap: 3 GB$", out, re.MULTILINE)
    empty = json.loads(run("disk-info", "--json").out)
    assert (empty["free_bytes"] > 0, empty["quota_gb"]) == (True, 3)
    assert {"snapshots_dir", "used_bytes", "snapshot_count"} <= set(empty)
    keep(run, "few", "--limit", "1")
    folder = home / "state" / "snapshots"
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = json.loads(run("disk-info", "--json").out)
    assert (told["used_bytes"], told["snapshot_count"]) == (used, 1)
    monkeypatch.setenv("AGNES_SNAPSHOTS__QUOTA_GB", "ten")
    assert (run("disk-info").code, "quota_gb" in run("disk-info").err) == (2, True)


def test_a_data_directory_that_moves_keeps_its_snapshots(run: Run, shop: Path, home: Path) -> None:
    keep(run, "few", "--limit", "3")
    (home / "state").rename(home / "elsewhere")
    shop.write_text(shop.read_text().replace("./state", "./elsewhere"))
    assert run("query", "SELECT count(*) AS n FROM few").out.splitlines() == ["n", "3"]


def test_a_sync_leaves_snapshots_as_they_are(run: Run, shop: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(run, "few", "--limit", "3")
    before = {path: path.read_bytes() for path in (home / "state" / "snapshots").rglob("*") if path.is_file()}
    monkeypatch.setenv("AGNES_TOKEN", TOKEN)
    with mirrored() as server:
        for select in ("SELECT 1 AS id", "SELECT 2 AS id"):
            server.tables["visits"] = parquet(home / "visits.parquet", select).read_bytes()
            assert run("sync", "--from", server.url).code == 0
    assert {path: path.read_bytes() for path in (home / "state" / "snapshots").rglob("*") if path.is_file()} == before
    assert run("query", "SELECT count(*) AS n FROM few").out.splitlines() == ["n", "3"]


def test_a_description_is_a_schema_and_a_sample(run: Run) -> None:
    answer = json.loads(run("describe", "orders", "--json").out)
    assert (set(answer), len(answer["sample"]["rows"])) == ({"schema", "sample"}, 5)
    assert len(json.loads(run("describe", "orders", "--rows", "2", "--json").out)["sample"]["rows"]) == 2
    assert answer["schema"] == json.loads(run("schema", "orders", "--json").out)
    for command in ("describe", "schema", "sample"):
        assert run(command, "gone").code == 8
