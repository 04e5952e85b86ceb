"""The DuckDB extension. Its binary is not at hand where these tests run, so two things are tested:

* that it cannot be installed: really, against a real DuckDB (no network is reachable through the proxy set for it);
* the SQL that is sent to it, and what is done about its complaints, against a recorder in place of the cursor. Those
  are the tests that take `Recorder`; nothing of the extension itself is proved by them.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest
from support.bigquery import call
from support.metadata_server import MetadataServer

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.extension import Database, Extension, ExtensionMissing, ExtensionRows
from agnes_mcp.sources.bigquery.extension_sql import QUERY_TIMEOUT_MS
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.sql.names import identifier, literal

ORDERS = TablePath("my-project", "my_dataset", "orders")
COLUMNS = [Column(name="id", type="INT64"), Column(name="at", type="TIMESTAMP")]
SETTINGS = BigQuerySettings(project="my-project", billing_project="my-billing")

# As the extension gives them: a TIMESTAMP has no zone.
ROWS = pa.table({"id": [1, 2], "at": pa.array([datetime(2024, 1, 1)] * 2, pa.timestamp("us"))})
SETUP = [
    "INSTALL bigquery FROM community",
    "LOAD bigquery",
    "SET GLOBAL preserve_insertion_order = false",
    "SET GLOBAL bq_experimental_use_info_schema = false",
    "SET GLOBAL disabled_optimizers = 'top_n'",
    "SET GLOBAL bq_query_timeout_ms = 600000",
    "SELECT current_setting('bq_query_timeout_ms')",
]


def secret(token: str) -> str:
    return (
        'CREATE OR REPLACE SECRET "agnes_bigquery_my-project" '
        f"(TYPE bigquery, SCOPE 'bq://my-project', ACCESS_TOKEN '{token}')"
    )


def attach(dataset: str, alias: str) -> str:
    return (
        f"ATTACH 'project=my-project dataset={dataset} billing_project=my-billing' AS \"{alias}\" "
        "(TYPE bigquery, READ_ONLY)"
    )


class Recorder:
    """Stands in for the shared connection and its cursors: notes each statement, fails those it is told to."""

    def __init__(self) -> None:
        self.sql: list[str] = []
        self.failures: list[tuple[str, Exception]] = []
        self.generation = 1
        self.reopened = 0
        self.during: Callable[[], None] = lambda: None

    @contextmanager
    def cursor(self, call: Call | None = None) -> Iterator[Any]:
        yield self

    def reopen(self) -> None:
        self.generation += 1
        self.reopened += 1

    def execute(self, sql: str) -> Recorder:
        self.sql.append(sql)
        for index, (prefix, failure) in enumerate(self.failures):
            if sql.startswith(prefix):
                del self.failures[index]
                raise failure
        return self

    def fetchone(self) -> tuple[str]:
        return (str(QUERY_TIMEOUT_MS),)

    def to_arrow_reader(self, rows: int) -> Iterator[pa.RecordBatch]:
        for batch in ROWS.to_batches(max_chunksize=1):
            yield batch
            self.during()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tokens(metadata: MetadataServer) -> TokenSource:
    return TokenSource()


@pytest.fixture
def extension(recorder: Recorder, tokens: TokenSource) -> Extension:
    return Extension(SETTINGS, tokens, cast("Database", recorder))


def read(extension: Extension, path: TablePath = ORDERS) -> list[dict[str, Any]]:
    return [row for batch in extension.batches(path, COLUMNS, call()) for row in batch.to_pylist()]


SELECT = 'SELECT "id", "at" FROM "bq_0"."my_dataset"."orders"'


def test_the_first_read_installs_sets_and_attaches_one_dataset_read_only(
    extension: Extension, recorder: Recorder
) -> None:
    """Against a recorder."""
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert extension.state == "not used yet"
    assert read(extension) == [{"id": 1, "at": at}, {"id": 2, "at": at}]
    assert recorder.sql == [*SETUP, secret("ya29.canary-1"), attach("my_dataset", "bq_0"), SELECT]
    assert extension.state == "loaded"


def test_what_is_attached_stays_and_only_another_dataset_is_attached_too(
    extension: Extension, recorder: Recorder
) -> None:
    """Against a recorder."""
    read(extension)
    recorder.sql.clear()
    read(extension)
    read(extension, ORDERS._replace(dataset="other"))
    assert recorder.sql == [
        SELECT,
        attach("other", "bq_1"),
        SELECT.replace("bq_0", "bq_1").replace("my_dataset", "other"),
    ]


def test_the_secret_is_replaced_when_the_token_is_although_all_is_attached(
    extension: Extension, recorder: Recorder, tokens: TokenSource
) -> None:
    """Against a recorder."""
    read(extension)
    tokens.discard("ya29.canary-1")
    recorder.sql.clear()
    read(extension)
    assert recorder.sql == [secret("ya29.canary-2"), SELECT]


def test_the_secret_is_replaced_during_a_long_read(
    extension: Extension, recorder: Recorder, tokens: TokenSource
) -> None:
    """Against a recorder."""
    recorder.during = lambda: tokens.discard("ya29.canary-1")
    assert len(read(extension)) == 2
    assert recorder.sql[-1] == secret("ya29.canary-2")


REFUSED = duckdb.IOException("IO Error: Request had invalid authentication credentials. Expected OAuth 2 access token")


def test_a_refused_token_is_dropped_and_the_read_repeated_once(
    extension: Extension, recorder: Recorder, metadata: MetadataServer
) -> None:
    """Against a recorder."""
    recorder.failures.append(('SELECT "id"', REFUSED))
    assert len(read(extension)) == 2
    assert recorder.sql[-4:] == [attach("my_dataset", "bq_0"), SELECT, secret("ya29.canary-2"), SELECT]
    assert metadata.token_requests == 2


def test_a_token_refused_twice_is_auth_failed(
    extension: Extension, recorder: Recorder, metadata: MetadataServer
) -> None:
    """Against a recorder."""
    recorder.failures += [('SELECT "id"', REFUSED), ('SELECT "id"', REFUSED)]
    with pytest.raises(AgnesError) as caught:
        read(extension)
    assert caught.value.kind == "auth_failed"
    assert metadata.token_requests == 2


INVALIDATED = [
    duckdb.FatalException("FATAL Error: Failed: database has been invalidated because of a previous fatal error."),
    duckdb.InternalException("INTERNAL Error: Unsupported filter type"),
]


@pytest.mark.parametrize("failure", INVALIDATED, ids=["invalidated", "internal"])
def test_an_invalidated_instance_is_reopened_and_everything_done_again(
    extension: Extension, recorder: Recorder, failure: Exception
) -> None:
    """Against a recorder."""
    recorder.failures.append(('SELECT "id"', failure))
    assert len(read(extension)) == 2
    assert recorder.reopened == 1
    assert recorder.sql == 2 * [*SETUP, secret("ya29.canary-1"), attach("my_dataset", "bq_0"), SELECT]


def test_an_instance_that_another_call_has_reopened_is_used_anew(extension: Extension, recorder: Recorder) -> None:
    """Against a recorder: a call in flight fails because the connection was closed under it."""
    recorder.failures.append(
        ('SELECT "id"', duckdb.ConnectionException("Connection Error: Connection already closed!"))
    )
    assert len(read(extension)) == 2


def test_rows_are_never_given_twice(extension: Extension, recorder: Recorder) -> None:
    """Against a recorder: once rows were handed on, a failure is an error and no second try."""

    def fail() -> None:
        raise duckdb.InternalException("INTERNAL Error: database has been invalidated")

    recorder.during = fail
    received: list[pa.RecordBatch] = []
    with pytest.raises(AgnesError):
        received.extend(extension.batches(ORDERS, COLUMNS, call()))
    assert len(received) == 1
    assert recorder.sql.count(SELECT) == 1


FAILURES = [
    ("IO Error: PERMISSION_DENIED: Access Denied: Table my-project:my_dataset.orders", "bq_forbidden"),
    ("Catalog Error: Not found: Table my-project:my_dataset.orders", "bq_not_found"),
    ("IO Error: RESOURCE_EXHAUSTED: too many", "bq_rate_limited"),
    ("Invalid Input Error: INVALID_ARGUMENT: non-table entities cannot be read", "bq_bad_request"),
    ("IO Error: something else", "bq_upstream_error"),
]


@pytest.mark.parametrize(("text", "kind"), FAILURES)
def test_its_complaints_have_the_kinds_that_bigquerys_have(
    extension: Extension, recorder: Recorder, text: str, kind: str
) -> None:
    """Against a recorder."""
    recorder.failures.append(('SELECT "id"', duckdb.IOException(text)))
    with pytest.raises(AgnesError) as caught:
        read(extension)
    assert caught.value.kind == kind


def test_without_certificates_of_its_own_the_other_way_is_taken(extension: Extension, recorder: Recorder) -> None:
    """Against a recorder."""
    failure = duckdb.IOException("IO Error: CURL error (77): Problem with the SSL CA cert (path? access rights?)")
    recorder.failures.append(('SELECT "id"', failure))
    with pytest.raises(ExtensionMissing):
        read(extension)
    assert not extension.serves(COLUMNS)


@pytest.mark.parametrize("statement", ["CREATE OR REPLACE SECRET", "ATTACH"])
def test_a_statement_that_fails_does_not_echo_the_token(
    extension: Extension, recorder: Recorder, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Against a recorder."""
    caplog.set_level(logging.DEBUG)
    echoed = f"Parser Error: near ACCESS_TOKEN 'ya29.canary-1' in {secret('ya29.canary-1')}\nLINE 1: ya29.canary-1"
    recorder.failures.append((statement, duckdb.ParserException(echoed)))
    with pytest.raises(AgnesError) as caught:
        read(extension)
    assert "canary" not in "".join(traceback.format_exception(caught.value)) + caplog.text + extension.state


def test_a_timeout_that_is_not_taken_is_said_in_the_log(
    extension: Extension, recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a recorder."""
    monkeypatch.setattr(recorder, "fetchone", lambda: ("90000",))
    read(extension)
    assert "did not take its query timeout" in caplog.text


def test_a_local_file_is_loaded_instead_of_the_community_build(
    extension: Extension, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a recorder."""
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", "/opt/it's/bigquery.duckdb_extension")
    read(extension)
    assert recorder.sql[0] == "LOAD '/opt/it''s/bigquery.duckdb_extension'"
    assert not any(sql.startswith("INSTALL") for sql in recorder.sql)


def test_private_endpoints_are_given_to_the_attachment(recorder: Recorder, tokens: TokenSource) -> None:
    """Against a recorder."""
    settings = SETTINGS.model_copy(
        update={"api_endpoint": "https://bigquery.example", "storage_endpoint": "grpcs://read.example:443"}
    )
    read(Extension(settings, tokens, cast("Database", recorder)))
    (attached,) = [sql for sql in recorder.sql if sql.startswith("ATTACH")]
    assert "api_endpoint=https://bigquery.example grpc_endpoint=read.example:443" in attached


SERVED = [
    ([Column(name="a", type="INT64"), Column(name="b", type="STRING", mode="REPEATED")], True),
    ([Column(name="a", type="BIGNUMERIC")], False),  # comes as text
    ([Column(name="a", type="GEOGRAPHY")], False),  # comes as geometry
    ([Column(name="a", type="RANGE<DATE>")], False),  # does not come at all
    ([Column(name="a", type="STRUCT", fields=[Column(name="b", type="INT64")])], False),
]


@pytest.mark.parametrize(("columns", "served"), SERVED)
def test_only_types_that_come_out_unchanged_are_read_with_it(
    extension: Extension, columns: list[Column], served: bool
) -> None:
    assert extension.serves(columns) is served


def test_it_is_not_used_without_a_token_or_over_plaintext(recorder: Recorder, tokens: TokenSource) -> None:
    anonymous = Extension(SETTINGS, TokenSource("anonymous"), cast("Database", recorder))
    local = SETTINGS.model_copy(update={"storage_endpoint": "grpc://127.0.0.1:9060"})
    plaintext = Extension(local, tokens, cast("Database", recorder))
    for extension in (anonymous, plaintext):
        assert not extension.serves(COLUMNS)
        assert extension.state.startswith("not used: ")


QUOTING = [(identifier, 'a"b', '"a""b"'), (literal, "it's", "'it''s'"), (identifier, "order", '"order"')]


@pytest.mark.parametrize(("quote", "text", "shown"), QUOTING)
def test_names_and_texts_are_quoted(quote: Callable[[str], str], text: str, shown: str) -> None:
    assert quote(text) == shown


class Offline(Warehouse):
    """The real shared connection, whose downloads go to a proxy that is not there."""

    @contextmanager
    def cursor(self, call: Call | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        with super().cursor(call) as cursor:
            cursor.execute("SET GLOBAL http_proxy = '127.0.0.1:9'")
            cursor.execute("SET GLOBAL extension_directory = '/nonexistent'")
            yield cursor


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Warehouse]:
    warehouse = Offline(memory_limit_bytes=256 * 2**20, threads=1, spill_root=tmp_path)
    yield warehouse
    warehouse.close()


def test_an_extension_that_cannot_be_installed_is_remembered_and_said_once(
    tokens: TokenSource, offline: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    """The real INSTALL of a real DuckDB, failing."""
    extension = Extension(SETTINGS, tokens, offline)
    for _ in range(3):
        with pytest.raises(ExtensionMissing):
            read(extension)
    assert extension.state.startswith("not to be had: ")
    assert not extension.serves(COLUMNS)
    said = [record for record in caplog.records if "bigquery extension" in record.message]
    assert len(said) == 1
    assert "/nonexistent" not in extension.state


def test_a_file_that_is_no_extension_is_remembered_too(
    tokens: TokenSource, offline: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real LOAD of a real DuckDB, failing."""
    file = tmp_path / "bigquery.duckdb_extension"
    file.write_bytes(b"not an extension")
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(file))
    extension = Extension(SETTINGS, tokens, offline)
    with pytest.raises(ExtensionMissing):
        read(extension)
    assert extension.state.startswith("not to be had: ")
    assert str(tmp_path) not in extension.state


class Elsewhere:
    """The other way to the rows."""

    free = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_arrays(
            [pa.array([7]), pa.array([None], pa.timestamp("us", tz="UTC"))], names=["id", "at"]
        )


def test_rows_come_the_other_way_where_it_is_missing(tokens: TokenSource, offline: Warehouse) -> None:
    rows = ExtensionRows(Extension(SETTINGS, tokens, offline), ORDERS, COLUMNS, call(), Elsewhere())
    assert [batch.to_pylist() for batch in rows] == [[{"id": 7, "at": None}]]
