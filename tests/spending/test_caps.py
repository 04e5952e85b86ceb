"""What is told where BigQuery wanted more than was set aside: never to ask again what would be answered the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Priced, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.spending.caps import explain_cap

MIB = 2**20
AGAIN = "Nothing was billed. Call `estimate` again: the table has grown since."


def priced(scan_bytes: int | None) -> Priced:
    return Priced(
        Table(id="t", source_type="bigquery", query_mode="remote"),
        TableSchema(table_id="t", columns=[]),
        ScanRequest(table_id="t"),
        Statement(sql="SELECT 1", dialect="bigquery", columns=[], source_columns=[]),
        Price(scan_bytes=scan_bytes, reserved_bytes=10 * MIB),
    )


def reached(billed: int = 0) -> AgnesError:
    return AgnesError("bytes_billed_cap_reached", "Too much.", AGAIN, {"bytes_billed": billed, "job_id": "j"})


def says(scan_bytes: int) -> Callable[[], Price]:
    return lambda: Price(scan_bytes=scan_bytes, reserved_bytes=scan_bytes)


def test_where_the_estimate_is_another_one_by_now_it_is_asked_again() -> None:
    assert explain_cap(reached(), priced(5 * MIB), says(6 * MIB)).hint == AGAIN


@pytest.mark.parametrize("again", [5 * MIB, 4 * MIB])
@pytest.mark.parametrize("billed", [0, MIB])
def test_where_the_estimate_says_the_same_nobody_is_sent_back_to_it(again: int, billed: int) -> None:
    error = explain_cap(reached(billed), priced(5 * MIB), says(again))
    assert (error.kind, error.message, error.details) == (
        "bytes_billed_cap_reached",
        "Too much.",
        reached(billed).details,
    )
    assert f"still says {again:,} bytes" in error.hint
    assert "Call `estimate`" not in error.hint
    assert error.hint.startswith("Nothing was billed.") == (billed == 0)


def test_an_estimate_that_fails_now_is_the_next_thing_to_try() -> None:
    def fails() -> Price:
        raise AgnesError("estimate_failed", "No.", "Later.")

    assert explain_cap(reached(), priced(5 * MIB), fails).hint == AGAIN


def test_without_a_price_the_cap_is_what_has_to_change() -> None:
    error = explain_cap(reached(), priced(None), says(1))
    assert "api.scan.unknown_price_cap_bytes" in error.hint
    assert "estimate" not in error.hint
