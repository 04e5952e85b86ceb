"""The SQL that loads an extension and attaches a source with it: the one place that names these statements, so that a
file can stand in for a source under the same names."""

from __future__ import annotations

from typing import NamedTuple

from agnes_mcp.sql.names import identifier, literal

#: Of DuckDB's own repository; every other extension is of the community's.
CORE = frozenset({"postgres", "mysql", "sqlite", "ducklake", "iceberg", "delta", "odbc"})
#: What reads without opening files or addresses of its own through DuckDB, so that every door can be closed behind it.
SELF_CONTAINED = frozenset({"postgres", "mysql", "sqlite"})
#: Which option of its secret takes the token, where that is not TOKEN.
_TOKEN_OPTIONS = {"postgres": "PASSWORD", "mysql": "PASSWORD"}
#: Extensions whose secret has to say where the token goes.
_NEEDS_URL = frozenset({"keboola"})
_SECRET = "agnes_"  # noqa: S105 - how its name begins; the alias follows


class Attach(NamedTuple):
    """How a source is attached, as a `Table` carries it: under which alias, by which extension. `token_env` names the
    variable that holds its token; "" is none."""

    alias: str
    extension: str
    url: str
    token_env: str


class AttachStatements:
    """`unsigned`: whether extensions without a signature may be loaded."""

    unsigned = False

    def load(self, extension: str) -> list[list[str]]:
        """Ways to load it, each several statements; the first that works counts. What is there is not fetched anew."""
        name = identifier(extension)
        origin = "" if extension in CORE else " FROM community"
        return [[f"LOAD {name}"], [f"INSTALL {name}{origin}", f"LOAD {name}"]]

    def secret(self, source: Attach) -> tuple[str, list[str]]:
        """Takes the token as its first parameter, then those that are given here: a parser's complaint repeats the
        statement. Temporary. "" where the source has no token."""
        if not source.token_env:
            return "", []
        option = _TOKEN_OPTIONS.get(source.extension, "TOKEN")
        with_url = source.extension in _NEEDS_URL
        parts = f"TYPE {identifier(source.extension)}, {option} ?{', URL ?' if with_url else ''}"
        named = identifier(_SECRET + source.alias)
        return f"CREATE OR REPLACE SECRET {named} ({parts})", [source.url.rstrip("/")] if with_url else []

    def attach(self, source: Attach) -> str:
        """Under its alias, for reading only."""
        secret = f", SECRET {identifier(_SECRET + source.alias)}" if source.token_env else ""
        target = literal(source.url.rstrip("/") if source.extension in _NEEDS_URL else source.url)
        return f"ATTACH {target} AS {identifier(source.alias)} (TYPE {identifier(source.extension)}{secret}, READ_ONLY)"
