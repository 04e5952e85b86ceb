"""Which predicates stay on the shared connection: computed from the tree, not from a list of bad examples."""

from __future__ import annotations

import pytest

from agnes_mcp.models import Column, TableSchema
from agnes_mcp.sql.cost import MAX_PASSES, bound_of, is_bounded
from agnes_mcp.sql.predicate import RULES, validate_predicate

SCHEMA = TableSchema(
    table_id="t",
    columns=[
        Column(name="id", type="BIGINT"),
        Column(name="note", type="VARCHAR"),
        Column(name="other", type="VARCHAR"),
        Column(name="day", type="DATE"),
        Column(name="seen", type="TIMESTAMP WITH TIME ZONE"),
        Column(name="raw", type="BLOB"),
        Column(name="uid", type="UUID"),
        Column(name="ok", type="BOOLEAN"),
        Column(name="tags", type="VARCHAR", mode="REPEATED"),
        Column(name="props", type="JSON"),
        Column(name="big", type="BIGNUM"),
        Column(
            name="inside", type="STRUCT", fields=[Column(name="n", type="INTEGER"), Column(name="s", type="VARCHAR")]
        ),
    ],
)
LONG = "a" * 7500

BOUNDED = [
    "id = 1",
    "id IN (1, 2, 3) AND note = 'x' OR NOT ok",
    "id BETWEEN 1 AND 5 AND note IS NOT NULL AND tags IS NULL AND props IS NULL",
    "day >= CURRENT_DATE - INTERVAL 30 DAY",
    "date_trunc('month', day) = DATE '2024-01-01' AND year(seen) = 2024",
    "strftime(day, '%Y-%m') = '2024-01'",
    "id * 2 + 1 > abs(id) / 3",
    "note LIKE 'abc%'",
    "note LIKE '%abc'",
    "note LIKE '%abc%'",
    "note LIKE 'a_c%'",
    "note LIKE 'a!%c%' ESCAPE '!'",
    "note ILIKE 'abc%'",
    "lower(note) = 'x'",
    "upper(substr(note, 1, 3)) = 'ABC'",
    "trim(note) <> ''",
    "coalesce(note, other, '') = 'x'",
    "CASE WHEN id > 1 THEN note ELSE other END = 'x'",
    "note = other",
    "starts_with(note, other)",
    "contains(note, 'abc')",
    "concat(note, ' ', other) = 'a b'",
    "note || other = 'ab'",
    "replace(note, 'ab', 'c') = 'x'",
    "length(note) > 1000",
    "CAST(note AS DATE) > day",
    "CAST(id AS VARCHAR) = '1'",
    "raw = CAST('x' AS VARCHAR)",
    "uid = '00000000-0000-0000-0000-000000000000'",
    "inside.n > 3 AND inside.s LIKE 'x%'",
    " OR ".join(f"id = {n}" for n in range(400)),
    "note IN (" + ", ".join(f"'value {n}'" for n in range(400)) + ")",
]
UNBOUNDED = [
    "note LIKE '%a%b%'",
    "note LIKE 'a%b%c'",
    "note ILIKE '%a%a%a%a%a%a%a%a%Z'",
    "note LIKE '%a%a' ESCAPE '!'",
    "NOT (id = 1 AND (note ILIKE '%a%b%'))",
    "CASE WHEN note LIKE '%a%b%' THEN 1 ELSE 2 END = 1",
    "note LIKE '%" + "x" * MAX_PASSES + "%'",
    "regexp_matches(note, 'a')",
    "regexp_full_match(lower(note), '(a+)+b')",
    "regexp_replace(note, 'a', 'b') = 'x'",
    "regexp_extract(note, '(a)', 1) = 'a'",
    f"length(concat(note, replace('{LONG}', 'a', '{'B' * 64}'))) = 7",
    "replace(note, 'a', 'bbbbbbbb') = 'x'",
    "concat(note, note, note, note, note) = 'x'",
    "note || note || note || note || note = 'x'",
    "concat_ws(',', note, other, note, other, note) = 'x'",
    "strpos(note, other) > 0",
    "contains(note, other)",
    "string_split(note, ',')[1] = 'a'",
    "len(string_split(note, ',')) > 1",
    "list_contains(tags, 'a')",
    "tags[1] = 'a'",
    "array_length(tags) > 1",
    "json_extract_string(props, '$.a') = '1'",
    "json_valid(note)",
    "CAST(tags AS VARCHAR) = 'x'",
    "CAST(props AS VARCHAR) = 'x'",
    "strip_accents(strip_accents(note)) = 'x'",
    "split_part(note, ',', 2) = 'x'",
    "lower(CAST(raw AS VARCHAR)) = 'x'",
    "big = 5",
    "CAST(big AS VARCHAR) = '5'",
    "big * 2 > inside.n",
    f"strftime(day, '{'%A' * 600}') = 'x'",
    " AND ".join(["contains(note, 'abc')"] * 12),
    f"concat(id, '{LONG}', '{LONG[:500]}', CAST(id AS VARCHAR), note, lower(note)) = 'x'",
]


@pytest.mark.parametrize("where", BOUNDED, ids=lambda where: where[:60])
def test_what_the_row_bounds_stays(where: str) -> None:
    assert is_bounded(validate_predicate(where, SCHEMA, "duckdb"), SCHEMA)


@pytest.mark.parametrize("where", UNBOUNDED, ids=lambda where: where[:60])
def test_what_it_does_not_goes(where: str) -> None:
    assert not is_bounded(validate_predicate(where, SCHEMA, "duckdb"), SCHEMA)


def test_costs_add_up() -> None:
    once, twice = (
        bound_of(validate_predicate(where, SCHEMA, "duckdb"), SCHEMA)
        for where in ("lower(note) = 'x'", "lower(note) = 'x' AND lower(other) = 'y'")
    )
    assert twice.work.per_text == 2 * once.work.per_text
    assert twice.held == once.held  # one after the other


QUOTING = [
    "CAST(note AS INTEGER) = 1",
    "CAST(lower(note) AS DATE) > day",
    "id = note",
    "note = 1",
    "id IN (1, note)",
    "note BETWEEN id AND 5",
    "strptime(note, '%Y') > seen",
    "coalesce(note, 1) = 'x'",
    "CASE WHEN ok THEN note ELSE id END = 1",
    "CASE note WHEN 1 THEN ok ELSE FALSE END",
    "inside.s = inside.n",
    "ok AND NOT (day > CURRENT_DATE OR NOT (CAST(note AS DOUBLE) > 1))",
    "note || other = 1",
]
PLAIN = [
    "note = 'x' AND id = 1",
    "'a' < note AND note <= other",
    "note LIKE '%abc%' OR note ILIKE 'b%'",
    "TRY_CAST(note AS INTEGER) = 1",
    "note IN ('a', 'b') AND note IS NOT NULL",
    "lower(trim(note)) = 'x'",
    "length(note) > 10",
    "coalesce(note, other, '') <> ''",
    "concat(note, id) = 'a1'",
    "CAST(id AS VARCHAR) = note",
    "CAST(id AS DOUBLE) > 1 AND day > DATE '2024-01-01'",
    "CASE WHEN id > 1 THEN note ELSE other END = 'x'",
]


@pytest.mark.parametrize("where", QUOTING)
def test_what_fails_with_a_long_text_goes(where: str) -> None:
    """Only where there may be one: to say of it which text it was takes the square of its zero bytes."""
    long = SCHEMA.model_copy(update={"longest_text": 2**18})
    predicate = validate_predicate(where, SCHEMA, "duckdb")
    assert is_bounded(predicate, SCHEMA)
    assert not is_bounded(predicate, long)


@pytest.mark.parametrize("where", PLAIN)
def test_what_reads_long_texts_as_they_are_stays(where: str) -> None:
    long = SCHEMA.model_copy(update={"longest_text": 2**24})
    assert is_bounded(validate_predicate(where, long, "duckdb"), long)


@pytest.mark.parametrize("name", sorted(RULES["duckdb"].functions))
def test_every_function_is_either_known_or_runs_apart(name: str) -> None:
    """A function that is new to the predicate runs apart until somebody says what it costs."""
    from agnes_mcp.sql.bounds import CALLS

    apart = ("REGEXP_", "JSON_", "LIST_", "ARRAY_", "STRING_SPLIT", "STR_SPLIT")
    assert (name in CALLS) != name.startswith(apart)
