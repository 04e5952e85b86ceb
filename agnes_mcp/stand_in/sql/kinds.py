"""What kind of statement a text is, as `statementType` names it; the stand-in runs only SELECT."""

from __future__ import annotations

import re
from typing import Any

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.bigquery import BigQuery

#: By the first word; what begins with any other word is a SCRIPT, or no statement at all.
_BY_FIRST_WORD = {
    **dict.fromkeys(("SELECT", "WITH", "(", "FROM"), "SELECT"),
    **{word: word for word in ("INSERT", "UPDATE", "DELETE", "MERGE", "CALL", "ASSERT", "GRANT", "REVOKE")},
    "TRUNCATE": "TRUNCATE_TABLE",
    "LOAD": "LOAD_DATA",
    **dict.fromkeys(("BEGIN", "DECLARE", "SET", "IF", "LOOP", "WHILE", "REPEAT", "FOR", "EXECUTE", "COMMIT"), "SCRIPT"),
    **dict.fromkeys(("ROLLBACK", "RAISE", "BREAK", "CONTINUE", "RETURN"), "SCRIPT"),
}
_BY_KIND = frozenset({"CREATE", "DROP", "ALTER", "EXPORT", "UNDROP"})
_ADJECTIVES = frozenset({"OR", "REPLACE", "TEMP", "TEMPORARY", "IF", "NOT", "EXISTS"})


def statement_type(sql: str) -> str:
    """`SELECT`, `INSERT`, `CREATE_TABLE_AS_SELECT`, `SCRIPT`, …; "" for what begins no statement."""
    tokens = BigQuery().tokenize(sql)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type == TokenType.SEMICOLON for token in tokens):
        return "SCRIPT"
    words = [token.text.upper() for token in tokens]
    if not words or words[0] not in _BY_KIND:
        return _BY_FIRST_WORD.get(words[0], "") if words else ""
    return _defined(words, tokens)


def _defined(words: list[str], tokens: list[Token]) -> str:
    kind = next((word for word in words[1:] if word not in _ADJECTIVES), "")
    if kind == "MATERIALIZED":
        kind = "MATERIALIZED_VIEW"
    queried = words[0] == "CREATE" and kind == "TABLE" and "SELECT" in words
    return f"{words[0]}_{kind}" + ("_AS_SELECT" if queried else "")


def tables_named(statement: exp.Expr) -> list[str]:
    """The table paths that a statement of any kind mentions, dotted, without the names of its CTEs."""
    named = {cte.alias.lower() for cte in statement.find_all(exp.CTE)}
    found = [".".join(part.name for part in table.parts) for table in statement.find_all(exp.Table)]
    return [path for path in dict.fromkeys(found) if path.lower() not in named]


def other_statement(kind: str, statements: list[exp.Expr], project: str, dataset: str | None) -> dict[str, Any]:
    """A dry run's `statistics.query` for a statement that is no SELECT."""
    paths = [path_parts(path) for statement in statements for path in tables_named(statement)]
    full = [[project, dataset or ""][: max(3 - len(path), 0)] + path[-3:] for path in paths]
    keys = ("projectId", "datasetId", "tableId")
    return {
        "statementType": kind,
        "totalBytesProcessed": "0",
        "totalBytesBilled": "0",
        "cacheHit": False,
        "referencedTables": [dict(zip(keys, path, strict=False)) for path in full],
        "referencedRoutines": [],
    }


_DOMAIN = re.compile(r"(?P<project>[^:]+:[^.]+)(?:\.|$)")


def path_parts(path: str) -> list[str]:
    """`example.com:my-project.my_dataset.t` cut at its dots, but for those of a project's domain."""
    found = _DOMAIN.match(path)
    if found is None:
        return [part for part in path.split(".") if part]
    rest = path[found.end() :]
    return [found["project"], *(part for part in rest.split(".") if part)]
