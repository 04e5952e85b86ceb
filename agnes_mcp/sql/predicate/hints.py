"""What people write who have another SQL in mind, and the next step for each."""

from __future__ import annotations

from agnes_mcp.models import Dialect

Refusal = tuple[str, str, str]

_COMMENT: Refusal = ("disallowed_node", "Comments are not part of a predicate.", "Remove the comment.")
_PARAMETER: Refusal = ("disallowed_node", "Parameters and variables are not available here.", "Write the value itself.")
_BYTES: Refusal = (
    "unsupported_literal",
    "This kind of literal is not available here.",
    "Write a plain string: 'text'.",
)
_OPERATOR: Refusal = ("disallowed_node", "This operator is not available here.", "Use =, !=, <, >, IN or LIKE.")
_UNCLOSED: Refusal = ("parse_error", "This quote is not closed.", "Close it. A quote inside a string is escaped: ")
_ARROW: Refusal = ("disallowed_node", "Lambdas, arrows and named arguments are not available here.", "")
_SHARED: dict[str, Refusal] = {
    "--": _COMMENT,
    "/*": _COMMENT,
    "|>": ("disallowed_node", "A predicate has no pipes.", "Join conditions with AND."),
    ";": ("multi_statement", "A predicate is one condition; it has no ;.", "Remove the ; and what follows it."),
    "=>": _ARROW,
    "<=>": _OPERATOR,
    "<<": _OPERATOR,
    ">>": _OPERATOR,
    "<@": _OPERATOR,
    "@": _PARAMETER,
    "?": _PARAMETER,
    "$": _PARAMETER,
    "{": ("disallowed_node", "A predicate has no braces.", "Write the value itself."),
    "^": ("disallowed_node", "The operator ^ is not available here.", "Use POWER(x, y), or != for exclusive or."),
    "!~": _OPERATOR,
    "!": ("parse_error", "! alone is not an operator.", "Use NOT."),
    "\\": ("parse_error", "A backslash has no meaning outside a string.", "Remove it."),
}
SYMBOL_HINTS: dict[Dialect, dict[str, Refusal]] = {
    "bigquery": {
        **_SHARED,
        "#": _COMMENT,
        "->": (*_ARROW[:2], "Read JSON with JSON_VALUE(column, '$.path')."),
        "==": ("parse_error", "BigQuery has no ==.", "Use =."),
        "//": ("parse_error", "BigQuery has no //.", "Use DIV(a, b)."),
        "::": ("parse_error", "BigQuery has no ::.", "Use CAST(x AS INT64) or SAFE_CAST(x AS INT64)."),
        ":": _PARAMETER,
        "%": ("parse_error", "BigQuery has no %.", "Use MOD(a, b)."),
        "~": ("disallowed_node", "The operator ~ is not available here.", "Use REGEXP_CONTAINS(x, r'pattern')."),
        "b'": _BYTES, 'b"': _BYTES, "rb": _BYTES, "br": _BYTES,
        "'": (*_UNCLOSED[:2], _UNCLOSED[2] + "\\'."),
        '"': (*_UNCLOSED[:2], _UNCLOSED[2] + '\\".'),
        "`": ("parse_error", "This is not a name in backticks.", "Write one column's name between two backticks."),
    },
    "duckdb": {
        **_SHARED,
        "#": ("disallowed_node", "Columns are not read by position.", "Name the column."),
        "->": (*_ARROW[:2], "Read JSON with json_extract_string(column, '$.path')."),
        ":": _PARAMETER,
        "**": ("disallowed_node", "The operator ** is not available here.", "Use power(x, y)."),
        "~": ("disallowed_node", "The operator ~ is not available here.", "Use regexp_matches(x, 'pattern')."),
        "b'": _BYTES, "e'": _BYTES, "x'": _BYTES, "n'": _BYTES, "u&": _BYTES,
        "'": (*_UNCLOSED[:2], _UNCLOSED[2] + "''."),
        '"': ("parse_error", "This is not a name in double quotes.", "Strings take single quotes: 'text'."),
        "`": ("parse_error", "DuckDB has no backticks.", "Put a name in double quotes."),
    },
}  # fmt: skip


def symbol_hint(hint: str, symbol: str) -> str:
    return hint or f"Write the condition without {symbol}."


_EXTRACT = "Use EXTRACT({part} FROM x)."
#: Functions of other dialects by name, and what to write instead.
FUNCTION_HINTS: dict[Dialect, dict[str, str]] = {
    "bigquery": {
        "NOW": "Use CURRENT_TIMESTAMP().",
        "GETDATE": "Use CURRENT_TIMESTAMP().",
        "SYSDATE": "Use CURRENT_TIMESTAMP().",
        "LOCALTIMESTAMP": "Use CURRENT_DATETIME().",
        "TODAY": "Use CURRENT_DATE().",
        "CURDATE": "Use CURRENT_DATE().",
        "DATEADD": "Use DATE_ADD(x, INTERVAL 1 DAY).",
        "DATEDIFF": "Use DATE_DIFF(later, earlier, DAY).",
        "DATE_PART": "Use EXTRACT(YEAR FROM x).",
        "DATETRUNC": "Use DATE_TRUNC(x, MONTH).",
        "STRFTIME": "Use FORMAT_DATE('%Y-%m', x) or FORMAT_TIMESTAMP('%Y-%m', x).",
        "DATE_FORMAT": "Use FORMAT_DATE('%Y-%m', x).",
        "TO_CHAR": "Use FORMAT_DATE('%Y-%m', x) or CAST(x AS STRING).",
        "STRPTIME": "Use PARSE_DATE('%Y-%m-%d', x) or PARSE_TIMESTAMP('%F %T', x).",
        "TO_DATE": "Use PARSE_DATE('%Y-%m-%d', x) or DATE(x).",
        "TO_TIMESTAMP": "Use PARSE_TIMESTAMP('%F %T', x) or TIMESTAMP_SECONDS(x).",
        "EPOCH": "Use UNIX_SECONDS(x).",
        "TRY_CAST": "Use SAFE_CAST(x AS INT64).",
        "CONVERT": "Use CAST(x AS STRING).",
        "LEN": "Use LENGTH(x).",
        "CHARINDEX": "Use STRPOS(x, 'text').",
        "POSITION": "Use STRPOS(x, 'text').",
        "CONTAINS": "Use CONTAINS_SUBSTR(x, 'text') or x LIKE '%text%'.",
        "PREFIX": "Use STARTS_WITH(x, 'text').",
        "STARTSWITH": "Use STARTS_WITH(x, 'text').",
        "ENDSWITH": "Use ENDS_WITH(x, 'text').",
        "REGEXP_LIKE": "Use REGEXP_CONTAINS(x, r'pattern').",
        "REGEXP_MATCHES": "Use REGEXP_CONTAINS(x, r'pattern').",
        "LIST_CONTAINS": "Use value IN UNNEST(x).",
        "ARRAY_CONTAINS": "Use value IN UNNEST(x).",
        "NVL": "Use IFNULL(x, y).",
        "ISNULL": "Use x IS NULL, or IFNULL(x, y).",
        "IIF": "Use IF(condition, x, y).",
        "JSON_EXTRACT_STRING": "Use JSON_VALUE(x, '$.path').",
        "RAND": "A predicate is the same for every read; it has no random values.",
        **{part: _EXTRACT.format(part=part) for part in ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE")},
    },
    "duckdb": {
        "GETDATE": "Use now().",
        "SYSDATE": "Use now().",
        "CURDATE": "Use current_date.",
        "CURRENT_DATETIME": "Use now()::TIMESTAMP.",
        "DATEADD": "Use x + INTERVAL 1 DAY.",
        "DATE_SUB": "Use x - INTERVAL 1 DAY; the days between two dates are date_diff('day', earlier, later).",
        "TIMESTAMP_ADD": "Use x + INTERVAL 1 HOUR.",
        "TIMESTAMP_SUB": "Use x - INTERVAL 1 HOUR.",
        "DATETIME_ADD": "Use x + INTERVAL 1 HOUR.",
        "DATETIME_SUB": "Use x - INTERVAL 1 HOUR.",
        "TIMESTAMP_DIFF": "Use date_diff('hour', earlier, later).",
        "DATETIME_DIFF": "Use date_diff('hour', earlier, later).",
        "TIMESTAMP_TRUNC": "Use date_trunc('day', x).",
        "DATETIME_TRUNC": "Use date_trunc('day', x).",
        "FORMAT_DATE": "Use strftime(x, '%Y-%m').",
        "FORMAT_TIMESTAMP": "Use strftime(x, '%Y-%m').",
        "DATE_FORMAT": "Use strftime(x, '%Y-%m').",
        "TO_CHAR": "Use strftime(x, '%Y-%m') or CAST(x AS VARCHAR).",
        "PARSE_DATE": "Use strptime(x, '%Y-%m-%d')::DATE.",
        "PARSE_TIMESTAMP": "Use strptime(x, '%Y-%m-%d %H:%M:%S').",
        "TO_DATE": "Use CAST(x AS DATE) or strptime(x, '%d.%m.%Y')::DATE.",
        "DATETIME": "Use CAST(x AS TIMESTAMP).",
        "TIMESTAMP": "Use CAST(x AS TIMESTAMP).",
        "TIME": "Use CAST(x AS TIME).",
        "STRING": "Use CAST(x AS VARCHAR).",
        "UNIX_SECONDS": "Use epoch(x).",
        "UNIX_MILLIS": "Use epoch_ms(x).",
        "SAFE_CAST": "Use TRY_CAST(x AS INTEGER).",
        "SAFE_DIVIDE": "Use x / y: division by zero gives NULL.",
        "CONTAINS_SUBSTR": "Use contains(lower(x), 'text').",
        "REGEXP_CONTAINS": "Use regexp_matches(x, 'pattern').",
        "REGEXP_LIKE": "Use regexp_matches(x, 'pattern').",
        "CHARINDEX": "Use strpos(x, 'text').",
        "ISNULL": "Use x IS NULL, or ifnull(x, y).",
        "NVL": "Use ifnull(x, y).",
        "IIF": "Use if(condition, x, y).",
        "JSON_VALUE": "Use json_extract_string(x, '$.path').",
        "JSON_EXTRACT_SCALAR": "Use json_extract_string(x, '$.path').",
        "UNNEST": "Use list_contains(x, value).",
        "RANDOM": "A predicate is the same for every read; it has no random values.",
    },
}  # fmt: skip

#: Words where an operator or the end is expected.
OPERATOR_HINTS: dict[Dialect, dict[str, str]] = {
    "bigquery": {
        "XOR": "Write (a) != (b).",
        "ILIKE": "Use LOWER(x) LIKE 'text%'.",
        "RLIKE": "Use REGEXP_CONTAINS(x, r'pattern').",
        "REGEXP": "Use REGEXP_CONTAINS(x, r'pattern').",
        "SIMILAR": "Use REGEXP_CONTAINS(x, r'pattern').",
        "GLOB": "Use LIKE, with % for any text and _ for one character.",
        "ISNULL": "Use IS NULL.",
        "NOTNULL": "Use IS NOT NULL.",
        "ESCAPE": "BigQuery has no ESCAPE; put a backslash before % or _: r'50\\%'.",
        "DIV": "Use DIV(a, b).",
        "MOD": "Use MOD(a, b).",
        "COLLATE": "Use LOWER(x).",
        "AT": "Use DATETIME(x, 'Europe/Prague'), or EXTRACT(HOUR FROM x AT TIME ZONE 'Europe/Prague').",
        "EQ": "Use =.", "GT": "Use >.", "LT": "Use <.", "CONTAINS": "Use x LIKE '%text%'.",
    },
    "duckdb": {
        "XOR": "Write (a) != (b).",
        "RLIKE": "Use regexp_matches(x, 'pattern').",
        "REGEXP": "Use regexp_matches(x, 'pattern').",
        "SIMILAR": "Use regexp_matches(x, 'pattern').",
        "GLOB": "Use LIKE, with % for any text and _ for one character.",
        "ISNULL": "Use IS NULL.",
        "NOTNULL": "Use IS NOT NULL.",
        "DIV": "Use //.",
        "MOD": "Use %.",
        "COLLATE": "Use lower(x).",
        "AT": "Compare in UTC, or use EXTRACT.",
        "EQ": "Use =.", "GT": "Use >.", "LT": "Use <.", "CONTAINS": "Use contains(x, 'text').",
    },
}  # fmt: skip
