"""What a predicate may cost decides where it runs, and nothing else: the same rows, order and errors either way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psutil
import pytest
from support.waiting import wait_until

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Aggregate, Price, Principal, Relation, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.sources.local import JOB
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.sql import duckdb_lines
from agnes_mcp.sql.statement import build_statement

ANA = Principal("ana")
FREE = Price(scan_bytes=0, reserved_bytes=0)
ROWS = """
    SELECT range AS id, ['CZ', 'DE', 'SK', NULL][1 + range % 4] AS country, (range * 2.5)::DECIMAL(10, 2) AS amount,
        'note ' || range AS note, DATE '2024-01-01' + (range % 60)::INT AS day, ['a', 'b'][:range % 3] AS tags,
        ('{"n": ' || range || '}')::JSON AS props, {'x': range, 'y': 'z' || range} AS inner_row,
        CASE WHEN range % 2 = 0 THEN '\\xFF\\xFE'::BLOB ELSE 'bb'::BLOB END AS raw, range::UHUGEINT AS huge,
        '00000000-0000-0000-0000-00000000000' || range % 10 AS uid
    FROM range(3000)"""


class Served(NamedTuple):
    source: LocalSource
    processes: Processes
    tables: dict[str, Table]
    schemas: dict[str, TableSchema]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS {ROWS}")
        connection.execute(f"COPY t TO '{folder}/t.parquet' (ROW_GROUP_SIZE 2048)")
        connection.execute(f"COPY (SELECT id, country, note FROM t) TO '{folder}/t.csv'")
        connection.execute(f"COPY (SELECT id, note FROM t) TO '{folder}/t.json'")
        connection.execute(f"ATTACH '{folder}/t.duckdb' AS f")
        connection.execute("CREATE TABLE f.t AS FROM t")
        connection.execute("CREATE VIEW f.v AS SELECT id, note FROM t WHERE regexp_matches(note, '7$')")
        connection.execute(
            "CREATE TABLE f.computed (id BIGINT DEFAULT 5, twice BIGINT AS (id * 2), long AS (repeat('a', 5)))"
        )
        connection.execute("INSERT INTO f.computed VALUES (1), (2)")
        connection.execute("CREATE TABLE f.telling (id BIGINT, here AS (current_setting('temp_directory')))")
        connection.execute("DETACH f")
    tables = {
        "parquet": Table(id="parquet", source_type="local", path=f"{folder}/t.parquet"),
        "csv": Table(id="csv", source_type="local", path=f"{folder}/t.csv"),
        "json": Table(id="json", source_type="local", path=f"{folder}/t.json"),
        "stored": Table(id="stored", source_type="local", path=f"{folder}/t.duckdb", source_table="t"),
        "view": Table(id="view", source_type="local", path=f"{folder}/t.duckdb", source_table="v"),
    }
    warehouse = Warehouse(memory_limit_bytes=2**28, threads=2)
    processes = Processes(JOB, size=2, memory_bytes=192 * 2**20, threads=2)
    source = LocalSource(warehouse, processes)
    schemas = {name: source.schema(table, Call("schema", ANA)) for name, table in tables.items()}
    yield Served(source, processes, tables, schemas)
    processes.close()
    warehouse.close()


def built(served: Served, name: str, request: ScanRequest) -> Statement:
    return build_statement(request, served.schemas[name], Relation("", "", name), "duckdb", 10_000)


def read(served: Served, name: str, statement: Statement, call: Call | None = None) -> tuple[Any, Any]:
    """Schema and rows, or kind and message of the error."""
    call = call or Call("scan", ANA, 60)
    try:
        with served.source.read(served.tables[name], served.schemas[name], statement, FREE, call) as reading:
            rows = [row for batch in reading for row in batch.to_pylist()]
            return str(reading.schema), rows
    except AgnesError as error:
        return error.kind, (error.message, error.hint)


CONDITIONS = [
    "regexp_matches(note, '7$')",
    "note ILIKE '%o%e%1%'",
    "note LIKE '%n%t%'",
    "list_contains(tags, 'a')",
    "json_extract_string(props, '$.n') = '17'",
    "concat(note, note, note, note, note) = 'x'",
    "inner_row.x > 2990",
    "raw = CAST('bb' AS VARCHAR)",
    "regexp_replace(note, 'o', 'oo') = 'noote 5'",
    "tags[1] = 'a' AND id < 10",
    "",
]
REQUESTS = [ScanRequest(table_id="t", where=where, order_by=["id"]) for where in CONDITIONS] + [
    ScanRequest(table_id="t", where="note ILIKE '%o%e%1%'", group_by=["country"],
                aggregates=[Aggregate(function="count"), Aggregate(function="sum", column="amount")],
                order_by=["country"]),
    ScanRequest(table_id="t", select=["huge", "uid", "inner_row.y"], where="note LIKE 'n%1%'", order_by=["huge"],
                limit=7),
    ScanRequest(table_id="t", where="regexp_matches(note, '(')"),
    ScanRequest(table_id="t", where="CAST(note AS INTEGER) = 4"),
    ScanRequest(table_id="t", where="id / 0 = 1 OR CAST(note AS DATE) = day"),
    ScanRequest(table_id="t", select=["id"], where="regexp_matches(note, 'never')"),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.where} {r.group_by or ''}")
@pytest.mark.parametrize("name", ["parquet", "stored"])
def test_the_same_rows_order_and_errors(served: Served, name: str, request_: ScanRequest) -> None:
    statement = built(served, name, request_)
    here = read(served, name, statement.model_copy(update={"bounded": True}))
    apart = read(served, name, statement.model_copy(update={"bounded": False}))
    assert here == apart


@pytest.mark.parametrize("name", ["csv", "json"])
@pytest.mark.parametrize("where", ["regexp_matches(note, '7$')", "note LIKE '%n%t%'", "CAST(note AS INTEGER) = 4"])
def test_text_files_too(served: Served, name: str, where: str) -> None:
    statement = built(served, name, ScanRequest(table_id=name, where=where, order_by=["id"]))
    assert not statement.bounded or "CAST" in where
    here = read(served, name, statement.model_copy(update={"bounded": True}))
    assert here == read(served, name, statement.model_copy(update={"bounded": False}))


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("where", ["note = day", "id = 'x'", "CAST(note AS INTEGER) = 4", "tags = id"])
def test_types_that_do_not_fit_are_the_conditions_fault(served: Served, where: str, bounded: bool) -> None:
    """The table is as it was: to be sent to `schema` again would make an agent loop."""
    statement = built(served, "parquet", ScanRequest(table_id="parquet", where=where))
    kind, told = read(served, "parquet", statement.model_copy(update={"bounded": bounded}))
    assert kind == "query_failed"
    assert "TRY_CAST" in told[1]
    assert "note 0" not in str(told)


def test_what_a_table_of_a_file_computes_runs_apart_and_tells_of_nothing_else(served: Served) -> None:
    path = served.tables["stored"].path
    table, telling = (Table(id=n, source_type="local", path=path) for n in ("computed", "telling"))
    served.tables["computed"], served.schemas["computed"] = table, served.source.schema(table, Call("schema", ANA))
    statement = built(served, "computed", ScanRequest(table_id="computed", order_by=["id"]))
    assert served.source.reads_apart(table, statement)
    assert read(served, "computed", statement)[1] == [
        {"id": 1, "twice": 2, "long": "aaaaa"},
        {"id": 2, "twice": 4, "long": "aaaaa"},
    ]
    with pytest.raises(AgnesError) as refused:
        served.source.schema(telling, Call("schema", ANA))
    assert refused.value.kind == "table_unavailable"


def test_a_view_that_somebody_stored_runs_apart(served: Served) -> None:
    started = served.processes.pool.started
    _, rows = read(served, "view", built(served, "view", ScanRequest(table_id="view", order_by=["id"])))
    assert [row["id"] for row in rows] == list(range(7, 3000, 10))
    assert served.processes.pool.started >= max(1, started)
    sample = served.source.preview(served.tables["view"], served.schemas["view"], ["id"], 3, Call("sample", ANA, 60))
    assert sample is not None
    assert sample.num_rows == 3


#: Each takes hours, or gigabytes, on the rows of this table, and none can be interrupted.
ENDLESS = "concat('{}', note) ILIKE '%{}Z'"
BACKTRACKING = ENDLESS.format("a" * 3000, "%a" * 12)
GROWING = f"length(concat(note, replace('{'a' * 7500}', 'a', '{'B' * 64}'))) = 7"


def ended_by(served: Served, where: str, call: Call) -> str:
    kind, _ = read(served, "parquet", built(served, "parquet", ScanRequest(table_id="parquet", where=where)), call)
    return str(kind)


@pytest.mark.skipif(duckdb_lines.line() != "1.5", reason="this DuckDB matches such a pattern at once")
def test_a_pattern_that_cannot_be_interrupted_ends_at_the_deadline(served: Served) -> None:
    assert ended_by(served, BACKTRACKING, Call("scan", ANA, 0.7)) == "timeout"
    assert ended_by(served, "regexp_matches(note, '7$')", Call("scan", ANA, 60)).startswith("id: int64")


def worked_s(served: Served) -> float:
    """CPU time of the processes that are there, in seconds."""
    total = 0.0
    for pid in served.processes.state()["processes"]:
        with suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).cpu_times().user
    return total


@pytest.mark.skipif(duckdb_lines.line() != "1.5", reason="this DuckDB matches such a pattern at once")
def test_a_pattern_that_cannot_be_interrupted_ends_when_the_call_is_cancelled(served: Served) -> None:
    call, kinds = Call("scan", ANA, 60), list[str]()
    asking = threading.Thread(target=lambda: kinds.append(ended_by(served, BACKTRACKING, call)))
    before_s = worked_s(served)
    asking.start()
    wait_until(lambda: worked_s(served) > before_s + 0.3)
    call.stop(cancelled())
    asking.join(60)
    assert kinds == ["cancelled"]


def test_text_that_grows_takes_no_memory_of_the_server(served: Served) -> None:
    before = psutil.Process().memory_info().rss
    assert ended_by(served, GROWING, Call("scan", ANA, 60)) in ("query_out_of_memory", "timeout")
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


def test_leaving_early_ends_the_read_and_the_next_one_is_served(served: Served, tmp_path: Path) -> None:
    statement = built(served, "parquet", ScanRequest(table_id="parquet", where="regexp_matches(note, 'n')"))
    call = Call("scan", ANA, 60)
    with served.source.read(served.tables["parquet"], served.schemas["parquet"], statement, FREE, call) as reading:
        assert next(iter(reading)).num_rows > 0
    assert len(read(served, "parquet", statement)[1]) == 3000
