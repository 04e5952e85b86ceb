"""Tables that an extract reads through an extension of DuckDB's: a process per alias, killed at the deadline.

The token is in the secret of that process and nowhere else. An extension that is not to be had is tried again by a rule
(`backoff`); until then its tables say so, and what to do about it, and everything else is served.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.calls.processes.worker import Answer
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Price, Relation, Statement, Table, TableSchema
from agnes_mcp.sources import Source
from agnes_mcp.sources.backoff import Backoff
from agnes_mcp.sources.extensions.statements import SELF_CONTAINED, Attach, AttachStatements
from agnes_mcp.sources.warehouse import FreeReading
from agnes_mcp.sql.duckdb_errors import out_of_memory
from agnes_mcp.sql.names import identifier
from agnes_mcp.untrusted import remember

if TYPE_CHECKING:
    import pyarrow as pa

COMMAND = ("-I", "-B", "-m", "agnes_mcp.sources.extensions.job")
#: What the process knows of the environment: how to get out, and whom to trust. No credential.
KEPT = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE")
#: A read of a call without a deadline ends after a day.
LONGEST_READ_S = 86_400.0
_WRITE_PARQUET = "have its extractor write Parquet into data/"


class _Alias:
    """One source, and its process."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.trying = Backoff()
        self.stood = False  # it has answered before


class ExtensionSource(Source):
    """See `Source` for the contract. Free; `statements` names what is loaded and attached, `command` what makes an
    interpreter the process."""

    def __init__(
        self,
        *,
        memory_bytes: int,
        threads: int,
        statements: AttachStatements | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._make = partial(
            Processes, {}, size=1, memory_bytes=memory_bytes, threads=threads, command=command, kept=KEPT
        )
        self._statements = statements or AttachStatements()
        self._lock = threading.Lock()
        self._aliases: dict[Attach, _Alias] = {}  # one for each `_remote_attach` that a table has named

    def schema(self, table: Table, call: Call) -> TableSchema:
        """Its columns, as the extension names and types them; how many rows there are is not asked."""
        with self._asked(table, "", "", [], call) as answer:
            answer.finish()
            columns = [Column.model_validate(column) for column in answer.done["columns"]]
        return TableSchema(
            table_id=table.id, columns=columns, primary_key=table.primary_key, description=table.description
        )

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        import pyarrow as pa

        selected = ", ".join(identifier(column) for column in columns)
        sql = f"SELECT {selected} FROM {identifier(table.id)} LIMIT {int(n)}"  # noqa: S608 - quoted names of the schema
        with self._asked(table, sql, "", schema.columns, call) as answer:
            found, batches = answer.schema_and_batches()
            return pa.Table.from_batches(list(batches), found)

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        return Price(scan_bytes=0, reserved_bytes=0, path="local")

    @contextmanager
    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> Iterator[FreeReading]:
        own = statement.sql if statement.predicate_sql else ""
        with self._asked(table, statement.sql, own, schema.columns, call) as answer:
            yield FreeReading(*answer.schema_and_batches(), call)

    def reads_apart(self, table: Table, statement: Statement) -> bool:
        return True

    def relation(self, table: Table) -> Relation:
        """By its id: the name of its view in the process."""
        return Relation("", "", table.id)

    def problem(self, table: Table) -> str:
        known = self._aliases.get(_attach_of(table))
        return _said(table, known.trying) if known is not None and known.trying.reason else ""

    def health(self) -> dict[str, Any]:
        """By alias: that it is attached, or why not and when it is tried next."""
        return {
            source.alias: {"state": known.trying.reason, "next_try": known.trying.next_try}
            if known.trying.reason
            else {"state": "attached"}
            for source, known in list(self._aliases.items())
        }

    def try_again(self) -> None:
        for known in list(self._aliases.values()):
            known.trying.hurry()

    def close(self) -> None:
        for known in list(self._aliases.values()):
            known.processes.close()

    def _alias(self, source: Attach) -> _Alias:
        with self._lock:
            if source not in self._aliases:
                self._aliases[source] = _Alias(self._make())
            return self._aliases[source]

    @contextmanager
    def _asked(self, table: Table, sql: str, own: str, columns: Sequence[Column], call: Call) -> Iterator[Answer]:
        """What its process answers. Raises `table_unavailable` where the source is not to be had."""
        source = _attach_of(table)
        known = self._alias(source)
        if not known.trying.due(os.environ.get(source.token_env, "")):
            raise _unavailable(table, known.trying)
        question = Question("attached", self._content(table, sql, own, columns), out_of_memory, _died)
        limit_s = LONGEST_READ_S if call.remaining_s is None else call.remaining_s
        try:
            with known.processes.ask(question, partial(_grant, source), call, limit_s) as answer:
                yield answer
        except AgnesError as error:
            raise self._explained(error, table, known) from None
        known.trying.went_well()
        known.stood = True

    def _content(self, table: Table, sql: str, own: str, columns: Sequence[Column]) -> Mapping[str, Any]:
        source, statements = _attach_of(table), self._statements
        secret, more = statements.secret(source)
        return {
            "unsigned": statements.unsigned,
            "extensions": os.path.join(os.path.expanduser("~"), ".duckdb", "extensions"),
            "load": statements.load(source.extension),
            "secret": secret,
            "secret_more": more,
            "attach": statements.attach(source),
            "self_contained": source.extension in SELF_CONTAINED,
            "name": table.id,
            "alias": source.alias,
            "schema": table.bucket,
            "table": table.source_table,
            "sql": sql,
            "own": own,
            "columns": [column.model_dump(mode="json") for column in columns],
        }

    def _explained(self, error: AgnesError, table: Table, known: _Alias) -> AgnesError:
        """The sentence is ours. What failed in loading or attaching is tried again later."""
        source = _attach_of(table)
        phase, said = error.details.get("phase"), error.details.get("said", "")
        if error.kind == "schema_changed":
            return _changed(table, error.details["columns"])
        if phase == "died":
            phase = "read" if known.stood else "load"
        if phase in ("load", "attach"):
            what = "is not to be had here" if phase == "load" else "could not attach its source"
            reason = f"DuckDB's extension {source.extension!r} {what} ({said})"
            known.trying.failed(reason, os.environ.get(source.token_env, ""))
            return _unavailable(table, known.trying)
        if phase == "read":
            reason = f"the source behind DuckDB's extension {source.extension!r} did not give it ({said})"
            return _cannot(table, reason, f"Call again; if it repeats, {_WRITE_PARQUET}.")
        return error


def _attach_of(table: Table) -> Attach:
    assert table.attach is not None  # noqa: S101 - what makes it a table of this kind
    return Attach(*table.attach)


def _grant(source: Attach, needed: dict[str, Any]) -> Mapping[str, Any]:
    """The token, where the process makes its secret of it."""
    token = os.environ.get(source.token_env, "")
    if not token:
        raise AgnesError("table_unavailable", "", "", {"phase": "attach", "said": f"{source.token_env} is not set"})
    remember(token)
    return {"token": token}


def _said(table: Table, trying: Backoff) -> str:
    source = _attach_of(table)
    return (
        f"{trying.reason}; it is tried again at {trying.next_try}. Whoever keeps this instance can put "
        f"{source.extension}.duckdb_extension where DuckDB looks for it, or {_WRITE_PARQUET}"
    )


def _unavailable(table: Table, trying: Backoff) -> AgnesError:
    reason, _, cure = _said(table, trying).partition(". ")
    return _cannot(table, reason, f"{cure}. Other tables are not affected.")


def _cannot(table: Table, reason: str, hint: str) -> AgnesError:
    return AgnesError("table_unavailable", f"The table {table.id!r} cannot be read just now: {reason}.", hint)


def _changed(table: Table, columns: Sequence[str]) -> AgnesError:
    return AgnesError(
        "schema_changed",
        f"The columns of {table.id!r} have changed since they were last read: {', '.join(columns[:5])}.",
        "Call `schema` for the columns as they are now, then repeat the call.",
        {"columns": list(columns)},
    )


def _died(code: int) -> AgnesError:
    return AgnesError("table_unavailable", "", "", {"phase": "died", "said": f"it ended its process, {code}"})
