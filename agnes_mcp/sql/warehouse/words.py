"""What a bare word means: the closed list of words with a meaning in the grammar. Every other word is a name."""

from __future__ import annotations

from agnes_mcp.sql.predicate.bigquery import BIGQUERY

#: Words of the grammar, wherever they stand without a dot before them.
_SYNTAX_WORDS = """
    ALL AND ANY ARRAY AS ASC AT BETWEEN BY CASE CAST CROSS CUBE CURRENT DESC DISTINCT ELSE END EXCEPT EXISTS EXTRACT
    FALSE FOLLOWING FOR FROM FULL GROUP GROUPING HAVING IF IGNORE IN INNER INTERSECT INTERVAL IS JOIN LEFT LIKE LIMIT
    NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING QUALIFY RANGE RESPECT RIGHT ROLLUP ROWS SELECT SOME
    STRUCT TABLESAMPLE THEN TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE WINDOW WITH
"""
SYNTAX = frozenset(_SYNTAX_WORDS.split())
#: Words of the grammar only in one place: the words or symbols that stand before (or, for some, behind) them there.
AFTER: dict[str, frozenset[str]] = {
    word: frozenset(before.split())
    for word, before in {
        "OFFSET": "[ WITH",
        "ORDINAL": "[",
        "SAFE_OFFSET": "[",
        "SAFE_ORDINAL": "[",
        "SETS": "GROUPING",
        "VALUE": "AS",
        "SYSTEM_TIME": "FOR",
        "SYSTEM": "TABLESAMPLE",
        "ROW": "CURRENT",
        "FIRST": "NULLS",
        "LAST": "NULLS",
        "MAX": "HAVING",
        "MIN": "HAVING",
        "TIME": "AT",
        "ZONE": "TIME",
        "NAME": "BY",
        "INCLUDE": "UNPIVOT",
        "EXCLUDE": "UNPIVOT",
    }.items()
}
#: What may stand directly before a bracket without being the name of a function.
BEFORE_BRACKET = SYNTAX - {"ARRAY", "CAST", "EXISTS", "EXTRACT", "IF", "LEFT", "RIGHT", "STRUCT", "UNNEST", "GROUPING",
    "RANGE"}  # fmt: skip
#: Where a clause begins, for knowing which names are tables: in FROM and JOIN, until another of these.
_CLAUSES_WORDS = """
    SELECT FROM JOIN WHERE GROUP ORDER HAVING QUALIFY WINDOW LIMIT ON USING UNION INTERSECT
"""
CLAUSES = frozenset(_CLAUSES_WORDS.split())
#: Names of types, as CAST and `ARRAY<…>` take them.
TYPES = frozenset(BIGQUERY.casts) | {"JSON", "ARRAY", "STRUCT", "GEOGRAPHY", "INTERVAL"}
#: Types whose literals are written `DATE '2026-01-31'`.
LITERAL_TYPES = BIGQUERY.literals | {"JSON", "DECIMAL", "BIGDECIMAL"}
#: Calls that sqlglot tries as a type first, or reads twice: they are not to be nested deeply.
DOUBLING = BIGQUERY.type_calls | {"STRUCT", "ARRAY", "NUMERIC", "JSON", "INTERVAL"}
BARE_CALLS = frozenset(BIGQUERY.bare_calls)
#: The parts of a date, and which of them WEEK may begin with.
PARTS, WEEKDAYS = BIGQUERY.parts, BIGQUERY.week_starts
_STATEMENTS_WORDS = """
    INSERT UPDATE DELETE DROP TRUNCATE ALTER CREATE COPY MERGE GRANT REVOKE CALL EXECUTE EXPORT LOAD ATTACH DETACH
    INSTALL PRAGMA SET REPLACE VACUUM EXPLAIN DECLARE BEGIN COMMIT ROLLBACK USE UNDROP CLONE RAISE RETURN WHILE LOOP
    REPEAT
"""
STATEMENTS = frozenset(_STATEMENTS_WORDS.split())

Refused = tuple[str, str]
_UNAVAILABLE = "disallowed_node"
#: Reserved words that begin what is not there: the kind of the refusal, and the next step.
REFUSED: dict[str, Refused] = {
    **dict.fromkeys(BIGQUERY.reserved - SYNTAX, (_UNAVAILABLE, "Write it without; as a name it takes backticks.")),
    "RECURSIVE": (_UNAVAILABLE, "Write the levels as joins, or number them with UNNEST(GENERATE_ARRAY(1, 10))."),
    "INTO": ("ddl_or_dml", "Leave INTO out; `fetch` keeps the rows of a SELECT under a name."),
    "CREATE": ("ddl_or_dml", "Write one SELECT; `fetch` keeps its rows under a name."),
    "MERGE": ("ddl_or_dml", "Write one SELECT; this server reads."),
    "SET": ("ddl_or_dml", "Write one SELECT; this server reads."),
    "NATURAL": (_UNAVAILABLE, "Write JOIN … USING (column)."),
    "LATERAL": (_UNAVAILABLE, "Join UNNEST(column), or write the subquery in the SELECT list."),
    "COLLATE": (_UNAVAILABLE, "Compare LOWER(x)."),
    "ESCAPE": (_UNAVAILABLE, "Put a backslash before % or _: r'50\\%'."),
    "EXCLUDE": (_UNAVAILABLE, "Write * EXCEPT (a, b)."),
    "TO": ("parse_error", "Use REGEXP_CONTAINS(x, r'pattern'); an INTERVAL counts one part."),
    "FETCH": (_UNAVAILABLE, "Write LIMIT 10."),
    "GROUPS": (_UNAVAILABLE, "Write ROWS or RANGE."),
    "WITHIN": (_UNAVAILABLE, "Use PERCENTILE_CONT(x, 0.5) OVER (), or ARRAY_AGG(x ORDER BY y)."),
    "CONTAINS": (_UNAVAILABLE, "Use CONTAINS_SUBSTR(x, 'text') or x LIKE '%text%'."),
}
#: Types of other dialects, with GoogleSQL's.
OTHER_TYPES = {
    **dict.fromkeys(["VARCHAR", "CHAR", "TEXT", "NVARCHAR"], "STRING"),
    **dict.fromkeys(["DOUBLE", "REAL", "FLOAT", "FLOAT4", "FLOAT8"], "FLOAT64"),
    **dict.fromkeys(["INT4", "INT8", "LONG", "HUGEINT", "UNSIGNED"], "INT64"),
    **dict.fromkeys(["TIMESTAMPTZ", "TIMESTAMP_TZ"], "TIMESTAMP"),
    **dict.fromkeys(["NUMBER"], "NUMERIC"),
}
#: What opens and closes a CASE; what begins another chain of operators; how a string is written in quotes.
CASES = {"CASE": 1, "END": -1}
SEPARATORS = frozenset({"AND", "OR", "WHEN", "THEN", "ELSE", "AS"})
ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
