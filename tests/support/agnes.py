"""Agnes directories as other programs leave them, and a DuckDB file in the place of BigQuery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from agnes_mcp.extracts.attachment import Attachment
from agnes_mcp.models import Table

META = (
    "CREATE TABLE _meta (table_name VARCHAR NOT NULL, description VARCHAR, rows BIGINT, size_bytes BIGINT, "
    "extracted_at TIMESTAMP, query_mode VARCHAR DEFAULT 'remote')"
)
REMOTE_ATTACH = "CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR)"


class AttachedFile(Attachment):
    """The statements of `Attachment`, but a DuckDB file is what is attached. Remembers what it was told."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tokens: list[tuple[str, str]] = []
        self.attached: list[str] = []

    def load(self, connection: duckdb.DuckDBPyConnection, file: str = "") -> None:
        """There is nothing to load."""

    def authorize(self, connection: duckdb.DuckDBPyConnection, name: str, token: str) -> None:
        self.tokens.append((name, token))

    def attach(self, connection: duckdb.DuckDBPyConnection, alias: str, url: str) -> None:
        self.attached.append(self.statement(alias, url))
        connection.execute(f"ATTACH '{self.file}' AS \"{alias}\" (READ_ONLY)")
        connection.execute("CREATE TEMP MACRO bigquery_query(p, q) AS TABLE SELECT p AS project, q AS statement")


def remote(name: str, dataset: str = "my_dataset", source_table: str = "", **more: Any) -> Table:
    return Table(
        id=name, source_type="bigquery", query_mode="remote", bucket=dataset, source_table=source_table, **more
    )


def parquet(file: Path, select: str = "SELECT 1 AS id") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY ({select}) TO '{file}' (FORMAT parquet)")
    return file


def extract(folder: Path, offers: dict[str, str], *statements: str, attach: tuple[str, ...] = ()) -> Path:
    """An `extract.duckdb` whose `_meta` offers these names by query mode, after these statements were run in it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "extract.duckdb"
    file.unlink(missing_ok=True)
    with duckdb.connect(str(file)) as connection:
        connection.execute(META)
        for name, mode in offers.items():
            connection.execute("INSERT INTO _meta VALUES (?, 'about ' || ?, 0, 0, now(), ?)", [name, name, mode])
        if attach:
            connection.execute(REMOTE_ATTACH)
            connection.execute("INSERT INTO _remote_attach VALUES (?, ?, ?, ?)", list(attach))
        for statement in statements:
            connection.execute(statement)
    return file
