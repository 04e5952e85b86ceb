"""The functions that a statement may call, by the name that is written, and how each may be called.

Left out is whatever reaches further than its arguments and the tables in FROM: remote functions and routines
(`p.d.f`), models (ML., AI.), keys and signed URLs, other services (ST_REGIONSTATS), and what names the caller or
differs from call to call without being a time. Written as in `predicate.signatures`; a `count` is a whole number as a
literal, `part` a date part, everything else an expression; `...` may also be none at all.
"""

from __future__ import annotations

from functools import cache

from agnes_mcp.sql.predicate.bigquery import BIGQUERY
from agnes_mcp.sql.predicate.signatures import Signature, read_signatures

_AGGREGATES = """
    ANY_VALUE ARRAY_AGG ARRAY_CONCAT_AGG AVG BIT_AND BIT_OR BIT_XOR COUNT COUNTIF GROUPING LOGICAL_AND LOGICAL_OR MAX
    MIN SUM STDDEV STDDEV_POP STDDEV_SAMP VAR_POP VAR_SAMP VARIANCE APPROX_COUNT_DISTINCT
"""
_ONE_VALUE = """
    NTILE ARRAY_FIRST ARRAY_LAST ARRAY_REVERSE
    ASCII CHR UNICODE TO_CODE_POINTS CODE_POINTS_TO_STRING TO_HEX FROM_HEX TO_BASE64 FROM_BASE64 TO_BASE32
    FROM_BASE32 OCTET_LENGTH SOUNDEX SAFE_CONVERT_BYTES_TO_STRING
    ACOS ACOSH ASIN ASINH ATAN ATANH COS COSH COT COTH CSC CSCH SEC SECH SIN SINH TAN TANH CBRT BIT_COUNT
    PARSE_NUMERIC PARSE_BIGNUMERIC
    BOOL INT64 LAX_BOOL LAX_INT64 LAX_FLOAT64 LAX_STRING MD5 SHA1 SHA256 SHA512
    ST_X ST_Y ST_CENTROID ST_ASTEXT ST_BOUNDARY ST_CONVEXHULL ST_DIMENSION ST_NUMPOINTS ST_ISEMPTY
    ST_GEOGPOINTFROMGEOHASH
"""
_OTHERS = """
    MAX_BY(value, value) same
    MIN_BY(value, value) same
    STRING_AGG(value, value?) text
    CORR(value, value) number
    COVAR_POP(value, value) number
    COVAR_SAMP(value, value) number
    APPROX_QUANTILES(value, count) other
    APPROX_TOP_COUNT(value, count) other
    APPROX_TOP_SUM(value, value, count) other
    ROW_NUMBER() number
    RANK() number
    DENSE_RANK() number
    PERCENT_RANK() number
    CUME_DIST() number
    FIRST_VALUE(value) same
    LAST_VALUE(value) same
    NTH_VALUE(value, value) same
    LAG(value, value?, value?) same
    LEAD(value, value?, value?) same
    PERCENTILE_CONT(value, value) number
    PERCENTILE_DISC(value, value) same
    ARRAY(value) other
    ARRAY_CONCAT(value...) same
    ARRAY_SLICE(value, value, value) same
    ARRAY_TO_STRING(value, value, value?) text
    GENERATE_ARRAY(value, value, value?) other
    GENERATE_DATE_ARRAY(value, value, interval?) other
    GENERATE_TIMESTAMP_ARRAY(value, value, interval) other
    EDIT_DISTANCE(value, value, value?) number
    FORMAT(value...) text
    REGEXP_EXTRACT_ALL(value, value) other
    TRANSLATE(value, value, value) text
    LPAD(value, count, value?) text
    RPAD(value, count, value?) text
    REPEAT(value, count) text
    DATE_BUCKET(value, interval, value?) date
    DATETIME_BUCKET(value, interval, value?) datetime
    TIMESTAMP_BUCKET(value, interval, value?) timestamp
    ATAN2(value, value) number
    RANGE_BUCKET(value, value) number
    COSINE_DISTANCE(value, value) number
    EUCLIDEAN_DISTANCE(value, value) number
    NORMALIZE(value, mode?) text
    NORMALIZE_AND_CASEFOLD(value, mode?) text
    CONTAINS_SUBSTR(value, value, value?) boolean
    ROUND(value, value?, value?) number
    DATE_TRUNC(value, part, value?) same
    DATETIME_TRUNC(value, part, value?) same
    SPLIT(value, value?) other
    FLOAT64(value, value?) number
    JSON_QUERY(value, value?) text
    JSON_QUERY_ARRAY(value, value?) other
    JSON_VALUE_ARRAY(value, value?) other
    JSON_EXTRACT(value, value?) text
    JSON_EXTRACT_ARRAY(value, value?) other
    JSON_EXTRACT_STRING_ARRAY(value, value?) other
    JSON_KEYS(value, value?, value?) other
    JSON_OBJECT(value...) other
    JSON_ARRAY(value...) other
    TO_JSON(value, value?) other
    TO_JSON_STRING(value, value?) text
    PARSE_JSON(value, value?) other
    STRUCT(value...) other
    ST_GEOGPOINT(value, value) other
    ST_GEOGFROMTEXT(value, value?, value?, value?) other
    ST_GEOGFROMGEOJSON(value, value?) other
    ST_DISTANCE(value, value, value?) number
    ST_DWITHIN(value, value, value, value?) boolean
    ST_CONTAINS(value, value) boolean
    ST_COVERS(value, value) boolean
    ST_COVEREDBY(value, value) boolean
    ST_WITHIN(value, value) boolean
    ST_DISJOINT(value, value) boolean
    ST_EQUALS(value, value) boolean
    ST_INTERSECTS(value, value) boolean
    ST_INTERSECTSBOX(value, value, value, value, value) boolean
    ST_INTERSECTION(value, value) other
    ST_MAKELINE(value, value?) other
    ST_AREA(value, value?) number
    ST_LENGTH(value, value?) number
    ST_PERIMETER(value, value?) number
    ST_ASGEOJSON(value) text
    ST_GEOHASH(value, value?) text
    ST_SNAPTOGRID(value, value) other
    ST_MAXDISTANCE(value, value, value?) number
    HLL_COUNT_INIT(value, value?) other
    HLL_COUNT_MERGE(value) number
    HLL_COUNT_MERGE_PARTIAL(value) other
    HLL_COUNT_EXTRACT(value) number
    NET_HOST(value) text
    NET_REG_DOMAIN(value) text
"""
#: What stands before the dot of a function's name, and which names may follow. SAFE takes any other function.
NAMESPACES: dict[str, frozenset[str]] = {
    "HLL_COUNT": frozenset({"INIT", "MERGE", "MERGE_PARTIAL", "EXTRACT"}),
    "NET": frozenset({"HOST", "REG_DOMAIN"}),
}
_MORE_AGGREGATES = """
    MAX_BY MIN_BY STRING_AGG CORR COVAR_POP COVAR_SAMP APPROX_QUANTILES APPROX_TOP_COUNT APPROX_TOP_SUM
    HLL_COUNT_INIT HLL_COUNT_MERGE HLL_COUNT_MERGE_PARTIAL
"""
#: Aggregates, for telling a row per group from a row per row; with OVER they are none.
AGGREGATES = frozenset(f"{_AGGREGATES}{_MORE_AGGREGATES}".split())
#: Arrays whose length the text decides.
GENERATORS = frozenset({"GENERATE_ARRAY", "GENERATE_DATE_ARRAY", "GENERATE_TIMESTAMP_ARRAY"})
MODES = frozenset({"NFC", "NFKC", "NFD", "NFKD"})
#: Parsed by the grammar itself, not as a call of a listed function.
GRAMMAR_CALLS = frozenset({"CAST", "SAFE_CAST", "EXTRACT", "EXISTS", "UNNEST", "STRUCT", "ARRAY"})


@cache
def functions() -> dict[str, Signature]:
    """Every function by its name in capitals; the dot of HLL_COUNT and NET is written as `_`."""
    single = "\n".join(f"{name}(value) other" for name in f"{_AGGREGATES}{_ONE_VALUE}".split())
    own = read_signatures(f"{single}\n{_OTHERS.replace('mode?', 'unit?')}")
    return {**BIGQUERY.functions, **own}


def signature_of(path: tuple[str, ...]) -> Signature | None:
    """The signature of `NAME`, `SAFE.NAME`, `HLL_COUNT.NAME` or `NET.NAME`; None for whatever else."""
    if path[0] == "SAFE" and len(path) > 1:
        path = path[1:]
    if len(path) == 1:
        name = path[0]
        known = functions().get(name)
        return known if known is not None and not name.startswith(("HLL_COUNT_", "NET_")) else None
    if len(path) == 2 and path[1] in NAMESPACES.get(path[0], ()):
        return functions()["_".join(path)]
    return None
