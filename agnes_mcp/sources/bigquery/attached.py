"""BigQuery through DuckDB's ATTACHed extension, in a process of its own that is killed where it does not obey.

The extension runs only plain projections: with anything else it drops filters, reads too much, or ends its instance.
Its rows are counted against what `tables.get` announces, because a stream of its that ends early looks complete. What
fails before the first row is served by the client's stream; what fails later is an error, whatever raised it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.calls.processes.worker import Answer
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Principal
from agnes_mcp.sources.bigquery.errors import Complaint, as_error
from agnes_mcp.sources.bigquery.extension_sql import FILE_VARIABLE, ExtensionStatements
from agnes_mcp.sources.bigquery.fields import arrow_schema
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.origins import DEFAULT_UNIVERSE
from agnes_mcp.sources.bigquery.streams import STALL_TIMEOUT_S, Watchdog
from agnes_mcp.untrusted import redact, without_paths_in_prose

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.tokens import TokenSource

_log = logging.getLogger(__name__)

#: One reads, and one stands by, attached.
SIZE = 2
COMMAND = ("-I", "-B", "-m", "agnes_mcp.sources.bigquery.attached_job")
#: What the process knows of the environment: how to get out, and whom to trust. No credential.
KEPT = (
    "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "grpc_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)  # fmt: skip
#: Installing downloads some 40 MB once; loading and attaching take less than a second.
SET_UP_TIMEOUT_S = 120.0
#: A read of a call without a deadline ends after a day.
LONGEST_READ_S = 86_400.0
#: The extension asks for the metadata of every table of a dataset before it reads the first, one after the other.
MOST_TABLES = 20
#: Types that arrive as the Storage Read API gives them, or that an Arrow cast makes so without loss. BIGNUMERIC and
#: JSON come as text, GEOGRAPHY as geometry, RANGE not at all.
SERVED_TYPES = frozenset({"INT64", "FLOAT64", "NUMERIC", "STRING", "BYTES", "BOOL", "DATE", "DATETIME", "TIMESTAMP"})
#: Memory that one batch may take.
_BATCH_BYTES = 8 * 2**20
_LEAST_BATCH_ROWS, _MOST_BATCH_ROWS = 64, 65_536
_REFUSED_TOKEN = re.compile(r"invalid authentication credentials|UNAUTHENTICATED|Authentication Failed", re.IGNORECASE)
#: The extension's words, which are not those of REST. The first that matches counts.
_STATUS_OF_TEXT = (
    (_REFUSED_TOKEN, 401),
    (re.compile(r"PERMISSION_DENIED|Permission denied|Access Denied", re.IGNORECASE), 403),
    (re.compile(r"NOT_FOUND|Not found|does not exist|No such field", re.IGNORECASE), 404),
    (re.compile(r"RESOURCE_EXHAUSTED|rateLimitExceeded|quota", re.IGNORECASE), 429),
    (re.compile(r"INVALID_ARGUMENT", re.IGNORECASE), 400),
)


class Unserved(Exception):  # noqa: N818 - a signal
    """Nothing was given, so that the other way may give it all; the text says why."""


class Attached:
    """The attached processes of one instance. Blocking; safe to share between threads.

    `statements` names what is loaded and attached, `command` what makes an interpreter the process.
    """

    def __init__(
        self,
        statements: ExtensionStatements,
        tokens: TokenSource,
        *,
        memory_bytes: int,
        threads: int,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._statements = statements
        self._tokens = tokens
        self._lock = threading.Lock()
        self._datasets: list[tuple[str, str]] = []
        self._problem = ""
        self._version = ""
        self._standing_by = False
        self.stall_timeout_s = STALL_TIMEOUT_S
        self.processes = Processes(
            {}, size=SIZE, memory_bytes=memory_bytes, threads=threads, command=command, kept=KEPT
        )

    @property
    def missing(self) -> str:
        """Why the extension is not to be had; "" where nothing is known against it."""
        return self._problem

    def serves(self, columns: Sequence[Column]) -> bool:
        """Whether these columns come out of the extension as they are in BigQuery."""
        return not self._problem and all(column.type in SERVED_TYPES for column in columns)

    def state(self) -> dict[str, Any]:
        """Version, what is attached, or why not; without asking anybody."""
        if self._problem:
            return {"state": self._problem}
        if not self._version:
            return {"state": "not attached yet"}
        datasets = [f"{project}.{dataset}" for project, dataset in self._datasets]
        return {"state": "attached", "version": self._version, "datasets": datasets}

    def attach(self, datasets: Sequence[tuple[str, str]], call: Call) -> None:
        """Load the extension and attach these datasets (project, name); asks BigQuery nothing. A failure is kept in
        `state`."""
        self._remember(datasets)
        grant = _Grant(self._tokens)
        try:
            with self._ask("", 1, call, SET_UP_TIMEOUT_S, grant) as answer:
                answer.finish()
            self._version = str(answer.done["version"]) or "unknown"
        except AgnesError as error:
            call.check()
            self._learn(error, grant)

    def batches(
        self, path: TablePath, columns: Sequence[Column], row_bytes: float, call: Call
    ) -> Generator[pa.RecordBatch, None, None]:
        """Every row of these columns, in no order. `row_bytes` is about what one takes.

        Raises `Unserved` before the first row, and an error after it; what stopped the call, always.
        """
        self._remember([(path.project, path.dataset)])
        self._stand_by()
        select = self._statements.select(path, [column.name for column in columns])
        batch_rows = max(_LEAST_BATCH_ROWS, min(_MOST_BATCH_ROWS, int(_BATCH_BYTES / max(row_bytes, 1))))
        given, grant = False, _Grant(self._tokens)
        try:
            for batch in self._read(select, batch_rows, call, grant):
                given = True
                yield batch.cast(arrow_schema(columns))
        except AgnesError as error:
            call.check()
            failure = self._learn(error, grant)
        except pa.ArrowException:
            failure = as_error(Complaint(503, "", "DuckDB's extension gave other types than announced"), "reading rows")
        else:
            return
        if not given:
            raise Unserved(failure.message)
        raise failure

    def close(self) -> None:
        self.processes.close()

    def _read(self, select: str, batch_rows: int, call: Call, grant: _Grant) -> Iterator[pa.RecordBatch]:
        """A call of its own for the process, so that a stall ends the process and not the caller."""
        own = Call(call.tool, call.principal)
        limit_s = LONGEST_READ_S if call.remaining_s is None else call.remaining_s
        with (
            call.interruptible(lambda: own.stop(cancelled())),
            Watchdog(lambda: own.stop(_stalled(self.stall_timeout_s))) as watchdog,
            self._ask(select, batch_rows, own, limit_s, grant) as answer,
        ):
            with watchdog.watching(self.stall_timeout_s):
                _, batches = answer.schema_and_batches()
            while True:
                with watchdog.watching(self.stall_timeout_s):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch
        self._version = str(answer.done["version"]) or "unknown"

    def _ask(
        self, select: str, batch_rows: int, call: Call, limit_s: float, grant: _Grant
    ) -> AbstractContextManager[Answer]:
        statements = self._statements
        content = {
            "extension": statements.extension,
            "unsigned": statements.unsigned,
            "extensions": os.path.join(os.path.expanduser("~"), ".duckdb", "extensions"),
            "load": statements.load,
            "secret": statements.secret(),
            "attach": [statements.attach(*dataset) for dataset in self._datasets],
            "select": select,
            "batch_rows": batch_rows,
        }
        return self.processes.ask(Question("attached", content, _out_of_memory, _died), grant, call, limit_s)

    def _remember(self, datasets: Sequence[tuple[str, str]]) -> None:
        with self._lock:
            self._datasets = list(dict.fromkeys([*self._datasets, *datasets]))

    def _stand_by(self) -> None:
        """While there is work, the other process is attached too, so that the next read waits for nothing."""
        with self._lock:
            if self._standing_by:
                return
            self._standing_by = True

        def attach() -> None:
            try:
                self.attach((), Call("attach", Principal("server"), timeout_s=SET_UP_TIMEOUT_S))
            finally:
                self._standing_by = False

        threading.Thread(target=attach, name="bigquery-stand-by", daemon=True).start()

    def _learn(self, error: AgnesError, grant: _Grant) -> AgnesError:
        """The error as BigQuery's. What failed in loading or attaching is not tried again, and said once."""
        phase, text = str(error.details.get("phase", "")), str(error.details.get("text", ""))
        if error.details.get("died") and not grant.asked:
            self._give_up("it ends the process that loads it")
        if not text:
            return error
        said = redact(without_paths_in_prose(text.split("\n", 1)[0]))
        if phase in ("load", "attach") and not _REFUSED_TOKEN.search(text):
            self._give_up(said)
        return as_error(Complaint(_status_of(text), "", said), "reading rows through DuckDB's extension")

    def _give_up(self, reason: str) -> None:
        with self._lock:
            known, self._problem = self._problem, self._problem or f"not to be had: {reason}"
        if not known:
            _log.warning(
                "DuckDB's bigquery extension is %s; whole columns come as Storage Read's stream", self._problem
            )


class _Grant:
    """The token, as often as the process makes a secret of it; it is nowhere else. `asked`: it has loaded by then."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self.asked = False

    def __call__(self, needed: dict[str, Any]) -> Mapping[str, Any]:
        self.asked = True
        return {"token": self._tokens.token()}


def ruled_out(settings: BigQuerySettings, tokens: TokenSource) -> str:
    """Why nothing is attached here, in one line; "" where it may be. With `auto`, a token is asked for."""
    if settings.attach == "off":
        return "off: data_source.bigquery.attach"
    if settings.storage_endpoint:
        return "off: the extension reads from Google's own address only, and storage_endpoint is set"
    if settings.universe_domain != DEFAULT_UNIVERSE:
        return "off: the extension knows no other universe_domain"
    if tokens.mode == "anonymous":
        return "off: there is no token to give it"
    if settings.attach == "auto":
        try:
            tokens.token()
        except AgnesError as error:
            return f"off: {error.message}"
        if tokens.health()["origin"] != "metadata":
            return "off: attach is auto, and the token is not the metadata server's"
    return ""


def _status_of(text: str) -> int:
    return next((status for pattern, status in _STATUS_OF_TEXT if pattern.search(text)), 503)


def _stalled(timeout_s: float) -> AgnesError:
    said = f"DuckDB's extension sent nothing for {timeout_s:g} seconds"
    return as_error(Complaint(0, "connectionCut", said), "reading rows")


def _out_of_memory() -> AgnesError:
    return as_error(Complaint(503, "", "DuckDB's extension took more memory than it may"), "reading rows")


def _died(code: int) -> AgnesError:
    said = f"DuckDB's extension ended its process ({code})"
    return as_error(Complaint(0, "connectionCut", said), "reading rows", {"died": True})


def make_attached(
    settings: BigQuerySettings, tokens: TokenSource, *, memory_bytes: int, threads: int
) -> Attached | str:
    """With the extension of the community repository, or the file that the environment names; or why there is none."""
    if reason := ruled_out(settings, tokens):
        return reason
    statements = ExtensionStatements(settings, os.environ.get(FILE_VARIABLE, ""))
    return Attached(statements, tokens, memory_bytes=memory_bytes, threads=threads)
