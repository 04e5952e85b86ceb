"""The attached process, with a file in BigQuery's place (`support.attached_double`) that misbehaves as it does.

The process, its end and everything on this side of it are real. `make test-extension` runs what a real file of the
extension can be asked without BigQuery.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.attached_double import COMMAND, FileStatements
from support.bigquery import call, read_all, statement, table
from support.metadata_server import MetadataServer
from support.waiting import soon, wait_until

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Progress
from agnes_mcp.sources.backoff import FIRST_S, Backoff
from agnes_mcp.sources.bigquery.attached import MOST_TABLES, Attached, make_attached, ruled_out
from agnes_mcp.sources.bigquery.extension_sql import ExtensionStatements
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.stand_in import StandIn

pytestmark = pytest.mark.slow

ROWS = 300_000
MIDDLE = 200_000
BIG = table("big")
COLUMNS = ["id", "word", "at"]
ALL = statement(BIG, COLUMNS)
_SELECT = (
    f"SELECT i AS id, 'word ' || i AS word, TIMESTAMPTZ '2026-01-01' + to_seconds(i) AS at FROM range({ROWS}) t(i)"
)

Open = Callable[..., BigQuerySource]


@contextmanager
def filled() -> Iterator[StandIn]:
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "big", schema="id INT64, word STRING, at TIMESTAMP", sql=_SELECT)
        yield stand_in


@pytest.fixture(scope="module")
def shared() -> Iterator[StandIn]:
    with filled() as stand_in:
        yield stand_in


@pytest.fixture
def own() -> Iterator[StandIn]:
    """`big` of a test that changes it."""
    with filled() as stand_in:
        yield stand_in


@pytest.fixture
def big(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What most only read: of its requests each test sees its own."""
    monkeypatch.delenv("GCE_METADATA_IP")
    big: StandIn = request.getfixturevalue("own" if "own" in request.fixturenames else "shared")
    big.requests.clear()
    return big


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for BigQuery: the same table, under the same names."""
    path = tmp_path_factory.mktemp("attached") / "bigquery.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA my_dataset")
        connection.execute(f"CREATE TABLE my_dataset.big AS {_SELECT}")
    return path


@pytest.fixture
def made() -> Iterator[list[Attached]]:
    found: list[Attached] = []
    yield found
    for attached in found:
        attached.close()


@pytest.fixture
def open_attached(
    big: StandIn, file: Path, warehouse: Warehouse, metadata: MetadataServer, made: list[Attached]
) -> Iterator[Open]:
    """A source that reads whole columns through the double; `fault` as `FileStatements` has it."""
    sources: list[BigQuerySource] = []

    def make(fault: str = "", at: int = 0, **given: Any) -> BigQuerySource:
        settings = BigQuerySettings.model_validate(
            {
                "project": "my-project",
                "api_endpoint": big.api_endpoint,
                "storage_endpoint": f"grpc://{big.grpc_target}",
                "direct_reads": "attached",
                **given,
            }
        )

        def make_double(settings: BigQuerySettings, tokens: TokenSource) -> Attached | str:
            without = settings.model_copy(update={"storage_endpoint": None})  # the double's place is not an endpoint
            if reason := ruled_out(without, tokens):
                return reason
            statements = FileStatements(settings, file, fault, at)
            made.append(Attached(statements, tokens, memory_bytes=2**30, threads=2, command=COMMAND))
            return made[-1]

        sources.append(BigQuerySource(settings, warehouse, make_double))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


def opened(source: BigQuerySource, on: Call) -> Any:
    schema = source.schema(BIG, call())
    return source.read(BIG, schema, ALL, source.price(BIG, schema, ALL, call()), on)


def streams(big: StandIn) -> int:
    return len(big.requests.named("ReadRows"))


def pids(attached: Attached) -> list[int]:
    return list(attached.processes.state()["processes"])


def test_rows_schema_and_bill_are_those_of_the_stream(open_attached: Open, big: StandIn, made: list[Attached]) -> None:
    there, receipt = read_all(open_attached(), BIG, ALL)
    assert streams(big) == 0
    assert big.query_jobs() == []
    alone, alone_receipt = read_all(open_attached(direct_reads="stream"), BIG, ALL)
    assert streams(big) == 1
    assert there.sort_by("id").equals(alone)
    assert receipt == alone_receipt
    assert made[0].state() == {"state": "attached", "version": "unknown", "datasets": ["my-project.my_dataset"]}


BROKEN = [
    "truncate", "builtin", "internal", "unauthenticated", "denied", "exhausted", "abort", "killed", "memory",
    "port closes",
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "at"), [*((fault, MIDDLE) for fault in BROKEN), ("builtin", 0), ("unauthenticated", 0), ("abort", 0)]
)
def test_what_breaks_comes_as_the_stream_and_what_came_is_billed(
    open_attached: Open, big: StandIn, fault: str, at: int
) -> None:
    """Never fewer rows than there are nor one twice, in the table's order; the bill is what was read of both."""
    source = open_attached(fault, at)
    with opened(source, call()) as reading:
        rows = pa.Table.from_batches(reading)
    assert rows["id"].to_pylist() == list(range(ROWS))
    assert streams(big) == 1
    alone = 16 * ROWS + 2 * ROWS + int(pc.sum(pc.binary_length(rows["word"])).as_py())
    vain = reading.receipt.bytes_billed - alone
    assert (0 < vain < alone) if at else vain == 0


@pytest.mark.parametrize("room", [2**16, 2**20, 4 * 2**20])
def test_a_disk_without_room_for_them_is_no_reason_to_read_none(
    room: int,
    open_attached: Open,
    big: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the first row on a file of this process takes no more than so much, as on a disk that is full."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("agnes_mcp.sources.bigquery.spool.IN_MEMORY_BYTES", 2**15)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        if progress.total == ROWS and progress.done:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))

    try:
        with opened(open_attached(), call(on_progress=fill)) as reading:
            rows = sum(batch.num_rows for batch in reading)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert rows == ROWS
    assert streams(big) == 1
    assert "File too large" in caplog.text
    assert [path for path in tmp_path.iterdir() if not path.name.startswith("agnes-spill-")] == []


def test_what_breaks_without_room_for_a_second_reading_is_not_read_twice(open_attached: Open, big: StandIn) -> None:
    """A price that was made without the attached process, perhaps because it was not to be had then."""
    source = open_attached("internal", MIDDLE)
    priced = source.price(BIG, source.schema(BIG, call()), ALL, call())
    assert priced.repeat_bytes == priced.scan_bytes
    assert priced.agreed_bytes == 2 * (priced.scan_bytes or 0)
    once = priced.model_copy(update={"repeat_bytes": 0, "reserved_bytes": priced.scan_bytes})
    rows, receipt = read_all(source, BIG, ALL, price=once)
    assert rows.num_rows == ROWS
    assert receipt.bytes_billed == priced.scan_bytes
    assert streams(big) == 1


def test_a_token_that_ends_during_a_read_is_replaced(
    open_attached: Open, big: StandIn, metadata: MetadataServer
) -> None:
    """Tokens of two seconds, a read of longer; the double refuses the one that it began with at the end."""
    metadata.expires_in = 2
    rows, _ = read_all(open_attached("expire", 500), BIG, ALL)
    assert sorted(rows["id"].to_pylist()) == list(range(ROWS))
    assert streams(big) == 0
    assert len(metadata.issued) > 1


def test_one_read_at_a_time_and_the_next_comes_as_the_stream(open_attached: Open, big: StandIn) -> None:
    source = open_attached()
    attached = source._open().attaching.attached()
    assert attached is not None
    path, columns = TablePath("my-project", "my_dataset", "big"), source.schema(BIG, call()).columns
    first = attached.batches(path, columns, 30, call())
    next(first)
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    assert streams(big) == 1
    first.close()
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    assert streams(big) == 1


LOADING = {"it aborts": "load:abort", "it raises": "load:builtin"}


@pytest.mark.parametrize("fault", LOADING.values(), ids=LOADING.keys())
def test_what_cannot_be_loaded_is_remembered_and_said_once(
    open_attached: Open, big: StandIn, fault: str, made: list[Attached], caplog: pytest.LogCaptureFixture
) -> None:
    source = open_attached(fault)
    for _ in range(3):
        assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    assert made[0].state()["state"].startswith("not to be had: ")
    assert source.health()["extension"] == made[0].state()
    due = datetime.fromisoformat(made[0].state()["next_try"]) - datetime.now(UTC)
    assert 0 < due.total_seconds() <= FIRST_S
    assert [r.levelname for r in caplog.records if "bigquery extension is" in r.message] == ["WARNING"]
    assert streams(big) == 3


@pytest.mark.parametrize("why", ["its time has come", "another token", "somebody asks"])
def test_what_could_not_be_loaded_is_tried_again(
    open_attached: Open, big: StandIn, made: list[Attached], file: Path, metadata: MetadataServer, why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = open_attached("load:builtin")
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    (attached,) = made
    assert attached.state()["state"].startswith("not to be had: ")
    attached._statements = FileStatements(BigQuerySettings(project="my-project"), file)
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS  # not yet
    assert attached.state()["state"].startswith("not to be had: ")
    if why == "another token":
        attached._tokens.discard(attached._tokens.token())
    elif why == "somebody asks":
        source.try_again()
    else:
        waited = time.monotonic() + FIRST_S
        monkeypatch.setattr("agnes_mcp.sources.backoff.time.monotonic", lambda: waited)
    before = streams(big)
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS  # no caller waits for the try
    assert streams(big) == before + 1
    monkeypatch.undo()
    wait_until(lambda: attached.state()["state"] == "attached")
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    assert streams(big) == before + 1


def test_each_failure_doubles_the_wait_up_to_an_hour() -> None:
    trying, waits = Backoff(), list[int]()
    assert trying.due()
    for _ in range(9):
        assert trying.failed("gone") == (not waits)
        waits.append(round(trying.left_s or 0))
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert not trying.due()
    trying.hurry()
    assert trying.due()
    trying.failed("gone")
    assert round(trying.left_s or 0) == 120
    trying.went_well()
    assert (trying.left_s, trying.next_try, trying.reason) == (None, "", "")


HANGS = [(fault, at) for fault in ("stall", "silent port", "closed port") for at in (0, MIDDLE)]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("fault", "at"), HANGS)
def test_the_deadline_ends_what_hangs_and_frees_its_place(
    open_attached: Open, made: list[Attached], fault: str, at: int
) -> None:
    source, on = open_attached(fault, at), call(timeout_s=3)
    with soon(), pytest.raises(AgnesError) as caught, opened(source, on) as reading:
        list(reading)
    assert caught.value.kind == "timeout"
    wait_until(lambda: reader_of(made[0]) == [])


def reader_of(attached: Attached) -> list[int]:
    """The process that reads, once the one that stands by does."""
    return [] if attached._standing_by else [worker.pid for worker in attached.processes.pool._busy]


def asked(attached: Attached) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in pids(attached) if psutil.pid_exists(pid)]


@pytest.mark.parametrize(("fault", "at"), HANGS)
def test_cancelling_kills_what_does_not_obey(open_attached: Open, made: list[Attached], fault: str, at: int) -> None:
    source, on, ended = open_attached(fault, at), call(timeout_s=None), list[AgnesError]()
    with opened(source, on) as reading:

        def read() -> None:
            try:
                list(reading)
            except AgnesError as error:
                ended.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: made and reader_of(made[0]) and (not at or reading.receipt.bytes_billed))
        (pid,) = reader_of(made[0])
        with soon():
            on.stop(cancelled())
            thread.join()
    assert [error.kind for error in ended] == ["cancelled"]
    wait_until(lambda: gone(pid))


def test_a_stall_before_the_first_row_comes_as_the_stream(open_attached: Open, big: StandIn) -> None:
    source = open_attached("stall")
    parts = source._open()
    attached = parts.attaching.attached()
    assert attached is not None
    attached.attach([("my-project", "my_dataset")], call())
    attached.stall_timeout_s = 1.0
    with soon():
        rows, _ = read_all(source, BIG, ALL, on=call(timeout_s=None))
    assert rows.num_rows == ROWS
    assert streams(big) == 1


def test_a_stall_in_the_middle_comes_as_the_stream(open_attached: Open, big: StandIn) -> None:
    source = open_attached("stall", MIDDLE)
    attached = source._open().attaching.attached()
    assert attached is not None
    attached.attach([("my-project", "my_dataset")], call())
    attached.stall_timeout_s = 5.0
    with soon():
        rows, _ = read_all(source, BIG, ALL, on=call(timeout_s=None))
    assert rows["id"].to_pylist() == list(range(ROWS))
    assert streams(big) == 1


def test_other_rows_than_announced_are_not_taken(own: StandIn, open_attached: Open, big: StandIn) -> None:
    """The file has not the rows that BigQuery says there are: those that BigQuery gives are."""
    big.drop_table("my_dataset", "big")
    big.create_table("my_dataset", "big", schema="id INT64, word STRING, at TIMESTAMP", sql=f"{_SELECT} LIMIT 7")
    rows, _ = read_all(open_attached(), BIG, ALL, price=_plenty())
    assert rows["id"].to_pylist() == list(range(7))
    assert streams(big) == 1


def _plenty() -> Any:
    from agnes_mcp.models import Price

    return Price(scan_bytes=10**9, reserved_bytes=10**9, path="direct_read")


def test_a_dataset_of_many_tables_is_not_asked_for_all_of_them(own: StandIn, open_attached: Open, big: StandIn) -> None:
    for number in range(MOST_TABLES):
        big.create_table("my_dataset", f"more_{number}", schema="id INT64", rows=[])
    assert read_all(open_attached(), BIG, ALL)[0].num_rows == ROWS
    assert streams(big) == 1


def test_reads_go_on_after_each_end_and_a_second_process_stands_by(
    open_attached: Open, big: StandIn, made: list[Attached]
) -> None:
    source = open_attached()
    for _ in range(2):
        with opened(source, call()) as reading:
            next(iter(reading))  # who leaves early ends the process
        assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    assert streams(big) == 0
    wait_until(lambda: len(pids(made[0])) == 2)


def test_its_process_has_no_credential_and_writes_nothing(
    open_attached: Open, made: list[Attached], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_TEST_CANARY", "canary")
    read_all(open_attached(), BIG, ALL)
    for process in asked(made[0]):
        assert "canary" not in repr(process.environ()) + repr(process.cmdline())
        assert not {"HOME", "GOOGLE_APPLICATION_CREDENTIALS"} & set(process.environ())


MODES = [
    ({"attach": "off", "direct_reads": "stream"}, True, "off: data_source.bigquery.attach"),
    ({"storage_endpoint": "grpcs://read.example:443"}, True, "off: the extension reads from Google's own address"),
    ({"universe_domain": "example.goog"}, True, "off: the extension knows no other universe_domain"),
    ({}, True, ""),
    ({}, False, "off: No BigQuery access token"),
    ({"attach": "eager"}, False, ""),
    ({"attach": "lazy"}, False, ""),
]


@pytest.mark.parametrize(("given", "on_gce", "reason"), MODES)
def test_auto_takes_the_metadata_servers_token_alone(
    given: dict[str, Any], on_gce: bool, reason: str, request: pytest.FixtureRequest
) -> None:
    if on_gce:
        request.getfixturevalue("metadata")
    settings = BigQuerySettings.model_validate({"project": "my-project", **given})
    found = ruled_out(settings, TokenSource())
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert "\n" not in found
    made = make_attached(settings, TokenSource(), memory_bytes=2**30, threads=1)
    assert isinstance(made, str) == bool(reason)


def test_attached_reads_without_anything_attached_are_no_configuration() -> None:
    with pytest.raises(ValueError, match="direct_reads is `attached`, and attach is `off`"):
        BigQuerySettings(project="my-project", direct_reads="attached", attach="off")


@pytest.mark.parametrize(("attach", "attached"), [("auto", True), ("eager", True), ("lazy", False)])
def test_standing_ready_attaches_what_is_registered(
    open_attached: Open, made: list[Attached], attach: str, attached: bool
) -> None:
    source = open_attached(attach=attach, datasets=["other"])
    source.stand_ready(call(), [BIG])
    state = source.health()["extension"]
    assert (state["state"] == "attached") == attached
    if attached:
        assert state["datasets"] == ["my-project.my_dataset", "my-project.other"]
        assert source.health()["token"]["origin"] == "metadata"
    else:
        assert made == []


def test_the_true_statements() -> None:
    """As they were run against a real file of the extension."""
    settings = BigQuerySettings(project="my-project", billing_project="my-billing")
    statements = ExtensionStatements(settings)
    assert statements.load == [
        "INSTALL bigquery FROM community",
        "LOAD bigquery",
        "SET GLOBAL preserve_insertion_order = false",
        "SET GLOBAL bq_experimental_use_info_schema = false",
        "SET GLOBAL disabled_optimizers = 'top_n'",
        "SET GLOBAL bq_query_timeout_ms = 600000",
    ]
    assert statements.secret() == 'CREATE OR REPLACE SECRET "agnes_bigquery" (TYPE bigquery, ACCESS_TOKEN ?)'
    assert statements.attach("my-project", "my_dataset") == (
        "ATTACH 'project=my-project dataset=my_dataset billing_project=my-billing' AS \"bq:my-project.my_dataset\" "
        "(TYPE bigquery, READ_ONLY)"
    )
    path = TablePath("my-project", "my_dataset", "orders")
    assert statements.select(path, ["id", 'a"b']) == (
        'SELECT "id", "a""b" FROM "bq:my-project.my_dataset"."my_dataset"."orders"'
    )
    named = ExtensionStatements(settings, "/opt/it's/bigquery.duckdb_extension")
    assert named.unsigned
    assert named.load[0] == "LOAD '/opt/it''s/bigquery.duckdb_extension'"


def test_a_file_that_is_no_extension_is_said(
    metadata: MetadataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real LOAD of a real DuckDB, failing in the real process."""
    path = tmp_path / "bigquery.duckdb_extension"
    path.write_bytes(b"not an extension")
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(path))
    attached = make_attached(BigQuerySettings(project="my-project"), TokenSource(), memory_bytes=2**30, threads=1)
    assert isinstance(attached, Attached)
    attached.attach([("my-project", "my_dataset")], call())
    assert attached.state()["state"].startswith("not to be had: ")
    assert str(tmp_path) not in attached.state()["state"]
    assert metadata.token_requests == 1
    attached.close()
