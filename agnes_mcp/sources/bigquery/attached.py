"""BigQuery through DuckDB's ATTACHed extension, in a process of its own that is killed where it does not obey.

The extension runs only plain projections: with anything else it drops filters, reads too much, or ends its instance.
What it could not load is tried again by a rule (`backoff`), and whatever breaks is for the client's stream to serve.
"""

from __future__ import annotations

import logging
import os
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
from agnes_mcp.sources.backoff import Backoff
from agnes_mcp.sources.bigquery import extension_errors
from agnes_mcp.sources.bigquery.extension_sql import FILE_VARIABLE, ExtensionStatements
from agnes_mcp.sources.bigquery.fields import arrow_schema
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.origins import DEFAULT_UNIVERSE
from agnes_mcp.sources.bigquery.streams import STALL_TIMEOUT_S, Watchdog

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
#: What is larger comes as the stream: its rows are put aside until all are there.
MOST_BYTES = 4 * 2**30
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
#: How often a process asks for its token at least, and at most, while rows stream.
RENEW_EVERY_S, RENEW_AFTER_S = 30.0, 0.5


class Unserved(Exception):  # noqa: N818 - a signal
    """It was not asked; the text says why."""


class Passing(str):
    """A reason that may be none later."""

    __slots__ = ()


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
        self.trying = Backoff()
        self._version = ""
        self._standing_by = False
        self._reading = threading.Lock()
        self.stall_timeout_s = STALL_TIMEOUT_S
        self.processes = Processes(
            {}, size=SIZE, memory_bytes=memory_bytes, threads=threads, command=command, kept=KEPT
        )

    @property
    def missing(self) -> str:
        """Why the extension is not to be had; "" where nothing is known against it."""
        return self.trying.reason

    def serves(self, columns: Sequence[Column]) -> bool:
        """Whether these columns come out of the extension as they are in BigQuery. What is not to be had is tried
        again in the background, when it is time."""
        if self.missing:
            self._try_again()
            return False
        return all(column.type in SERVED_TYPES for column in columns)

    def state(self) -> dict[str, Any]:
        """Version, what is attached, or why not and when it is tried next; without asking anybody."""
        if self.missing:
            return {"state": self.missing, "next_try": self.trying.next_try}
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
            self._stands(answer)
        except AgnesError as error:
            call.check()
            self._learn(error, grant)

    def batches(
        self, path: TablePath, columns: Sequence[Column], row_bytes: float, call: Call
    ) -> Generator[pa.RecordBatch, None, None]:
        """Every row of these columns, in no order. `row_bytes` is about what one takes.

        One read at a time: raises `Unserved` while there is another. Raises an error of BigQuery's kinds for whatever
        breaks, wherever it does; and what stopped the call, always.
        """
        if not self._reading.acquire(blocking=False):
            raise Unserved("another read is under way in DuckDB's extension")
        self._remember([(path.project, path.dataset)])
        select = self._statements.select(path, [column.name for column in columns])
        batch_rows = max(_LEAST_BATCH_ROWS, min(_MOST_BATCH_ROWS, int(_BATCH_BYTES / max(row_bytes, 1))))
        grant = _Grant(self._tokens)
        try:
            for batch in self._read(select, batch_rows, call, grant):
                yield batch.cast(arrow_schema(columns))
        except AgnesError as error:
            call.check()
            raise self._learn(error, grant) from None
        except pa.ArrowException:
            raise extension_errors.other_types() from None
        finally:
            self._reading.release()

    def close(self) -> None:
        self.processes.close()

    def _read(self, select: str, batch_rows: int, call: Call, grant: _Grant) -> Iterator[pa.RecordBatch]:
        """A call of its own for the process, so that a stall ends the process and not the caller."""
        own = Call(call.tool, call.principal)
        limit_s = LONGEST_READ_S if call.remaining_s is None else call.remaining_s
        with (
            call.interruptible(lambda: own.stop(cancelled())),
            Watchdog(lambda: own.stop(extension_errors.stalled(self.stall_timeout_s))) as watchdog,
            self._ask(select, batch_rows, own, limit_s, grant) as answer,
        ):
            with watchdog.watching(self.stall_timeout_s):
                _, batches = answer.schema_and_batches()
            self._stand_by()
            while True:
                with watchdog.watching(self.stall_timeout_s):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch
        self._stands(answer)

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
        return self.processes.ask(
            Question("attached", content, extension_errors.out_of_memory, extension_errors.died), grant, call, limit_s
        )

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

    def _try_again(self) -> None:
        """In the background: no caller waits for it."""
        try:
            token = self._tokens.token()
        except AgnesError:
            token = ""
        if self.trying.due(token):
            self._stand_by()

    def _stands(self, answer: Answer) -> None:
        self._version = str(answer.done["version"]) or "unknown"
        self.trying.went_well()

    def _learn(self, error: AgnesError, grant: _Grant) -> AgnesError:
        """The error as BigQuery's. What failed in loading or attaching is tried again later, and said once."""
        phase, text = str(error.details.get("phase", "")), str(error.details.get("text", ""))
        if error.details.get("died") and not grant.asked:
            self._give_up("it ends the process that loads it", grant)
        if not text:
            return error
        if extension_errors.REFUSED_TOKEN.search(text):
            self._tokens.discard(grant.token)  # nobody else need be told
        elif phase in ("load", "attach"):
            self._give_up(extension_errors.first_line(text), grant)
        return extension_errors.complaint(text)

    def _give_up(self, reason: str, grant: _Grant) -> None:
        if self.trying.failed(f"not to be had: {reason}", grant.token):
            _log.warning(
                "DuckDB's bigquery extension is %s; whole columns come as Storage Read's stream; next try at %s",
                self.missing, self.trying.next_try,
            )  # fmt: skip


class _Grant:
    """The token, as often as the process makes a secret of it; it is nowhere else. `asked`: it has loaded by then."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self.asked = False
        self.token = ""

    def __call__(self, needed: dict[str, Any]) -> Mapping[str, Any]:
        """With it, after how long there will be another one."""
        self.asked = True
        self.token = self._tokens.token()
        kept_s = self._tokens.fresh_for_s()
        return {"token": self.token, "renew_in_s": max(RENEW_AFTER_S, min(RENEW_EVERY_S, kept_s))}


def ruled_out(settings: BigQuerySettings, tokens: TokenSource) -> str:
    """Why nothing is attached here, in one line; "" where it may be. With `auto`, a token is asked for."""
    if settings.attach == "off":
        return extension_errors.OFF
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
            return Passing(f"off: {error.message}")
        if tokens.health()["origin"] != "metadata":
            return "off: attach is auto, and the token is not the metadata server's"
    return ""


def make_attached(
    settings: BigQuerySettings, tokens: TokenSource, *, memory_bytes: int, threads: int
) -> Attached | str:
    """With the extension of the community repository, or the file that the environment names; or why there is none."""
    if reason := ruled_out(settings, tokens):
        return reason
    statements = ExtensionStatements(settings, os.environ.get(FILE_VARIABLE, ""))
    return Attached(statements, tokens, memory_bytes=memory_bytes, threads=threads)
