"""Bytes into money, rows, a verdict and advice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.models import (
    Aggregate,
    Column,
    Partition,
    Price,
    QuotaLeft,
    Relation,
    ScanRequest,
    Statement,
    TableSchema,
)
from agnes_mcp.spending.prices import advise, cost_usd, guess_result, judge, row_bytes
from agnes_mcp.sql.statement import build_statement

TIB = 2**40
SCHEMA = TableSchema(
    table_id="web_sessions",
    columns=[
        Column(name="event_date", type="DATE"),
        Column(name="country", type="STRING"),
        Column(name="payload", type="BYTES"),
        Column(name="flag", type="BOOL"),
        Column(name="device", type="STRUCT", fields=[Column(name="os", type="STRING"), Column(name="n", type="INT64")]),
    ],
    partition=Partition(column="event_date", type="DAY"),
    clustered_by=["country"],
)


def asked(**request: Any) -> tuple[ScanRequest, Statement]:
    request_ = ScanRequest(table_id="web_sessions", **request)
    relation = Relation("my-project", "my_dataset", "web_sessions")
    return request_, build_statement(request_, SCHEMA, relation, "bigquery", 10**9)


def guess(price: Price, **request: Any) -> tuple[int | None, int | None]:
    request_, statement = asked(**request)
    return guess_result(request_, statement, SCHEMA, price)


def left(day: int = 10**12) -> QuotaLeft:
    return QuotaLeft(
        daily_bytes_used=0, daily_bytes_reserved=0, daily_bytes_limit=day, daily_bytes_left=day, running_scans=0,
        max_concurrent_scans=5, resets_at=datetime.now(UTC), seconds_to_reset=1,
    )  # fmt: skip


def test_the_golden_estimate() -> None:
    """With a price of 5.0 per TiB."""
    price = Price(scan_bytes=4_400_000_000, path="query_job")
    selected = ["event_date", "country"]
    assert guess(price, select=selected, limit=1_000_000) == (1_000_000, 40_000_000)
    assert guess(price, select=selected) == (110_000_000, 4_400_000_000)
    assert cost_usd(4_400_000_000, 5.0) == 0.02


@pytest.mark.parametrize(
    ("scan_bytes", "usd_per_tib", "usd"),
    [
        (None, 6.25, None), (0, 6.25, 0.0), (TIB, 6.25, 6.25), (TIB, 0.0, 0.0), (10 * 2**20, 6.25, 0.0001),
        (1, 6.25, 0.0), (10 * 2**20, 1.1, 0.00001049), (10 * TIB, 5.0, 50.0),
    ],
)  # fmt: skip
def test_null_zero_and_a_number_are_three_things(scan_bytes: int | None, usd_per_tib: float, usd: float | None) -> None:
    assert cost_usd(scan_bytes, usd_per_tib) == usd


def test_a_row_s_bytes_by_type() -> None:
    """At least 1; a STRUCT is its fields; a type with parameters is its type."""
    assert [row_bytes([column]) for column in SCHEMA.columns] == [8, 32, 64, 1, 40]
    others = ("NUMERIC", "JSON", "GEOGRAPHY", "VARCHAR", "VARCHAR(10)", "DECIMAL(38,9)")
    assert [row_bytes([Column(name="x", type=kind)]) for kind in others] == [16, 16, 16, 32, 32, 16]
    assert row_bytes([]) == 1


def test_guesses_where_nothing_can_be_known() -> None:
    unknown = Price(scan_bytes=None, path="query_job")
    assert guess(unknown, select=["flag"]) == (None, None)
    assert guess(unknown, select=["flag"], limit=7) == (7, 7)
    assert guess(Price(scan_bytes=100, path="query_job"), aggregates=[Aggregate(function="count")]) == (1, None)
    assert guess(Price(scan_bytes=100, path="query_job"), group_by=["country"]) == (None, None)
    assert guess(Price(scan_bytes=0, path="query_job"), select=["flag"], limit=7) == (0, 0)


def test_a_local_table_s_rows_come_from_its_metadata() -> None:
    """0 is served from files, and costs nothing."""
    request, statement = asked(select=["flag"], limit=500)
    local = SCHEMA.model_copy(update={"rows": 200})
    price = Price(scan_bytes=0, path="local")
    assert guess_result(request, statement, local, price) == (200, 200)
    assert cost_usd(price.scan_bytes, 6.25) == 0.0


@pytest.mark.parametrize(
    ("scan_bytes", "reserve", "left_today", "verdict"),
    [
        (0, 0, 0, "ok"),
        (1_000, 1_000, 1_000, "ok"),
        (1_000, 1_001, 1_000, "over_daily_quota"),
        (5_001, 5_001, 10**6, "needs_approval"),
        (5_000, 5_000, 10**6, "ok"),
        (10_001, 10_001, 10**6, "over_scan_cap"),
        (10_000, 10_000, 10**6, "needs_approval"),
        (10_001, 10_001, 0, "over_scan_cap"),
    ],
)
def test_the_verdict_at_each_edge(scan_bytes: int, reserve: int, left_today: int, verdict: str) -> None:
    settings = ScanSettings(max_scan_bytes=10_000, confirm_above_bytes=5_000)
    price = Price(scan_bytes=scan_bytes, reserved_bytes=reserve, path="query_job")
    assert judge(price, settings, left(left_today)) == verdict


def advice(price: Price | None = None, **request: Any) -> str:
    request_, statement = asked(**request)
    return "\n".join(advise(request_, statement, SCHEMA, price or Price(scan_bytes=10**9, path="query_job"), "ok"))


def test_advice_names_what_would_help() -> None:
    whole = advice()
    assert "No condition on event_date" in whole
    assert "payload" in whole
    assert "country, by which the table is clustered" not in whole
    assert "Neither where nor limit" in whole
    filtered = advice(select=["flag"], where="event_date > DATE '2026-01-01' AND flag", limit=5)
    assert "No condition on event_date" not in filtered
    assert "does not lower the price" in filtered
    assert "clustered" in filtered
    clustered = advice(select=["flag"], where="country = 'CZ' AND event_date > DATE '2026-01-01'")
    assert "may be lower than this estimate" in clustered
    counted = advice(aggregates=[Aggregate(function="count")], where="event_date > DATE '2026-01-01' AND country = 'x'")
    assert counted.count("\n") == 0


def test_what_may_be_read_twice_is_agreed_to_and_said() -> None:
    once = Price(scan_bytes=1_000, reserved_bytes=10_000, path="direct_read")
    twice = once.model_copy(update={"repeat_bytes": 1_000, "reserved_bytes": 11_000})
    capped = ScanSettings(max_scan_bytes=1_500, confirm_above_bytes=1_500)
    assert (judge(once, capped, left()), judge(twice, capped, left())) == ("ok", "over_scan_cap")
    asking = ScanSettings(max_scan_bytes=9_000, confirm_above_bytes=1_500)
    assert (judge(once, asking, left()), judge(twice, asking, left())) == ("ok", "needs_approval")
    assert "read again as the stream" in advice(twice)
    assert "read again" not in advice(once)


def test_advice_is_not_taken_in_by_a_column_whose_name_holds_the_partition_s() -> None:
    """A condition on event_date_raw, or on the text 'event_date', filters no partition."""
    schema = SCHEMA.model_copy(update={"columns": [*SCHEMA.columns, Column(name="event_date_raw", type="STRING")]})
    request = ScanRequest(table_id="web_sessions", select=["flag"], where="event_date_raw = 'event_date'")
    statement = build_statement(request, schema, Relation("my-project", "d", "t"), "bigquery", 10**9)
    said = advise(request, statement, schema, Price(scan_bytes=10**9, path="query_job"), "ok")
    assert any("No condition on event_date" in line for line in said)
