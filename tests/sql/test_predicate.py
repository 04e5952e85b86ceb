"""The WHERE validator over its corpora, and what its refusals say."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import duckdb
import pytest
from sqlglot import exp
from support.evaluator import GoogleSQL
from support.predicates import BIGQUERY_SCHEMA, SCHEMAS, accepted, rejected

from agnes_mcp.errors import KINDS, AgnesError, PredicateError
from agnes_mcp.models import Column, Dialect, TableSchema
from agnes_mcp.sql.predicate import render_predicate, validate_predicate
from agnes_mcp.sql.predicate.dialects import RULES

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")
ACCEPTED = [(dialect, text) for dialect in DIALECTS for text in accepted(dialect)]
REJECTED = [(dialect, kind, text) for dialect in DIALECTS for kind, text in rejected(dialect)]


def refusal(text: object, dialect: Dialect = "bigquery", schema: TableSchema | None = None) -> PredicateError:
    with pytest.raises(PredicateError) as caught:
        validate_predicate(text, schema or SCHEMAS[dialect], dialect)
    return caught.value


def rendered(text: str, dialect: Dialect = "bigquery", schema: TableSchema | None = None) -> str:
    return render_predicate(validate_predicate(text, schema or SCHEMAS[dialect], dialect), dialect)


def test_the_corpora_are_as_large_as_they_claim() -> None:
    assert len(ACCEPTED) >= 300
    assert len(REJECTED) >= 1000
    assert {kind for _, kind, _ in REJECTED} <= set(KINDS)


@pytest.mark.parametrize(("dialect", "text"), ACCEPTED)
def test_accepted_predicates_are_accepted_again_unchanged_after_rendering(dialect: Dialect, text: str) -> None:
    tree = validate_predicate(text, SCHEMAS[dialect], dialect)
    once = render_predicate(tree, dialect)
    again = validate_predicate(once, SCHEMAS[dialect], dialect)
    assert again == tree
    assert render_predicate(again, dialect) == once
    assert isinstance(tree, exp.Expression)
    assert all(column.this.args["quoted"] for column in tree.find_all(exp.Column))


@pytest.mark.parametrize(("dialect", "kind", "text"), REJECTED)
def test_rejected_predicates_are_rejected_for_their_reason(dialect: Dialect, kind: str, text: str) -> None:
    error = refusal(text, dialect)
    assert error.kind == kind
    assert isinstance(error, AgnesError)
    assert error.message
    assert error.hint
    details = error.details
    assert 0 <= details["position"] <= len(text)
    assert len(details["fragment"]) <= 80
    assert details["fragment"].isprintable()
    json.dumps(details)
    assert error.message.isprintable()


# The functions that an analyst must be able to count on, in every form of their arguments.
NAMED = """
CURRENT_DATE() CURRENT_TIMESTAMP() CURRENT_TIME() DATE(2026,1,31) DATE(started_at) DATE(started_at,'UTC')
DATETIME(2026,1,31,0,0,0) DATETIME(started_at) TIMESTAMP(event_date) TIME(1,2,3) TIME(started_at)
DATE_ADD(event_date,INTERVAL~1~DAY) DATE_SUB(event_date,INTERVAL~1~DAY) DATE_DIFF(event_date,event_date,DAY)
DATE_TRUNC(event_date,MONTH) EXTRACT(YEAR~FROM~event_date) FORMAT_DATE('%F',event_date)
FORMAT_TIMESTAMP('%F',started_at) PARSE_DATE('%F',platform) PARSE_TIMESTAMP('%F',platform) UNIX_SECONDS(started_at)
UNIX_MILLIS(started_at) CONCAT(platform,'x') LENGTH(platform) LOWER(platform) UPPER(platform) SUBSTR(platform,1)
SUBSTRING(platform,1,2) TRIM(platform) LTRIM(platform) RTRIM(platform) REPLACE(platform,'a','b')
STARTS_WITH(platform,'a') ENDS_WITH(platform,'a') CONTAINS_SUBSTR(platform,'a') REGEXP_CONTAINS(platform,r'a')
REGEXP_EXTRACT(platform,r'a') SAFE_CAST(platform~AS~INT64) ABS(amount) CEIL(amount) FLOOR(amount) ROUND(amount,1)
MOD(user_id,2) POWER(score,2) SQRT(score) LOG(score) LN(score) EXP(score) SIGN(score) GREATEST(1,2) LEAST(1,2)
CAST(user_id~AS~STRING) IF(is_paid,1,2) IFNULL(user_id,1) COALESCE(user_id,1) NULLIF(user_id,1)
CASE~WHEN~is_paid~THEN~1~END
"""


@pytest.mark.parametrize("call", [call.replace("~", " ") for call in NAMED.split()])
def test_every_named_function_is_accepted_and_keeps_its_name(call: str) -> None:
    text = rendered(f"{call} IS NOT NULL")
    assert text.startswith(f"NOT {call.split('(')[0].split()[0]}")


@pytest.mark.parametrize("text", [None, 5, b"a = 1", ["a = 1"], {"a": 1}, object(), 1.5, True, exp.true()])
def test_what_is_not_text_is_refused(text: object) -> None:
    assert refusal(text).kind == "parse_error"


def test_an_unknown_column_names_the_nearest() -> None:
    error = refusal("platform = 'web' AND contry_code = 'CZ'")
    assert error.kind == "unknown_column"
    assert error.details == {
        "fragment": "contry_code", "position": 21, "column": "contry_code", "nearest": ["country_code"],
    }  # fmt: skip
    assert error.hint == "Did you mean country_code?"


def test_an_unknown_function_names_the_nearest() -> None:
    error = refusal("LOWERR(platform) = 'x'")
    assert error.details["function"] == "LOWERR"
    assert error.details["nearest"][0] == "LOWER"
    assert error.details["position"] == 0


def test_an_unknown_field_names_the_nearest_field() -> None:
    error = refusal("device.browser.nam = 'x'")
    assert error.details["column"] == "nam"
    assert error.details["position"] == 15
    assert error.hint == "Did you mean name?"


CONFUSED: list[tuple[Dialect, str, str]] = [
    ("bigquery", "started_at > NOW()", "CURRENT_TIMESTAMP()"),
    ("bigquery", "started_at > GETDATE()", "CURRENT_TIMESTAMP()"),
    ("bigquery", "DATEADD(event_date, 1) > event_date", "DATE_ADD(x, INTERVAL 1 DAY)"),
    ("bigquery", "platform ILIKE 'w%'", "LOWER(x) LIKE"),
    ("bigquery", "user_id::STRING = '1'", "CAST(x AS INT64)"),
    ("bigquery", "user_id == 1", "Use =."),
    ("bigquery", "user_id % 2 = 1", "MOD(a, b)"),
    ("bigquery", "YEAR(event_date) = 2026", "EXTRACT(YEAR FROM x)"),
    ("bigquery", "is_paid XOR device.mobile", "(a) != (b)"),
    ("bigquery", "platform = 'O''Brien'", "\\'"),
    ("bigquery", "order = 1", "`order`"),
    ("bigquery", "payload.plan = 'pro'", "JSON_VALUE"),
    ("bigquery", "device = 1", "os, browser, mobile"),
    ("bigquery", "amount = NULL", "IS NULL"),
    ("bigquery", "DATE_TRUNC('month', event_date) = event_date", "DATE_TRUNC(value, part)"),
    ("duckdb", 'country_code = "CZ"', "single quotes: 'text'"),
    ("duckdb", "`country_code` = 'CZ'", "double quotes"),
    ("duckdb", "event_date > DATE_SUB(current_date, INTERVAL 30 DAY)", "x - INTERVAL 1 DAY"),
    ("duckdb", "SAFE_CAST(user_id AS INTEGER) = 1", "TRY_CAST"),
    ("duckdb", "REGEXP_CONTAINS(platform, 'x')", "regexp_matches"),
    ("duckdb", "FORMAT_DATE('%Y', event_date) = '2026'", "strftime"),
    ("duckdb", "'new' IN UNNEST(tags)", "list_contains"),
    ("duckdb", "'new' IN tags", "list_contains"),
    ("duckdb", "platform ~ 'x'", "regexp_matches"),
]


@pytest.mark.parametrize(("dialect", "text", "hint"), CONFUSED)
def test_who_thinks_in_another_sql_is_told_the_next_step(dialect: Dialect, text: str, hint: str) -> None:
    assert hint in refusal(text, dialect).hint


@pytest.mark.parametrize("text", ["nope(other.x) = 1 OR nope2 = 1", "nope2 = 1 AND nope(1) = 2 AND other.x = 1"])
def test_of_several_failures_the_reference_is_told_first(text: str) -> None:
    assert refusal(text).kind in ("cross_table_reference", "unknown_function")


def test_failures_of_meaning_are_told_in_order() -> None:
    """Structure, then other tables, then functions, then columns, then whether it is a condition."""
    parts = ["nope2 + 1", "nope(1) = 1", "other.x = 1", "1=1 LIMIT 5"]
    kinds = [refusal(" AND ".join(parts[: n + 1])).kind for n in range(len(parts))]
    assert kinds == ["unknown_column", "unknown_function", "cross_table_reference", "disallowed_node"]


def test_names_are_written_as_the_schema_spells_them() -> None:
    assert rendered("WEB_SESSIONS.Device.BROWSER.Name = 'x'") == "`device`.`browser`.`name` = 'x'"
    assert rendered('"ORDER" = 1', "duckdb") == '"order" = 1'


def test_a_column_wins_over_the_tables_own_name() -> None:
    schema = TableSchema(
        table_id="t",
        columns=[
            Column(name="t", type="STRUCT", fields=[Column(name="x", type="INT64")]),
            Column(name="y", type="BOOL"),
        ],
    )
    assert rendered("t.x = 1 AND t.y", schema=schema) == "`t`.`x` = 1 AND `y`"
    assert rendered("t.t.x = 1", schema=schema) == "`t`.`x` = 1"


def test_pseudo_columns_need_to_be_in_the_schema() -> None:
    without = BIGQUERY_SCHEMA.model_copy(update={"pseudo_columns": []})
    assert refusal("_PARTITIONDATE = DATE '2026-01-31'", schema=without).kind == "unknown_column"


@pytest.mark.parametrize(
    ("kind", "mode", "predicate", "verdict"),
    [
        ("BOOL", "NULLABLE", "c", "accepted"),
        ("BOOLEAN", "NULLABLE", "c", "accepted"),
        ("STRING", "NULLABLE", "c", "not_boolean"),
        ("BOOL", "REPEATED", "c", "not_boolean"),
        ("BOOLEAN[]", "NULLABLE", "c", "not_boolean"),
        ("BOOLEAN[]", "NULLABLE", "c[1]", "accepted"),
        ("BOOLEAN[]", "REPEATED", "c[1][1]", "accepted"),
        ("BOOLEAN[3]", "NULLABLE", "c[1]", "accepted"),
        ("MAP(VARCHAR, BOOLEAN)", "NULLABLE", "c['x']", "accepted"),
        ("ENUM('a', 'b')", "NULLABLE", "c = 'a'", "accepted"),
        ("TIMESTAMP WITH TIME ZONE", "NULLABLE", "c > now()", "accepted"),
        ("STRUCT", "NULLABLE", "c IS NULL", "disallowed_node"),
        ("", "NULLABLE", "c = 1", "accepted"),
    ],
)
def test_a_column_is_what_its_schema_says(kind: str, mode: str, predicate: str, verdict: str) -> None:
    schema = TableSchema(table_id="t", columns=[Column.model_validate({"name": "c", "type": kind, "mode": mode})])
    if verdict == "accepted":
        assert rendered(predicate, "duckdb", schema)
    else:
        assert refusal(predicate, "duckdb", schema).kind == verdict


def test_a_name_with_quotes_cannot_leave_its_quotes() -> None:
    name = 'x" OR "1"="1'
    schema = TableSchema(table_id="t", columns=[Column(name=name, type="INTEGER")])
    assert rendered('"x"" OR ""1""=""1" = 5', "duckdb", schema) == '"x"" OR ""1""=""1" = 5'


def test_an_error_repeats_at_most_eighty_characters() -> None:
    for text in ("x" * 500 + " = 1", "f" * 500 + "(1) = 1", "`" + "y" * 500 + "`.`z` = 1", "'" + "s" * 500 + "' 'x'"):
        error = refusal(text)
        assert len(error.details["fragment"]) <= 80
        assert len(error.message) <= 260
        assert "x" * 81 not in str(error.details) + error.message + error.hint


def test_strings_are_decoded_by_the_rules_of_their_dialect() -> None:
    tree = validate_predicate(r"platform = 'a\tb\x41é\'' AND session_id = r'\d'", BIGQUERY_SCHEMA, "bigquery")
    assert [literal.this for literal in tree.find_all(exp.Literal)] == ["a\tbAé'", r"\d"]
    tree = validate_predicate(r"platform = 'a\tb''c'", SCHEMAS["duckdb"], "duckdb")
    assert [literal.this for literal in tree.find_all(exp.Literal)] == [r"a\tb'c"]


def test_no_keyword_list_stands_in_for_a_grammar() -> None:
    """A refused word inside a string or a quoted name is data."""
    assert rendered("platform = 'DROP TABLE x; SELECT 1 -- /* */ UNION'")
    schema = TableSchema(table_id="t", columns=[Column(name="select", type="INT64"), Column(name="drop", type="INT64")])
    assert rendered("`select` = 1 AND drop = 2", schema=schema) == "`select` = 1 AND `drop` = 2"


def test_every_kind_of_refusal_is_in_the_corpora() -> None:
    wanted = {
        "parse_error", "nested_select", "multi_statement", "ddl_or_dml", "cross_table_reference", "unknown_function",
        "unknown_column", "disallowed_node", "too_complex", "not_boolean", "unsupported_literal",
    }  # fmt: skip
    for dialect in DIALECTS:
        assert {kind for kind, _ in rejected(dialect)} == wanted


def test_no_function_that_reads_waits_or_grows_is_on_a_list() -> None:
    """What reads, waits, changes state, tells of the session or grows without bound."""
    forbidden = set(
        """REPEAT LPAD RPAD PRINTF FORMAT RANGE GENERATE_SERIES GENERATE_ARRAY LIST_RESIZE LEVENSHTEIN TO_JSON AGGREGATE
        LIST_AGGREGATE RANDOM RAND UUID GENERATE_UUID SETSEED NEXTVAL CURRVAL SLEEP_MS PG_SLEEP WRITE_LOG ERROR STATS
        VERSION CURRENT_SETTING GETVARIABLE CURRENT_QUERY TXID_CURRENT SESSION_USER CURRENT_USER EXTERNAL_QUERY GETENV
        JSON_SERIALIZE_SQL JSON_DESERIALIZE_SQL QUERY QUERY_TABLE BIGQUERY_QUERY BIGQUERY_EXECUTE COUNT SUM""".split()  # noqa: SIM905
    )
    for rules in RULES.values():
        assert not forbidden & set(rules.functions)
        assert not [f for f in rules.functions if f.startswith(("PG_", "HAS_", "INET_", "READ_", "DUCKDB_"))]


def test_nothing_of_a_refused_text_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for dialect, _, text in REJECTED[:200]:
        refusal(text, dialect)
    refusal("IF foo THEN bar")
    assert not caplog.records


#: Spellings of one interval, and how all of them are written.
INTERVALS: dict[Dialect, dict[str, list[str]]] = {
    "bigquery": {
        "INTERVAL 30 DAY": ["INTERVAL 30 DAY", "interval 30 day", "INTERVAL '30' DAY", 'Interval "30" Day'],
        "INTERVAL -1 MONTH": ["INTERVAL -1 MONTH", "INTERVAL '-1' month", "INTERVAL - 1 MONTH"],
        "INTERVAL 1 MONTH": ["INTERVAL 1\nMONTH", "INTERVAL -'-1' MONTH"],
    },
    "duckdb": {
        "INTERVAL 30 DAY": ["INTERVAL 30 DAY", "interval 30 days", "INTERVAL '30' DAYS", "INTERVAL '30 days'"],
        "INTERVAL 1 MONTH": ["INTERVAL 1 MONTH", "INTERVAL '1 month'", "interval '1' months", "INTERVAL '1 MONTHS'"],
    },
}


@pytest.mark.parametrize(
    ("dialect", "meant", "spelling"),
    [(dialect, m, s) for dialect, all_of in INTERVALS.items() for m, spellings in all_of.items() for s in spellings],
)
def test_an_interval_is_written_in_one_way(dialect: Dialect, meant: str, spelling: str) -> None:
    written = [rendered(f"event_date >= CURRENT_DATE - {each}", dialect) for each in (spelling, meant)]
    assert written[0] == written[1]
    assert rendered(written[0], dialect) == written[0]
    if dialect == "duckdb":
        with duckdb.connect() as connection:
            found = connection.execute(f"SELECT {spelling} = {meant}, {spelling} = INTERVAL 2 DAY").fetchone()
        assert found == (True, False)


def test_intervals_mean_the_same_in_googlesql(googlesql: object) -> None:
    evaluate = GoogleSQL()
    for meant, spellings in INTERVALS["bigquery"].items():
        for spelling in spellings:
            if not spelling.startswith(("INTERVAL -'", "INTERVAL - ")):
                (row,) = evaluate.rows(
                    f"SELECT DATE_ADD(DATE '2026-03-31', {spelling}) = DATE_ADD(DATE '2026-03-31', {meant})"
                )
                assert row == [True], spelling


def documented_types(dialect: Dialect) -> list[str]:
    """What the page on predicates says that a value may be cast to."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "where.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| types of `CAST`")]
    (line,) = (each for each in lines if ("TRY_CAST" in each) == (dialect == "duckdb"))
    return re.findall(r"`([A-Z0-9]+)`", line.split("|")[2])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_type_that_is_documented_can_be_cast_to(dialect: Dialect) -> None:
    types = documented_types(dialect)
    assert {"HUGEINT" if dialect == "duckdb" else "BIGNUMERIC", "DATE"} <= set(types)
    text = TableSchema(table_id="t", columns=[Column(name="x", type="VARCHAR" if dialect == "duckdb" else "STRING")])
    for kind in types:
        written = rendered(f"CAST(x AS {kind}) IS NOT NULL", dialect, text)
        assert rendered(written, dialect, text) == written
        if dialect == "duckdb":
            with duckdb.connect() as connection:
                assert connection.execute(f"SELECT {written} FROM (SELECT CAST(NULL AS VARCHAR) AS x)").fetchone()
