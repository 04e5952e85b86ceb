"""The DuckDB `bigquery` extension on the shared connection: whole columns of base tables, read in parallel streams.

It runs only SQL that is built here, and only plain projections: with anything else the extension drops filters, reads
too much, or invalidates the instance. Where it is not to be had, `ExtensionMissing` says so and the client's own stream
serves.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery import extension_sql
from agnes_mcp.sources.bigquery.clients import storage_address
from agnes_mcp.sources.bigquery.errors import Complaint, as_error
from agnes_mcp.sources.bigquery.fields import arrow_schema
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.untrusted import redact, without_paths_in_prose

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings

_log = logging.getLogger(__name__)

#: The environment variable that names a local `.duckdb_extension` file instead of the community repository.
FILE_VARIABLE = "AGNES_BIGQUERY_EXTENSION"
BATCH_ROWS = 65_536

#: Types that arrive as the Storage Read API gives them, or that an Arrow cast makes so without loss. BIGNUMERIC and
#: JSON come as text, GEOGRAPHY as geometry, RANGE not at all.
SERVED_TYPES = frozenset({"INT64", "FLOAT64", "NUMERIC", "STRING", "BYTES", "BOOL", "DATE", "DATETIME", "TIMESTAMP"})

_REFUSED_TOKEN = "invalid authentication credentials"  # noqa: S105 - what the extension says, not a token
_INVALIDATED = "database has been invalidated"
# The extension brings a TLS library of its own, which may find no certificates where Python's clients do.
_NO_TLS = re.compile(r"CURL error|CA cert|certificate|SSL", re.IGNORECASE)
_STATUS_OF_TEXT = (
    (r"PERMISSION_DENIED|Access Denied", 403),
    (r"NOT_FOUND|Not found", 404),
    (r"RESOURCE_EXHAUSTED|rateLimitExceeded", 429),
    (r"INVALID_ARGUMENT", 400),
)


class Database(Protocol):
    """What is used of the shared connection (`agnes_mcp.sources.warehouse.Warehouse`)."""

    generation: int

    def cursor(self, call: Call | None = None) -> AbstractContextManager[duckdb.DuckDBPyConnection]: ...

    def reopen(self) -> None: ...


class ExtensionMissing(Exception):  # noqa: N818 - not a failure: the other way is taken
    """The extension is not to be had; the reason is in `Extension.state`."""


class _Again(Exception):  # noqa: N818 - a signal
    """What failed is put right; the same may be tried once more."""

    def __init__(self, error: AgnesError) -> None:
        super().__init__(error.kind)
        self.error = error


class Extension:
    """The extension on one shared connection. Safe to share between threads."""

    def __init__(self, settings: BigQuerySettings, tokens: TokenSource, database: Database) -> None:
        self._settings = settings
        self._tokens = tokens
        self._database = database
        self._lock = threading.Lock()
        self._missing = self._ruled_out()
        self._generation = -1
        self._attached: dict[tuple[str, str], str] = {}
        self._secrets: dict[str, str] = {}  # project → the token it was made with

    @property
    def state(self) -> str:
        """`loaded`, `not used yet`, or why it is not to be had."""
        return self._missing or ("loaded" if self._generation >= 0 else "not used yet")

    def serves(self, columns: list[Column]) -> bool:
        """Whether these columns come out of the extension as they are in BigQuery."""
        return not self._missing and all(column.type in SERVED_TYPES for column in columns)

    def batches(self, path: TablePath, columns: list[Column], call: Call) -> Iterator[pa.RecordBatch]:
        """Every row of these columns. Tried once more, before the first row only, with a new token or instance.

        Raises `ExtensionMissing` before the first row.
        """
        for last in (False, True):
            started = False
            try:
                for batch in self._scan(path, columns, call):
                    started = True
                    yield batch
            except _Again as again:
                failure = again.error
            else:
                return
            if last or started:
                raise failure

    def _ruled_out(self) -> str:
        if self._tokens.mode == "anonymous":
            return "not used: no token to give it"
        if storage_address(self._settings)[0] == "grpc":
            return "not used: it speaks TLS only, and storage_endpoint is plaintext"
        return ""

    def _scan(self, path: TablePath, columns: list[Column], call: Call) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema(columns)
        names = [column.name for column in columns]
        generation = self._database.generation
        try:
            with self._database.cursor(call) as cursor:
                try:
                    alias = self._prepare(cursor, path)
                    reader = cursor.execute(extension_sql.select(path, alias, names)).to_arrow_reader(BATCH_ROWS)
                    for batch in reader:
                        self._renew_secrets()
                        yield batch.cast(schema)
                except duckdb.Error as error:
                    text = str(error)
                    fatal = isinstance(error, duckdb.InternalException | duckdb.FatalException)
                else:
                    return
        except AgnesError:
            call.check()
            raise
        call.check()
        raise self._classify(text, fatal, generation)

    def _classify(self, text: str, fatal: bool, generation: int) -> Exception:
        """What to do about DuckDB's complaint: try again, take the other way, or tell it."""
        error = as_error(Complaint(_status_of(text), "", _first_line(text)), "reading rows")
        if _REFUSED_TOKEN in text:
            with self._lock:
                refused = set(self._secrets.values())
                self._secrets.clear()
            for token in refused:
                self._tokens.discard(token)
            return _Again(as_error(Complaint(401, "authError", _first_line(text)), "reading rows"))
        if fatal or _INVALIDATED in text:
            self._database.reopen()
            return _Again(error)
        if generation != self._database.generation or "closed" in text:
            return _Again(error)
        if _NO_TLS.search(text):
            self._give_up(_first_line(text))
        if self._missing:
            return ExtensionMissing(self._missing)
        return error

    def _give_up(self, reason: str) -> None:
        """Remember that the other way is taken from now on; say so once."""
        self._missing = f"not to be had: {reason}"
        _log.warning("DuckDB's bigquery extension is %s; direct reads go through Storage Read", self._missing)

    def _prepare(self, cursor: duckdb.DuckDBPyConnection, path: TablePath) -> str:
        """Load, set, make the secret, attach the dataset: what of it has not been done on this instance. The alias."""
        with self._lock:
            if self._missing:
                raise ExtensionMissing(self._missing)
            if self._generation != self._database.generation:
                self._load(cursor)
                self._attached.clear()
                self._secrets.clear()
                self._generation = self._database.generation
            self._make_secret(cursor, path.project)
            place = (path.project, path.dataset)
            if place not in self._attached:
                alias = f"bq_{len(self._attached)}"
                cursor.execute(extension_sql.attach(path, alias, self._settings))
                self._attached[place] = alias
            return self._attached[place]

    def _load(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """INSTALL and LOAD. A failure is remembered and said once: an INSTALL without network takes 0.6 s each time."""
        try:
            for statement in (*extension_sql.load(os.environ.get(FILE_VARIABLE, "")), *extension_sql.SETTINGS):
                cursor.execute(statement)
        except duckdb.Error as error:
            self._give_up(_first_line(str(error)))
        if self._missing:
            raise ExtensionMissing(self._missing)
        applied = cursor.execute(extension_sql.READ_TIMEOUT_BACK).fetchone()
        if not applied or int(applied[0]) != extension_sql.QUERY_TIMEOUT_MS:
            _log.warning("DuckDB's bigquery extension did not take its query timeout")

    def _make_secret(self, cursor: duckdb.DuckDBPyConnection, project: str) -> None:
        """The current token, also for what is attached already: a replaced secret counts from the next request on."""
        token = self._tokens.token()
        if self._secrets.get(project) == token:
            return
        cursor.execute(extension_sql.secret(project, token))
        self._secrets[project] = token

    def _renew_secrets(self) -> None:
        """During a long read: a token about to expire is replaced, on a cursor of its own."""
        token = self._tokens.token()
        if all(held == token for held in self._secrets.values()):
            return
        with self._lock, self._database.cursor() as cursor:
            for project in list(self._secrets):
                self._make_secret(cursor, project)


class ExtensionRows:
    """Rows through the extension; through `otherwise` where it turns out not to be had."""

    free = False

    def __init__(
        self, extension: Extension, path: TablePath, columns: list[Column], call: Call, otherwise: Any
    ) -> None:
        self._extension = extension
        self._path = path
        self._columns = columns
        self._call = call
        self._otherwise = otherwise

    @property
    def schema(self) -> pa.Schema:
        return arrow_schema(self._columns)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        received = 0
        try:
            for batch in self._extension.batches(self._path, self._columns, self._call):
                received += batch.num_rows
                self._call.report(received, None, f"{received:,} rows")
                yield batch
        except ExtensionMissing:
            missing = True
        else:
            missing = False
        if missing:
            self.free = self._otherwise.free
            for batch in self._otherwise:
                yield batch.cast(self.schema)


def _status_of(text: str) -> int:
    return next((status for pattern, status in _STATUS_OF_TEXT if re.search(pattern, text)), 503)


def _first_line(text: str) -> str:
    """DuckDB's message without the SQL it quotes, a path of this machine, or a token."""
    return redact(without_paths_in_prose(text.split("\n", 1)[0]))
