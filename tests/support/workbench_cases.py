"""Small tables of every kind of file, and the tables of cases of the workbench's tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.models import Principal
from agnes_mcp.sql import names
from agnes_mcp.sql.views import View
from agnes_mcp.workbench import JOB
from agnes_mcp.workbench.workbench import Result, Workbench

FIXTURES = Path(__file__).parent.parent / "fixtures" / "query"

_TABLES = {
    "orders": """
        SELECT range AS id, ['CZ', 'DE', 'SK'][1 + range % 3] AS country, range % 5 AS customer_id,
            (range * 2.5)::DECIMAL(10, 2) AS amount, ['paid', 'open', 'shipped', 'void'][1 + range % 4] AS status,
            TIMESTAMP '2024-01-01 08:00:00' + INTERVAL (range * 12) HOUR AS ts,
            CASE WHEN range % 7 = 0 THEN NULL ELSE 'note ' || range END AS note,
            CASE WHEN range % 2 = 0 THEN ['a', 'b'] ELSE ['c'] END AS tags
        FROM range(60)""",
    "customers": """
        SELECT range AS id, ['Anna Nova', 'Bea', 'Cyril Zak', 'Dana', 'Adam 100%'][range + 1] AS name,
            {'city': ['Praha', 'Berlin'][1 + range % 2], 'zip': range} AS address FROM range(5)""",
    "events": """
        SELECT range AS id, range % 4 AS customer_id, ['view', 'click'][1 + range % 2] AS kind,
            TIMESTAMP '2024-01-01' + INTERVAL (range) DAY AS at,
            ('{"page": "p' || range % 3 || '", "n": ' || range || ', "tags": [1, 2]}')::JSON AS props FROM range(12)""",
    "rates": "SELECT * FROM (VALUES ('CZ', 25.1), ('DE', 1.0)) t(country, rate)",
}


class Dataset(NamedTuple):
    """The files, the views over them, and a table of somebody else."""

    folder: Path
    views: list[View]
    foreign: Path


def write_dataset(folder: Path) -> Dataset:
    """`orders` and `events` are Parquet (two files and one), `customers` is in a DuckDB file, `rates` is CSV."""
    with duckdb.connect() as con:
        for name, sql in _TABLES.items():
            con.execute(f"CREATE TABLE {name} AS {sql}")
        con.execute(f"COPY (FROM orders WHERE id < 30) TO '{folder}/orders_1.parquet'")
        con.execute(f"COPY (FROM orders WHERE id >= 30) TO '{folder}/orders_2.parquet'")
        con.execute(f"COPY events TO '{folder}/events.parquet'")
        con.execute(f"COPY rates TO '{folder}/rates.csv' (HEADER, DELIM ';')")
        con.execute(f"ATTACH '{folder}/shop.duckdb' AS shop")
        con.execute("CREATE TABLE shop.customers AS FROM customers")
        con.execute("CREATE TABLE shop.payroll AS SELECT 'canary-payroll' AS salary")
        foreign = folder / "of_another_user.parquet"
        con.execute(f"COPY (SELECT 'canary-foreign' AS secret) TO '{foreign}'")
    return Dataset(folder, _views(folder), foreign)


def _views(folder: Path) -> list[View]:
    csv_options: dict[str, names.Literal] = {
        "delim": ";",
        "header": True,
        "columns": {"country": "VARCHAR", "rate": "DOUBLE"},
    }
    return [
        View("orders", "parquet", [f"{folder}/orders_1.parquet", f"{folder}/orders_2.parquet"]),
        View("events", "parquet", [f"{folder}/events.parquet"]),
        View("rates", "csv", [f"{folder}/rates.csv"], csv_options),
        View("customers", "duckdb_table", [f"{folder}/shop.duckdb"], source_table="customers"),
    ]


@contextmanager
def opened(pool_size: int = 2, timeout_s: float = 30, **processes: Any) -> Iterator[Workbench]:
    """A workbench over processes of its own, which end with the block."""
    bench = Workbench(Processes(JOB, size=pool_size, **processes), timeout_s=timeout_s)
    try:
        yield bench
    finally:
        bench.processes.close()


def run(bench: Workbench, sql: str, views: list[View], **limits: Any) -> Result:
    """One call with roomy limits."""
    limits = {"limit_rows": 10_000, "max_bytes": 10 * 2**20} | limits
    call = limits.pop("call", None) or Call("query", Principal("ana"))
    return bench.run(sql, views, call=call, **limits)


def rows(result: Result) -> list[list[Any]]:
    """Rows as JSON would have them: texts for what JSON has not."""
    columns = [_values(column) for column in result.table().columns]
    return [[plain(value) for value in row] for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """As Python has them; as Arrow prints them where Python has no such moment (infinity, as a day)."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [column.slice(row, 1).to_string() for row in range(len(column))]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, int | float | str | bool | None) else str(value)


class Case(NamedTuple):
    """One line of a table of cases: the SQL and what is stated after `-->`."""

    line: int
    sql: str
    stated: str


def cases(name: str) -> list[Case]:
    """The cases of a file, without its headings (lines that begin with two dashes) and empty lines."""
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        sql, _, stated = line.rpartition(" --> ") if " --> " in line else (line, "", "")
        if line.strip() and not line.startswith("-- "):
            found.append(Case(number, sql.strip(), stated.strip()))
    return found


def stated_rows(case: Case) -> Any:
    return json.loads(case.stated)
