"""The part of GoogleSQL that a predicate may use. Names are as the caller writes them; left out is whatever reads
another table, runs other code (`p.d.f`, ML., AI., NET., KEYS.), differs from call to call, or names the caller."""

from __future__ import annotations

from agnes_mcp.sql.predicate.kinds import Kind
from agnes_mcp.sql.predicate.rules import Rules
from agnes_mcp.sql.predicate.signatures import read_signatures

_FUNCTIONS = read_signatures(
    """
    CURRENT_DATE(text?) date
    CURRENT_DATETIME(text?) datetime
    CURRENT_TIME(text?) time
    CURRENT_TIMESTAMP() timestamp
    DATE(value, value?, value?) date
    DATE_ADD(value, interval) date
    DATE_SUB(value, interval) date
    DATE_DIFF(value, value, part) number
    DATE_TRUNC(value, part) same
    DATE_FROM_UNIX_DATE(value) date
    DATETIME(value, value?, value?, value?, value?, value?) datetime
    DATETIME_ADD(value, interval) datetime
    DATETIME_SUB(value, interval) datetime
    DATETIME_DIFF(value, value, part) number
    DATETIME_TRUNC(value, part) datetime
    TIME(value, value?, value?) time
    TIME_ADD(value, interval) time
    TIME_SUB(value, interval) time
    TIME_DIFF(value, value, part) number
    TIME_TRUNC(value, part) time
    TIMESTAMP(value, value?) timestamp
    TIMESTAMP_ADD(value, interval) timestamp
    TIMESTAMP_SUB(value, interval) timestamp
    TIMESTAMP_DIFF(value, value, part) number
    TIMESTAMP_TRUNC(value, part, text?) same
    TIMESTAMP_SECONDS(value) timestamp
    TIMESTAMP_MILLIS(value) timestamp
    TIMESTAMP_MICROS(value) timestamp
    UNIX_DATE(value) number
    UNIX_SECONDS(value) number
    UNIX_MILLIS(value) number
    UNIX_MICROS(value) number
    LAST_DAY(value, part?) date
    FORMAT_DATE(text, value) text
    FORMAT_DATETIME(text, value) text
    FORMAT_TIME(text, value) text
    FORMAT_TIMESTAMP(text, value, text?) text
    PARSE_DATE(text, value) date
    PARSE_DATETIME(text, value) datetime
    PARSE_TIME(text, value) time
    PARSE_TIMESTAMP(text, value, text?) timestamp
    CONCAT(value...) text
    LENGTH(value) number
    CHAR_LENGTH(value) number
    CHARACTER_LENGTH(value) number
    BYTE_LENGTH(value) number
    LOWER(value) text
    UPPER(value) text
    INITCAP(value) text
    REVERSE(value) text
    SUBSTR(value, value, value?) text
    SUBSTRING(value, value, value?) text
    LEFT(value, value) text
    RIGHT(value, value) text
    TRIM(value, value?) text
    LTRIM(value, value?) text
    RTRIM(value, value?) text
    REPLACE(value, text, growth) text
    SPLIT(value, text?) list of text
    STRPOS(value, value) number
    INSTR(value, value, value?, value?) number
    STARTS_WITH(value, value) boolean
    ENDS_WITH(value, value) boolean
    CONTAINS_SUBSTR(value, text) boolean
    REGEXP_CONTAINS(value, text) boolean
    REGEXP_EXTRACT(value, text, value?, value?) text
    REGEXP_SUBSTR(value, text, value?, value?) text
    REGEXP_INSTR(value, text, value?, value?) number
    REGEXP_REPLACE(value, text, growth) text
    NORMALIZE(value) text
    NORMALIZE_AND_CASEFOLD(value) text
    FARM_FINGERPRINT(value) number
    STRING(value, text?) text
    ABS(value) number
    CEIL(value) number
    CEILING(value) number
    FLOOR(value) number
    ROUND(value, value?) number
    TRUNC(value, value?) number
    MOD(value, value) number
    DIV(value, value) number
    POWER(value, value) number
    POW(value, value) number
    SQRT(value) number
    LOG(value, value?) number
    LOG10(value) number
    LN(value) number
    EXP(value) number
    SIGN(value) number
    IS_NAN(value) boolean
    IS_INF(value) boolean
    IEEE_DIVIDE(value, value) number
    SAFE_DIVIDE(value, value) number
    SAFE_ADD(value, value) number
    SAFE_SUBTRACT(value, value) number
    SAFE_MULTIPLY(value, value) number
    SAFE_NEGATE(value) number
    GREATEST(value...) same
    LEAST(value...) same
    IF(condition, value, value) same
    IFNULL(value, value) same
    COALESCE(value...) same
    NULLIF(value, value) same
    JSON_VALUE(value, text?) text
    JSON_EXTRACT_SCALAR(value, text?) text
    JSON_TYPE(value) text
    ARRAY_LENGTH(list) number
    """
)
_DATE_PARTS = "DAY WEEK ISOWEEK MONTH QUARTER YEAR ISOYEAR"
_TIME_PARTS = "MICROSECOND MILLISECOND SECOND MINUTE HOUR"
# GoogleSQL, "Lexical structure and syntax": reserved keywords.
_RESERVED = """
    ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT
    DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL
    GROUP GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP
    MERGE NATURAL NEW NO NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO QUALIFY RANGE RECURSIVE
    RESPECT RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN
    WHERE WINDOW WITH WITHIN
"""
_WEEKDAYS = "SUNDAY MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY"
# Calls whose name is also a type to sqlglot's parser: see `limits`.
_TYPE_CALLS = "DATE DATETIME TIME TIMESTAMP STRING INT64 FLOAT64 BOOL"

BIGQUERY = Rules(
    dialect="bigquery",
    functions=_FUNCTIONS,
    bare_calls={
        "CURRENT_DATE": ("CURRENT_DATE", Kind("date")),
        "CURRENT_DATETIME": ("CURRENT_DATETIME", Kind("datetime")),
        "CURRENT_TIME": ("CURRENT_TIME", Kind("time")),
        "CURRENT_TIMESTAMP": ("CURRENT_TIMESTAMP", Kind("timestamp")),
    },
    try_cast="SAFE_CAST",
    casts={
        "INT64": 0, "INT": 0, "SMALLINT": 0, "INTEGER": 0, "BIGINT": 0, "TINYINT": 0, "BYTEINT": 0, "FLOAT64": 0,
        "NUMERIC": 2, "DECIMAL": 2, "BIGNUMERIC": 2, "BIGDECIMAL": 2, "STRING": 0, "BYTES": 0, "BOOL": 0, "BOOLEAN": 0,
        "DATE": 0, "DATETIME": 0, "TIME": 0, "TIMESTAMP": 0,
    },
    literals=frozenset({"DATE", "DATETIME", "TIME", "TIMESTAMP", "NUMERIC", "BIGNUMERIC"}),
    parts=frozenset(f"{_DATE_PARTS} {_TIME_PARTS} DAYOFWEEK DAYOFYEAR DATE TIME DATETIME".split()),
    units=frozenset(f"{_TIME_PARTS} DAY WEEK MONTH QUARTER YEAR".split()),
    week_starts=frozenset(_WEEKDAYS.split()),
    reserved=frozenset(_RESERVED.split()),
    type_calls=frozenset(_TYPE_CALLS.split()),
    patterns=frozenset({"LIKE"}),
    unnests=True,
    double_colon=False,
)  # fmt: skip
