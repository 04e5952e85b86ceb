"""DuckDB's own parser, asked by the gate."""

from __future__ import annotations

from typing import Any

from agnes_mcp.sql import duckdb_trees
from agnes_mcp.sql.instance import lock_instance, open_instance


class DuckDBParser:
    """DuckDB's parser: an instance of its own that holds nothing, locked, kept for the life of the process."""

    def __init__(self, memory_bytes: int) -> None:
        self._connection = open_instance(memory_bytes, threads=1)
        lock_instance(self._connection, [])

    def tree(self, sql: str) -> dict[str, Any]:
        return duckdb_trees.parsed(self._connection, sql)

    def semicolons(self, sql: str) -> int:
        import duckdb

        text = sql.encode()
        return sum(
            1 for offset, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator and text[offset] == 0x3B
        )
