"""What people type into `query` that it does not run, as the call that does it.

Read only to be shown, after a refusal: nothing here runs, and what is proposed passes every gate when it is called.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import sqlglot
from sqlglot.errors import SqlglotError

from agnes_mcp.sql.working import WorkingCall

_MAX_CHARS = 2_000
_NAME = r"[\"'`]?([A-Za-z_][A-Za-z0-9_]*)[\"'`]?"
_GONE = re.compile(rf"(?:DROP\s+(?:TABLE|VIEW)(?:\s+IF\s+EXISTS)?|TRUNCATE(?:\s+TABLE)?|DELETE\s+FROM)\s+{_NAME}", re.I)
_SHOWN = re.compile(rf"(?:DESCRIBE|DESC|SHOW|PRAGMA\s+table_info\()\s*(?:TABLE\s+)?{_NAME}\)?$", re.I)
_SUMMED = re.compile(rf"SUMMARIZE\s+(?:TABLE\s+)?{_NAME}$", re.I)
_LISTED = re.compile(r"(?:SHOW\s+(?:ALL\s+)?TABLES|SHOW\s+DATABASES|PRAGMA\s+show_tables)$", re.I)
_MADE = re.compile(rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP\w*\s+)?(?:TABLE|VIEW)\s+{_NAME}\s+AS\s+(.+)$", re.I | re.S)
_EXPLAINED = re.compile(r"EXPLAIN\s+(?:ANALYZE\s+)?(.+)$", re.I | re.S)
_COPIED = re.compile(r"COPY\s+\((.+)\)\s+TO\b.*$", re.I | re.S)
_READ = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_][A-Za-z0-9_]*)", re.I)
#: DuckDB's own spellings, without which a text may be GoogleSQL as it stands.
_DUCKDB = re.compile(r"::|date_trunc\s*\(\s*'|\bFILTER\s*\(|\bmedian\s*\(|\bquantile|\bILIKE\b|strftime\s*\(|\"", re.I)


@dataclass(frozen=True)
class Names:
    """What a caller may name, by id."""

    snapshots: Collection[str]
    local: Collection[str]
    remote: Collection[str]


def meant_by(sql: str, names: Names) -> WorkingCall | None:
    """The call that a refused text stands for; None where no habit is seen in it."""
    text = sql.strip().rstrip(";").strip()
    if len(text) > _MAX_CHARS:
        return None
    return _of_statement(text, names) or _of_remote(text, names)


def _of_statement(text: str, names: Names) -> WorkingCall | None:
    if _LISTED.match(text):
        return WorkingCall("catalog", {})
    if (gone := _GONE.match(text)) and gone[1].casefold() in names.snapshots:
        return WorkingCall("snapshot_drop", {"name": gone[1].casefold()})
    for pattern in (_SHOWN, _SUMMED):
        if found := pattern.match(text):
            return _of_name(found[1].casefold(), names, profile=pattern is _SUMMED)
    for pattern in (_MADE, _EXPLAINED, _COPIED):
        if found := pattern.match(text):
            return _of_select(found.groups()[-1].strip(), names)
    return None


def _of_name(name: str, names: Names, *, profile: bool) -> WorkingCall | None:
    if name in names.snapshots:
        return WorkingCall("query", {"sql": f"SELECT * FROM {name} LIMIT 5"})  # noqa: S608 - only shown
    if name not in {*names.local, *names.remote}:
        return None
    return WorkingCall("describe", {"table_id": name, "profile": True}) if profile else schema_call(name)


def schema_call(table_id: str) -> WorkingCall:
    return WorkingCall("schema", {"table_id": table_id})


def _of_select(text: str, names: Names) -> WorkingCall | None:
    if not re.match(r"(?:SELECT|WITH|FROM)\b", text, re.I):
        return None
    return _of_remote(text, names) or WorkingCall("query", {"sql": text})


def _of_remote(text: str, names: Names) -> WorkingCall | None:
    """Over remote tables alone it is `scan`; beside others each is to be fetched first."""
    read = {name.casefold() for name in _READ.findall(text)}
    remote = sorted(read & set(names.remote))
    if not remote:
        return None
    if read & {*names.local, *names.snapshots}:
        return WorkingCall("fetch", {"table_id": remote[0], "name": f"{remote[0][:50]}_rows"})
    return WorkingCall("scan", {"sql": _as_googlesql(text)})


def _as_googlesql(text: str) -> str:
    if not _DUCKDB.search(text):
        return text
    try:
        written = sqlglot.transpile(text, read="duckdb", write="bigquery")[0]
    except (SqlglotError, RecursionError):
        return text
    return written.replace("TIMESTAMP_TRUNC(", "DATE_TRUNC(")  # which takes a DATE and a TIMESTAMP alike
