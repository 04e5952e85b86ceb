"""How a remote source is attached to a DuckDB instance: who may be, and the statements that do it.

`Attachment` is the one place that names these statements, so that a file can stand in for BigQuery under the same
three-part names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from agnes_mcp.extracts.layout import IDENTIFIER, PROJECT
from agnes_mcp.sources.extensions.statements import Attach, AttachStatements
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    import duckdb

#: The alias under which BigQuery stands in the views of an extract.
ALIAS = "bq"
EXTENSIONS = frozenset({"bigquery", "keboola"})
EXTENSIONS_VARIABLE = "AGNES_REMOTE_ATTACH_EXTENSIONS"
TOKEN_VARIABLES = frozenset(
    {"KBC_TOKEN", "KBC_STORAGE_TOKEN", "KEBOOLA_STORAGE_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"}
)
TOKEN_VARIABLES_VARIABLE = "AGNES_REMOTE_ATTACH_TOKEN_ENVS"  # noqa: S105 - a variable's name
#: What a url for BigQuery may hold; an endpoint may not be chosen by a file.
_URL_OPTIONS = frozenset({"project", "billing_project", "dataset"})
_URL_VALUE = re.compile(r"[A-Za-z0-9_-]{1,1024}")
#: Extensions that open a file of this machine; only one below the source's own folder is.
FILE_EXTENSIONS = frozenset({"sqlite"})
#: Extensions whose url is a connection string.
DATABASES = frozenset({"postgres", "mysql"})
_DATABASE_OPTIONS = frozenset(
    {"host", "hostaddr", "port", "dbname", "database", "db", "user", "sslmode", "ssl_mode", "connect_timeout"}
)
_DATABASE_VALUE = re.compile(r"[A-Za-z0-9_.:\-]{1,255}")
_TLS_MODES = frozenset({"require", "verify-ca", "verify-full", "required", "verify_ca", "verify_identity"})
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class RemoteAttach(NamedTuple):
    """One row of `_remote_attach`: what a source's views stand on. `token_env` names a variable; "" is none."""

    alias: str
    extension: str
    url: str
    token_env: str

    @property
    def options(self) -> dict[str, str]:
        """The parts of a url such as `project=my-project billing_project=other`."""
        return dict(part.split("=", 1) for part in self.url.split() if "=" in part)

    @property
    def project(self) -> str:
        """The BigQuery project it names; "" where it names none that BigQuery allows."""
        named = self.options.get("project", "")
        return named if PROJECT.fullmatch(named) else ""

    @property
    def reads_files(self) -> bool:
        """Whether its url is a file of this machine."""
        return self.extension in FILE_EXTENSIONS

    def refusal(self, environ: Mapping[str, str] = os.environ) -> str:
        """Why this may not be attached; "" where it may."""
        if not IDENTIFIER.fullmatch(self.alias) or not IDENTIFIER.fullmatch(self.extension):
            return "its _remote_attach names something that is no identifier"
        if self.extension not in allowed_extensions(environ):
            return f"the extension {self.extension!r} is not allowed here; {EXTENSIONS_VARIABLE} lists those that are"
        if self.token_env and self.token_env not in allowed_token_variables(environ):
            return f"its token may not come from that variable; {TOKEN_VARIABLES_VARIABLE} lists those it may"
        return self._refuse_url()

    def _refuse_url(self) -> str:
        """A token goes where the url says, so an endpoint of somebody's choice is none of it."""
        if self.extension == "bigquery":
            named = [part.partition("=") for part in self.url.split()]
            sound = all(name in _URL_OPTIONS and _URL_VALUE.fullmatch(value) for name, _, value in named)
            return "" if self.project and sound else "its url is not `project=<a BigQuery project>`"
        if self.extension in DATABASES:
            return self._refuse_database()
        if self.token_env and urlsplit(self.url).scheme != "https":
            return "its url is not https, and a token would travel in the clear"
        return ""

    def _refuse_database(self) -> str:
        """Options alone: others name files of this machine, and programs."""
        named = [part.partition("=") for part in self.url.split()]
        if not all(name in _DATABASE_OPTIONS and _DATABASE_VALUE.fullmatch(value) for name, _, value in named):
            return f"its url may hold {', '.join(sorted(_DATABASE_OPTIONS))} as `name=value` and nothing else"
        if self.token_env and self.options.get("sslmode", self.options.get("ssl_mode", "")) not in _TLS_MODES:
            return "its url does not insist on TLS (sslmode=verify-full), and a token would travel in the clear"
        return ""


def allowed_extensions(environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """DuckDB extensions that a source may be attached with; the variable replaces the default, empty does not."""
    return _listed(environ.get(EXTENSIONS_VARIABLE, ""), IDENTIFIER) or EXTENSIONS


def allowed_token_variables(environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Variables from which a source's token may come; the variable replaces the default, empty does not."""
    return _listed(environ.get(TOKEN_VARIABLES_VARIABLE, ""), _VARIABLE) or TOKEN_VARIABLES


def _listed(value: str, shape: re.Pattern[str]) -> frozenset[str]:
    return frozenset(name for part in value.split(",") if shape.fullmatch(name := part.strip()))


def _run(connection: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _ran(connection: duckdb.DuckDBPyConnection, statements: list[str]) -> bool:
    import duckdb

    try:
        _run(connection, statements)
    except duckdb.Error:
        return False
    return True


class Attachment:
    """BigQuery through DuckDB's extension. Its tables are named `<alias>."dataset"."table"`.

    `others` has the statements for every other extension.
    """

    def __init__(self, others: AttachStatements | None = None) -> None:
        self.others = others or AttachStatements()

    def load(self, connection: duckdb.DuckDBPyConnection, file: str = "") -> None:
        """Install and load the extension, or load it from `file`. Raises duckdb.Error where it is not to be had."""
        from agnes_mcp.sources.bigquery import extension_sql  # it brings Google's libraries

        for statement in (*extension_sql.load(file), *extension_sql.SETTINGS):
            connection.execute(statement)

    def authorize(self, connection: duckdb.DuckDBPyConnection, name: str, token: str) -> None:
        """A temporary secret, of this instance only. The token is bound: a parser's complaint repeats the statement."""
        connection.execute(self.secret(name), [token])

    def attach(self, connection: duckdb.DuckDBPyConnection, alias: str, url: str) -> None:
        """Under that alias, for reading only. Makes no request."""
        connection.execute(self.statement(alias, url))

    def attach_other(self, connection: duckdb.DuckDBPyConnection, row: RemoteAttach, token: str) -> None:
        """With any other extension, its token in a temporary secret. What such an extension says may repeat the token:
        never show its errors."""
        source = Attach(*row)
        *others, last = self.others.load(source.extension)
        if not any(_ran(connection, statements) for statements in others):
            _run(connection, last)
        secret, more = self.others.secret(source)
        if secret:
            connection.execute(secret, [token, *more])
        connection.execute(self.others.attach(source))

    def secret(self, name: str) -> str:
        return f"CREATE OR REPLACE SECRET {identifier(name)} (TYPE bigquery, ACCESS_TOKEN ?)"

    def statement(self, alias: str, url: str) -> str:
        target = literal(url)
        return f"ATTACH {target} AS {identifier(alias)} (TYPE bigquery, READ_ONLY)"
