"""The fields of an audit line."""

from __future__ import annotations

from agnes_mcp.calls.audit import ROTATE_AT_BYTES, AuditLine

from .markdown import code, table
from .shapes import spell_type

MEANINGS = {
    "time": "When the call ended, RFC 3339 UTC with milliseconds",
    "request_id": "16 hexadecimal digits; also in the caller's error, and a label of the BigQuery job",
    "tool": "The tool that was called; `recovery`: what an earlier call's job was billed, learnt afterwards; "
    "`retention`: what was removed because its time was over",
    "principal": "Who called: a user of `access.users`, or the OS user",
    "table_id": "The table that was named, at most 64 characters of it",
    "place": "Which table of BigQuery that was, as `project.dataset.table`; null: files of this machine, or none",
    "snapshot": "The snapshot that was written, refreshed or dropped",
    "select": "The columns that were asked for, at most 100; null: all",
    "where_hash": "The first 32 digits of the SHA-256 of the predicate's text: equal for equal texts",
    "client": "The address that the call came from over HTTP; behind a proxy the proxy's",
    "tables": "Of `query`: the tables and snapshots that its SQL read",
    "sql_hash": "The same of the text of `sql`",
    "places": "With `sql`: the tables that it reads, as `project.dataset.table`",
    "limit": "The limit that was asked for",
    "estimated_scan_bytes": "What the dry run said",
    "bytes_billed": "What was billed; null: nothing was, or it was not known yet",
    "reserved_bytes": "What was set aside and is charged, because the bill was not known when the line was written",
    "job_id": "BigQuery's id of the job",
    "actual_result_rows": "Rows that were read",
    "actual_result_bytes": "Bytes of those rows in memory (Arrow); of `retention` the bytes that were freed",
    "removed": "What went, at most 100: of `retention` the snapshots or charts of that caller, or files of the audit; "
    "of `snapshot_prune` the snapshots; of `chart` the oldest charts, for which there was no room",
    "latency_ms": "From admission to the end, in milliseconds",
    "status": "How it ended",
    "error_kind": "The kind of the error, null without one",
}


def fields() -> str:
    properties = AuditLine.model_json_schema()["properties"]
    rows = [(code(name), spell_type(field), MEANINGS[name]) for name, field in properties.items()]
    return table(("field", "type", "meaning"), rows)


def rotation() -> str:
    return (
        f"`audit.jsonl` is renamed to `audit-<time>.jsonl` before the first line after it has reached "
        f"{ROTATE_AT_BYTES:,} bytes (`audit.rotate_at_bytes`). Renamed files stay for good, unless `audit.keep_days` "
        "or `audit.keep_bytes` is set."
    )
