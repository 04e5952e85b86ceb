"""What an admitted statement is told to save, and what BigQuery's complaints about one become."""

from __future__ import annotations

import pytest
from support.warehouse import NAMES

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import admit
from agnes_mcp.sql.warehouse.advice import advise
from agnes_mcp.sql.warehouse.complaints import explain


def said(text: str) -> str:
    return " | ".join(advise(admit(text, NAMES)))


TOLD = [
    ("SELECT user_id FROM sessions", "sessions: no condition compares event_date"),
    ("SELECT user_id FROM sessions s", "sessions (s): no condition compares event_date"),
    ("SELECT user_id FROM sessions WHERE event_date >= DATE '2026-01-01' OR is_paid", "event_date"),
    ("SELECT user_id FROM sessions WHERE event_date = local_at", "event_date"),
    ("SELECT a.user_id FROM sessions a JOIN sessions b USING (user_id) WHERE a.event_date = '2026-01-01'", "(b)"),
    ("SELECT url FROM hits", "_PARTITIONDATE"),
    ("SELECT event_name FROM events", "_TABLE_SUFFIX"),
    ("SELECT * FROM sessions WHERE event_date = '2026-01-01'", "all of its"),
    ("SELECT u.email FROM users u, products p", "u and p are joined without a condition"),
    ("SELECT u.email FROM users u CROSS JOIN products p WHERE u.vip", "u and p are joined without a condition"),
    ("SELECT user_id FROM sessions WHERE event_date = '2026-01-01'", "clustered by Country_Code"),
]


@pytest.mark.parametrize(("text", "part"), TOLD)
def test_what_costs_is_told(text: str, part: str) -> None:
    assert part in said(text)


SILENT = [
    "SELECT email FROM users",
    "SELECT user_id FROM sessions WHERE event_date >= DATE '2026-01-01' AND country_code = 'CZ'",
    "SELECT user_id FROM sessions s WHERE (s.event_date BETWEEN '2026-01-01' AND '2026-01-31') AND country_code = 'CZ'",
    "SELECT user_id FROM sessions WHERE event_date IN ('2026-01-01') AND country_code = 'CZ'",
    "SELECT user_id FROM sessions WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL 7 DAY) AND country_code = 'CZ'",
    "SELECT total FROM orders WHERE DATE(created_at) = '2026-01-01' AND user_id = 1",
    "WITH s AS (SELECT * FROM sessions) SELECT user_id FROM s WHERE event_date = '2026-01-01' AND country_code = 'CZ'",
    "SELECT u.email FROM users u, products p WHERE p.product_id = u.user_id",
    "SELECT u.email FROM users u CROSS JOIN (SELECT MAX(price) AS most FROM products) AS p",
    "SELECT s.user_id FROM sessions s, s.items i WHERE event_date = '2026-01-01' AND country_code = 'CZ'",
    "SELECT url FROM hits WHERE _PARTITIONTIME > TIMESTAMP '2026-01-01'",
    "SELECT event_name FROM events WHERE _TABLE_SUFFIX >= '20260101'",
]


@pytest.mark.parametrize("text", SILENT)
def test_what_is_narrow_is_not_advised(text: str) -> None:
    assert said(text) == ""


def complaint(message: str, text: str) -> AgnesError:
    raw = AgnesError(
        "bq_bad_request", f"BigQuery answered while estimating the cost: {message}", "hint", {"reason": "x"}
    )
    return explain(raw, admit(text, NAMES), text)


def test_a_column_is_told_with_its_place_and_the_nearest() -> None:
    text = "SELECT\n  t.emial\nFROM (SELECT PARSE_JSON('{}') AS t, email FROM users)"
    sql = admit(text, NAMES).sql
    at = sql.index("`emial`") + 1
    error = complaint(f"Unrecognized name: emial; Did you mean email? at [1:{at}]", text)
    assert error.kind == "unknown_column"
    assert error.details["position"] == text.index("emial")
    assert error.details["nearest"] == ["email"]
    assert "[1:" not in error.message


def test_a_type_is_told_with_a_next_step() -> None:
    text = "SELECT SUM(email) FROM users"
    at = admit(text, NAMES).sql.index("SUM") + 1
    error = complaint(f"No matching signature for aggregate function SUM for argument types: STRING. at [1:{at}]", text)
    assert error.kind == "bq_bad_request"
    assert error.details["fragment"] == "SUM"
    assert error.details["position"] == 7
    assert "CAST" in error.hint


def test_a_table_behind_a_view_is_not_named() -> None:
    text = "SELECT total FROM orders"
    hidden = complaint("Access Denied: Table my-project:hr.salaries: User does not have permission", text)
    assert "salaries" not in f"{hidden.message} {hidden.hint}"
    own = complaint("Table `my-project.shop.orders` is being altered", text)
    assert "orders" in own.message


def test_other_errors_are_left_as_they_are() -> None:
    error = AgnesError("bq_forbidden", "no", "ask", {})
    assert explain(error, admit("SELECT 1 FROM users", NAMES), "SELECT 1 FROM users") is error
