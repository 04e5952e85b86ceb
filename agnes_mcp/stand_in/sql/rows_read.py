"""What stands in a FROM for a stored table: its rows, with pseudo-columns, all shards of a wildcard, and only the rows
that its row access policy permits."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from agnes_mcp.stand_in.fields import Field, quoted
from agnes_mcp.stand_in.sql.dialect import to_duckdb
from agnes_mcp.stand_in.tables import Table


def rows_of(table: Table) -> str:
    """A DuckDB table name or a parenthesized SELECT."""
    if table.shards:
        return "(" + " UNION ALL ".join(_shard(table, suffix, shard) for suffix, shard in table.shards.items()) + ")"
    columns = "*, CAST(_PARTITIONTIME AS DATE) AS _PARTITIONDATE" if table.pseudo_fields else "*"
    if columns == "*" and not table.row_filter:
        return table.physical
    # S608: an identifier of the stand-in's own, and a condition rendered from its tree
    return f"(SELECT {columns} FROM {table.physical} WHERE {permitted(table)})"  # noqa: S608


def permitted(table: Table) -> str:
    """The row access policy as a DuckDB condition."""
    if not table.row_filter:
        return "TRUE"
    return to_duckdb(sqlglot.parse_one(table.row_filter, into=exp.Condition, read="bigquery"))


def _shard(wildcard: Table, suffix: str, shard: Table) -> str:
    """One shard with the columns of them all: what it lacks is NULL."""
    held = {field.name.lower(): field for field in shard.fields}
    columns = ", ".join(_column(field, held.get(field.name.lower())) for field in wildcard.fields)
    named = f"'{suffix}' AS _TABLE_SUFFIX"
    return f"SELECT {columns}, {named} FROM {shard.physical} WHERE {permitted(shard)}"  # noqa: S608 - as above


def _column(wanted: Field, held: Field | None) -> str:
    value = "NULL" if held is None else quoted(held.name)
    return f"CAST({value} AS {wanted.duckdb_type()}) AS {quoted(wanted.name)}"
