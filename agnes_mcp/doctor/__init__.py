"""Whether an instance can serve, part by part; each finding says what to do about it. Reads metadata, bills nothing."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import anyio.to_thread

from agnes_mcp.access.grants import os_user
from agnes_mcp.config.settings import GIB
from agnes_mcp.doctor.disk import check_directory, free_space
from agnes_mcp.doctor.findings import MAX_CHARS, Finding, counted, failed, to_the_keeper
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest, Table

#: BigQuery refuses a token whose times are off by more than this; snapshots and books count days by the same clock.
MAX_SKEW_S = 120.0
_CLOCK_TIMEOUT_S = 5.0
#: Installing the extension downloads some 40 MB, once.
_ATTACH_TIMEOUT_S = 120.0


async def examine(gateway: Gateway) -> list[Finding]:
    """One finding for each part that `serve` would use."""
    settings = gateway.settings
    async with gateway:
        findings = [
            await _in_thread(check_directory, settings.data_dir),
            await _in_thread(free_space, settings),
            await _in_thread(_retention, gateway),
            *await _datasets(gateway),
            *[await _table(gateway, table) for table in _named(gateway)],
            *await _agnes(gateway),
            *await anyio.to_thread.run_sync(_moved, gateway),
            *_grants(gateway),
            await _try("quota", _ask_books(gateway)),
            await _try("query workers", _ask_workers(gateway)),
        ]
        if settings.data_source.bigquery is not None:
            findings.append(_bigquery(gateway, settings.data_source.bigquery.scopes))
            findings.append(await _extension(gateway))
            findings.append(await _in_thread(_clock, settings.data_source.bigquery.api_endpoint))
        return findings


async def _in_thread(look: Callable[..., Finding], *given: object) -> Finding:
    return await anyio.to_thread.run_sync(look, *given)


async def _try(subject: str, look: Awaitable[str]) -> Finding:
    try:
        return Finding(subject=subject, state="pass", found=await look)
    except AgnesError as error:
        return failed(subject, error)


async def _table(gateway: Gateway, table: Table) -> Finding:
    finding = await _try(f"table {table.id}", _describe(gateway, table))
    if finding.state == "pass" or table.query_mode != "local":
        return finding
    _, _, reason = finding.found.partition(": ")
    named = f" ({Path(table.path).name})" if table.path else ""
    found = f"{(reason or finding.found).rstrip('.')}{named}"
    return finding.model_copy(update={"found": found, "cure": to_the_keeper(finding.cure)})


def _retention(gateway: Gateway) -> Finding:
    """What of the audit and of snapshots is removed, and what the audit takes meanwhile."""
    rules = [gateway.retention.of_audit, gateway.retention.of_snapshots]
    found = " ".join(rule for rule in rules if rule) or "off: nothing is removed but by its owner."
    size = gateway.calls.audit.size_bytes
    return Finding(subject="retention", state="pass", found=f"{found} The audit takes {size / 2**20:,.1f} MiB.")


def _named(gateway: Gateway) -> list[Table]:
    """The tables that are named one by one, and those of other sources; those of datasets are too many."""
    return [t for t in gateway.registry.by_id.values() if not t.discovered or t.source_type == "attached"]


async def _datasets(gateway: Gateway) -> list[Finding]:
    """Each dataset: whether it can be listed, and one of its tables priced."""
    bigquery = gateway.settings.data_source.bigquery
    names = bigquery.datasets if bigquery is not None else []
    try:
        async with gateway.calls.open("doctor", os_user(), noted=False) as call:
            await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call) if names else None)
    except AgnesError as error:
        return [failed(f"dataset {name}", error) for name in names]
    problems = gateway.sources.health("bigquery").get("datasets", {})
    return [await _dataset(gateway, name, problems.get(name)) for name in names]


async def _dataset(gateway: Gateway, name: str, problem: Mapping[str, str] | None) -> Finding:
    subject, tables = f"dataset {name}", [table for table in gateway.registry.by_id.values() if table.bucket == name]
    if problem is not None:
        return failed(subject, AgnesError(problem["error"], problem["message"], problem["hint"]))
    if not tables:
        cure = "Look at its name, and at what the service account may list."
        return Finding(subject=subject, state="fail", found="holds no table that is served", cure=cure)
    priced = await _try(subject, _describe(gateway, tables[0]))
    return priced.model_copy(update={"found": f"{counted(len(tables), 'table')}; {tables[0].id}: {priced.found}"})


async def _describe(gateway: Gateway, table: Table) -> str:
    schema = await gateway.catalog.columns(os_user(), table.id)
    rows = "rows not known" if schema.rows is None else counted(schema.rows, "row")
    if schema.sql_flavor == "bigquery":
        first = next((column.name for column in schema.columns if column.mode != "REPEATED"), None)
        request = ScanRequest(table_id=table.id, select=[first] if first else None, limit=1)
        estimate = await gateway.scans.estimate(os_user(), request)
        return f"{schema.entity_type}, {rows}; a dry run answers ({estimate.estimated_scan_bytes or 0:,} bytes)"
    unread = f". {schema.note}" if schema.note else ""
    return f"{counted(schema.columns_total, 'column')}, {rows}{unread}"


async def _ask_books(gateway: Gateway) -> str:
    left = await gateway.accounts.left(os_user())
    day = f"{left.daily_bytes_left / GIB:,.1f} of {left.daily_bytes_limit / GIB:,.1f} GiB of today are left"
    return f"kept in {gateway.accounts.store}, {day}"


async def _agnes(gateway: Gateway) -> list[Finding]:
    """The Agnes directory: how much of it is served, and what is not."""
    directory = gateway.directory
    if directory is None:
        return []
    async with gateway.calls.open("doctor", os_user(), noted=False) as call:
        await gateway.tables.look(call)
        tables = await gateway.calls.run(call, lambda: directory.tables(call))
    served = Finding(
        subject="Agnes directory",
        state="pass" if tables else "fail",
        found=f"{counted(len(tables), 'table')} served",
        cure="" if tables else "Look at data_source.agnes.data_dir: it holds no extracts/*/extract.duckdb or data/.",
    )
    cure = "Have its extractor write it again; the rest is served."
    broken = (Finding(subject=f"extract {p.source}", state="fail", found=str(p), cure=cure) for p in directory.problems)
    return [served, *broken]


def _moved(gateway: Gateway) -> list[Finding]:
    """Ids that an entry of `tables` points elsewhere than before: taken, and what was kept of the old is refused."""
    registry = gateway.registry
    try:
        registry.bind()
    except AgnesError as error:
        return [failed("register of ids", error)]
    findings = []
    for table_id, former in sorted(registry.ids.moved.items()):
        now = registry.by_id[table_id].place if table_id in registry.by_id else ""
        before = ", ".join(place for place in former if place != now)
        if now and before:
            found = f"meant {before[:MAX_CHARS]} before, and means {now} now"
            cure = "Snapshots and approvals of the table before are refused; fetch them anew, or drop them."
            findings.append(Finding(subject=f"id {table_id}", state="pass", found=found, cure=cure))
    return findings


def _grants(gateway: Gateway) -> list[Finding]:
    """Users who may read tables that do not exist."""
    known = set(gateway.registry.by_id)
    findings = []
    for user in gateway.settings.access.users:
        gone = [] if user.tables == "*" else sorted(name for name in set(user.tables) - known if "*" not in name)
        if gone:
            findings.append(
                Finding(
                    subject=f"user {user.name}",
                    state="fail",
                    found=f"may read tables that do not exist: {', '.join(gone)[:MAX_CHARS]}",
                    cure="Correct access.users, or register the tables.",
                )
            )
    return findings


async def _ask_workers(gateway: Gateway) -> str:
    await gateway.queries.query(os_user(), "SELECT 1")
    confined = gateway.workbench.processes.state()["confined"]
    missing = [name.replace("_", " ") for name, held in sorted(confined.items()) if not held]
    return f"answer; not confined by this system: {', '.join(missing)}" if missing else "answer, confined"


def _bigquery(gateway: Gateway, scopes: list[str]) -> Finding:
    """Where the token comes from, with which scopes, and how BigQuery answered so far."""
    health = gateway.sources.health("bigquery")
    token = health.get("token")
    said = (
        [f"project {health.get('project')}, billed to {health.get('billing_project')}"] if "project" in health else []
    )
    if isinstance(token, dict):
        origin = token.get("origin") or "no token yet"
        left = f", good for {token['token_expires_in_s']} s" if "token_expires_in_s" in token else ""
        age = f", {token['token_age_s']} s old" if "token_age_s" in token else ""
        said.append(f"token from {origin} ({token.get('mode')}){age}{left}")
        named = ", ".join(["cloud-platform", *(scope.rsplit("/", 1)[-1] for scope in scopes)])
        said.append(f"scopes as configured, not asked of Google: {named}")
    if "storage_read" in health:
        said.append(f"Storage Read {health['storage_read']}")
    problem = health.get("last_error") or (token.get("last_error") if isinstance(token, dict) else None)
    if problem:
        cure = "Attach a service account, or run `gcloud auth application-default login`; then look at its roles."
        return Finding(subject="BigQuery", state="fail", found=f"{'; '.join(said)}; {problem}"[:MAX_CHARS], cure=cure)
    state: Literal["pass", "skip"] = "pass" if said else "skip"
    return Finding(subject="BigQuery", state=state, found="; ".join(said) or "not used: no remote table is configured")


async def _extension(gateway: Gateway) -> Finding:
    """Whether DuckDB's bigquery extension is attached, as `serve` would have it, or why not."""
    subject = "DuckDB's bigquery extension"
    try:
        async with gateway.calls.open("doctor", os_user(), timeout_s=_ATTACH_TIMEOUT_S, noted=False) as call:
            named = _named(gateway)
            await gateway.calls.run(call, lambda: gateway.sources.make_ready("bigquery", call, named))
    except AgnesError as error:
        return failed(subject, error)
    state = gateway.sources.health("bigquery").get("extension") or {}
    said = str(state.get("state", "not used"))
    if "version" in state:
        datasets = ", ".join(state["datasets"]) or "no dataset"
        return Finding(
            subject=subject, state="pass", found=f"{said}, version {state['version']}: {datasets}"[:MAX_CHARS]
        )
    again = f"; while it serves it tries again, next at {state['next_try']}" if "next_try" in state else ""
    wanted = said.startswith("not to be had") and (_names_a_file() or _reads_attached(gateway))
    return Finding(
        subject=subject,
        state="fail" if wanted else "skip",
        found=f"{said}{again}; whole columns come as the Storage Read stream"[:MAX_CHARS],
        cure="Correct AGNES_BIGQUERY_EXTENSION, or let it be installed: INSTALL bigquery FROM community."
        if wanted
        else "",
    )


def _names_a_file() -> bool:
    return bool(os.environ.get("AGNES_BIGQUERY_EXTENSION"))


def _reads_attached(gateway: Gateway) -> bool:
    bigquery = gateway.settings.data_source.bigquery
    return bigquery is not None and bigquery.direct_reads == "attached"


def _clock(endpoint: str | None) -> Finding:
    """How far this machine's clock is from BigQuery's, by the time that its answers carry."""
    import httpx2

    try:
        answer = httpx2.head(endpoint or "https://bigquery.googleapis.com/", timeout=_CLOCK_TIMEOUT_S)
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (httpx2.HTTPError, KeyError, ValueError, TypeError):
        return Finding(subject="clock", state="skip", found="BigQuery did not tell its time")
    skew_s = abs((datetime.now(UTC) - theirs).total_seconds())
    if skew_s <= MAX_SKEW_S:
        return Finding(subject="clock", state="pass", found="as BigQuery's, within two minutes")
    cure = "Set the clock, by NTP at best: tokens are refused, and the day's books begin at the wrong hour."
    return Finding(subject="clock", state="fail", found=f"{skew_s:,.0f} seconds from BigQuery's", cure=cure)
