"""`analytics/server.duckdb`: one view for each table that the sources offer, over all of them.

Making a view binds what it reads, in this process and with this run's token at hand. So only views that are plain
readings of the source's own files, or of what it may attach, are made; everything else is told and left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.attachment import Attachment, RemoteAttach
from agnes_mcp.extracts.inspection import Contents, UnreadableExtract, inspect_extract
from agnes_mcp.extracts.layout import (
    EXTRACT,
    IDENTIFIER,
    PROJECT,
    extracts_folder,
    is_inside,
    server_file,
    source_folders,
)
from agnes_mcp.extracts.offers import Source
from agnes_mcp.extracts.statements import source_view
from agnes_mcp.extracts.swap import replacing
from agnes_mcp.models import Model
from agnes_mcp.sources.bigquery.extension_sql import FILE_VARIABLE
from agnes_mcp.sql.duckdb_lines import FILE_SETTINGS
from agnes_mcp.sql.instance import interrupt
from agnes_mcp.sql.names import identifier, literal
from agnes_mcp.untrusted import redact, remember

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

#: Names that DuckDB, or the file itself, has given to something else.
_TAKEN = frozenset({"server", "main", "temp", "system", "memory"})
#: Functions that a plain view calls; a macro of that name would be called in their place.
_CALLED = frozenset({"read_parquet", "parquet_scan", "bigquery_query", "list_value"})


class RebuildProblem(Model):
    """What is not in the file; `table` is "" where it is a whole source, or something it attaches."""

    source: str
    table: str = ""
    reason: str


class RebuildAnswer(Model):
    """The tables of each source that has any, and what was left out."""

    sources: dict[str, list[str]] = Field(default_factory=dict)
    problems: list[RebuildProblem] = Field(default_factory=list)


@dataclass
class Rebuilder:
    """One run. `token` gives BigQuery's access token, asked for at most once and only where something needs it."""

    root: Path
    token: Callable[[], str]
    attachment: Attachment = field(default_factory=Attachment)

    def __post_init__(self) -> None:
        self._answer = RebuildAnswer()
        self._attached: dict[str, RemoteAttach] = {}  # of this one run
        self._owners: dict[str, str] = {}  # of this one run
        self._token: str | AgnesError | None = None
        self._loaded = False

    def run(self, call: Call) -> RebuildAnswer:
        """Blocking. Raises `disk_full`, `storage_failed`, and what ends the call; then the old file stays."""
        if not extracts_folder(self.root).is_dir():
            return self._answer
        with replacing(server_file(self.root), call) as file:
            self._build(file, call)
        return self._answer

    def _build(self, file: Path, call: Call) -> None:
        import duckdb

        config: dict[str, str | bool | int | float | list[str]] = {
            "allow_persistent_secrets": False,
            "allow_unsigned_extensions": FILE_VARIABLE in os.environ,
            **FILE_SETTINGS,
        }
        connection = duckdb.connect(str(file), config=config)
        try:
            with call.interruptible(partial(interrupt, connection)):
                for folder in source_folders(self.root):
                    call.check()
                    self._add(connection, folder, call)
                connection.execute("CHECKPOINT")
        finally:
            connection.close()

    def _add(self, connection: duckdb.DuckDBPyConnection, folder: Path, call: Call) -> None:
        """The views of one source. Whatever is wrong with it stays with it."""
        import duckdb

        name = folder.name
        if not (folder / EXTRACT).exists():
            return
        if not IDENTIFIER.fullmatch(name) or name.lower() in _TAKEN or name in self._attached:
            self._tell(name, "", "its folder's name cannot stand for it in SQL")
            return
        try:
            contents = inspect_extract(folder / EXTRACT, call)
            connection.execute(f"ATTACH {literal(str(folder / EXTRACT))} AS {identifier(name)} (READ_ONLY)")
        except UnreadableExtract as error:
            self._tell(name, "", f"{EXTRACT} is not served: {error}")
            return
        except duckdb.Error:
            call.check()
            self._tell(name, "", f"{EXTRACT} could not be attached")
            return
        usable = {row.alias for row in contents.attach if self._attach(connection, name, row)}
        made = self._make_views(connection, Source(folder, contents, ""), usable, call)
        if made:
            self._answer.sources[name] = made

    def _attach(self, connection: duckdb.DuckDBPyConnection, source: str, row: RemoteAttach) -> bool:
        """Whether that alias is there for this source's views."""
        if row.alias in self._attached:
            same = self._attached[row.alias] == row
            if not same:
                self._tell(source, "", f"{row.alias!r} is attached as something else by another source")
            return same
        problem = row.refusal() or self._attach_allowed(connection, row, extracts_folder(self.root) / source)
        if problem:
            self._tell(source, "", f"{row.alias[:80]!r} is not attached: {problem}")
            return False
        self._attached[row.alias] = row
        return True

    def _attach_allowed(self, connection: duckdb.DuckDBPyConnection, row: RemoteAttach, folder: Path) -> str:
        """Attach it, for the source of that folder; "" or why not."""
        import duckdb

        if row.alias.lower() in _TAKEN or (extracts_folder(self.root) / row.alias / EXTRACT).exists():
            return "the alias is the name of something else"
        if row.reads_files:
            row = row._replace(url=os.path.normpath(folder / row.url))
            if not is_inside(row.url, folder):
                return "its url is not a file below the folder of its source"
        token = self._fetch_token() if row.extension == "bigquery" else os.environ.get(row.token_env, "")
        if isinstance(token, AgnesError):
            return f"no token from the metadata server or elsewhere: {token.message}"
        if row.token_env and row.extension != "bigquery" and not token:
            return f"the variable {row.token_env} is not set"
        remember(token)
        try:
            if row.extension == "bigquery":
                self._attach_bigquery(connection, row, token)
            else:
                self.attachment.attach_other(connection, row, token)
        except duckdb.Error as error:
            said = redact(str(error).split("\n", 1)[0])[:200] if row.extension == "bigquery" else type(error).__name__
            return f"the extension {row.extension!r} is not to be had, or refused ({said})"
        return ""

    def _attach_bigquery(self, connection: duckdb.DuckDBPyConnection, row: RemoteAttach, token: str) -> None:
        if not self._loaded:
            self.attachment.load(connection, os.environ.get(FILE_VARIABLE, ""))
            self._loaded = True
        if token:
            self.attachment.authorize(connection, f"bq_secret_{row.alias}", token)
        self.attachment.attach(connection, row.alias, row.url)

    def _fetch_token(self) -> str | AgnesError:
        if self._token is None:
            try:
                self._token = self.token()
            except AgnesError as error:
                self._token = error
        return self._token

    def _make_views(
        self, connection: duckdb.DuckDBPyConnection, source: Source, usable: set[str], call: Call
    ) -> list[str]:
        import duckdb

        made: list[str] = []
        for offer in source.contents.offers:
            call.check()
            name, folder = offer.name, source.folder.name
            owner = self._owners.get(name.lower())
            problem = f"the name belongs to the source {owner!r}" if owner else _unfit(source, name, usable)
            if problem is None:
                _log.info("%s.%s has no view in its extract: none is made", folder, name[:80])
                continue
            if not problem:
                try:
                    connection.execute(source_view(name, folder))
                except duckdb.Error as error:
                    call.check()
                    problem = f"its view cannot be read: {redact(str(error).split(chr(10), 1)[0])[:200]}"
            if problem:
                self._tell(folder, name[:80], problem)
                continue
            self._owners[name.lower()] = folder
            made.append(name)
        return made

    def _tell(self, source: str, table: str, reason: str) -> None:
        _log.error("%s%s: %s", source, f".{table}" if table else "", reason)
        self._answer.problems.append(RebuildProblem(source=source, table=table, reason=reason))


def _unfit(source: Source, name: str, usable: set[str]) -> str | None:
    """Why no view is made over this object; "" where one is; None where the extract has no such object."""
    contents = source.contents
    if not IDENTIFIER.fullmatch(name):
        return "its name is not letters, digits and `_`"
    if name in contents.tables:
        return "" if contents.tables[name] else "a column of it is computed by the extract"
    if name not in contents.views:
        return None
    view = contents.views[name]
    if view is not None and _reads_own_table(contents, view):
        return ""
    if contents.openings.get(name) == "":
        return "its view computes: it is served by the tools, but nothing is computed beside the token of a rebuild"
    if view is None or contents.macros & _CALLED:
        return "its view does more than read its own files or what the source attaches"
    if "table" in view and view["table"][0]:
        alias = view["table"][0]
        return "" if alias in usable else f"{alias!r}, which it reads, is not attached"
    if view.get("function") == "bigquery_query":
        return _unfit_query(contents, view, usable)
    return "" if source.parquet(view, relative=False) else "its view reads files that are not of its own folder"


def _reads_own_table(contents: Contents, view: Mapping[str, Any]) -> bool:
    """Whether a view is a plain reading of a stored table of its own file, no column of which is computed."""
    catalog, schema, table = view.get("table", ("", "", ""))
    return not catalog and schema in ("", "main") and contents.tables.get(table, False)


def _unfit_query(contents: Contents, view: Mapping[str, Any], usable: set[str]) -> str:
    """A query's project and text only: a third argument could be an endpoint that gets the token."""
    reached = any(row.alias in usable and row.extension == "bigquery" for row in contents.attach)
    if not reached:
        return "BigQuery, which it reads, is not attached"
    arguments = view["arguments"]
    sound = len(arguments) == 2 and not view["options"] and PROJECT.fullmatch(str(arguments[0]))
    return "" if sound else "its view does more than run one query in one project"
