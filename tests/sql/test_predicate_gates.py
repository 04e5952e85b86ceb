"""Every limit, list and gate of the validator carries weight: with one gone, some predicate is answered differently."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlglot
from sqlglot import exp
from support.predicates import SCHEMAS, accepted, rejected

import agnes_mcp.sql.predicate as predicate
from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import lexemes, nodes, second_reading, validate_predicate
from agnes_mcp.sql.predicate.dialects import RULES
from agnes_mcp.sql.predicate.second_reading import NODES, check_listed, confirm_reading, parse, same
from agnes_mcp.sql.predicate.signatures import read_signatures

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")


def verdict(text: str, dialect: Dialect = "bigquery") -> str:
    try:
        validate_predicate(text, SCHEMAS[dialect], dialect)
    except PredicateError as error:
        return error.kind
    return "accepted"


def nested(opening: str, inner: str, closing: str, times: int) -> str:
    return opening * times + inner + closing * times


AT_A_LIMIT: list[tuple[str, Callable[[int], str], int]] = [
    ("characters", lambda n: "platform = '" + "x" * (n - 15) + "'", 8_190),
    ("tokens", lambda n: "user_id IN (" + ", ".join(["1"] * ((n - 4) // 2)) + ")" + " " * (n % 2), 2_000),
    ("brackets", lambda n: nested("(", "is_paid", ")", n), 16),
    ("type calls", lambda n: nested("DATE(", "event_date", ")", n) + " = event_date", 4),
    ("negations", lambda n: "NOT " * n + "is_paid", 8),
    ("signs", lambda n: "user_id = " + "- " * n + "1", 8),
    ("CASE", lambda n: nested("CASE WHEN ", "is_paid", " THEN TRUE END", n), 8),
    ("a chain of arithmetic", lambda n: "user_id = 1" + " + 1" * n, 100),
    ("a chain of ||", lambda n: "platform = 'x'" + " || 'x'" * n, 100),
    ("digits", lambda n: "amount = " + "1" * n, 40),
    ("a replacement", lambda n: "REPLACE(platform, 'a', '" + "b" * n + "') = 'x'", 64),
]


@pytest.mark.parametrize(("text", "limit"), [case[1:] for case in AT_A_LIMIT], ids=[case[0] for case in AT_A_LIMIT])
def test_a_limit_is_exact(text: Callable[[int], str], limit: int) -> None:
    step = 2 if "IN (" in text(limit) else 1
    beyond = verdict(text(limit + step * (4 if limit > 8_000 else 1)))
    assert verdict(text(limit)) == "accepted"
    assert beyond in ("too_complex", "unsupported_literal")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (lexemes, name)
        for name in (
            "MAX_DEPTH",
            "MAX_TYPE_CALL_DEPTH",
            "MAX_UNARY_RUN",
            "MAX_CASE_DEPTH",
            "MAX_TOKENS",
            "MAX_NUMBER_CHARS",
        )
    ],
)
def test_every_limit_can_be_lowered(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read where it is enforced: at 0 it refuses what was accepted."""
    texts = [
        "(is_paid)",
        "NOT is_paid",
        "CASE WHEN is_paid THEN TRUE END",
        "DATE(event_date) = event_date",
        "amount = 1",
    ]
    assert {verdict(text) for text in texts} == {"accepted"}
    monkeypatch.setattr(module, name, 0)
    assert {"too_complex", "unsupported_literal"} & {verdict(text) for text in texts}


@pytest.mark.parametrize(
    ("gate", "without"),
    [
        ("check_characters", lambda text: text),
        ("check_shape", lambda *_: None),
        ("confirm_reading", lambda *_: None),
    ],
)
def test_without_a_gate_some_predicate_is_answered_differently(
    gate: str, without: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text for kind, text in rejected("bigquery") if kind in ("parse_error", "too_complex")]
    texts += ["(" * 16 + "event_date = DATE '2026-01-31'" + ")" * 16]
    before = [verdict(text) for text in texts]
    monkeypatch.setattr(predicate, gate, without)
    if gate == "check_shape":  # what is let through here is still caught on the rendered text
        monkeypatch.setattr(second_reading, gate, without)
    after = []
    for text in texts:
        try:
            after.append(verdict(text))
        except (RecursionError, AttributeError) as error:
            after.append(type(error).__name__)
    assert after != before


def test_what_the_generator_would_drop_is_refused_and_not_run_without_it() -> None:
    """It takes the numbers of a type out of a cast of BigQuery, out of the tree too where that is no copy."""
    assert verdict("CAST(amount AS NUMERIC(13)) = 1") == "disallowed_node"
    assert verdict("CAST(amount AS NUMERIC) = 1") == "accepted"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_entry_of_a_list_is_needed_by_an_accepted_predicate(dialect: Dialect) -> None:
    rules, corpus = RULES[dialect], " ".join(accepted(dialect)).upper()
    words = set(re.findall(r"[A-Z_][A-Z0-9_]*", corpus))
    calls = set(re.findall(r"([A-Z_][A-Z0-9_]*)\(", corpus))
    assert set(rules.functions) - calls == set()
    assert set(rules.bare_calls) - words == set()
    assert rules.literals - set(re.findall(r"\b([A-Z]+) ['\"]", corpus)) == set()
    assert rules.patterns <= words


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_function_off_the_list_is_refused(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = RULES[dialect]
    corpus = {text: set(re.findall(r"([A-Z_][A-Z0-9_]*)\(", text.upper())) for text in accepted(dialect)}
    for name in rules.functions:
        text = next(text for text, calls in corpus.items() if name in calls)
        fewer = {known: signature for known, signature in rules.functions.items() if known != name}
        with monkeypatch.context() as patch:
            patch.setitem(predicate.RULES, dialect, dataclasses.replace(rules, functions=fewer))
            assert verdict(text, dialect) == "unknown_function", name


def test_every_node_and_argument_on_the_list_occurs_in_an_accepted_predicate() -> None:
    seen: dict[type[exp.Expr], set[str]] = {}
    for dialect in DIALECTS:
        for text in accepted(dialect):
            for node in validate_predicate(text, SCHEMAS[dialect], dialect).walk():
                seen.setdefault(type(node), set()).update(k for k, v in node.args.items() if v not in (None, [], False))
    listed = dict(NODES)
    for rest in second_reading._OF_DIALECT.values():
        for node_type, arguments in rest.items():
            listed[node_type] = listed.get(node_type, frozenset()) | arguments
    assert set(listed) == set(seen)
    for node_type in (exp.DataType, exp.Array, exp.Div, exp.Unnest):  # these come with flags that are always False
        seen[node_type] |= {"nested", "value_constructor", "typed", "safe", "offset"}
    assert {t.__name__: set(a) - seen[t] for t, a in listed.items() if set(a) - seen[t]} == {}


# Given to sqlglot and the walk alone, as if the reader before them had let everything through.
PAST_THE_READER: list[tuple[Dialect, str]] = [
    ("bigquery", "`a` IN (SELECT 1)"),
    ("bigquery", "EXISTS(SELECT 1)"),
    ("bigquery", "@p = 1"),
    ("bigquery", "? = 1"),
    ("bigquery", "@@project_id = 'x'"),
    ("bigquery", "* = 5"),
    ("bigquery", "`a` = b'x'"),
    ("bigquery", "SUM(`a`) OVER () = 1"),
    ("bigquery", "`p`.`d`.LOWER(`a`) = 'x'"),
    ("bigquery", "EXTERNAL_QUERY('c', 'SELECT 1') = 1"),
    ("bigquery", "CAST(`a` AS STRING FORMAT 'x') = 'y'"),
    ("bigquery", "(`a`, `b`) IN ((1, 2))"),
    ("bigquery", "`a` COLLATE 'und:ci' = 'x'"),
    ("bigquery", "ARRAY(SELECT 1)[OFFSET(0)] = 1"),
    ("bigquery", "`a` LIKE ANY ('x', 'y')"),
    ("duckdb", '"a" = $1'),
    ("duckdb", '"a" SIMILAR TO \'x\''),
    ("duckdb", '"a" BETWEEN SYMMETRIC 1 AND 2'),
    ("duckdb", 'LIST_TRANSFORM("a", x -> x) = 1'),
    ("duckdb", "GETVARIABLE('x') = 1"),
    ("duckdb", 'COLUMNS(*) = 1'),
    ("duckdb", '"a" ->> \'$.x\' = \'y\''),
    ("duckdb", '"a" IN UNNEST([1])'),
    ("duckdb", '"a" GLOB \'x\''),
    ("duckdb", '"lower"("a") = 1'),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "text"), PAST_THE_READER)
def test_the_walk_alone_refuses_what_the_reader_would_have(dialect: Dialect, text: str) -> None:
    try:
        tree = parse(text, dialect)
    except sqlglot.errors.SqlglotError:
        return
    with pytest.raises(PredicateError) as caught:
        check_listed(tree.walk(), RULES[dialect], text)
    assert caught.value.kind in ("disallowed_node", "unknown_function")


def test_a_tree_that_sqlglot_reads_otherwise_is_refused() -> None:
    column = exp.Column(this=exp.Identifier(this="a", quoted=True))
    one = exp.Literal(this="1", is_string=False)
    ambiguous = exp.Mul(this=exp.Add(this=column, expression=one), expression=one.copy())  # renders as a + 1 * 1
    with pytest.raises(PredicateError, match="two ways"):
        confirm_reading(ambiguous, RULES["bigquery"], "text")


@pytest.mark.parametrize(
    ("text", "slip"),
    [
        ("is_paid AND is_paid OR is_paid", (" OR ", " AND ")),
        ("platform = 'a'", ("'a'", "'b'")),
        ("platform = 'a'", ("'a'", "'a' OR TRUE")),
        ("user_id = 1", ("1", "1.0")),
        ("user_id = 1", ("1", "'1'")),
        ("session_id = platform", ("`platform`", "`session_id`")),
        ("NOT (is_paid AND is_paid)", ("(", "")),
        ("user_id IN (1, 2)", (", 2", "")),
        ("CAST(user_id AS STRING) = 'a'", ("STRING", "BYTES")),
        ("LOWER(platform) = 'a'", ("LOWER", "UPPER")),
        ("is_paid", ("`is_paid`", "`is_paid` -- x")),
    ],
)
def test_what_is_written_otherwise_than_it_was_read_is_refused(
    text: str, slip: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdict(text) == "accepted"
    monkeypatch.setattr(second_reading, "render", lambda *tree: nodes.render(*tree).replace(*slip))
    assert verdict(text) == "disallowed_node"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tree_is_written_as_sqlglot_writes_it(dialect: Dialect) -> None:
    for text in accepted(dialect):
        tree = validate_predicate(text, SCHEMAS[dialect], dialect)
        assert nodes.render(tree, dialect) == nodes.RENDERED[dialect].generate(tree, comments=False)


def test_a_crash_of_the_second_parser_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise AttributeError("inside sqlglot")

    monkeypatch.setattr(second_reading, "parse", crash)
    assert verdict("is_paid") == "disallowed_node"


def test_a_deep_caller_gets_a_refusal_not_a_recursion_error() -> None:
    text = nested("(", "is_paid", ")", 16)

    def descend(levels: int) -> str:
        return descend(levels - 1) if levels else verdict(text)

    verdicts = {descend(levels) for levels in range(100, 900, 40)}
    assert verdicts <= {"accepted", "too_complex"}


def hostile() -> list[tuple[Dialect, str]]:
    """The slowest shapes known, each as large as the limits allow."""
    shapes: list[tuple[Dialect, str]] = []
    for dialect in DIALECTS:
        names = [*RULES[dialect].functions, "STRUCT", "ARRAY", "ROW", "MAP", "CHAR", "SAFE.f", "CAST", "EXTRACT"]
        for name in names:
            shapes += [(dialect, nested(f"{name}(", "1", ")", n) + " = 1") for n in (4, 16, 200)]
        shapes += [(dialect, nested("[", "1", "]", n) + " = 1") for n in (4, 16, 2_000)]
        shapes += [
            (dialect, " OR ".join(["user_id = 1"] * 498)),
            (dialect, "user_id IN (" + ", ".join(map(str, range(990))) + ")"),
            (dialect, "nope = 1 AND " * 400 + "is_paid"),
            (dialect, "nope(1) AND " * 300 + "is_paid"),
            (dialect, "(" * 8_000),
            (dialect, "'" * 8_191),
            (dialect, "'" + "\\" * 8_190),
            (dialect, "r'" + "a\\'" * 2_700),
            (dialect, "`" * 8_191),
            (dialect, "1" * 8_191),
            (dialect, "a." * 4_000),
            (dialect, "-- " * 2_700),
            (dialect, "NOT " * 2_000),
            (dialect, "CASE WHEN " * 800),
            (dialect, "is_paid AND (" * 16 + "is_paid" + ")" * 16),
            (dialect, "platform = '''" + '"""\'' * 2_000),
        ]
    return shapes


def taken(work: Callable[[], object]) -> float:
    """CPU seconds, the best of three: a collection of what other tests left behind is not the work's."""
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        work()
        best = min(best, time.thread_time() - started)
    return best


def test_the_worst_texts_cost_little_more_than_their_length() -> None:
    """Against the corpus, per predicate: the worst shape at its largest takes about a hundred times as long. Unbounded,
    each of them took between ten thousand times and for ever."""
    corpus = accepted("bigquery")
    ordinary = taken(lambda: [verdict(text) for text in corpus]) / len(corpus)
    slowest = max((taken(lambda d=d, t=t: verdict(t, d)), t[:40]) for d, t in hostile())  # type: ignore[misc]
    assert slowest[0] < 500 * ordinary, slowest[1]


@pytest.mark.parametrize(
    "table", ["NOT A LINE", "F(nonsense) text", "F(value) text\nF(value) text", "f(value) text", "F(value)"]
)
def test_a_table_of_functions_with_a_mistake_does_not_load(table: str) -> None:
    with pytest.raises(ValueError, match=r"F|NOT|f"):
        read_signatures(table)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("`a` = 1", "`A` = 1"),
        ("`a` = 'x'", "`a` = 'X'"),
        ("UPPER(`a`) = 'x'", "LOWER(`a`) = 'x'"),
        ("`a` = 1", "`a` = '1'"),
        ("`a` = 1", "`a` <> 1"),
        ("`a` IN (1, 2)", "`a` IN (1, 2, 3)"),
        ("`a` IN (1, 2)", "`a` IN (2, 1)"),
        ("`a` = 1", "a = 1"),
        ("CAST(`a` AS INT64) = 1", "SAFE_CAST(`a` AS INT64) = 1"),
        ("`a` IS NULL", "NOT `a` IS NULL"),
    ],
)
def test_two_readings_are_the_same_only_letter_by_letter(one: str, other: str) -> None:
    """sqlglot's own `==` takes some of these for one."""
    assert same(parse(one, "bigquery"), parse(one, "bigquery"))
    assert not same(parse(one, "bigquery"), parse(other, "bigquery"))
