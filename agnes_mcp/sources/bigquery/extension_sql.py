"""The SQL that sets the DuckDB `bigquery` extension up and reads with it: the only SQL that ever runs there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings

#: The environment variable that names a local `.duckdb_extension` file instead of the community repository.
FILE_VARIABLE = "AGNES_BIGQUERY_EXTENSION"
QUERY_TIMEOUT_MS = 600_000

#: Global, before the first ATTACH. First insertion order: the extension prints to stdout when it finds it preserved.
SETTINGS = (
    "SET GLOBAL preserve_insertion_order = false",
    # Otherwise the first use of a catalog runs a billed query job over INFORMATION_SCHEMA.
    "SET GLOBAL bq_experimental_use_info_schema = false",
    # Top-N over an attached table is an internal error that invalidates the instance.
    "SET GLOBAL disabled_optimizers = 'top_n'",
    # 0, its default, waits for ever.
    f"SET GLOBAL bq_query_timeout_ms = {QUERY_TIMEOUT_MS}",
)


def load(file: str) -> list[str]:
    """From the community repository, or from a local file (which DuckDB takes only when unsigned ones are allowed)."""
    return [f"LOAD {literal(file)}"] if file else ["INSTALL bigquery FROM community", "LOAD bigquery"]


class ExtensionStatements:
    """How the attached process reaches BigQuery: the one place that names its statements, so that a file can stand in
    for BigQuery under the same three-part names."""

    extension = "bigquery"

    def __init__(self, settings: BigQuerySettings, file: str = "") -> None:
        self._settings = settings
        self.unsigned = bool(file)
        self.load = [*load(file), *SETTINGS]

    def secret(self) -> str:
        """Takes the token as its parameter: a parser's complaint repeats the statement. Temporary, and of every project
        that is attached; it counts from the extension's next request on."""
        return 'CREATE OR REPLACE SECRET "agnes_bigquery" (TYPE bigquery, ACCESS_TOKEN ?)'

    def attach(self, project: str, dataset: str) -> str:
        """One dataset, never a whole project: attaching that lists everything in it. Makes no request by itself."""
        parts = {
            "project": project,
            "dataset": dataset,
            "billing_project": self._settings.billed_project,
            "api_endpoint": self._settings.api_endpoint or "",
        }
        target = " ".join(f"{name}={value}" for name, value in parts.items() if value)
        return f"ATTACH {literal(target)} AS {identifier(alias(project, dataset))} (TYPE bigquery, READ_ONLY)"

    def select(self, path: TablePath, columns: Sequence[str]) -> str:
        """A plain projection; the extension is trusted with nothing else, and with no text of anybody's."""
        names = ", ".join(identifier(name) for name in columns)
        place = identifier(alias(path.project, path.dataset), path.dataset, path.table)
        return f"SELECT {names} FROM {place}"  # noqa: S608 - every name is quoted


def alias(project: str, dataset: str) -> str:
    """The database under which a dataset is attached."""
    return f"bq:{project}.{dataset}"
