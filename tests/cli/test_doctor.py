"""`agnes-mcp doctor` through the real console script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from support.instances import table, write

from agnes_mcp.doctor import _clock
from agnes_mcp.stand_in import StandIn


def run_doctor(
    folder: Path, tables: list[dict[str, object]], *, metadata: str = "127.0.0.1:9", **more: object
) -> subprocess.CompletedProcess[str]:
    """`metadata` is the metadata server's address; "" for none, so that a stand-in is asked without credentials."""
    config = folder / "instance.yaml"
    config.write_text(yaml.safe_dump({"data_dir": "data", "tables": tables, **more}))
    script = Path(sysconfig.get_path("scripts")) / "agnes-mcp"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AGNES_", "GOOGLE_", "GCE_"))}
    environment |= {"CLOUDSDK_CONFIG": str(folder / "no-gcloud"), **({"GCE_METADATA_IP": metadata} if metadata else {})}
    return subprocess.run(
        [str(script), "doctor", "--config", str(config)], env=environment, capture_output=True, text=True, timeout=100
    )


def test_a_sound_instance_is_found_sound(tmp_path: Path) -> None:
    path = write(tmp_path, "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    found = run_doctor(tmp_path, [table("orders", path)])
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok     table orders: 1 column, 5 rows" in found.stdout
    assert "ok     query workers: answer" in found.stdout
    assert not list((tmp_path / "data").glob("snapshots/*"))


def test_what_is_hidden_in_a_files_name_is_shown(tmp_path: Path) -> None:
    """A name that would turn a line around, or clear the screen, is written with its characters' numbers."""
    found = run_doctor(tmp_path, [table("gone", tmp_path / "si\u202elver\u200b.parquet")])
    assert found.returncode == 5
    assert "si<U+202E>lver<U+200B>.parquet" in found.stdout
    script = Path(sysconfig.get_path("scripts")) / "agnes-mcp"
    command = [str(script), "query", "SELECT 1", "one\u202e\x1b[31mtoo many"]
    misused = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert misused.returncode == 2
    assert "(one<U+202E>" in misused.stderr
    assert not set("\u202e\x1b") & set(misused.stderr)


def test_what_cannot_be_served_is_named_with_the_next_step(tmp_path: Path) -> None:
    """A damaged file and a BigQuery that cannot be reached; the rest is still examined."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not a table PAR1")
    remote: dict[str, object] = {"id": "sessions", "source_type": "bigquery", "bucket": "my_dataset"}
    bigquery = {"project": "my-project", "api_endpoint": "http://127.0.0.1:9", "auth": "metadata"}
    found = run_doctor(
        tmp_path, [table("broken", tmp_path / "broken.parquet"), remote], data_source={"bigquery": bigquery}
    )
    assert found.returncode == 5
    assert (
        "FAILED table broken: its file is damaged, or not what its name says (broken.parquet). Correct" in found.stdout
    )
    assert "FAILED table sessions: " in found.stdout
    assert "FAILED BigQuery" in found.stdout
    assert "scopes as configured, not asked of Google: cloud-platform" in found.stdout.replace("\n", " ")
    assert "DuckDB's bigquery extension: off: No BigQuery access token" in found.stdout
    assert "ok     query workers" in found.stdout
    assert str(tmp_path) not in found.stdout


def test_a_dataset_that_cannot_be_listed_fails_and_hides_no_other(tmp_path: Path) -> None:
    with StandIn() as bq:
        bq.create_table("my_dataset", "orders", schema="id INT64", rows=[])
        bq.create_dataset("closed", forbidden=True)
        endpoints = {"api_endpoint": bq.api_endpoint, "storage_endpoint": f"grpc://{bq.grpc_target}"}
        bigquery = {"project": "my-project", "datasets": ["misspelt", "closed", "my_dataset"], **endpoints}
        found = run_doctor(tmp_path, [], metadata="", data_source={"bigquery": bigquery})
    assert found.returncode == 5
    assert "FAILED dataset misspelt: " in found.stdout
    assert "FAILED dataset closed: " in found.stdout
    assert "ok     dataset my_dataset: 1 table;" in found.stdout


def test_an_id_that_was_pointed_elsewhere_is_said(tmp_path: Path) -> None:
    with StandIn() as bq:
        for name in ("orders", "others"):
            bq.create_table("my_dataset", name, schema="id INT64", rows=[])
        endpoints = {"api_endpoint": bq.api_endpoint, "storage_endpoint": f"grpc://{bq.grpc_target}"}
        bigquery = {"project": "my-project", **endpoints}

        def look(name: str) -> subprocess.CompletedProcess[str]:
            entry: dict[str, object] = {
                "id": "mine",
                "source_type": "bigquery",
                "bucket": "my_dataset",
                "source_table": name,
            }
            return run_doctor(tmp_path, [entry], metadata="", data_source={"bigquery": bigquery})

        before, moved, again = (look(name) for name in ("orders", "others", "others"))
    said = "id mine: meant my-project.my_dataset.orders before, and means my-project.my_dataset.others now"
    assert [said in found.stdout for found in (before, moved, again)] == [False, True, True]
    assert "meant" not in before.stdout
    assert moved.returncode == before.returncode


def test_each_kind_of_broken_table_is_a_line_in_the_keepers_words(tmp_path: Path) -> None:
    """What is wrong, which file, and what to do; nothing that is meant for callers, and nothing of Python."""
    whole = write(tmp_path, "whole.parquet", "SELECT i AS id FROM range(5000) AS r(i)")
    (tmp_path / "half.parquet").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "text.parquet").write_text("not a table")
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n4,5,6\n")
    (tmp_path / "types.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.json").write_text('{"a": ')
    (tmp_path / "link.parquet").symlink_to(tmp_path / "nowhere.parquet")
    (tmp_path / "folder").mkdir()
    with duckdb.connect(str(tmp_path / "some.duckdb")) as connection:
        connection.execute("CREATE TABLE there AS SELECT 1 AS id")
    expected = {
        "missing.parquet": "its files are missing",
        "none_*.parquet": "its files are missing",
        "link.parquet": "its files are missing",
        "folder": "its files are missing",
        "half.parquet": "its file is damaged",
        "text.parquet": "its file is text, not Parquet",
        "empty.parquet": "its file is empty, not Parquet",
        "empty.csv": "its file is empty",
        "ragged.csv": "its first 3 lines do not have the same number of fields",
        "types.csv": "`csv.types` names a type that DuckDB does not have",
        "bad.json": "it is not well-formed JSON",
        "some.duckdb": "its DuckDB file has no table of that name",
    }
    more: dict[str, dict[str, Any]] = {
        "types.csv": {"csv": {"types": {"a": "NOTATYPE"}}},
        "some.duckdb": {"source_table": "gone"},
    }
    tables = [table(f"t{number}", tmp_path / name, **more.get(name, {})) for number, name in enumerate(expected)]
    found = run_doctor(tmp_path, tables)
    assert found.returncode == 5
    lines = dict(line.split(": ", 1) for line in found.stdout.splitlines() if line.startswith("FAILED table"))
    for number, (name, reason) in enumerate(expected.items()):
        line = lines[f"FAILED table t{number}"]
        assert line.startswith(reason), line
        assert f"({name}). " in line
        assert not re.search(r"\.\.|whoever keeps|Other tables|table_unavailable|Exception|Traceback", line), line
    assert len(lines) == len(expected)


def test_grants_on_what_is_not_there_are_lines_and_json_has_them(tmp_path: Path) -> None:
    path = write(tmp_path, "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    user = {"name": "ana", "token_sha256": "0" * 64, "tables": ["orders", "ordres"]}
    told = run_doctor(tmp_path, [table("orders", path)], access={"users": [user]})
    assert any("ordres" in line and not line.startswith("ok") for line in told.stdout.splitlines()), told.stdout
    script = Path(sysconfig.get_path("scripts")) / "agnes-mcp"
    asked = [str(script), "doctor", "--config", str(tmp_path / "instance.yaml"), "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AGNES_", "GOOGLE_", "GCE_"))}
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=100)
    assert "ordres" in json.dumps(json.loads(found.stdout))
    assert found.returncode == told.returncode


@pytest.mark.parametrize(("behind", "state"), [(timedelta(hours=3), "fail"), (timedelta(), "pass")])
def test_a_clock_that_is_not_bigquerys_is_told(behind: timedelta, state: str) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", format_datetime(datetime.now(UTC) - behind, usegmt=True))
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = _clock(f"http://127.0.0.1:{server.server_address[1]}/")
        finally:
            server.shutdown()
            thread.join()
    assert (found.state, bool(found.cure)) == (state, state == "fail")
    assert ("seconds from BigQuery's" in found.found) == (state == "fail")
