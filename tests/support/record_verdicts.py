"""The gate's verdict on each statement of a corpus, by the line of DuckDB that reads it.

    cd tests && python -m support.record_verdicts    under each line in turn, after a change of gate or corpus

The corpus is every case of the workbench, and one of every form that the parser knows. The fixture holds one JSON
object a line: `sql`, `hostile`, and under each line of DuckDB the verdict: "admitted" with the tables that are read, or
the kind of error.
"""

from __future__ import annotations

import json
from typing import Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_lines
from agnes_mcp.workbench import admission
from agnes_mcp.workbench.parser import DuckDBParser
from support.workbench_cases import FIXTURES, cases

VERDICTS = FIXTURES / "verdicts.jsonl"
TABLES = ("orders", "customers", "events", "rates")
PLACES = {"foreign": "/data/foreign.parquet", "folder": "/data", "orders": "/data/orders_1.parquet"}


def verdict(sql: str, parser: DuckDBParser) -> str:
    try:
        return " ".join(["admitted", *admission.admit(sql, TABLES, parser)])
    except AgnesError as error:
        return error.kind


def placed(sql: str) -> str:
    for name, place in PLACES.items():
        sql = sql.replace(f"{{{name}}}", place)
    return sql


def corpus() -> list[dict[str, Any]]:
    """Every statement once; `hostile` are those that must be refused whoever reads them."""
    found: dict[str, bool] = {}
    for name, hostile in (("accepted.sql", False), ("escapes.sql", True), ("bombs.sql", False), ("forms.sql", False)):
        found |= {placed(case.sql): hostile or case.stated == "hostile" for case in cases(name)}
    return [{"sql": sql, "hostile": hostile} for sql, hostile in found.items()]


def main() -> None:
    kept = {}
    if VERDICTS.exists():
        kept = {entry["sql"]: entry for entry in map(json.loads, VERDICTS.read_text(encoding="utf-8").splitlines())}
    parser = DuckDBParser(256 * 2**20)
    entries = [kept.get(entry["sql"], {}) | entry for entry in corpus()]
    for entry in entries:
        entry[duckdb_lines.line()] = verdict(entry["sql"], parser)
    lines = [json.dumps(entry, ensure_ascii=False, sort_keys=True) for entry in entries]
    VERDICTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
