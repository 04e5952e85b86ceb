"""BigQuery's names, checked whole before any of them stands in a path or in SQL."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from agnes_mcp.errors import ConfigError
from agnes_mcp.models import Table

# https://cloud.google.com/bigquery/docs/datasets#dataset-naming, …/tables#table_naming, and projects, where a domain
# may stand before the colon. Always used with fullmatch: `$` would let a final newline pass.
PROJECT = re.compile(r"(?:[a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
#: A table's name: letters, marks, numbers, connectors, dashes and spaces of any script, in at most 1,024 bytes.
_TABLE_CATEGORIES = ("L", "M", "N", "Pc", "Pd", "Zs")
_MAX_TABLE_BYTES = 1024
_ASCII_TABLE = re.compile(r"[A-Za-z0-9_ -]{1,1024}")


def is_table_name(name: str) -> bool:
    """Whether BigQuery allows a table to be called so."""
    if name.isascii():  # as almost all are, of the tens of thousands that a dataset may hold
        return _ASCII_TABLE.fullmatch(name) is not None
    allowed = all(unicodedata.category(character).startswith(_TABLE_CATEGORIES) for character in name)
    return allowed and 0 < len(name.encode("utf-8", "surrogatepass")) <= _MAX_TABLE_BYTES


class TablePath(NamedTuple):
    """Where a table is. `table` may end in `*`: then it is all whose names begin so, see `shards`."""

    project: str
    dataset: str
    table: str

    @property
    def resource(self) -> str:
        """As the Storage Read API writes it."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.table}"

    @property
    def is_family(self) -> bool:
        return self.table.endswith("*")

    @property
    def dotted(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


def table_path(table: Table, default_project: str) -> TablePath:
    """Raises `ConfigError` for a name that BigQuery does not allow."""
    path = TablePath(table.project or default_project, table.bucket, table.source_table or table.id)
    for what, allowed in (
        ("project", PROJECT.fullmatch(path.project)),
        ("bucket (dataset)", DATASET.fullmatch(path.dataset)),
        ("source_table", is_table_name(path.table.removesuffix("*"))),
    ):
        if not allowed:
            raise ConfigError(
                f"The {what} of table {table.id!r} is not a name that BigQuery allows.",
                "Whoever keeps this instance corrects it in instance.yaml under `tables`.",
                f"tables.{table.id}",
            )
    return path
