"""What a statement costs: the bytes of the leaf columns it reads in the partitions, or shards, that it needs.

BigQuery's on-demand price counts every referenced column of every partition that the filter does not exclude; LIMIT
does not lower it. Columns that a view or subquery offers and nobody asks for are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import duckdb
from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.rows import condition_text
from agnes_mcp.stand_in.googlesql.session import Place
from agnes_mcp.stand_in.googlesql.values import Read
from agnes_mcp.stand_in.jobs.partitions import HIGH, LOW, partition_filter, required_filter_missing
from agnes_mcp.stand_in.sql.wording import refusal_of
from agnes_mcp.stand_in.store import Store, bounds_of
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import tag_denied

_MIB = 1024 * 1024
MINIMUM_BILL_BYTES = 10 * _MIB  # BigQuery bills at least 10 MB per table referenced by the query


def billed(bytes_read: int) -> int:
    """What is billed for one table: rounded up to MiB, at least 10."""
    return max(MINIMUM_BILL_BYTES, -(-bytes_read // _MIB) * _MIB) if bytes_read else 0


def bytes_by_table(store: Store, places: Sequence[Place], reads: Iterable[Read]) -> dict[Table, int]:
    """What each table costs. Raises where a policy tag denies a column, or where a required filter is missing."""
    by_place: dict[int, set[str]] = {}
    for number, path in reads:
        by_place.setdefault(number, set()).add(path)
    mentions: dict[int, list[int]] = {}
    for number, place in enumerate(places):
        mentions.setdefault(id(place.table), []).append(number)
    sizes: dict[Table, int] = {}
    for numbers in mentions.values():
        table = places[numbers[0]].table
        used = [number for number in numbers if number in by_place]
        leaves = _leaves_under(table, set().union(*(by_place[number] for number in used)))
        _refuse_tagged(table, leaves)
        sizes |= _scanned(store, table, leaves, [places[number].conditions for number in used])
    return sizes


def _leaves_under(table: Table, paths: set[str]) -> set[str]:
    """The leaf columns that are one of the paths, or below one."""
    return {leaf for leaf, _ in table.leaves() if not paths.isdisjoint(_prefixes(leaf.lower()))}


def _prefixes(leaf: str) -> Iterator[str]:
    """`a.b.c` → `a`, `a.b`, `a.b.c`."""
    return accumulate(leaf.split("."), lambda above, name: f"{above}.{name}")


def _refuse_tagged(table: Table, leaves: set[str]) -> None:
    for held in table.shards.values() or (table,):
        for leaf in sorted(leaves):
            column = leaf.split(".")[0]
            if column in held.policy_tags:
                raise tag_denied(held.policy_tags[column], f"{held.dotted}.{column}")


def _scanned(store: Store, table: Table, leaves: set[str], mentions: Sequence[list[exp.Expr]]) -> dict[Table, int]:
    """The bytes of `leaves` that one of the mentions, each with its conditions, needs."""
    filters = [partition_filter(table, conditions) for conditions in mentions]
    if table.partition and table.partition.require_filter and any(condition is None for condition in filters):
        raise required_filter_missing(table)
    if table.shards:
        read = _kept_shards(store, table, filters)
        return {shard: sum(s.bytes_of(leaves) for s in shard.segments) for shard in read}
    kept = _kept_partitions(store, table, filters)
    return {table: sum(s.bytes_of(leaves) for s in table.segments if kept is None or s.id in kept)}


def _either(filters: Sequence[exp.Expr | None], kind: t.Type) -> str:
    """One of the conditions on `low` and `high`, in DuckDB's words; "" where one mention needs everything."""
    usable = [condition for condition in filters if condition is not None]
    if not usable or len(usable) < len(filters):
        return ""
    return condition_text(exp.or_(*usable), {LOW: (LOW, kind), HIGH: (HIGH, kind)})


def _kept_partitions(store: Store, table: Table, filters: Sequence[exp.Expr | None]) -> set[str] | None:
    if table.partition is None:
        return None
    named = table.partition.field
    kind = next((t.type_of(f) for f in table.fields if named and f.name.lower() == named.lower()), t.TIMESTAMP)
    condition = _either(filters, kind)
    if not condition:
        return None
    sql = f"SELECT id FROM {bounds_of(table)} WHERE id = '__UNPARTITIONED__' OR ({condition})"  # noqa: S608 - rendered
    return {row[0] for row in _rows(store, sql)}


def _kept_shards(store: Store, table: Table, filters: Sequence[exp.Expr | None]) -> list[Table]:
    condition = _either(filters, t.STRING)
    if not condition:
        return list(table.shards.values())
    suffixes = ", ".join("('" + suffix.replace("'", "''") + "')" for suffix in table.shards)
    bounds = f"(SELECT s AS low, s AS high FROM (VALUES {suffixes}) AS r(s))"  # noqa: S608 - quoted literals
    return [table.shards[row[0]] for row in _rows(store, f"SELECT low FROM {bounds} WHERE {condition}")]  # noqa: S608


def _rows(store: Store, sql: str) -> list[tuple[str, ...]]:
    try:
        return store.rows(sql)
    except duckdb.Error as error:
        raise refusal_of(error) from None
