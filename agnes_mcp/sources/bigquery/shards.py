"""Tables that are cut into one table a day, `events_20260131`, read as one: `events_*`, with `_TABLE_SUFFIX`.

https://cloud.google.com/bigquery/docs/querying-wildcard-tables: the columns are those of the newest table, and only
conditions that compare `_TABLE_SUFFIX` with constants leave tables out of the bill.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Partition, TableSchema
from agnes_mcp.sources.bigquery.errors import Complaint
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts

if TYPE_CHECKING:
    from google.cloud import bigquery

ENTITY_TYPE = "SHARDED"
SUFFIX = "_TABLE_SUFFIX"
PARTITION_TYPE = "SHARD"
#: Tables of one day each that are found beside one another are taken for one table from this many on.
LEAST_SHARDS = 2
_DAILY = re.compile(r"(?P<prefix>.+_)(?P<day>[0-9]{8})", re.DOTALL)
_PAGE = 1000


def fold(names: Iterable[str]) -> list[str]:
    """The tables of a dataset, with `prefix_*` in place of those that differ by their day only.

    Only where nothing else begins so: what is read by `prefix_*` is all that begins with it, and is granted as one.
    """
    listed = list(names)
    families: dict[str, set[str]] = defaultdict(set)
    for name in listed:
        if prefix := _daily_prefix(name):
            families[prefix].add(name)
    whole = {
        prefix: days
        for prefix, days in families.items()
        if len(days) >= LEAST_SHARDS and sum(name.startswith(prefix) for name in listed) == len(days)
    }
    return list(dict.fromkeys(f"{p}*" if (p := _daily_prefix(name)) in whole else name for name in listed))


def _daily_prefix(name: str) -> str:
    found = _DAILY.fullmatch(name)
    if found is None:
        return ""
    try:
        datetime.strptime(found["day"], "%Y%m%d")
    except ValueError:
        return ""
    return found["prefix"]


def newest_shard(client: bigquery.Client, path: TablePath, attempts: Attempts) -> TablePath:
    """The table made last of those that `path`, which ends in `*`, stands for; free. Raises `bq_not_found`."""
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
            break
    if not found:
        raise attempts.error(
            Complaint(404, "notFound", f"{path.dotted} does not match any table."), "reading the schema"
        )
    return path._replace(table=max(found)[1])


def family_schema(newest: TableSchema) -> TableSchema:
    """The schema of all of them, of that of the newest: sizes are not known, and the suffix is what cuts them."""
    suffix = Column(name=SUFFIX, type="STRING", description="What stands for * in the name of the row's table")
    return newest.model_copy(
        update={
            "entity_type": ENTITY_TYPE,
            "partition": Partition(column=SUFFIX, type=PARTITION_TYPE),
            "pseudo_columns": [*newest.pseudo_columns, suffix],
            "rows": None,
            "size_bytes": None,
            "modified": None,
            "primary_key": [],
        }
    )


def refuse_others(path: TablePath, referenced: Iterable[str]) -> None:
    """Raise `schema_changed` where a statement over a family that was found, and not configured, reads another table
    than one of a day: it was granted as the days, and has become more."""
    prefix = f"{path.project}.{path.dataset}.{path.table[:-1]}"
    for dotted in referenced:
        if dotted.startswith(prefix) and _daily_prefix(dotted) != prefix:
            raise AgnesError(
                "schema_changed",
                f"Another table than those of single days has come to be called {path.table}.",
                "Call `catalog` with refresh: the tables are then listed one by one. Whoever keeps this instance may "
                "enter them as one under `tables`.",
            )
