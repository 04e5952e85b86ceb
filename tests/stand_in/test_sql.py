"""GoogleSQL on the stand-in: values, result types and refusals as BigQuery gives them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery
from support.bigquery_backend import Client, rest_client

from agnes_mcp.stand_in import StandIn

UTC = dt.UTC
MOMENT = dt.datetime(2024, 3, 15, 10, 20, 30, 123456, tzinfo=UTC)
SCHEMA = (
    "i INT64, f FLOAT64, w FLOAT64, n NUMERIC, s STRING, y BYTES, o BOOL, d DATE, dt DATETIME, "
    "ts TIMESTAMP, tm TIME, j JSON, a ARRAY<INT64>, st STRUCT<x INT64, z STRING>, ar ARRAY<STRUCT<k STRING, v INT64>>"
)
ROW = {
    "i": 7,
    "f": 2.5,
    "w": 5.0,
    "n": "3.25",
    "s": "Hello World",
    "y": b"ab",
    "o": True,
    "d": "2024-03-15",
    "dt": "2024-03-15 10:20:30.123456",
    "ts": "2024-03-15 10:20:30.123456+00",
    "tm": "10:20:30",
    "j": {"a": {"b": 1}, "c": "x"},
    "a": [3, 1, 2],
    "st": {"x": 1, "z": "w"},
    "ar": [{"k": "p", "v": 1}, {"k": "q", "v": 2}],
}
#: expression → (type of the result column, value), as BigQuery documents them
EXPRESSIONS: dict[str, tuple[str, Any]] = {
    "i / 2": ("FLOAT", 3.5),
    "DIV(i, 2)": ("INTEGER", 3),
    "MOD(i, 2)": ("INTEGER", 1),
    "n * n": ("NUMERIC", Decimal("10.5625")),
    "n / 2": ("NUMERIC", Decimal("1.625")),
    "AVG(n)": ("NUMERIC", Decimal("3.25")),
    "AVG(i)": ("FLOAT", 7.0),
    "SUM(i)": ("INTEGER", 7),
    "ROUND(n, 1)": ("NUMERIC", Decimal("3.3")),
    "SAFE_DIVIDE(i, 0)": ("FLOAT", None),
    "IEEE_DIVIDE(1, 0)": ("FLOAT", float("inf")),
    "SAFE_ADD(9223372036854775807, 1)": ("INTEGER", None),
    "CAST('1.5' AS NUMERIC)": ("NUMERIC", Decimal("1.5")),
    "NUMERIC '1.123456789'": ("NUMERIC", Decimal("1.123456789")),
    "CAST(w AS STRING)": ("STRING", "5"),
    "CAST(ts AS STRING) > '2024'": ("BOOLEAN", True),
    "STRING(ts) > '2024'": ("BOOLEAN", True),
    "CAST(NULL AS STRING)": ("STRING", None),
    "CAST(i AS STRING)": ("STRING", "7"),
    "CAST(y AS STRING)": ("STRING", "ab"),
    "CAST('\\\\xff' AS BYTES)": ("BYTES", b"\\xff"),
    "'50%' LIKE r'50\\%'": ("BOOLEAN", True),
    "'50x' LIKE r'50\\%'": ("BOOLEAN", False),
    "s LIKE ANY UNNEST(['x%', 'Hello%'])": ("BOOLEAN", True),
    "s LIKE ANY UNNEST(['x%', NULL])": ("BOOLEAN", None),
    "s LIKE ALL UNNEST(['%World', 'x%', NULL])": ("BOOLEAN", False),
    "s NOT LIKE ANY UNNEST(['x%', 'Hello%'])": ("BOOLEAN", True),
    "s NOT LIKE ALL UNNEST(['x%', 'Hello%'])": ("BOOLEAN", False),
    "s LIKE SOME UNNEST(CAST([] AS ARRAY<STRING>))": ("BOOLEAN", False),
    "s LIKE ALL UNNEST(CAST([] AS ARRAY<STRING>))": ("BOOLEAN", True),
    "s LIKE ANY (SELECT e.k || '%' FROM UNNEST([STRUCT('x' AS k), STRUCT('He')]) AS e)": ("BOOLEAN", True),
    "y LIKE b'_b'": ("BOOLEAN", True),
    "STARTS_WITH(COLLATE(s, 'und:ci'), 'hello')": ("BOOLEAN", True),
    "INSTR(COLLATE(s, 'und:ci'), 'WORLD')": ("INTEGER", 7),
    "REPLACE(COLLATE('a.bÉB', 'und:ci'), 'é', r'\\1')": ("STRING", "a.b\\1B"),
    "REPLACE(COLLATE('aBcB', 'und:ci'), 'b', 'x') = 'AXCX'": ("BOOLEAN", True),
    "REPLACE(COLLATE('a.b', 'und:ci'), '', 'x')": ("STRING", "a.b"),
    "COLLATE('Straße', 'und:ci') = 'STRASSE'": ("BOOLEAN", False),
    "COLLATE('Straße', 'und:ci') = 'STRAẞE'": ("BOOLEAN", True),
    "COLLATE('É', 'und:ci') = 'e\u0301'": ("BOOLEAN", True),
    "COLLATE('ﬁ', 'und:ci') IN ('x', 'FI')": ("BOOLEAN", True),
    "COLLATE('a', 'und:ci') = 'á'": ("BOOLEAN", False),
    "COLLATE('ς', 'und:ci') BETWEEN 'Σ' AND 'Φ'": ("BOOLEAN", True),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M %Z', '2024-01-02 03:04 America/New_York')": (
        "TIMESTAMP",
        dt.datetime(2024, 1, 2, 8, 4, tzinfo=UTC),
    ),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%E*S %Z', '2024-07-02 03:04:05.5 +02', 'Europe/Prague')": (
        "TIMESTAMP",
        dt.datetime(2024, 7, 2, 1, 4, 5, 500_000, tzinfo=UTC),
    ),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S%z', '2024-01-02 03:04:05+0200')": (
        "TIMESTAMP",
        dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC),
    ),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S%z', '2024-01-02 03:04:05-14')": (
        "TIMESTAMP",
        dt.datetime(2024, 1, 2, 17, 4, 5, tzinfo=UTC),
    ),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S%Ez', '2024-01-02 03:04:05+0200')": (
        "TIMESTAMP",
        dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC),
    ),
    **{
        f"SAFE.PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S%z', '2024-01-02 03:04:05{far}')": ("TIMESTAMP", None)
        for far in ("+02:00", "+2500", "+1401", "+0260", "+020", "+2", "Z", "")
    },
    "PARSE_TIMESTAMP('%s', '-5')": ("TIMESTAMP", dt.datetime(1969, 12, 31, 23, 59, 55, tzinfo=UTC)),
    "SAFE.PARSE_TIMESTAMP('%s', '17x')": ("TIMESTAMP", None),
    "PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%E*S%Ez', '2024-01-02T03:04:05.5Z')": (
        "TIMESTAMP",
        dt.datetime(2024, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC),
    ),
    "SAFE.PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%S%Ez', '2024-01-02T03:04:05z')": ("TIMESTAMP", None),
    "EXTRACT(WEEK(WEDNESDAY) FROM d)": ("INTEGER", 11),
    "EXTRACT(WEEK(MONDAY) FROM DATE '2024-01-01')": ("INTEGER", 1),
    "SAFE_CAST('x' AS INT64)": ("INTEGER", None),
    "CAST(2.5 AS INT64)": ("INTEGER", 3),
    "UPPER(s)": ("STRING", "HELLO WORLD"),
    "SUBSTR(s, 2, 3)": ("STRING", "ell"),
    "BYTE_LENGTH('žluť')": ("INTEGER", 6),
    "CHAR_LENGTH('žluť')": ("INTEGER", 4),
    "CONCAT(s, '!')": ("STRING", "Hello World!"),
    "SPLIT(s, ' ')": ("STRING", ["Hello", "World"]),
    "STARTS_WITH(s, 'He')": ("BOOLEAN", True),
    "CONTAINS_SUBSTR(s, 'WORLD')": ("BOOLEAN", True),
    "REGEXP_CONTAINS(s, r'^H.*d$')": ("BOOLEAN", True),
    "REGEXP_EXTRACT(s, r'(\\w+)$')": ("STRING", "World"),
    "REGEXP_REPLACE(s, r'o', '0')": ("STRING", "Hell0 W0rld"),
    "FORMAT('%d-%s', i, s)": ("STRING", "7-Hello World"),
    "TO_HEX(MD5(s))": ("STRING", "b10a8db164e0754105b7a99be72e3fe5"),
    "TO_BASE64(y)": ("STRING", "YWI="),
    "SAFE_CONVERT_BYTES_TO_STRING(y)": ("STRING", "ab"),
    "SAFE.SUBSTR(s, 1, 2)": ("STRING", "He"),
    "IF(o, 1, 2)": ("INTEGER", 1),
    "DATE(ts)": ("DATE", dt.date(2024, 3, 15)),
    "DATE(2024, 1, 2)": ("DATE", dt.date(2024, 1, 2)),
    "DATETIME(ts)": ("DATETIME", MOMENT.replace(tzinfo=None)),
    "TIMESTAMP(d)": ("TIMESTAMP", dt.datetime(2024, 3, 15, tzinfo=UTC)),
    "TIMESTAMP '2024-01-02 03:04:05+02'": ("TIMESTAMP", dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)),
    "TIME(ts)": ("TIME", dt.time(10, 20, 30, 123456)),
    "DATE_ADD(d, INTERVAL 1 MONTH)": ("DATE", dt.date(2024, 4, 15)),
    "DATE_SUB(d, INTERVAL 1 WEEK)": ("DATE", dt.date(2024, 3, 8)),
    "d + 1": ("DATE", dt.date(2024, 3, 16)),
    "DATE_DIFF(d, DATE '2024-01-31', MONTH)": ("INTEGER", 2),
    "DATE_DIFF(d, DATE '2024-01-01', WEEK)": ("INTEGER", 10),
    "DATE_TRUNC(d, MONTH)": ("DATE", dt.date(2024, 3, 1)),
    "DATE_TRUNC(d, WEEK)": ("DATE", dt.date(2024, 3, 10)),
    "DATE_TRUNC(d, WEEK(MONDAY))": ("DATE", dt.date(2024, 3, 11)),
    "DATE_TRUNC(d, QUARTER)": ("DATE", dt.date(2024, 1, 1)),
    "TIMESTAMP_ADD(ts, INTERVAL 1 HOUR)": ("TIMESTAMP", MOMENT + dt.timedelta(hours=1)),
    "TIMESTAMP_DIFF(ts, TIMESTAMP '2024-03-14 12:00:00', DAY)": ("INTEGER", 0),
    "TIMESTAMP_DIFF(ts, TIMESTAMP '2024-03-14 12:00:00', HOUR)": ("INTEGER", 22),
    "TIMESTAMP_TRUNC(ts, HOUR)": ("TIMESTAMP", dt.datetime(2024, 3, 15, 10, tzinfo=UTC)),
    "DATETIME_DIFF(dt, DATETIME '2024-03-14 12:00:00', DAY)": ("INTEGER", 1),
    "EXTRACT(DAYOFWEEK FROM d)": ("INTEGER", 6),
    "EXTRACT(WEEK FROM d)": ("INTEGER", 10),
    "EXTRACT(ISOWEEK FROM d)": ("INTEGER", 11),
    "EXTRACT(DATE FROM ts)": ("DATE", dt.date(2024, 3, 15)),
    "EXTRACT(HOUR FROM ts AT TIME ZONE 'Europe/Prague')": ("INTEGER", 11),
    "EXTRACT(MILLISECOND FROM ts)": ("INTEGER", 123),
    "FORMAT_DATE('%Y-%m', d)": ("STRING", "2024-03"),
    "FORMAT_TIMESTAMP('%H:%M', ts)": ("STRING", "10:20"),
    "PARSE_DATE('%Y%m%d', '20240102')": ("DATE", dt.date(2024, 1, 2)),
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M', '2024-01-02 03:04')": ("TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, tzinfo=UTC)),
    "UNIX_MILLIS(ts)": ("INTEGER", 1710498030123),
    "TIMESTAMP_MILLIS(1710498030123)": ("TIMESTAMP", MOMENT.replace(microsecond=123000)),
    "LAST_DAY(d)": ("DATE", dt.date(2024, 3, 31)),
    "JSON_VALUE(j, '$.c')": ("STRING", "x"),
    "j.a": ("JSON", {"b": 1}),
    "TO_JSON_STRING(st)": ("STRING", '{"x":1,"z":"w"}'),
    "ARRAY_LENGTH(a)": ("INTEGER", 3),
    "a[OFFSET(0)]": ("INTEGER", 3),
    "a[ORDINAL(3)]": ("INTEGER", 2),
    "a[SAFE_ORDINAL(4)]": ("INTEGER", None),
    "TIME_TRUNC(tm, HOUR)": ("TIME", dt.time(10)),
    "FORMAT_TIME('%H:%M', tm)": ("STRING", "10:20"),
    "CURRENT_TIME() IS NULL": ("BOOLEAN", False),
    "SAFE_NEGATE(i)": ("INTEGER", -7),
    "JSON_TYPE(j)": ("STRING", "object"),
    "STRING(j.c)": ("STRING", "x"),
    "STRING(ts)": ("STRING", "2024-03-15 10:20:30.123456+00"),
    "NORMALIZE_AND_CASEFOLD('AbC')": ("STRING", "abc"),
    "a[SAFE_OFFSET(9)]": ("INTEGER", None),
    "ARRAY(SELECT x * 2 FROM UNNEST(a) AS x ORDER BY x)": ("INTEGER", [2, 4, 6]),
    "(SELECT SUM(x) FROM UNNEST(a) AS x)": ("INTEGER", 6),
    "(SELECT e.v FROM UNNEST(ar) AS e WHERE e.k = 'q')": ("INTEGER", 2),
    "(SELECT v FROM UNNEST(ar) WHERE k = 'q')": ("INTEGER", 2),
    "3 IN UNNEST(a)": ("BOOLEAN", True),
    "STRUCT(1 AS p, 'x' AS q)": ("RECORD", {"p": 1, "q": "x"}),
    "st.z": ("STRING", "w"),
    "COUNTIF(i > 1)": ("INTEGER", 1),
    "APPROX_COUNT_DISTINCT(i)": ("INTEGER", 1),
    "ARRAY_AGG(i)": ("INTEGER", [7]),
    "STRING_AGG(s, ',')": ("STRING", "Hello World"),
    "LOGICAL_AND(o)": ("BOOLEAN", True),
    "ROW_NUMBER() OVER (ORDER BY i)": ("INTEGER", 1),
    "NULL": ("INTEGER", None),
    "ST_GEOGPOINT(1, 2)": ("GEOGRAPHY", "POINT(1 2)"),
    "ST_X(ST_GEOGPOINT(1.5, 2))": ("FLOAT", 1.5),
    "INTERVAL 1 DAY IS NULL": ("BOOLEAN", False),
}


@pytest.fixture(scope="module")
def asked() -> Iterator[Client]:
    with StandIn() as stand_in, rest_client(stand_in.api_endpoint) as client:
        stand_in.create_table("d", "t", SCHEMA, rows=[ROW])
        stand_in.create_table("d", "u", "id INT64, name STRING", rows=[{"id": 1, "name": "a"}, {"id": 2, "name": None}])
        yield client


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_have_bigquerys_value_and_type(asked: Client, expression: str) -> None:
    kind, value = EXPRESSIONS[expression]
    result = asked.query_and_wait(f"SELECT {expression} AS x FROM d.t")
    [row] = result
    assert (result.schema[0].field_type, row.x) == (kind, value)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT * EXCEPT (name) FROM d.u ORDER BY id", [(1,), (2,)]),
        ("SELECT * REPLACE (id * 10 AS id) FROM d.u ORDER BY id", [(10, "a"), (20, None)]),
        ("SELECT id FROM d.u UNION ALL SELECT 9 ORDER BY id", [(1,), (2,), (9,)]),
        ("SELECT id FROM d.u EXCEPT DISTINCT SELECT 1", [(2,)]),
        ("SELECT id FROM d.u QUALIFY ROW_NUMBER() OVER (ORDER BY id DESC) = 1", [(2,)]),
        ("SELECT u.name, COUNT(*) AS n FROM d.u GROUP BY u.name ORDER BY name", [(None, 1), ("a", 1)]),
        ("SELECT u.id FROM d.u WHERE u.id IN (SELECT id FROM d.u WHERE name IS NULL)", [(2,)]),
        ("SELECT e.k, e.v FROM d.t, t.ar AS e ORDER BY e.v", [("p", 1), ("q", 2)]),
        ("SELECT k, SUM(v) AS n FROM d.t, UNNEST(ar) GROUP BY k ORDER BY k", [("p", 1), ("q", 2)]),
        ("SELECT x, pos FROM d.t, UNNEST(a) AS x WITH OFFSET AS pos ORDER BY pos", [(3, 0), (1, 1), (2, 2)]),
        ("SELECT id FROM d.u FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP() WHERE id = 1", [(1,)]),
        ("SELECT Id AS Name FROM d.U2 LIMIT 0", None),
        ("SELECT ANY_VALUE(id) AS Id FROM d.u WHERE id = 2", [(2,)]),
        ("WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT * FROM b", [(2,)]),
        ("-- a comment\nSELECT 1 AS x; ", [(1,)]),
    ],
)
def test_statements(asked: Client, sql: str, rows: list[tuple[Any, ...]] | None) -> None:
    if rows is None:
        with pytest.raises(NotFound):
            asked.query_and_wait(sql)
    else:
        assert [tuple(row.values()) for row in asked.query_and_wait(sql)] == rows


REFUSALS = {
    "SELECT nope FROM d.t": "Unrecognized name: nope at [1:8]",
    "SELECT\n  i,\n  t.nope\nFROM d.t": "Name nope not found inside t at [3:5]",
    "SELECT i FROM d.t WHERE nope > 1": "Unrecognized name: nope at [1:25]",
    "SELECT st.nope FROM d.t": "Field name nope does not exist in STRUCT<x INT64, z STRING> at [1:11]",
    "SELECT i FROM d.t AS a, `d.t` AS b": "Column name i is ambiguous at [1:8]",
    "SELECT i FROM d.t WHERE s = 1": "No matching signature for operator = for argument types: STRING, INT64",
    "SELECT FROBNICATE(i) FROM d.t": "Function not found: FROBNICATE at [1:8]",
    "SELECT LIST_SUM(a) FROM d.t": "Function not found: LIST_SUM at [1:8]",
    "SELECT i FROM d.t WHERE": "Syntax error",
    "SELECT i FRM d.t": "Syntax error",
    "SELECT (i FROM d.t": "Syntax error",
    "SELECT 'x FROM d.t": "Syntax error: Unclosed string literal",
    "SELECT i, i FROM d.t": "Duplicate column names in the result are not supported. Found duplicate(s): i",
    "SELECT * FROM d.u AS a, d.u AS b": "Duplicate column names in the result are not supported.",
    "SELECT i FROM t": 'Table "t" must be qualified with a dataset (e.g. dataset.table).',
    "": "Required parameter is missing: query",
    "SELECT * FROM read_text('/etc/passwd')": "",
    "SELECT * FROM '/etc/passwd'": "",
    "SELECT * FROM duckdb_settings()": "",
}


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("sql", REFUSALS)
def test_refusals_are_worded_as_bigquery_words_them(asked: Client, sql: str, dry: bool) -> None:
    with pytest.raises(BadRequest) as refused:
        asked.query(sql, job_config=bigquery.QueryJobConfig(dry_run=dry)).result()
    assert REFUSALS[sql] in refused.value.message
    assert refused.value.errors[0]["reason"] in ("invalidQuery", "invalid")


def test_a_runtime_error_has_the_statements_own_words(asked: Client) -> None:
    for expression, words in (
        ("ERROR('not this row')", "not this row"),
        ("a[OFFSET(3)]", "Array index 3 is out of bounds"),
    ):
        sql = f"SELECT {expression} AS x FROM d.t"
        asked.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True))
        with pytest.raises(BadRequest, match=words):
            asked.query(sql).result()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT 1 FROM d.missing", "Not found: Table my-project:d.missing was not found in location US"),
        ("SELECT 1 FROM nowhere.t", "Not found: Dataset my-project:nowhere was not found in location US"),
        ("SELECT 1 FROM `other-project.d.t`", "Not found: Dataset other-project:d was not found in location US"),
    ],
)
def test_what_is_not_there(asked: Client, sql: str, words: str) -> None:
    with pytest.raises(GoogleAPICallError) as refused:
        asked.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True))
    assert words in refused.value.message
    assert refused.value.code in (404, 400)


def test_legacy_sql_is_refused(asked: Client) -> None:
    with pytest.raises(BadRequest, match="GoogleSQL"):
        asked.query("SELECT 1", job_config=bigquery.QueryJobConfig(use_legacy_sql=True)).result()


def test_output_names_keep_their_case(asked: Client) -> None:
    result = asked.query_and_wait("SELECT I, ID AS Key, st.X FROM d.t, `d.u` LIMIT 0")
    assert [field.name for field in result.schema] == ["I", "Key", "X"]
