"""Values that Arrow would change come out of a query worker as text; all others as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.instances import ME, settings_of

from agnes_mcp.gateway import Gateway

CHANGED_BY_ARROW = [
    ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"),
    ("'12:30:00+02'::TIMETZ", "12:30:00+02"),
    ("[1::UHUGEINT]", ["1"]),
    ("{'inside': '12:30:00+02'::TIMETZ, 'n': 1}", {"inside": "12:30:00+02", "n": 1}),
    ("MAP {'key': '101'::BIT}", {"key": "101"}),
    ("'101'::BIT", "101"),
    ("['POINT (1 2)'::GEOMETRY]", ["POINT (1 2)"]),
    ("42::VARIANT", "42"),
    ("union_value(num := 2)", "2"),
]


async def test_a_value_that_arrow_would_change_comes_as_text(tmp_path: Path) -> None:
    """Under its own name and type, in its own order, however the statement ends."""
    async with Gateway(settings_of(tmp_path, [])) as gateway:
        for number, (value, answer) in enumerate(CHANGED_BY_ARROW):
            end = ("", ";", " -- a comment", "; -- a comment; and another\n")[number % 4]
            sql = f'SELECT {value} AS v, i AS "my number", i FROM range(3) AS r(i) ORDER BY i DESC LIMIT 2{end}'
            told = await gateway.queries.query(ME, sql)
            assert (told.rows, told.columns) == ([[answer, 2, 2], [answer, 1, 1]], ["v", "my number", "i"])
            assert told.types[0] not in ("VARCHAR", "VARCHAR[]")


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
