"""Tables of an extract behind another extension, as a caller meets them; a DuckDB file stands for their source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from support.agnes import extract, parquet
from support.extension_double import COMMAND, FileStatements
from support.instances import ONE_PROCESS

from agnes_mcp.access.grants import os_user
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import Settings
from agnes_mcp.doctor import examine
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.sources.extensions.source import ExtensionSource
from agnes_mcp.sources.kinds import Makers
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse

pytestmark = pytest.mark.slow
ROWS = 20_000
ANA = Principal("ana@example.com")


@pytest.fixture
def open_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gateway]:
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_EXTENSIONS", "sqlite")
    folder = tmp_path / "agnes" / "extracts" / "crm"
    parquet(folder / "data" / "people.parquet", "SELECT 1 AS id, 'Ana' AS name")
    file = folder / "crm.db"
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"CREATE TABLE deals AS SELECT i AS id, 'deal ' || i AS title FROM range({ROWS}) t(i)")
        connection.execute("CREATE TABLE private AS SELECT 1 AS id")
    extract(
        folder,
        {"deals": "remote", "private": "remote"},
        f"ATTACH '{file}' AS sq (READ_ONLY)",
        "CREATE VIEW deals AS SELECT * FROM sq.main.deals",
        "CREATE VIEW private AS SELECT * FROM sq.private",
        attach=("sq", "sqlite", "crm.db", ""),
    )

    def make(fault: str = "") -> Gateway:
        def makers(settings: Settings, warehouse: Warehouse, processes: Processes) -> Makers:
            statements = FileStatements(fault)
            return {
                "local": lambda: LocalSource(warehouse, processes),
                "attached": lambda: ExtensionSource(
                    memory_bytes=2**30, threads=2, statements=statements, command=COMMAND
                ),
            }

        settings = Settings.model_validate(
            {
                "data_dir": str(tmp_path / "data"),
                "data_source": {"agnes": {"data_dir": str(tmp_path / "agnes")}},
                "snapshots": {"min_free_gb": 0},
                "engine": ONE_PROCESS,
                "access": {
                    "users": [{"name": ANA.name, "token_sha256": "0" * 64, "tables": ["deals"], "max_concurrent": 1}]
                },
            }
        )
        return Gateway(settings, makers)

    return make


async def test_it_is_described_scanned_and_fetched_like_any_other(
    open_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    async with open_gateway() as gateway:
        listed = {entry.id: entry for entry in (await gateway.catalog.browse(os_user())).tables}
        assert set(listed) == {"deals", "private", "people"}
        assert (await gateway.usage.today(ANA)).attached == {"sq": {"state": "not used yet"}}
        assert (listed["deals"].source_type, listed["deals"].query_mode) == ("attached", "remote")
        schema = await gateway.catalog.columns(ANA, "deals")
        assert [(c.name, c.type) for c in schema.columns] == [("id", "BIGINT"), ("title", "VARCHAR")]
        assert schema.sql_flavor == "duckdb"
        scanned = await gateway.scans.scan(ANA, ScanRequest(table_id="deals", where="id % 2 = 0", limit=3))
        assert [row[0] for row in scanned.rows] == [0, 2, 4]
        assert scanned.more_rows
        fetched = await gateway.fetches.fetch(ANA, ScanRequest(table_id="deals"), name="all_deals")
        assert fetched.snapshot is not None
        assert (fetched.snapshot.rows, fetched.bytes_billed) == (ROWS, 0)
        found = await gateway.queries.query(ANA, "SELECT count(*) FROM all_deals")
        assert [int(value) for value in found.rows[0]] == [ROWS]
        with pytest.raises(AgnesError, match="remote"):
            await gateway.queries.query(ANA, "SELECT count(*) FROM deals")
        with pytest.raises(AgnesError) as caught:
            await gateway.scans.scan(ANA, ScanRequest(table_id="private"))
        assert caught.value.kind == "table_not_found"
        used = await gateway.usage.today(ANA)
        assert (used.quota.running_scans, used.attached) == (0, {"sq": {"state": "attached"}})
        assert (await gateway.usage.today(Principal("nobody"))).attached == {}
    (audit,) = (tmp_path / "data" / "audit").glob("*.jsonl")
    lines = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    assert [(line["tool"], line["status"]) for line in lines if line.get("table_id") == "deals"][1:] == [
        ("scan", "truncated"), ("fetch", "ok"),
    ]  # fmt: skip


async def test_where_the_extension_is_not_to_be_had_the_table_says_so_and_the_rest_is_served(
    open_gateway: Callable[..., Gateway],
) -> None:
    async with open_gateway("load:raise") as gateway:
        with pytest.raises(AgnesError, match="DuckDB's extension 'sqlite' is not to be had here") as caught:
            await gateway.catalog.columns(os_user(), "deals")
        assert "sqlite.duckdb_extension" in caught.value.hint
        listed = {entry.id: entry for entry in (await gateway.catalog.browse(os_user())).tables}
        assert listed["deals"].fetch_via.startswith("not readable now: DuckDB's extension 'sqlite'")
        assert "have its extractor write Parquet" in listed["deals"].fetch_via
        people = await gateway.scans.scan(os_user(), ScanRequest(table_id="people"))
        assert people.rows == [[1, "Ana"]]
        findings = {f.subject: f for f in await examine(gateway)}
        assert findings["table deals"].state == "fail"
        assert "not to be had here" in findings["table deals"].found
        assert "sqlite.duckdb_extension" in findings["table deals"].cure
