"""`extract.duckdb` of BigQuery: what there is, how it is reached, and a view for each table that can have one.

Nothing is read of any table: entity types come from `tables.get`, which is free. Making a view asks BigQuery for the
table's columns through DuckDB's extension; where that is not to be had, everything but the views is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts import statements
from agnes_mcp.extracts.attachment import ALIAS, Attachment
from agnes_mcp.extracts.layout import BIGQUERY_SOURCE, EXTRACT, IDENTIFIER, PLACE, PROJECT, extracts_folder
from agnes_mcp.extracts.swap import replacing
from agnes_mcp.models import Model, Table
from agnes_mcp.sources.bigquery.extension_sql import FILE_VARIABLE
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sql.duckdb_lines import FILE_SETTINGS
from agnes_mcp.sql.instance import interrupt
from agnes_mcp.untrusted import redact

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.sources.bigquery.clients import Clients


SECRET = "bq_session"  # noqa: S105 - a secret's name
#: What a reference to the attached table reads; every other type takes a query job.
_ATTACHED = "BASE TABLE"
_SHARDED = "SHARDED"
_WRAPPED = frozenset({"VIEW", "MATERIALIZED VIEW", "EXTERNAL", "SNAPSHOT", "CLONE", _SHARDED})
#: `tables.get` of so many tables at a time.
_AT_ONCE = 8


class ExtractProblem(Model):
    """Why a table, or the whole run (`<config>`, `<auth>`, `<extension>`), is not as it was asked for."""

    table: str
    error: str


class ExtractAnswer(Model):
    """How many tables the extract registers, how many of them have a view, and what went wrong."""

    tables_registered: int = 0
    views: int = 0
    errors: list[ExtractProblem] = Field(default_factory=list)

    def failed(self, table: str, error: str) -> None:
        self.errors.append(ExtractProblem(table=table, error=error))


class _Found(NamedTuple):
    """A table that exists. `kind` is its entity type."""

    name: str
    description: str
    path: TablePath
    kind: str


class ExtractWriter:
    """Writes one project's extract. `attachment` names the statements that reach BigQuery. Blocking."""

    def __init__(self, settings: BigQuerySettings, attachment: Attachment | None = None) -> None:
        self._settings = settings
        self._attachment = attachment or Attachment()

    def write(self, root: Path, tables: Sequence[Table], call: Call) -> ExtractAnswer:
        """`<root>/extracts/bigquery/extract.duckdb` over these BigQuery tables, replaced whole.

        What goes wrong with one table is in the answer, and so are a project that is none (`<config>`) and a token that
        is not to be had (`<auth>`): then no file is touched. Raises `disk_full`, `storage_failed`, and what ends the
        call.
        """
        answer = ExtractAnswer()
        if not PROJECT.fullmatch(self._settings.project):
            answer.failed("<config>", f"{self._settings.project!r} is not the id of a BigQuery project")
            return answer
        try:
            token, found = self._look(list(_sound(tables, self._settings.project, answer)), answer, call)
        except _NoTokenError as error:
            answer.failed("<auth>", error.reason)
            return answer
        with replacing(extracts_folder(root) / BIGQUERY_SOURCE / EXTRACT, call) as file:
            self._build(file, token, found, answer, call)
        return answer

    def _look(self, tables: list[Table], answer: ExtractAnswer, call: Call) -> tuple[str, list[_Found]]:
        """A token of this run, and which of the tables exist."""
        from agnes_mcp.sources.bigquery.clients import Clients

        clients = Clients(self._settings)
        try:
            try:
                token = clients.tokens.token()
            except AgnesError as error:
                raise _NoTokenError(error.message) from None
            with ThreadPoolExecutor(_AT_ONCE, "extract") as threads:
                kinds = list(threads.map(lambda table: _kind_of(clients, table, self._settings.project, call), tables))
        finally:
            clients.close()
        call.check()
        found = [_judge(table, kind, self._settings.project, answer) for table, kind in zip(tables, kinds, strict=True)]
        return token, [table for table in found if table is not None]

    def _build(self, file: Path, token: str, found: list[_Found], answer: ExtractAnswer, call: Call) -> None:
        import duckdb

        config: dict[str, str | bool | int | float | list[str]] = {**FILE_SETTINGS}
        config["allow_unsigned_extensions"] = FILE_VARIABLE in os.environ
        connection = duckdb.connect(str(file), config=config)
        try:
            with call.interruptible(partial(interrupt, connection)):
                self._describe(connection, found)
                answer.tables_registered = len(found)
                views = [table for table in found if table.kind == _ATTACHED or self._settings.legacy_wrap_views]
                if views and self._attach(connection, token, len(views), answer):
                    self._make_views(connection, views, answer, call)
                    connection.execute(f"DETACH {ALIAS}")
                connection.execute("CHECKPOINT")  # closing would keep a full disk to itself
        finally:
            connection.close()

    def _describe(self, connection: duckdb.DuckDBPyConnection, found: list[_Found]) -> None:
        """Whatever needs no extension."""
        now = datetime.now(UTC).replace(tzinfo=None)
        for statement in (statements.META, statements.REMOTE_ATTACH, statements.PLACES):
            connection.execute(statement)
        connection.execute(statements.REMOTE_ATTACH_ROW, [ALIAS, "bigquery", f"project={self._settings.project}", ""])
        for table in found:
            connection.execute(statements.META_ROW, [table.name, table.description, now])
            connection.execute(statements.PLACES_ROW, [table.name, *table.path, table.kind])

    def _attach(self, connection: duckdb.DuckDBPyConnection, token: str, views: int, answer: ExtractAnswer) -> bool:
        """Whether BigQuery is attached. If it is not, that is the one thing the answer says of all views."""
        import duckdb

        try:
            self._attachment.load(connection, os.environ.get(FILE_VARIABLE, ""))
            if token:
                self._attachment.authorize(connection, SECRET, token)
            self._attachment.attach(connection, ALIAS, self._url)
        except duckdb.Error as error:
            made = "1 view was" if views == 1 else f"{views:,} views were"
            answer.failed(
                "<extension>",
                f"{made} not made, because DuckDB's bigquery extension is not to be had here "
                f"({_first_line(error)}). The tables are served all the same. For the views run `INSTALL bigquery FROM "
                f"community` in DuckDB where it may download, or name a file in {FILE_VARIABLE}, and extract again.",
            )
            return False
        return True

    @property
    def _url(self) -> str:
        billed = self._settings.billed_project
        return f"project={self._settings.project}" + (
            f" billing_project={billed}" if billed != self._settings.project else ""
        )

    def _make_views(
        self, connection: duckdb.DuckDBPyConnection, tables: list[_Found], answer: ExtractAnswer, call: Call
    ) -> None:
        import duckdb

        for done, table in enumerate(tables):
            call.check()
            try:
                connection.execute(self._view(table))
                answer.views += 1
            except duckdb.Error as error:
                call.check()
                answer.failed(table.name, f"its view was not made: {_first_line(error)}")
            call.report(done + 1, len(tables), table.name)

    def _view(self, table: _Found) -> str:
        if table.kind == _ATTACHED:
            return statements.attached_view(table.name, ALIAS, table.path)
        return statements.wrapped_view(table.name, self._settings.billed_project, table.path)


class _NoTokenError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _sound(tables: Iterable[Table], project: str, answer: ExtractAnswer) -> Iterable[Table]:
    """The tables whose names may stand in an extract, the first of each name; the others are in the answer."""
    taken: set[str] = set()
    for table in tables:
        source_table = table.source_table or table.id
        unsafe = [
            what
            for what, pattern, value in (
                ("table_name", IDENTIFIER, table.id),
                ("dataset", PLACE, table.bucket),
                ("source_table", PLACE, source_table.removesuffix("*")),
            )
            if not pattern.fullmatch(value)
        ]
        if unsafe:
            answer.failed(table.id[:80], f"unsafe {'/'.join(unsafe)}: its view could not be written")
        elif table.project not in ("", project):
            answer.failed(table.id, f"it is in another project than {project!r}, and an extract attaches one")
        elif table.id in taken:
            answer.failed(table.id, "the name is there already")
        else:
            taken.add(table.id)
            yield table.model_copy(update={"source_table": source_table, "project": project})


def _kind_of(clients: Clients, table: Table, project: str, call: Call) -> str | AgnesError:
    """The entity type, by one free `tables.get`, or of a family of daily tables by listing them; or why it is not
    known."""
    from agnes_mcp.sources.bigquery.metadata import entity_type, fetch_resource
    from agnes_mcp.sources.bigquery.requests import Attempts
    from agnes_mcp.sources.bigquery.shards import newest_shard

    path, attempts = TablePath(project, table.bucket, table.source_table), Attempts(call, clients.tokens)
    try:
        if path.is_family:
            newest_shard(clients.rest, path, attempts, days_only=True)
            return _SHARDED
        return entity_type(fetch_resource(clients.rest, path, attempts))
    except AgnesError as error:
        return error


def _judge(table: Table, kind: str | AgnesError, project: str, answer: ExtractAnswer) -> _Found | None:
    if isinstance(kind, AgnesError):
        place = f"{table.bucket}.{table.source_table}"
        missing = f"not found: there is no {place} in {project}"
        answer.failed(table.id, missing if kind.kind == "bq_not_found" else f"{place}: {kind.message}")
        return None
    if kind != _ATTACHED and kind not in _WRAPPED:
        answer.failed(table.id, f"unsupported entity type {kind!r}")
        return None
    return _Found(table.id, table.description, TablePath(project, table.bucket, table.source_table), kind)


def _first_line(error: Exception) -> str:
    return redact(str(error).split("\n", 1)[0])[:300]
