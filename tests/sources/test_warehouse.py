"""The shared DuckDB connection: its settings, its cursors, its errors, its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.errors import KINDS, AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.sources.warehouse import SPILL_PREFIX, Warehouse, sweep_spill
from agnes_mcp.sql.duckdb_errors import of_our_statement
from agnes_mcp.untrusted import without_paths

MB = 2**20


def opened(root: Path, **more: int) -> Warehouse:
    return Warehouse(memory_limit_bytes=more.get("memory_limit_bytes", 256 * MB), threads=2, spill_root=root)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return opened(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("memory_limit", "256.0 MiB"),
        ("threads", 2),
        ("TimeZone", "UTC"),
        ("autoinstall_known_extensions", False),
        ("autoload_known_extensions", False),
        ("allow_unsigned_extensions", False),
        ("allow_persistent_secrets", False),
        ("python_enable_replacements", False),
        ("preserve_insertion_order", True),
    ],
)
def test_settings_hold_on_every_cursor(warehouse: Warehouse, setting: str, value: object) -> None:
    """Read back from a cursor, again after a reopening."""
    for _ in range(2):
        with warehouse.cursor() as cursor:
            assert cursor.execute("SELECT current_setting(?)", [setting]).fetchall() == [(value,)]
        warehouse.reopen()


def test_a_spill_folder_of_its_own_is_removed_at_the_end(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    folders = set()
    for warehouse in (first, second):
        with warehouse.cursor() as cursor:
            folders.add(cursor.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])
    assert len(folders) == 2
    assert all(Path(folder).parent == tmp_path for folder in folders)
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_spill_of_dead_processes_is_swept_and_of_living_ones_kept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    for name in (
        f"{SPILL_PREFIX}{ended.pid}-x",
        f"{SPILL_PREFIX}{os.getpid()}-y",
        "someone-else",
        f"{SPILL_PREFIX}z-1",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spill.tmp").write_text("x")
    sweep_spill(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{SPILL_PREFIX}{os.getpid()}-y", f"{SPILL_PREFIX}z-1", "someone-else"
    ]  # fmt: skip


def test_a_sort_larger_than_memory_spills_and_answers(tmp_path: Path) -> None:
    warehouse = opened(tmp_path, memory_limit_bytes=64 * MB)
    with warehouse.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE t AS SELECT hash(i)::VARCHAR || repeat('x', 60) AS v FROM range(1500000) r(i)"
        )
        assert cursor.execute("SELECT count(*) FROM (SELECT v FROM t ORDER BY v)").fetchall() == [(1_500_000,)]
    warehouse.close()


def test_many_threads_each_get_their_own_rows(warehouse: Warehouse) -> None:
    """Threads that share one connection object read each other's rows."""

    def ask(number: int) -> bool:
        with warehouse.cursor(Call("scan", Principal("ana"))) as cursor:
            cursor.execute("SELECT ? + i FROM range(3000) AS r(i)", [number * 10_000])
            return cursor.fetchall() == [(number * 10_000 + i,) for i in range(3_000)]

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(ask, range(200)))


def test_stopping_a_call_whose_cursor_was_just_closed_is_nothing(warehouse: Warehouse) -> None:
    """The list of interrupts is read before they are run: by then the thread may have ended its work."""
    call = Call("scan", Principal("ana"))
    with warehouse.cursor(call) as cursor:
        cursor.execute("SELECT 1")
        cursor.close()
        call.interrupt()
    call.stop(cancelled())


def test_stopping_a_call_interrupts_its_cursor_and_no_other(warehouse: Warehouse) -> None:
    call, started = Call("scan", Principal("ana")), threading.Event()
    ended: list[AgnesError] = []

    def work() -> None:
        try:
            with warehouse.cursor(call) as cursor:
                started.set()
                cursor.execute("SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i)").fetchall()
        except AgnesError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(60)
    with warehouse.cursor(Call("scan", Principal("ben"))) as other:
        while thread.is_alive():  # an interrupt that arrives before DuckDB has started is lost
            call.stop(cancelled())
            assert other.execute("SELECT 42").fetchall() == [(42,)]
            thread.join(0.01)
    assert [error.kind for error in ended] == ["cancelled"]


def exceptions_of_duckdb() -> list[type[Exception]]:
    return sorted(
        {kind for kind in vars(duckdb).values() if isinstance(kind, type) and issubclass(kind, duckdb.Error)},
        key=lambda kind: kind.__name__,
    )


SECRET_PLACES = (
    "IO Error: Cannot open file \"/srv/data/secret dir/a.parquet\" at 'C:\\data\\x\\y.parquet' or file:///a/b"
)


@pytest.mark.parametrize("kind", exceptions_of_duckdb(), ids=lambda kind: kind.__name__)
def test_every_exception_of_duckdb_is_translated(kind: type[Exception]) -> None:
    error = of_our_statement(kind(SECRET_PLACES))
    assert error.kind in KINDS
    assert error.kind != "internal_error"
    assert error.hint
    for place in ("/srv", "secret dir/", "C:\\", "parquet", "/a/b"):
        assert place not in f"{error.message}{error.hint}{error.details}"


def test_duckdb_still_has_the_exceptions_that_are_known() -> None:
    assert len(exceptions_of_duckdb()) >= 27


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT CAST('abc' AS INT)", "query_failed"),
        ("SELECT 200::TINYINT", "query_failed"),
        ("SELECT 9223372036854775807::BIGINT + i FROM range(1, 2) AS r(i)", "query_failed"),
        ("SELECT regexp_matches('a', '(')", "table_unavailable"),
        ("SELECT strptime('x', '%Y')", "table_unavailable"),
        ("SELECT DATE 'not a date'", "query_failed"),
        ("SELECT no_such_column", "schema_changed"),
        ("SELECT * FROM no_such_table", "schema_changed"),
        ("SELECT * FROM read_parquet('/nowhere/at/all.parquet')", "table_unavailable"),
        ("SELECT list_sort([1], 'no such order')", "table_unavailable"),
    ],
)
def test_real_failures_say_what_to_do(warehouse: Warehouse, sql: str, kind: str) -> None:
    """No word of these is an agent's, so an argument that DuckDB cannot take comes out of a file."""
    with pytest.raises(AgnesError) as caught, warehouse.cursor() as cursor:
        cursor.execute(sql).fetchall()
    assert caught.value.kind == kind
    assert "/nowhere" not in caught.value.message


@pytest.mark.parametrize("sql", ["SELECT regexp_matches('a', '(')", "SELECT strptime('x', '%Y')"])
def test_an_argument_that_an_agent_wrote_is_told_as_theirs(sql: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        duckdb.execute(sql).fetchall()
    assert of_our_statement(caught.value, sql).kind == "query_failed"


def test_running_out_of_memory_is_its_own_kind(tmp_path: Path) -> None:
    warehouse = opened(tmp_path, memory_limit_bytes=64 * MB)
    with pytest.raises(AgnesError) as caught, warehouse.cursor() as cursor:
        cursor.execute("SELECT list(i) FROM range(100000000) AS r(i)").fetchall()
    assert caught.value.kind == "query_out_of_memory"


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        (
            "SELECT CASE WHEN i = 299999 THEN CAST('x' || i AS INT) ELSE 1 END FROM range(300000) AS r(i)",
            "query_failed",
        ),
        ("SELECT i, CASE WHEN i = 299999 THEN error('boom') END FROM range(300000) AS r(i)", "query_failed"),
    ],
)
def test_failures_in_the_middle_of_a_stream_are_translated_as_well(warehouse: Warehouse, sql: str, kind: str) -> None:
    """DuckDB's Arrow stream raises OSError, whatever went wrong; and now and then that of another of its threads."""
    call = Call("scan", Principal("ana"))
    with warehouse.cursor() as cursor:
        reader = cursor.sql(sql).to_arrow_reader(1_000)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the type is what is tested
            reader.read_all()
    assert of_our_statement(warehouse.cause_of(caught.value, call, sql), sql).kind == kind


@pytest.mark.parametrize("raised", [duckdb.InterruptException, OSError])
def test_an_interruption_that_nobody_asked_for_is_not_what_is_told(
    warehouse: Warehouse, raised: type[Exception]
) -> None:
    call, error = Call("scan", Principal("ana")), raised("INTERRUPT Error: Interrupted!")
    told = warehouse.explain(warehouse.cause_of(error, call, "SELECT CAST('x' || i AS INT) FROM range(9) r(i)"), call)
    assert told.kind == "query_failed"
    assert "Could not convert" in told.message


def test_an_interruption_that_was_asked_for_is(warehouse: Warehouse) -> None:
    call, error = Call("scan", Principal("ana")), duckdb.InterruptException("INTERRUPT Error: Interrupted!")
    call.stop(cancelled())
    with pytest.raises(AgnesError) as told:
        warehouse.explain(warehouse.cause_of(error, call, "SELECT error('boom')"), call)
    assert told.value.kind == "cancelled"


def test_an_instance_that_was_discarded_opens_anew(warehouse: Warehouse) -> None:
    with warehouse.cursor() as cursor:
        cursor.execute("CREATE VIEW v AS SELECT 1")
    assert warehouse.generation == 1
    warehouse.reopen()
    with pytest.raises(AgnesError), warehouse.cursor() as cursor:
        cursor.execute("SELECT * FROM v")
    assert warehouse.generation == 2


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("IO Error: /a/b/c.parquet is bad", "IO Error: <path> is bad"),
        ("plain words / with a slash", "plain words / with a slash"),
        ("Binder Error: x\n\nLINE 1: SELECT secret FROM y", "Binder Error: x"),
        ("two\nlines", "two lines"),
        ("file:///srv/x y", "<path> y"),
    ],
)
def test_paths_and_our_sql_are_taken_out_of_messages(text: str, left: str) -> None:
    assert without_paths(text) == left
