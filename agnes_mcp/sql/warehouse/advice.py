"""What would make an admitted statement cheaper, from its tree alone: most useful first, no figures."""

from __future__ import annotations

from agnes_mcp.models import TableSchema
from agnes_mcp.sql.warehouse.places import Admitted, Use

#: From so many columns on, `SELECT *` is usually more than what is looked at.
WIDE_COLUMNS = 12
_INGESTION = frozenset({"_PARTITIONTIME", "_PARTITIONDATE"})


def advise(admitted: Admitted) -> list[str]:
    """One sentence each, naming tables by their aliases where two of them are the same table."""
    uses = admitted.uses
    return [
        *(said for use in uses if (said := _partition(use))),
        *(said for use in uses if (said := _shards(use))),
        *(said for use in uses if (said := _whole(use))),
        *(_cross(left, right) for left, right in admitted.crosses),
        *(said for use in uses if (said := _clustering(use))),
    ]


def _called(use: Use) -> str:
    return use.place.table_id if use.alias == use.place.table_id else f"{use.place.table_id} ({use.alias})"


def _schema(use: Use) -> TableSchema:
    return use.place.schema or TableSchema(table_id=use.place.table_id, columns=[])


def _partition(use: Use) -> str:
    partition = _schema(use).partition
    if partition is None or partition.type in ("HIVE", "SHARD"):
        return ""
    wanted = {partition.column} if partition.column else set(_INGESTION)
    if wanted & use.conditions:
        return ""
    column = partition.column or "_PARTITIONDATE"
    must = "asks for one" if partition.filter_required else "is partitioned by it"
    return (
        f"{_called(use)}: no condition compares {column} with constants, and the table {must}: "
        f"add one, such as {column} >= …, to read only some partitions."
    )


def _shards(use: Use) -> str:
    if not use.place.table.endswith("*") or "_TABLE_SUFFIX" in use.conditions:
        return ""
    return f"{_called(use)}: no condition compares _TABLE_SUFFIX with constants, so that every shard is read."


def _whole(use: Use) -> str:
    columns = len(_schema(use).columns)
    if columns < WIDE_COLUMNS or len(use.columns) < columns:
        return ""
    return f"{_called(use)}: all of its {columns} columns are read; name those that are needed."


def _cross(left: str, right: str) -> str:
    return (
        f"{left or 'A subquery'} and {right or 'a subquery'} are joined without a condition: every row with every row."
    )


def _clustering(use: Use) -> str:
    clustered = _schema(use).clustered_by
    if not clustered or not use.conditions or clustered[0] in use.conditions:
        return ""
    return f"{_called(use)}: it is clustered by {clustered[0]}; a condition on that reads fewer blocks."
