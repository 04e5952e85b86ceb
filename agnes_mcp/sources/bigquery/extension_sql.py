"""The SQL that sets the DuckDB `bigquery` extension up and reads with it: the only SQL that ever runs there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agnes_mcp.sources.bigquery.clients import storage_address
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings

#: The environment variable that names a local `.duckdb_extension` file instead of the community repository.
FILE_VARIABLE = "AGNES_BIGQUERY_EXTENSION"
QUERY_TIMEOUT_MS = 600_000

#: Global, before the first ATTACH. First insertion order: the extension prints to stdout when it finds it preserved.
SETTINGS = (
    "SET GLOBAL preserve_insertion_order = false",
    # Otherwise the first use of a catalog runs a billed query job over INFORMATION_SCHEMA.
    "SET GLOBAL bq_experimental_use_info_schema = false",
    # Top-N over an attached table is an internal error that invalidates the instance.
    "SET GLOBAL disabled_optimizers = 'top_n'",
    # 0, its default, waits for ever.
    f"SET GLOBAL bq_query_timeout_ms = {QUERY_TIMEOUT_MS}",
)


def load(file: str) -> list[str]:
    """From the community repository, or from a local file (which DuckDB takes only when unsigned ones are allowed)."""
    return [f"LOAD {literal(file)}"] if file else ["INSTALL bigquery FROM community", "LOAD bigquery"]


def secret(project: str, token: str) -> str:
    """Replaces the one there is; counts from the extension's next request on, also for what is attached."""
    return (
        f"CREATE OR REPLACE SECRET {identifier(f'agnes_bigquery_{project}')} "
        f"(TYPE bigquery, SCOPE {literal(f'bq://{project}')}, ACCESS_TOKEN {literal(token)})"
    )


def attach(path: TablePath, alias: str, settings: BigQuerySettings) -> str:
    """One dataset, never a whole project: attaching that lists everything in it. Makes no request by itself."""
    parts = {
        "project": path.project,
        "dataset": path.dataset,
        "billing_project": settings.billed_project,
        "api_endpoint": settings.api_endpoint or "",
        "grpc_endpoint": storage_address(settings)[1],
    }
    target = " ".join(f"{name}={value}" for name, value in parts.items() if value)
    return f"ATTACH {literal(target)} AS {identifier(alias)} (TYPE bigquery, READ_ONLY)"


def select(path: TablePath, alias: str, columns: Sequence[str]) -> str:
    """A plain projection; the extension is trusted with nothing else."""
    names = ", ".join(identifier(name) for name in columns)
    return f"SELECT {names} FROM {identifier(alias, path.dataset, path.table)}"  # noqa: S608 - every name is quoted
