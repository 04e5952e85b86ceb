"""The table over which the corpora of predicates are written: its schema, its rows in both engines, and the corpora."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb

from agnes_mcp.models import Column, Dialect, TableSchema
from agnes_mcp.sql import duckdb_lines

CORPORA = Path(__file__).parent.parent / "fixtures" / "where"
_LONG = {
    "bigquery": "a_column_name_of_more_than_sixty_four_characters_which_bigquery_allows_up_to_three_hundred",
    "duckdb": "a_column_name_of_more_than_sixty_four_characters_which_duckdb_allows_without_any_limit_at_all",
}
_ESCAPED = re.compile("⟦([0-9a-f]+)⟧")


def _column(name: str, kind: str, *fields: Column, repeated: bool = False) -> Column:
    return Column(name=name, type=kind, fields=list(fields), mode="REPEATED" if repeated else "NULLABLE")


def _engine(text: str, number: str) -> Column:
    """Six names deep from `device`."""
    build = _column("build", "STRUCT", _column("number", "STRUCT", _column("major", number)))
    return _column("engine", "STRUCT", _column("kind", text), build)


BIGQUERY_SCHEMA = TableSchema(
    table_id="web_sessions",
    columns=[
        _column("session_id", "STRING"),
        _column("user_id", "INTEGER"),
        _column("country_code", "STRING"),
        _column("platform", "STRING"),
        _column("event_date", "DATE"),
        _column("started_at", "TIMESTAMP"),
        _column("local_at", "DATETIME"),
        _column("at_time", "TIME"),
        _column("amount", "NUMERIC"),
        _column("score", "FLOAT"),
        _column("is_paid", "BOOLEAN"),
        _column("payload", "JSON"),
        _column("raw", "BYTES"),
        _column("tags", "STRING", repeated=True),
        _column(
            "device",
            "RECORD",
            _column("os", "STRING"),
            _column(
                "browser", "STRUCT", _column("name", "STRING"), _column("version", "INT64"), _engine("STRING", "INT64")
            ),
            _column("mobile", "BOOL"),
        ),
        _column("items", "RECORD", _column("sku", "STRING"), _column("price", "NUMERIC"), repeated=True),
        _column("order", "INT64"),
        _column("group", "STRING"),
        _column("date", "DATE"),
        _column("timestamp", "TIMESTAMP"),
        _column("page views", "INT64"),
        _column("net-amount", "NUMERIC"),
        _column("štítek", "STRING"),
        _column(_LONG["bigquery"], "STRING"),
    ],
    pseudo_columns=[
        _column("_PARTITIONTIME", "TIMESTAMP"),
        _column("_PARTITIONDATE", "DATE"),
        _column("_TABLE_SUFFIX", "STRING"),
    ],
)
DUCKDB_SCHEMA = TableSchema(
    table_id="web_sessions",
    columns=[
        _column("session_id", "VARCHAR"),
        _column("user_id", "BIGINT"),
        _column("country_code", "VARCHAR"),
        _column("platform", "VARCHAR"),
        _column("event_date", "DATE"),
        _column("started_at", "TIMESTAMP"),
        _column("at_time", "TIME"),
        _column("amount", "DECIMAL(18,2)"),
        _column("score", "DOUBLE"),
        _column("is_paid", "BOOLEAN"),
        _column("payload", "JSON"),
        _column("tags", "VARCHAR", repeated=True),
        _column(
            "device",
            "STRUCT",
            _column("os", "VARCHAR"),
            _column(
                "browser",
                "STRUCT",
                _column("name", "VARCHAR"),
                _column("version", "INTEGER"),
                _engine("VARCHAR", "INTEGER"),
            ),
            _column("mobile", "BOOLEAN"),
        ),
        _column("items", "STRUCT", _column("sku", "VARCHAR"), _column("price", "DECIMAL(18,2)"), repeated=True),
        _column("labels", "MAP(VARCHAR, VARCHAR)"),
        _column("order", "INTEGER"),
        _column("group", "VARCHAR"),
        _column("date", "DATE"),
        _column("timestamp", "TIMESTAMP"),
        _column("page views", "INTEGER"),
        _column("net-amount", "DECIMAL(18,2)"),
        _column("štítek", "VARCHAR"),
        _column('quo"ted', "INTEGER"),
        _column(_LONG["duckdb"], "VARCHAR"),
    ],
)
SCHEMAS: dict[Dialect, TableSchema] = {"bigquery": BIGQUERY_SCHEMA, "duckdb": DUCKDB_SCHEMA}

_BIGQUERY_ROW = f"""
    SELECT 's-1' AS session_id, 1 AS user_id, 'CZ' AS country_code, 'web' AS platform,
      DATE '2026-01-31' AS event_date, TIMESTAMP '2026-01-31 10:00:00 UTC' AS started_at,
      DATETIME '2026-01-31 10:00:00' AS local_at, TIME '10:30:00' AS at_time, NUMERIC '12.5' AS amount, 1.5 AS score,
      TRUE AS is_paid, JSON '{{"plan": "pro", "items": [{{"sku": "A-1"}}]}}' AS payload, b's-1' AS raw,
      ['new', 'vip'] AS tags,
      STRUCT('android' AS os, STRUCT('firefox' AS name, 128 AS version,
        STRUCT('gecko' AS kind, STRUCT(STRUCT(7 AS major) AS number) AS build) AS engine) AS browser,
        TRUE AS mobile) AS device,
      [STRUCT('A-1' AS sku, NUMERIC '3.5' AS price)] AS items, 1 AS `order`, 'a' AS `group`, DATE '2026-02-01' AS date,
      TIMESTAMP '2026-01-31 10:00:00 UTC' AS timestamp, 11 AS `page views`, NUMERIC '-1' AS `net-amount`,
      'x' AS `štítek`, 'y' AS {_LONG["bigquery"]}, TIMESTAMP '2026-01-31 00:00:00 UTC' AS _PARTITIONTIME,
      DATE '2026-01-31' AS _PARTITIONDATE, '20260115' AS _TABLE_SUFFIX
    UNION ALL SELECT 's-2', 2, 'sk', 'app', '2026-02-28', TIMESTAMP '1999-12-31 23:59:59 UTC',
      DATETIME '1999-12-31 23:59:59', TIME '00:00:00', NUMERIC '-250.5', -0.25, FALSE, JSON '{{}}', b'', [],
      STRUCT('ios', STRUCT('safari', 17, STRUCT('webkit', STRUCT(STRUCT(1)))), FALSE), [], 0, 'b', '2025-01-01',
      NULL, 0, NUMERIC '0', 'y', NULL,
      TIMESTAMP '2025-01-31 00:00:00 UTC', DATE '2025-01-31', '20250115'
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
      NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""


def bigquery_select(expressions: str) -> str:
    """A GoogleSQL query of `expressions` over three rows of the table."""
    return f"WITH web_sessions AS ({_BIGQUERY_ROW}) SELECT {expressions} FROM web_sessions"


def duckdb_table() -> duckdb.DuckDBPyConnection:
    """DuckDB with the table `web_sessions` and four rows of it."""
    connection = duckdb.connect(":memory:", config={**duckdb_lines.settings()})
    connection.execute(
        f"""CREATE TABLE web_sessions (session_id VARCHAR, user_id BIGINT, country_code VARCHAR, platform VARCHAR,
        event_date DATE, started_at TIMESTAMP, at_time TIME, amount DECIMAL(18,2), score DOUBLE, is_paid BOOLEAN,
        payload JSON, tags VARCHAR[], device STRUCT(os VARCHAR, browser STRUCT("name" VARCHAR, version INTEGER,
        engine STRUCT(kind VARCHAR, build STRUCT(number STRUCT(major INTEGER)))),
        mobile BOOLEAN), items STRUCT(sku VARCHAR, price DECIMAL(18,2))[], labels MAP(VARCHAR, VARCHAR),
        "order" INTEGER, "group" VARCHAR, "date" DATE, "timestamp" TIMESTAMP, "page views" INTEGER,
        "net-amount" DECIMAL(18,2), "štítek" VARCHAR, "quo""ted" INTEGER, {_LONG["duckdb"]} VARCHAR)"""
    )
    connection.execute(
        """INSERT INTO web_sessions VALUES
        ('2026-01-31', 1, 'CZ', 'web', '2026-01-31', '2026-01-31 10:00:00', '10:30:00', 12.5, 1.5, TRUE,
         '{"plan": "pro", "items": [1]}', ['new', 'vip'], {os: 'android', browser: {name: 'firefox', version: 128,
         engine: {kind: 'gecko', build: {number: {major: 7}}}},
         mobile: TRUE}, [{sku: 'A-1', price: 3.5}], MAP {'tier': 'gold'}, 1, 'a', '2026-02-01', '2026-01-31 10:00:00',
         11, -1, 'x', 1, 'y'),
        ('1999-12-31', 2, 'sk', 'app', '2026-02-28', '1999-12-31 23:59:59', '00:00:00', -250.5, -0.25, FALSE, '{}', [],
         {os: 'ios', browser: {name: 'safari', version: 17, engine: NULL}, mobile: FALSE}, [], MAP {}, 0,
         'b', '2025-01-01', NULL, 0, 0, 'y', 2, NULL),
        ('s-1', 3, 'SK', 'web', '2026-01-01', '2026-01-01 00:00:00', '12:00:00', 15, 0, NULL, 'null', [NULL], NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"""
    )
    connection.execute("INSERT INTO web_sessions (user_id) VALUES (NULL)")
    return connection


def unescape(text: str) -> str:
    """`⟦9⟧` as the character U+0009."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def accepted(dialect: Dialect) -> list[str]:
    lines = (CORPORA / f"accepted.{dialect}.sql").read_text(encoding="utf-8").split("\n")
    return [unescape(line) for line in lines if line and not line.startswith("-- ")]


def rejected(dialect: Dialect) -> list[tuple[str, str]]:
    """Pairs of kind and predicate."""
    lines = (CORPORA / f"rejected.{dialect}.sql").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line and not line.startswith("-- ")]
    return [(kind, unescape(text)) for kind, text in pairs]


def same(left: Any, right: Any) -> bool:
    """Equal, where NaN equals NaN."""
    return bool(left == right or (left != left and right != right))
