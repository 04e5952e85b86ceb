"""The part of DuckDB's SQL that a predicate may use. Left out is what reads, waits, changes state, tells of the process
or the session, grows without bound (repeat, lpad, format), or calls another function by its name."""

from __future__ import annotations

from agnes_mcp.sql.predicate.kinds import Kind
from agnes_mcp.sql.predicate.rules import Rules
from agnes_mcp.sql.predicate.signatures import read_signatures

_FUNCTIONS = read_signatures(
    """
    CURRENT_DATE() date
    TODAY() date
    NOW() timestamp
    GET_CURRENT_TIMESTAMP() timestamp
    CURRENT_LOCALTIMESTAMP() timestamp
    DATE(value) date
    MAKE_DATE(value, value, value) date
    MAKE_TIMESTAMP(value, value, value, value, value, value) timestamp
    DATE_ADD(value, interval) same
    DATE_DIFF(unit, value, value) number
    DATEDIFF(unit, value, value) number
    DATE_TRUNC(unit, value) same
    DATETRUNC(unit, value) same
    DATE_PART(unit, value) number
    DATEPART(unit, value) number
    DAYNAME(value) text
    MONTHNAME(value) text
    LAST_DAY(value) date
    YEAR(value) number
    QUARTER(value) number
    MONTH(value) number
    WEEK(value) number
    DAY(value) number
    DAYOFWEEK(value) number
    DAYOFMONTH(value) number
    DAYOFYEAR(value) number
    ISODOW(value) number
    ISOYEAR(value) number
    WEEKOFYEAR(value) number
    WEEKDAY(value) number
    HOUR(value) number
    MINUTE(value) number
    SECOND(value) number
    EPOCH(value) number
    EPOCH_MS(value) number
    TO_TIMESTAMP(value) timestamp
    STRFTIME(value, text) text
    STRPTIME(value, text) timestamp
    TRY_STRPTIME(value, text) timestamp
    AGE(value, value) interval
    CONCAT(value...) text
    CONCAT_WS(text, value...) text
    LENGTH(value) number
    LEN(value) number
    STRLEN(value) number
    CHAR_LENGTH(value) number
    LOWER(value) text
    LCASE(value) text
    UPPER(value) text
    UCASE(value) text
    REVERSE(value) text
    STRIP_ACCENTS(value) text
    SUBSTR(value, value, value?) text
    SUBSTRING(value, value, value?) text
    LEFT(value, value) text
    RIGHT(value, value) text
    TRIM(value, value?) text
    LTRIM(value, value?) text
    RTRIM(value, value?) text
    REPLACE(value, text, growth) text
    SPLIT_PART(value, text, value) text
    STRING_SPLIT(value, text) list of text
    STR_SPLIT(value, text) list of text
    STRPOS(value, value) number
    INSTR(value, value) number
    CONTAINS(value, value) boolean
    STARTS_WITH(value, value) boolean
    PREFIX(value, value) boolean
    ENDS_WITH(value, value) boolean
    SUFFIX(value, value) boolean
    REGEXP_MATCHES(value, text, text?) boolean
    REGEXP_FULL_MATCH(value, text, text?) boolean
    REGEXP_EXTRACT(value, text, value?) text
    REGEXP_REPLACE(value, text, growth, text?) text
    ABS(value) number
    CEIL(value) number
    CEILING(value) number
    FLOOR(value) number
    ROUND(value, value?) number
    TRUNC(value) number
    MOD(value, value) number
    POWER(value, value) number
    POW(value, value) number
    SQRT(value) number
    LOG(value) number
    LOG10(value) number
    LOG2(value) number
    LN(value) number
    EXP(value) number
    SIGN(value) number
    ISNAN(value) boolean
    ISINF(value) boolean
    ISFINITE(value) boolean
    GREATEST(value...) same
    LEAST(value...) same
    IF(condition, value, value) same
    IFNULL(value, value) same
    COALESCE(value...) same
    NULLIF(value, value) same
    JSON_EXTRACT_STRING(value, text) text
    JSON_TYPE(value, text?) text
    JSON_VALID(value) boolean
    JSON_ARRAY_LENGTH(value, text?) number
    LIST_CONTAINS(list, value) boolean
    LIST_HAS(list, value) boolean
    ARRAY_CONTAINS(list, value) boolean
    ARRAY_HAS(list, value) boolean
    LIST_HAS_ANY(list, list) boolean
    LIST_HAS_ALL(list, list) boolean
    LIST_POSITION(list, value) number
    ARRAY_LENGTH(list) number
    """
)
_PARTS = """
    MICROSECOND MICROSECONDS MILLISECOND MILLISECONDS SECOND SECONDS MINUTE MINUTES HOUR HOURS DAY DAYS WEEK WEEKS
    MONTH MONTHS QUARTER QUARTERS YEAR YEARS DECADE DECADES CENTURY MILLENNIUM
"""
_FIELDS = "DOW ISODOW DOY DAYOFWEEK DAYOFMONTH DAYOFYEAR WEEKDAY WEEKOFYEAR ISOYEAR YEARWEEK EPOCH ERA"
# duckdb_keywords(): categories reserved and type_function.
_RESERVED = """
    ALL ANALYSE ANALYZE AND ANTI ANY ARRAY AS ASC ASOF ASYMMETRIC AT AUTHORIZATION BINARY BOTH BY CASE CAST CHECK
    COLLATE COLLATION COLUMN COLUMNS CONCURRENTLY CONSTRAINT CREATE CROSS DEFAULT DEFERRABLE DESC DESCRIBE DISTINCT DO
    ELSE END EXCEPT FALSE FETCH FOR FOREIGN FREEZE FROM FULL GENERATED GLOB GROUP HAVING ILIKE IN INITIALLY INNER
    INTERSECT INTO IS ISNULL JOIN LAMBDA LATERAL LEADING LEFT LIKE LIMIT MAP NATURAL NOT NOTNULL NULL OFFSET ON ONLY OR
    ORDER OUTER OVERLAPS PIVOT PIVOT_LONGER PIVOT_WIDER PLACING POSITIONAL PRIMARY QUALIFY REFERENCES RETURNING RIGHT
    SELECT SEMI SHOW SIMILAR SOME STRUCT SUMMARIZE SYMMETRIC TABLE TABLESAMPLE THEN TO TRAILING TRUE TRY_CAST UNION
    UNIQUE UNPACK UNPIVOT USING VARIADIC VERBOSE WHEN WHERE WINDOW WITH
"""

DUCKDB = Rules(
    dialect="duckdb",
    functions=_FUNCTIONS,
    bare_calls={
        "CURRENT_DATE": ("CURRENT_DATE", Kind("date")),
        "CURRENT_TIMESTAMP": ("NOW", Kind("timestamp")),
        "LOCALTIMESTAMP": ("CURRENT_LOCALTIMESTAMP", Kind("timestamp")),
    },
    try_cast="TRY_CAST",
    casts={
        "TINYINT": 0, "SMALLINT": 0, "INTEGER": 0, "INT": 0, "BIGINT": 0, "HUGEINT": 0, "INT128": 0, "UTINYINT": 0,
        "USMALLINT": 0, "UINTEGER": 0, "UBIGINT": 0, "FLOAT": 0, "REAL": 0, "DOUBLE": 0, "DECIMAL": 2, "NUMERIC": 2,
        "VARCHAR": 0, "TEXT": 0, "STRING": 0, "BOOLEAN": 0, "BOOL": 0, "DATE": 0, "TIME": 0, "TIMESTAMP": 0,
        "TIMESTAMPTZ": 0,
    },
    literals=frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ"}),
    parts=frozenset(f"{_PARTS} {_FIELDS}".split()),
    units=frozenset(_PARTS.split()) - {"DECADE", "DECADES", "CENTURY", "MILLENNIUM", "QUARTER", "QUARTERS"},
    week_starts=frozenset(),
    reserved=frozenset(_RESERVED.split()),
    type_calls=frozenset({"DATE", "YEAR"}),
    patterns=frozenset({"LIKE", "ILIKE"}),
    unnests=False,
    double_colon=True,
)  # fmt: skip
