"""GoogleSQL functions that need a hand on their way to DuckDB: rules over the tree, and macros for the rest."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

#: Macros of the store, each the text after CREATE MACRO. `try(…)` is what the SAFE forms mean.
MACROS: tuple[str, ...] = (
    "ieee_divide(a, b) AS a::DOUBLE / b::DOUBLE",
    "bq_byte_length(a) AS CASE typeof(a) WHEN 'BLOB' THEN octet_length(a::BLOB) ELSE strlen(a::VARCHAR) END",
    "bq_quotient(a, b) AS CASE WHEN b = 0 THEN error('division by zero: ' || a || ' / ' || b) ELSE a / b END",
    "bq_safe_text(a) AS try(decode(a))",
    # DuckDB's own casts between text and bytes go by way of \x escapes
    "bq_bytes(a) AS CASE typeof(a) WHEN 'BLOB' THEN a::BLOB ELSE encode(a::VARCHAR) END",
    "bq_float_text(a) AS CASE WHEN a = trunc(a) AND abs(a) < 1e15 THEN a::BIGINT::VARCHAR ELSE a::VARCHAR END",
    # the empty text keeps DuckDB from comparing a timestamp's text as a timestamp, which answers NULL
    "bq_text(a) AS a::VARCHAR || ''",
    "bq_string(a) AS CASE typeof(a) WHEN 'JSON' THEN json_extract_string(a::JSON, '$') ELSE a::VARCHAR || '' END",
    "bq_json_type(a) AS CASE json_type(a) WHEN 'VARCHAR' THEN 'string' WHEN 'UBIGINT' THEN 'number' "
    "WHEN 'BIGINT' THEN 'number' WHEN 'DOUBLE' THEN 'number' ELSE lower(json_type(a)) END",
    "bq_element(a, i) AS CASE WHEN i < 0 OR i >= len(a) "
    "THEN error('Array index ' || i || ' is out of bounds (overflow)') ELSE a[i + 1] END",
    "st_geogpoint(x, y) AS 'POINT(' || regexp_replace(x::DOUBLE::VARCHAR, '\\.0$', '') || ' '"
    " || regexp_replace(y::DOUBLE::VARCHAR, '\\.0$', '') || ')'",
    "st_geogfromtext(a) AS a",
    "st_astext(a) AS a",
    "st_x(a) AS CAST(regexp_extract(a, 'POINT\\((\\S+) ', 1) AS DOUBLE)",
    "st_y(a) AS CAST(regexp_extract(a, 'POINT\\(\\S+ (\\S+)\\)', 1) AS DOUBLE)",
)

#: Functions of GoogleSQL that sqlglot parses as nameless calls and the store answers.
GOOGLE_FUNCTIONS = frozenset(
    {"ARRAY_LENGTH", "ERROR", "IEEE_DIVIDE", "ST_GEOGPOINT", "ST_GEOGFROMTEXT", "ST_ASTEXT", "ST_X", "ST_Y"}
)
#: Nameless calls whose result is a GEOGRAPHY.
GEOGRAPHY_FUNCTIONS = frozenset({"ST_GEOGPOINT", "ST_GEOGFROMTEXT"})

#: EXTRACT parts that DuckDB counts otherwise or does not know.
_PARTS = {
    "ISOWEEK": "CAST(strftime({0}, '%V') AS BIGINT)",
    "ISOYEAR": "extract('isoyear' FROM {0})",
    "DAYOFWEEK": "extract('dow' FROM {0}) + 1",
    "DAYOFYEAR": "extract('doy' FROM {0})",
    "MILLISECOND": "extract('millisecond' FROM {0}) % 1000",
    "MICROSECOND": "extract('microsecond' FROM {0}) % 1000000",
    "DATE": "CAST({0} AS DATE)",
    "TIME": "CAST(CAST({0} AS TIMESTAMP) AS TIME)",
    "DATETIME": "CAST({0} AS TIMESTAMP)",
}


_CASTS = {
    exp.DataType.Type.VARBINARY: "BQ_BYTES",
    exp.DataType.Type.BINARY: "BQ_BYTES",
    exp.DataType.Type.TEXT: "BQ_TEXT",
}
#: Weeks are counted from the first such day of the year; the days before it are week 0.
_WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_WEEK = "CAST((extract('doy' FROM {0}) + 6 - ((extract('dow' FROM {0}) + 7 - %d) %% 7)) // 7 AS BIGINT)"


def translate(node: exp.Expr) -> exp.Expr:
    """`node` with the meaning that GoogleSQL gives it, for DuckDB's generator."""
    rule = RULES.get(type(node))
    return rule(node) if rule is not None else node


def _parsed(template: str, *operands: exp.Expr) -> exp.Expr:
    """A DuckDB expression with `_0`, `_1`, … replaced by operands."""
    names = [f"__{index}" for index in range(len(operands))]
    tree: exp.Expr = exp.maybe_parse(template.format(*names), dialect="duckdb")
    for name, operand in zip(names, operands, strict=True):
        for column in list(tree.find_all(exp.Column)):
            if column.name == name:
                column.replace(exp.paren(operand.copy(), copy=False))
    return tree


def _exact_number(node: exp.Expr) -> exp.Expr:
    """A bare NUMERIC is DECIMAL(38, 9); DuckDB's own default would be DECIMAL(18, 3)."""
    if node.this in (exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGDECIMAL) and not node.expressions:
        scale = 9 if node.this == exp.DataType.Type.DECIMAL else 18
        return exp.DataType.build(f"DECIMAL(38, {scale})", dialect="duckdb")
    return node


def _whole_units(node: exp.Expr) -> exp.Expr:
    """TIMESTAMP_DIFF counts completed units; DuckDB's date_diff counts crossed boundaries."""
    unit = (node.args.get("unit") or exp.var("MICROSECOND")).name.lower()
    return _parsed(f"datesub('{unit}', {{0}}, {{1}})", node.expression, node.this)


def _day_kept(node: exp.Expr) -> exp.Expr:
    """DATE arithmetic stays a DATE, where DuckDB would answer a TIMESTAMP."""
    if isinstance(node.parent, exp.Cast) and node.parent.args.get("day_kept"):
        return node
    kept = exp.cast(node.copy(), exp.DataType.Type.DATE)
    kept.set("day_kept", True)
    return kept


def _extracted(node: exp.Expr) -> exp.Expr:
    part = node.this.name.upper()
    if isinstance(node.this, exp.WeekStart) or part == "WEEK":
        first = node.this.this.name.upper() if isinstance(node.this, exp.WeekStart) else "SUNDAY"
        return _parsed(_WEEK % _WEEKDAYS.index(first), node.expression)
    template = _PARTS.get(part)
    return _parsed(template, node.expression) if template else node


def _clock(node: exp.Expr) -> exp.Expr:
    """TIME(timestamp): DuckDB casts a timestamp with a zone only by way of one without."""
    if isinstance(node.this, exp.Literal):
        return node
    return _parsed("CAST(CAST({0} AS TIMESTAMP) AS TIME)", node.this)


def _quotient(node: exp.Expr) -> exp.Expr:
    """`a / 0` is an error in GoogleSQL."""
    if isinstance(node.expression, exp.Literal) and node.expression.name.strip("0."):
        return node
    return exp.func("BQ_QUOTIENT", node.this.copy(), node.expression.copy())


def _element(node: exp.Expr) -> exp.Expr:
    """`a[OFFSET(9)]` and `a[ORDINAL(9)]` beyond the end are errors; their SAFE forms are NULL, as DuckDB answers."""
    if node.args.get("safe") is not False or len(node.expressions) != 1:
        return node
    index = node.expressions[0].copy()
    if node.args.get("offset"):
        index = exp.Sub(this=exp.paren(index), expression=exp.Literal.number(1))
    return exp.func("BQ_ELEMENT", node.this.copy(), index)


def _clock_text(node: exp.Expr) -> exp.Expr:
    """FORMAT_TIME: DuckDB formats dates and timestamps only."""
    if not isinstance(node.this, exp.TsOrDsToTime):
        return node
    return _parsed("strftime(DATE '1970-01-01' + CAST({0} AS TIME), {1})", node.this.this, node.args["format"])


def _clock_cut(node: exp.Expr) -> exp.Expr:
    unit = node.args["unit"].name.lower()
    return _parsed(f"CAST(date_trunc('{unit}', DATE '2000-01-01' + {{0}}) AS TIME)", node.this)


def _normalized(node: exp.Expr) -> exp.Expr:
    if node.args.get("form"):
        return node  # NFD, NFKC and NFKD are not in DuckDB: an unknown function
    return _parsed("lower(nfc_normalize({0}))" if node.args.get("is_casefold") else "nfc_normalize({0})", node.this)


def _escaping(node: exp.Expr) -> exp.Expr:
    """A backslash escapes in GoogleSQL's LIKE; in DuckDB's only where the statement says so."""
    if isinstance(node.parent, exp.Escape):
        return node
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


def _cast(node: exp.Expr) -> exp.Expr:
    macro = _CASTS.get(node.args["to"].this)
    if macro is None or (isinstance(node.this, exp.Null | exp.Literal) and macro == "BQ_TEXT"):
        return node
    return exp.func(macro, node.this.copy())


def _tried(template: str) -> Callable[[exp.Expr], exp.Expr]:
    return lambda node: _parsed(template, node.this, node.expression)


def _called(name: str) -> Callable[[exp.Expr], exp.Expr]:
    return lambda node: exp.func(name, node.this.copy(), *(part.copy() for part in node.expressions))


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.DataType: _exact_number,
    exp.Cast: _cast,
    exp.Like: _escaping,
    exp.TimestampDiff: _whole_units,
    exp.DateAdd: _day_kept,
    exp.DateSub: _day_kept,
    exp.Extract: _extracted,
    exp.TsOrDsToTime: _clock,
    exp.Div: _quotient,
    exp.ByteLength: _called("BQ_BYTE_LENGTH"),
    exp.Format: _called("PRINTF"),
    exp.SafeConvertBytesToString: _called("BQ_SAFE_TEXT"),
    exp.SafeFunc: lambda node: exp.Anonymous(this="TRY", expressions=[node.this.copy()]),
    exp.SafeAdd: _tried("TRY({0} + {1})"),
    exp.SafeSubtract: _tried("TRY({0} - {1})"),
    exp.SafeMultiply: _tried("TRY({0} * {1})"),
    exp.SafeNegate: lambda node: _parsed("TRY(-{0})", node.this),
    exp.Bracket: _element,
    exp.TimeTrunc: _clock_cut,
    exp.TimeToStr: _clock_text,
    exp.Normalize: _normalized,
    exp.JSONType: _called("BQ_JSON_TYPE"),
    exp.String: lambda node: node if node.args.get("zone") else exp.func("BQ_STRING", node.this.copy()),
    exp.CurrentTime: lambda node: _parsed("CAST(CAST(now() AS TIMESTAMP) AS TIME)"),
    exp.CurrentDatetime: lambda node: _parsed("CAST(now() AS TIMESTAMP)"),
}
