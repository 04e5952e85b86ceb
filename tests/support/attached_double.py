"""The attached process with a file in BigQuery's place, which misbehaves as the extension was seen to.

It is the real process and the real job; what differs are the statements (`FileStatements`: a DuckDB file attached under
the same three-part names) and a function in them that does, in the middle of a scan, what the extension did
(`attached_double_process`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.sources.bigquery.extension_sql import ExtensionStatements, alias

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.names import TablePath

COMMAND = ("-I", "-B", str(Path(__file__).with_name("attached_double_process.py").resolve()))


class FileStatements(ExtensionStatements):
    """`file` stands for BigQuery. `fault` is what happens at the row `at`, or when it is loaded (`load:…`)."""

    def __init__(self, settings: BigQuerySettings, file: Path, fault: str = "", at: int = 0) -> None:
        super().__init__(settings)
        self._file = file
        self._loading, self._reading = (fault, "") if fault.startswith("load:") else ("", fault)
        self._at = at
        self.load = ["SET GLOBAL preserve_insertion_order = false", f"SELECT '{self._loading}'"]

    def secret(self) -> str:
        return "CREATE OR REPLACE TABLE memory.main.secret AS SELECT ? AS token"  # of the instance, as a secret is

    def attach(self, project: str, dataset: str) -> str:
        return f"ATTACH IF NOT EXISTS '{self._file}' AS \"{alias(project, dataset)}\" (READ_ONLY)"

    def select(self, path: TablePath, columns: Sequence[str]) -> str:
        return f"{super().select(path, columns)} -- {self._reading or 'nothing'}:{self._at}"
