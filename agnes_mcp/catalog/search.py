"""Searching, ordering and paging the catalog, and what it says of one table."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable

from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import CatalogEntry
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table, TableSchema
from agnes_mcp.sql.dialects import where_examples
from agnes_mcp.untrusted import clean

MAX_DESCRIPTION_CHARS = 500
MAX_CURSOR_CHARS = 500

Rank = tuple[int, str]
SchemaOf = Callable[[Table], TableSchema | None]


def rank(tables: list[Table], wanted: str, schema_of: SchemaOf) -> list[tuple[Rank, Table]]:
    """The tables in which every word of `wanted` is found, best first, each with its place in that order."""
    ranked = [(rank_of(table, wanted, schema_of), table) for table in tables]
    return sorted((pair for pair in ranked if pair[0][0] < _NO_MATCH), key=lambda pair: pair[0])


_NO_MATCH = 9


def rank_of(table: Table, wanted: str, schema_of: SchemaOf) -> Rank:
    """A table's place in the order that `rank` gives."""
    return _score(table, wanted, schema_of), table.id


def _score(table: Table, wanted: str, schema_of: SchemaOf) -> int:
    """0 is the best match; every word must be found somewhere."""
    if not wanted:
        return 0
    schema = schema_of(table)
    columns = " ".join(path for path, _ in schema.walk()).casefold() if schema else ""
    described = f"{table.description} {schema.description if schema else ''}".casefold()
    places = [f"{table.id} {table.name}".casefold(), described, columns]
    if wanted in (table.id, table.name.casefold()):
        return 0
    words = set(wanted.split())
    for rank, place in enumerate(places, start=1):
        if all(word in place for word in words):
            return rank
    return 4 if all(any(word in place for place in places) for word in words) else _NO_MATCH


def write_cursor(key: Rank, search: str, source_type: str | None) -> str:
    """An opaque cursor: go on behind this place of this search."""
    place = compact([*key, _digest(search), source_type])
    return base64.urlsafe_b64encode(place.encode()).decode("ascii").rstrip("=")


def read_cursor(cursor: str, search: str, source_type: str | None) -> Rank | None:
    """The place that a cursor stands for; None for none. Raises `invalid_cursor` for one of another search."""
    if not cursor:
        return None
    try:
        if len(cursor) > MAX_CURSOR_CHARS:
            raise ValueError
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        rank, table_id, searched, filtered = parts
        if (
            [searched, filtered] != [_digest(search), source_type]
            or not isinstance(rank, int)
            or not isinstance(table_id, str)
        ):
            raise ValueError
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise AgnesError(
            "invalid_cursor",
            "That cursor is not one of this search.",
            "Call `catalog` without cursor, with the same search, and page from its next_cursor.",
        ) from None
    return rank, table_id


def _digest(search: str) -> str:
    """A search in a cursor: however long it was, short."""
    return hashlib.sha256(search.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def catalog_entry(table: Table, schema: TableSchema | None) -> CatalogEntry:
    """What the catalog says of a table; where its schema is not known yet, less."""
    partition = schema.partition if schema else None
    return CatalogEntry(
        id=table.id,
        name=clean(table.name, 200) or table.id,
        description=clean(table.description or (schema.description if schema else ""), MAX_DESCRIPTION_CHARS),
        source_type=table.source_type,
        query_mode=table.query_mode,
        sql_flavor=table.dialect,
        entity_type=schema.entity_type if schema else None,
        rows=schema.rows if schema else None,
        size_bytes=schema.size_bytes if schema else None,
        partition_by=(partition.column or "_PARTITIONTIME") if partition else None,
        clustered_by=schema.clustered_by if schema else [],
        primary_key=(schema.primary_key if schema else []) or table.primary_key,
        where_examples=where_examples(schema, table.dialect) if schema else [],
        fetch_via=_fetch_via(table),
    )


def _fetch_via(table: Table) -> str:
    if table.query_mode == "remote":
        return f"estimate, then scan or fetch with table_id='{table.id}', select=[…], where='…'"
    return f"free: query with SQL over {table.id}, or scan with table_id='{table.id}'"
