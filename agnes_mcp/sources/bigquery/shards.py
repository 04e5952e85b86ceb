"""Tables that are cut into one table a day, `events_20260131`, read as one: `events_*`, with `_TABLE_SUFFIX`.

https://cloud.google.com/bigquery/docs/querying-wildcard-tables: the columns are those of the newest table, views and
external tables may not be called so, and only conditions that compare `_TABLE_SUFFIX` with constants leave tables out
of the bill. A family that was found in a dataset is its days and nothing else that begins so: `events_*` does not hold
`events_intraday_20260131`, although BigQuery's wildcard would, so each of its statements says `DAYS_ONLY`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agnes_mcp.models import Column, Partition, TableSchema
from agnes_mcp.sources.bigquery.errors import Complaint
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts

if TYPE_CHECKING:
    from google.cloud import bigquery

ENTITY_TYPE = "SHARDED"
SUFFIX = "_TABLE_SUFFIX"
PARTITION_TYPE = "SHARD"
#: Tables of one day each that are found beside one another are taken for one table from this many on; a single one
#: is, where its name goes on from that of another family: `events_intraday_20260131`, beside `events_*`.
LEAST_SHARDS = 2
_DAY = "[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
_DAILY = re.compile(rf"(?P<prefix>.+_){_DAY}", re.DOTALL)
#: The range is what BigQuery leaves tables out by; the pattern is exact.
DAYS_ONLY = f"`{SUFFIX}` BETWEEN '00000101' AND '99991231' AND REGEXP_CONTAINS(`{SUFFIX}`, '^{_DAY}$')"
_PAGE = 1000


class Entry(NamedTuple):
    """A table of a dataset's listing. `native`: it has rows in BigQuery's own storage, and so may be a shard."""

    name: str
    native: bool = True


def fold(entries: Iterable[Entry]) -> list[str]:
    """The tables of a dataset, with `prefix_*` in place of those that differ by their day only."""
    listed = list(entries)
    days = Counter(prefix for entry in listed if entry.native and (prefix := daily_prefix(entry.name)))
    others = sorted(entry.name for entry in listed if not entry.native)
    many = {prefix for prefix, count in days.items() if count >= LEAST_SHARDS}
    whole = {prefix for prefix in days if prefix in many or any(outer in many for outer in _outer(prefix))}
    families = {prefix: f"{prefix}*" for prefix in whole if not _begins_one(prefix, others)}
    return list(dict.fromkeys(families.get(daily_prefix(entry.name), entry.name) for entry in listed))


def daily_prefix(name: str) -> str:
    """What stands before the day in the name of a table of one day; else ""."""
    found = _DAILY.fullmatch(name)
    return found["prefix"] if found else ""


def _outer(prefix: str) -> list[str]:
    """The prefixes that this one goes on from."""
    return [prefix[: at + 1] for at, character in enumerate(prefix[:-1]) if character == "_"]


def _begins_one(prefix: str, names: Sequence[str]) -> bool:
    """Whether one of these, in order, begins so."""
    at = bisect_left(names, prefix)
    return at < len(names) and names[at].startswith(prefix)


class Shards(NamedTuple):
    """The table made last of a family, and the one made last of all whose names begin so: BigQuery reads the columns of
    the latter."""

    newest: TablePath
    shaping: TablePath


def newest_shard(client: bigquery.Client, path: TablePath, attempts: Attempts, *, days_only: bool = False) -> Shards:
    """What `path`, which ends in `*`, stands for; free. Raises `bq_not_found`."""
    found = _begun_so(client, path, attempts)
    family = [entry for entry in found if not days_only or daily_prefix(entry[1]) == path.table[:-1]]
    if not family:
        raise attempts.error(
            Complaint(404, "notFound", f"{path.dotted} does not match any table."), "reading the schema"
        )
    return Shards(path._replace(table=max(family)[1]), path._replace(table=max(found)[1]))


def _begun_so(client: bigquery.Client, path: TablePath, attempts: Attempts) -> list[tuple[int, str]]:
    """The tables whose names begin so, each with the moment when it was made."""
    from google.cloud import bigquery

    prefix, reference = path.table[:-1], bigquery.DatasetReference(path.project, path.dataset)
    found: list[tuple[int, str]] = []
    token: str | None = None
    while True:

        def read(timeout_s: float, at: str | None = token) -> tuple[list[tuple[int, str]], str | None]:
            listing = client.list_tables(reference, page_token=at, page_size=_PAGE, retry=NO_RETRY, timeout=timeout_s)
            tables = [entry for entry in next(listing.pages, ()) if entry.table_id.startswith(prefix)]
            made = [(int(entry._properties.get("creationTime") or 0), str(entry.table_id)) for entry in tables]
            return made, listing.next_page_token

        page, token = attempts.run("looking for shards", read)
        found += page
        if not token:
            return found


def family_schema(newest: TableSchema, shaping: TableSchema, *, days_only: bool = False) -> TableSchema:
    """The schema of all of them, of that of the newest: sizes are not known, and the suffix is what cuts them.

    Of its columns those that BigQuery would read: `shaping` is the table whose columns it takes for all.
    """
    suffix = Column(name=SUFFIX, type="STRING", description="What stands for * in the name of the row's table")
    read = {(column.name.casefold(), column.type, column.mode) for column in shaping.columns}
    return newest.model_copy(
        update={
            "entity_type": ENTITY_TYPE,
            "columns": [c for c in newest.columns if (c.name.casefold(), c.type, c.mode) in read],
            "partition": Partition(column=SUFFIX, type=PARTITION_TYPE),
            "pseudo_columns": [*newest.pseudo_columns, suffix],
            "rows": None,
            "size_bytes": None,
            "modified": None,
            "primary_key": [],
            "always": DAYS_ONLY if days_only else "",
        }
    )
