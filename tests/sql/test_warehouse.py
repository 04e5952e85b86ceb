"""What is admitted runs over granted places only, in one spelling; what is refused says why and what next."""

from __future__ import annotations

import threading
import time

import pytest
from support.warehouse import GRANTED, LOCAL, NAMES, WITHHELD, PrincipalNames, accepted, place, rejected

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import Admitted, admit
from agnes_mcp.sql.warehouse import limits as bounds

ACCEPTED, REJECTED = accepted(), rejected()
EVERYTHING = PrincipalNames([*GRANTED, *WITHHELD, *LOCAL])


def verdict(text: str, names: PrincipalNames = NAMES) -> str:
    try:
        admit(text, names)
    except AgnesError as error:
        return error.kind
    return "accepted"


def refusal(text: str) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        admit(text, NAMES)
    return caught.value


def test_the_corpora_are_large() -> None:
    assert len(set(ACCEPTED)) >= 200
    assert len(set(REJECTED)) >= 300


def test_accepted_statements_are_admitted_over_granted_places() -> None:
    granted = {p.path for p in GRANTED}
    outside = {}
    for text in ACCEPTED:
        tables = {p.path for p in admit(text, NAMES).tables}
        if not tables <= granted:
            outside[text] = tables
    assert outside == {}


def test_an_admitted_statement_is_its_own_spelling() -> None:
    """Admitted again, the rendered text renders to itself: nothing is read in a second way."""
    changed = {}
    for text in ACCEPTED:
        once = admit(text, NAMES).sql
        if (twice := admit(once, NAMES).sql) != once:
            changed[once] = twice
    assert changed == {}


def test_rejected_statements_are_refused_for_their_reason() -> None:
    told = {text: (verdict(text), kind) for kind, text in REJECTED}
    assert {text: pair for text, pair in told.items() if pair[0] != pair[1]} == {}


def test_a_refusal_has_a_next_step_and_shows_little() -> None:
    for _, text in REJECTED:
        error = refusal(text)
        assert error.hint
        assert len(error.details["fragment"]) <= 80
        assert 0 <= error.details["position"] <= len(text)
        assert "\ue000" not in f"{error.message} {error.hint} {error.details}"


def test_what_may_not_be_read_is_told_like_what_is_not_there() -> None:
    for withheld in WITHHELD:
        for name in (withheld.table_id, f"{withheld.dataset}.{withheld.table}", withheld.path):
            there = refusal(f"SELECT * FROM {name.replace('my-project', '`my-project`')}")
            nowhere = PrincipalNames([*GRANTED, *LOCAL])
            assert nowhere.find(tuple(name.split("."))) is None
            missing = refusal("SELECT * FROM " + name.replace("my-project", "`my-project`") + " AS x")
            assert (there.kind, there.message, there.hint) == (missing.kind, missing.message, missing.hint)
            assert withheld.table_id not in there.hint


def test_a_refusal_names_no_withheld_column() -> None:
    error = refusal("SELECT salary FROM users")
    assert error.kind == "unknown_column"
    assert error.details["nearest"] == []


SAME = [
    ("SELECT user_id FROM users", "select   USER_ID as user_id from\n`shop`.`Users` as USERS"),
    ("SELECT u.email FROM users AS u", "SELECT U.Email AS email FROM my-project.shop.Users u;"),
    ("SELECT 1 FROM users u JOIN orders o ON TRUE", "SELECT 1 FROM users AS u INNER JOIN orders AS o ON TRUE"),
    ("SELECT 1 FROM users u LEFT JOIN orders o ON TRUE", "SELECT 1 FROM users u LEFT OUTER JOIN shop.orders o ON true"),
    ("SELECT 1 FROM users a, users b", "SELECT 1 FROM users a CROSS JOIN users AS B"),
    ("SELECT email FROM users ORDER BY email", "SELECT email FROM users ORDER BY email ASC NULLS FIRST"),
    ("SELECT email FROM users WHERE user_id <> 1", "SELECT email FROM users WHERE user_id != 01"),
    ("SELECT 'a', 1.0, 1e3", "SELECT \"a\", 1., 1E3"),
    ("SELECT CURRENT_DATE()", "SELECT current_date"),
    ("SELECT DATE '2026-01-01'", "SELECT CAST('2026-01-01' AS DATE)"),
    ("SELECT sum(total) FROM orders", "SELECT SUM(total) FROM orders"),
    ("WITH a AS (SELECT 1 AS x) SELECT x FROM a", "WITH A AS (SELECT 1 AS x) SELECT x FROM `a` AS A"),
    ("SELECT s.session_id FROM sessions s, s.tags AS t", "SELECT s.session_id FROM sessions s, UNNEST(s.tags) AS T"),
    ("SELECT ((email)) FROM users", "SELECT (email) FROM users"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_question_has_one_digest(one: str, other: str) -> None:
    assert admit(one, NAMES).sql == admit(other, NAMES).sql
    assert admit(one, NAMES).digest == admit(other, NAMES).digest


DIFFERENT = [
    ("SELECT email FROM users", "SELECT Email FROM users"),  # the answer's column is called otherwise
    ("SELECT STRUCT(email) FROM users", "SELECT STRUCT(EMAIL) FROM users"),
    ("SELECT 'a'", "SELECT 'A'"),
    ("SELECT 1 LIMIT 1", "SELECT 1 LIMIT 2"),
    ("SELECT email FROM users ORDER BY 1", "SELECT email FROM users ORDER BY 1 NULLS LAST"),
    ("SELECT CAST(total AS NUMERIC(10, 2)) FROM orders", "SELECT CAST(total AS NUMERIC) FROM orders"),
    ("SELECT FORMAT_DATE('%Y-%m-%d', event_date) FROM sessions", "SELECT FORMAT_DATE('%F', event_date) FROM sessions"),
    ("SELECT LOG10(user_id) FROM users", "SELECT LOG(user_id, 10) FROM users"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_questions_have_two_digests(one: str, other: str) -> None:
    assert admit(one, NAMES).digest != admit(other, NAMES).digest


WRITTEN = [
    ("SELECT CAST(total AS NUMERIC(10, 2)) FROM orders", "CAST(`total` AS NUMERIC(10, 2))"),
    ("SELECT LOG10(user_id) FROM users", "LOG10(`user_id`)"),
    ("SELECT FORMAT_DATE('%Y-%m-%d', event_date) FROM sessions", "FORMAT_DATE('%Y-%m-%d', `event_date`)"),
    ("SELECT STRPOS(name, 'x'), OCTET_LENGTH(name) FROM users", "STRPOS(`name`, 'x'), OCTET_LENGTH(`name`)"),
    ("SELECT SPLIT(name) FROM users", "SPLIT(`name`)"),
    ("SELECT EXTRACT(HOUR FROM started_at AT TIME ZONE 'UTC') FROM sessions", "DATETIME(`started_at`, 'UTC')"),
    ("SELECT country_code FROM sessions", "`Country_Code` AS `country_code`"),
    ("SELECT 1 FROM orders AS o", "FROM `my-project.shop.orders` AS `o`"),
    ("SELECT SUM(total) OVER (ORDER BY user_id ROWS 2 PRECEDING) FROM orders", "BETWEEN 2 PRECEDING AND CURRENT ROW"),
    ("SELECT * FROM sessions s, s.items i", "CROSS JOIN UNNEST(`s`.`items`) AS `i`"),
    ("SELECT 1 FROM users ANTI JOIN orders USING (user_id)", "`my-project.shop.Users` AS `anti` JOIN"),
    ("SELECT a.b.c FROM (SELECT PARSE_JSON('{}') AS a)", "`a`.`b`.`c`"),
]


@pytest.mark.parametrize(("text", "part"), WRITTEN)
def test_a_statement_is_written_as_it_was_meant(text: str, part: str) -> None:
    assert part in admit(text, NAMES).sql


def facts(text: str) -> Admitted:
    return admit(text, NAMES)


def test_columns_are_known_table_by_table() -> None:
    joined = facts("SELECT email, SUM(total) FROM users JOIN orders USING (user_id) WHERE vip GROUP BY email")
    assert joined.columns_of("users") == ("email", "user_id", "vip")
    assert joined.columns_of("orders") == ("total", "user_id")
    pruned = facts("WITH a AS (SELECT * FROM users) SELECT email FROM a")
    assert pruned.columns_of("users") == ("email",)
    whole = facts("SELECT * FROM products")
    assert whole.columns_of("products") == ("category", "name", "price", "product_id")
    assert whole.columns == ("product_id", "name", "category", "price")
    assert facts("SELECT device.os, 1 FROM sessions").columns == ("os", "f1_")


def test_the_outermost_limit_alone_bounds_the_answer() -> None:
    assert facts("SELECT email FROM users LIMIT 7").limit == 7
    assert facts("(SELECT email FROM users LIMIT 7)").limit == 7
    assert facts("SELECT email FROM (SELECT email FROM users LIMIT 7)").limit is None
    assert facts("SELECT email FROM users UNION ALL (SELECT email FROM users LIMIT 7)").limit is None


def test_what_changes_by_itself_is_known() -> None:
    assert facts("SELECT * FROM orders WHERE created_on = CURRENT_DATE").changing
    assert facts("SELECT * FROM orders TABLESAMPLE SYSTEM (1 PERCENT)").changing
    assert not facts("SELECT * FROM orders FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'").changing


def test_a_name_of_another_table_or_column_is_told_near() -> None:
    assert "email" in refusal("SELECT emial FROM users").hint
    assert "orders" in refusal("SELECT * FROM ordres").hint
    assert "COUNTIF" in refusal("SELECT COUNT_IF(vip) FROM users").hint
    assert "APPROX_QUANTILES" in refusal("SELECT MEDIAN(total) FROM orders").hint
    assert "QUALIFY" in refusal("SELECT RANK() OVER (ORDER BY total) AS r FROM orders WHERE r < 5").hint
    mixed = refusal("SELECT * FROM orders JOIN weather USING (user_id)")
    assert 'fetch(table_id="orders", name="snap_orders")' in mixed.hint


def test_a_column_called_like_the_table_is_told_of_by_its_spelling() -> None:
    names = PrincipalNames([place("orders", "d", "orders", "orders STRING, id INT64")])
    assert "`orders`.`id`" in admit("SELECT orders.id FROM orders", names).sql


def test_positions_are_those_of_the_callers_text() -> None:
    text = "SELECT  user_id,\n\tnope\nFROM   `my-project`.shop.`Users`"
    assert refusal(text).details["position"] == text.index("nope")
    assert refusal(text).details["fragment"] == "nope"


AT_A_LIMIT = [
    ("characters", lambda n: "SELECT '" + "x" * (n - 9) + "'", bounds.MAX_CHARS),
    ("brackets", lambda n: "SELECT " + "(" * n + "1" + ")" * n, bounds.MAX_DEPTH),
    ("CASE", lambda n: "SELECT " + "CASE WHEN TRUE THEN " * n + "1" + " END" * n, bounds.MAX_DEPTH),
    ("subqueries", lambda n: "SELECT * FROM (" * n + "SELECT 1" + ")" * n, bounds.MAX_DEPTH),
    ("calls", lambda n: "SELECT " + "ABS(" * n + "1" + ")" * n, bounds.MAX_DEPTH),
    ("DATE(", lambda n: "SELECT " + "DATE(" * n + "CURRENT_DATE" + ")" * n, bounds.MAX_DOUBLING_DEPTH),
    ("STRUCT(", lambda n: "SELECT " + "STRUCT(" * n + "1" + ")" * n, bounds.MAX_DOUBLING_DEPTH),
    ("SAFE.f(", lambda n: "SELECT " + "SAFE.ABS(" * n + "1" + ")" * n, bounds.MAX_DOUBLING_DEPTH),
    ("a run of NOT", lambda n: "SELECT " + "NOT " * n + "TRUE", bounds.MAX_UNARY_RUN),
    ("a chain", lambda n: "SELECT 1" + " + 1" * n, bounds.MAX_CHAIN),
    ("a set operation", lambda n: "SELECT 1" + " UNION ALL SELECT 1" * n, bounds.MAX_SET_OPERATIONS),
    ("tokens", lambda n: "SELECT 1 IN (" + ", ".join(["1"] * ((n - 4) // 2)) + ")" + ";" * (n % 2), bounds.MAX_TOKENS),
    ("steps", lambda n: f"SELECT * FROM UNNEST(GENERATE_ARRAY(1, {n}))", bounds.MAX_STEPS),
]  # fmt: skip


@pytest.mark.parametrize(("text", "limit"), [case[1:] for case in AT_A_LIMIT], ids=[case[0] for case in AT_A_LIMIT])
def test_a_limit_holds_on_a_threads_stack_and_in_time(text, limit) -> None:  # type: ignore[no-untyped-def]
    """At the limit a statement is read, in a thread as the server reads it; beyond it, refused before any parser."""
    told: list[str] = []

    def read() -> None:
        started = time.thread_time()
        told.append(verdict(text(limit)))
        told.append(verdict(text(limit + 4)))
        told.append("slow" if time.thread_time() - started > 10 else "in time")

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert told == ["accepted", "too_complex", "in time"]
