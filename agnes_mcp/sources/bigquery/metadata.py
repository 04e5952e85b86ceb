"""What BigQuery tells for free: `tables.get`, `tables.list`, `tabledata.list`. Never a query job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from agnes_mcp.models import Column, Partition, Table, TableSchema
from agnes_mcp.sources.bigquery.fields import columns_of, count_of, table_of_rows
from agnes_mcp.sources.bigquery.names import TablePath, is_table_name
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts
from agnes_mcp.sources.bigquery.shards import Entry, fold

if TYPE_CHECKING:
    from google.cloud import bigquery

#: REST's `type` without case, space or underscore → the word that INFORMATION_SCHEMA.TABLES uses.
_ENTITY_TYPES = {
    "TABLE": "BASE TABLE",
    "BASETABLE": "BASE TABLE",
    "VIEW": "VIEW",
    "MATERIALIZEDVIEW": "MATERIALIZED VIEW",
    "EXTERNAL": "EXTERNAL",
    "SNAPSHOT": "SNAPSHOT",
    "CLONE": "CLONE",
}
#: What holds rows of its own, and so has sizes and free previews.
STORED = frozenset({"BASE TABLE", "SNAPSHOT", "CLONE"})
#: `tables.list` gives at most so many a page.
TABLES_PER_PAGE = 1000


#: The end of the year 9999: what is later is no moment.
_LAST_MS = 253_402_300_799_999


def entity_type(resource: Mapping[str, Any]) -> str:
    """The canonical entity type of a `tables.get` or `tables.list` resource; an unknown one is given as it is."""
    if resource.get("cloneDefinition"):
        return "CLONE"
    given = str(resource.get("type") or "TABLE")
    return _ENTITY_TYPES.get(given.upper().replace(" ", "").replace("_", ""), given)


def fetch_resource(client: bigquery.Client, path: TablePath, attempts: Attempts) -> dict[str, Any]:
    """The table resource of `tables.get`: one free call."""
    from google.cloud import bigquery

    reference = bigquery.DatasetReference(path.project, path.dataset).table(path.table)
    found = attempts.run(
        "reading the schema", lambda timeout_s: client.get_table(reference, retry=NO_RETRY, timeout=timeout_s)
    )
    resource: dict[str, Any] = found.to_api_repr()
    return resource


def schema_of(table: Table, resource: Mapping[str, Any]) -> TableSchema:
    """A table resource as a `TableSchema`. Rows and bytes are None for whatever holds no rows of its own."""
    kind = entity_type(resource)
    stored = kind in STORED
    partition = partition_of(resource)
    key = (resource.get("tableConstraints") or {}).get("primaryKey") or {}
    return TableSchema(
        table_id=table.id,
        columns=columns_of((resource.get("schema") or {}).get("fields") or ()),
        pseudo_columns=_pseudo_columns(partition, kind),
        partition=partition,
        clustered_by=list((resource.get("clustering") or {}).get("fields") or ()),
        primary_key=list(table.primary_key or key.get("columns") or ()),
        description=str(resource.get("description") or table.description),
        entity_type=kind,
        rows=count_of(resource.get("numRows")) if stored else None,
        size_bytes=count_of(resource.get("numBytes")) if stored else None,
        modified=_moment(resource.get("lastModifiedTime")),
        etag=str(resource.get("etag") or ""),
        labels=dict(resource.get("labels") or {}),
        location=table.location or str(resource.get("location") or ""),
    )


def partition_of(resource: Mapping[str, Any]) -> Partition | None:
    required = bool(resource.get("requirePartitionFilter"))
    if by_time := resource.get("timePartitioning"):
        return Partition(
            column=by_time.get("field"),
            type=str(by_time.get("type") or "DAY"),
            filter_required=required or bool(by_time.get("requirePartitionFilter")),
        )
    if by_range := resource.get("rangePartitioning"):
        return Partition(column=by_range.get("field"), type="RANGE", filter_required=required)
    hive = (resource.get("externalDataConfiguration") or {}).get("hivePartitioningOptions")
    if hive:
        keys = list(hive.get("fields") or ())
        required = required or bool(hive.get("requirePartitionFilter"))
        return Partition(column=keys[0] if keys else None, type="HIVE", filter_required=required)
    return None


def _pseudo_columns(partition: Partition | None, kind: str) -> list[Column]:
    """Columns that can be filtered on without being in the schema."""
    if kind == "EXTERNAL":
        return [Column(name="_FILE_NAME", type="STRING", description="The file that the row comes from")]
    if partition is None or partition.column is not None or partition.type == "HIVE":
        return []
    columns = [Column(name="_PARTITIONTIME", type="TIMESTAMP", description="Start of the row's partition, in UTC")]
    if partition.type == "DAY":
        columns.append(Column(name="_PARTITIONDATE", type="DATE", description="Day of the row's partition, in UTC"))
    return columns


def _moment(milliseconds: object) -> datetime | None:
    found = count_of(milliseconds)
    return None if found is None or found > _LAST_MS else datetime.fromtimestamp(found / 1000, UTC)


def preview_rows(
    client: bigquery.Client, path: TablePath, schema: TableSchema, columns: list[str], n: int, attempts: Attempts
) -> pa.Table:
    """Up to `n` rows of a stored table through `tabledata.list`, which bills nothing; columns in the given order."""
    wanted = {name.casefold() for name in columns}
    selected = [column for column in schema.columns if column.name.casefold() in wanted]
    rows = [row for page in row_pages(client, path, selected, attempts, max_rows=n) for row in page]
    by_name = {column.name.casefold(): column.name for column in selected}
    return table_of_rows(selected, rows).select([by_name[name.casefold()] for name in columns])


def row_pages(
    client: bigquery.Client,
    path: TablePath,
    selected: list[Column],
    attempts: Attempts,
    max_rows: int | None = None,
    page_rows: int | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a stored table through REST, a page at a time, free, as BigQuery sends them; see `table_of_rows`."""
    from google.cloud import bigquery

    fields = [bigquery.SchemaField(column.name, "STRING") for column in selected]
    reference = bigquery.DatasetReference(path.project, path.dataset).table(path.table)
    token: str | None = None
    left = max_rows
    while True:

        def read(timeout_s: float, at: str | None = token, most: int | None = left) -> tuple[list[Any], str | None]:
            listing = client.list_rows(
                reference,
                fields,
                max_results=most,
                page_token=at,
                page_size=page_rows,
                retry=NO_RETRY,
                timeout=timeout_s,
            )
            page = next(listing.pages, None)
            return list(page.raw_page.get("rows") or ()) if page is not None else [], listing.next_page_token

        rows, token = attempts.run("reading rows", read)
        rows = rows[:left]
        yield rows
        left = None if left is None else left - len(rows)
        if not token or left == 0:
            return


def count_tables(client: bigquery.Client, project: str, dataset: str, most: int, attempts: Attempts) -> int:
    """How many tables a dataset has, counted up to `most`, which one page holds."""
    from google.cloud import bigquery

    reference = bigquery.DatasetReference(project, dataset)

    def read(timeout_s: float) -> int:
        listed = client.list_tables(reference, max_results=most, page_size=most, retry=NO_RETRY, timeout=timeout_s)
        return sum(1 for _ in listed)

    return attempts.run(f"listing the dataset {dataset}", read)


def list_dataset(client: bigquery.Client, project: str, dataset: str, attempts: Attempts) -> list[Table]:
    """Every table, view and external table of a dataset, page by page; tables of one day each are one table, see
    `shards`. A name that cannot stand in SQL is left out."""
    from google.cloud import bigquery

    reference = bigquery.DatasetReference(project, dataset)
    found: list[Entry] = []
    token: str | None = None
    while True:

        def read(timeout_s: float, at: str | None = token) -> tuple[list[Entry], str | None]:
            return _list_page(client, reference, at, timeout_s)

        page, token = attempts.run(f"listing the dataset {dataset}", read)
        found.extend(page)
        if not token:
            return _listed(project, dataset, fold(e for e in found if is_table_name(e.name)))
        attempts.call.report(len(found), None, f"{len(found)} tables of {dataset} found")


def _listed(project: str, dataset: str, names: list[str]) -> list[Table]:
    """What differs in tables of one dataset is put into copies of one, as pickle makes them: they are tens of
    thousands, and each one checked anew would take longer than the listing."""
    prefix = f"{project}.{dataset}."
    first = Table(
        id="-", name="-", source_type="bigquery", query_mode="remote", bucket=dataset, project="", source_table="-",
        place=prefix, discovered=True, primary_key=[],
    )  # fmt: skip
    state = first.__getstate__()
    shared = state["__dict__"]
    listed = []
    for name in names:
        table = Table.__new__(Table)
        own = {**shared, "id": name, "name": name, "source_table": name, "place": prefix + name}
        table.__setstate__({**state, "__dict__": own})
        listed.append(table)
    return listed


def _list_page(
    client: bigquery.Client, reference: bigquery.DatasetReference, token: str | None, timeout_s: float
) -> tuple[list[Entry], str | None]:
    listing = client.list_tables(
        reference, page_token=token, page_size=TABLES_PER_PAGE, retry=NO_RETRY, timeout=timeout_s
    )
    page = next(listing.pages, None)
    listed = (page.raw_page.get("tables") or ()) if page is not None else ()
    entries = [Entry(each["tableReference"]["tableId"], each.get("type", "TABLE") == "TABLE") for each in listed]
    return entries, listing.next_page_token
