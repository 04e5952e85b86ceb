"""Whether an instance can serve, part by part; each finding says what to do about it. Reads metadata, bills nothing."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from dataclasses import dataclass

from agnes_mcp.access.grants import os_user
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest


@dataclass(frozen=True)
class Finding:
    subject: str
    fine: bool
    found: str


async def examine(gateway: Gateway) -> list[Finding]:
    """One finding for the data directory, each table, the query workers and BigQuery."""
    async with gateway:
        findings = [_data_dir(gateway)]
        tables = list(gateway.registry.by_id.values())
        findings += [await _try(f"table {table.id}", _describe(gateway, table.id)) for table in tables]
        findings.append(await _try("quota", _ask_books(gateway)))
        findings.append(await _try("query workers", _ask_workers(gateway)))
        if gateway.settings.data_source.bigquery is not None:
            findings.append(_bigquery(gateway))
    return findings


async def _try(subject: str, look: Awaitable[str]) -> Finding:
    try:
        return Finding(subject, True, await look)
    except AgnesError as error:
        return Finding(subject, False, f"{error.kind}: {error.message} {error.hint}")


def _data_dir(gateway: Gateway) -> Finding:
    folder = gateway.settings.data_dir
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    writable = os.access(existing, os.W_OK)
    found = "writable" if writable else "not writable: set data_dir to a folder of your own"
    return Finding("data_dir", writable, found)


async def _describe(gateway: Gateway, table_id: str) -> str:
    schema = await gateway.catalog.columns(os_user(), table_id)
    rows = "rows not known" if schema.rows is None else f"{schema.rows:,} rows"
    if schema.sql_flavor == "bigquery":
        first = next((column.name for column in schema.columns if column.mode != "REPEATED"), None)
        request = ScanRequest(table_id=table_id, select=[first] if first else None, limit=1)
        estimate = await gateway.scans.estimate(os_user(), request)
        return f"{schema.entity_type}, {rows}; a dry run answers ({estimate.estimated_scan_bytes or 0:,} bytes)"
    return f"{schema.columns_total} columns, {rows}"


async def _ask_books(gateway: Gateway) -> str:
    left = await gateway.accounts.left(os_user())
    return f"kept in {gateway.accounts.store}, {left.daily_bytes_left:,} of {left.daily_bytes_limit:,} bytes are left"


async def _ask_workers(gateway: Gateway) -> str:
    await gateway.queries.query(os_user(), "SELECT 1")
    confined = gateway.workbench.processes.state()["confined"]
    missing = [name for name, held in sorted(confined.items()) if not held]
    return f"answer; not confined by this system: {', '.join(missing)}" if missing else "answer, confined"


def _bigquery(gateway: Gateway) -> Finding:
    health = gateway.sources.health("bigquery")
    said = ", ".join(f"{name} {value}" for name, value in health.items() if name not in ("configured", "used"))
    return Finding("BigQuery", "last_error" not in health, said or "not used: no remote table is configured")
