"""The SQL of an extract and of the analytics file: tables, and views by entity type."""

from __future__ import annotations

from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sql.names import identifier, literal

#: What a source offers. Rows and sizes are not known of a remote table.
META = (
    "CREATE TABLE _meta (table_name VARCHAR NOT NULL, description VARCHAR, rows BIGINT, size_bytes BIGINT, "
    "extracted_at TIMESTAMP, query_mode VARCHAR DEFAULT 'remote')"
)
META_ROW = "INSERT INTO _meta VALUES (?, ?, 0, 0, ?, 'remote')"
#: What has to be attached before the views can be read.
REMOTE_ATTACH = "CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR)"
REMOTE_ATTACH_ROW = "INSERT INTO _remote_attach VALUES (?, ?, ?, ?)"
#: Where each table is, also those that have no view: without it nobody could read them.
PLACES = (
    "CREATE TABLE _places (table_name VARCHAR NOT NULL, project VARCHAR, dataset VARCHAR, source_table VARCHAR, "
    "entity_type VARCHAR)"
)
PLACES_ROW = "INSERT INTO _places VALUES (?, ?, ?, ?, ?)"


def attached_view(name: str, alias: str, path: TablePath) -> str:
    """A view that reads the table through what is attached under that alias."""
    return f"CREATE VIEW {identifier(name)} AS SELECT * FROM {identifier(alias, path.dataset, path.table)}"  # noqa: S608 - every name is quoted


def wrapped_view(name: str, project: str, path: TablePath) -> str:
    """A view whose every reading is a query job in `project` over the whole table, or over a family's days."""
    from agnes_mcp.sources.bigquery.shards import DAYS_ONLY

    inner = f"SELECT * FROM `{path.dotted}`"  # noqa: S608 - matched whole against names that hold no backquote
    inner += f" WHERE {DAYS_ONLY}" if path.is_family else ""
    return f"CREATE VIEW {identifier(name)} AS SELECT * FROM bigquery_query({literal(project)}, {literal(inner)})"  # noqa: S608


def source_view(name: str, source: str) -> str:
    """In the analytics file: a table by its name, out of the extract that is attached under its source's."""
    return f"CREATE VIEW {identifier(name)} AS SELECT * FROM {identifier(source, name)}"  # noqa: S608 - names are quoted
