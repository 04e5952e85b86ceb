"""Values that Arrow would change on their way out of a query worker are refused, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.instances import ME, settings_of

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway


@pytest.mark.parametrize(
    "value",
    [
        "340282366920938463463374607431768211455::UHUGEINT",
        "'12:30:00+02'::TIMETZ",
        "[1::UHUGEINT]",
        "{'inside': '12:30:00+02'::TIMETZ}",
        "MAP {'key': '101'::BIT}",
    ],
)
async def test_a_value_that_would_be_changed_is_refused(tmp_path: Path, value: str) -> None:
    async with Gateway(settings_of(tmp_path, [])) as gateway:
        with pytest.raises(AgnesError) as refused:
            await gateway.queries.query(ME, f"SELECT {value} AS v")
        told = await gateway.queries.query(ME, f"SELECT CAST({value} AS VARCHAR) AS v")
    assert refused.value.kind == "query_failed"
    assert "CAST" in refused.value.hint
    assert told.row_count == 1


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("TIMESTAMPTZ '2026-01-01 00:00:00+02'", "2025-12-31T22:00:00Z"),
        ("{'UHUGEINT': 1}", {"UHUGEINT": 1}),
        ("sum(5::BIGINT)", 5),
        ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"),
    ],
)
async def test_what_arrow_carries_whole_comes_out(tmp_path: Path, value: str, answer: object) -> None:
    async with Gateway(settings_of(tmp_path, [])) as gateway:
        assert (await gateway.queries.query(ME, f"SELECT {value} AS v")).rows == [[answer]]
