"""The logical bytes of stored values, per leaf column and partition.

Sizes by type are those of BigQuery's "Data type sizes" page: a NULL is 0 bytes, a STRING 2 plus its UTF-8 bytes, a
GEOGRAPHY 16 plus 24 per vertex, a STRUCT the sum of its fields, an ARRAY the sum of its elements.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from agnes_mcp.stand_in.fields import Field, quoted
from agnes_mcp.stand_in.tables import Partition, Segment

FIXED_BYTES = {
    "INT64": 8,
    "FLOAT64": 8,
    "NUMERIC": 16,
    "BIGNUMERIC": 32,
    "BOOL": 1,
    "DATE": 8,
    "TIME": 8,
    "DATETIME": 8,
    "TIMESTAMP": 8,
    "INTERVAL": 16,
    "RANGE": 16,
}
_TEXT_BYTES = {
    "STRING": "2 + strlen({0})",
    "BYTES": "2 + octet_length({0})",
    "JSON": "strlen({0})",
    "GEOGRAPHY": "16 + 24 * (length({0}) - length(replace({0}, ',', '')) + 1)",
}


def _sum_of(chain: list[Field]) -> str:
    """The bytes of the last field of `chain` in all rows of a group."""
    value = ".".join(quoted(field.name) for field in chain)
    if any(field.repeated for field in chain):
        return f"coalesce(sum({_chain_bytes(chain, quoted(chain[0].name))}), 0)"
    if chain[-1].type in FIXED_BYTES:
        return f"{FIXED_BYTES[chain[-1].type]} * count({value})"
    return f"coalesce(sum({_TEXT_BYTES[chain[-1].type].format(value)}), 0)"  # of NULL it is NULL


def _value_bytes(kind: str, value: str) -> str:
    counted = _TEXT_BYTES[kind].format(value) if kind in _TEXT_BYTES else str(FIXED_BYTES[kind])
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {counted} END"


def _chain_bytes(chain: list[Field], value: str, depth: int = 0) -> str:
    """The bytes of the last field of `chain` within `value`, which holds the first."""
    first, rest = chain[0], chain[1:]
    inner = f"v{depth}" if first.repeated else value
    counted = (
        _chain_bytes(rest, f"{inner}.{quoted(rest[0].name)}", depth + 1) if rest else _value_bytes(first.type, inner)
    )
    if not first.repeated:
        return counted
    return f"coalesce(list_sum(list_transform({value}, lambda {inner}: {counted})), 0)"


def _chains(columns: Iterable[Field]) -> Iterable[list[Field]]:
    for column in columns:
        if column.type == "STRUCT":
            yield from ([column, *chain] for chain in _chains(column.fields))
        else:
            yield [column]


def partition_bounds(partition: Partition | None, fields: Iterable[Field]) -> tuple[str, str, str, str]:
    """SQL over a table's rows: what to group by, and of that each partition's id, first and last value."""
    if partition is None:
        return "true", "''", "NULL::BIGINT", "NULL::BIGINT"
    column = quoted(partition.field or "_PARTITIONTIME")
    if partition.type == "RANGE":
        start, step = partition.start, partition.interval
        inside = f"{column} >= {start} AND {column} < {partition.end}"
        low = f"CASE WHEN {inside} THEN {start} + (({column} - {start}) // {step}) * {step} END"
        known = f"WHEN {column} IS NULL THEN '__NULL__' WHEN {inside} THEN ({low})::VARCHAR"
        ident = f"CASE {known} ELSE '__UNPARTITIONED__' END"
        return f"{ident}, {low}", ident, f"({low})::BIGINT", f"({low} + {step} - 1)::BIGINT"
    kind = next((f.type for f in fields if partition.field and f.name.lower() == partition.field.lower()), "TIMESTAMP")
    stored = {"DATE": "DATE", "DATETIME": "TIMESTAMP", "TIMESTAMP": "TIMESTAMPTZ"}[kind]
    unit = partition.type.lower()
    low = f"date_trunc('{unit}', {column})"
    last = "INTERVAL 1 day" if kind == "DATE" else "INTERVAL 1 microsecond"
    pattern = {"hour": "%Y%m%d%H", "day": "%Y%m%d", "month": "%Y%m", "year": "%Y"}[unit]
    ident = f"coalesce(strftime({low}, '{pattern}'), '__NULL__')"
    return low, ident, f"({low})::{stored}", f"({low} + INTERVAL 1 {unit} - {last})::{stored}"


def measure(
    cursor: duckdb.DuckDBPyConnection, physical: str, fields: tuple[Field, ...], partition: Partition | None
) -> tuple[list[Segment], list[tuple[str, object, object]]]:
    """Every partition of a stored table with its bytes, and its id with its first and last value, in order."""
    chains = list(_chains(fields))
    key, ident, low, high = partition_bounds(partition, fields)
    sums = [f"({_sum_of(chain)})::BIGINT" for chain in chains]
    columns = ", ".join([ident, low, high, "count(*)", *sums])
    # S608: every part is built here from quoted identifiers; nothing comes from a request
    sql = f"SELECT {columns} FROM {physical} GROUP BY {key} ORDER BY 2, 1"  # noqa: S608
    paths = [".".join(f.name for f in chain) for chain in chains]
    found = cursor.execute(sql).fetchall()
    segments = [Segment(row[0], row[3], dict(zip(paths, row[4:], strict=True))) for row in found]
    return segments, [row[:3] for row in found]
