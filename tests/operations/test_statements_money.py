"""What statements cost: never more than was reserved, and what is settled is what was billed; and who is asked."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.counts import count, tell
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Consent, ScanRequest
from agnes_mcp.stand_in import StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]


class Statements:
    """Random statements over the tables of `conftest`, each asked once: BigQuery's cache answers none of them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self, number: int) -> str:
        pick = self._random.choice
        source = pick(
            (
                "sessions AS s",
                "sessions_v AS s",
                "sessions AS s JOIN orders AS o ON o.id = s.amount",
                "sessions AS s LEFT JOIN orders AS o ON o.day = s.event_date",
                "(SELECT * FROM sessions WHERE event_date = '2026-01-02') AS s",
                "sessions AS s JOIN sessions_v AS v ON v.session_id = s.session_id",
            )
        )
        key = pick(("s.country", "LENGTH(s.session_id)", "UPPER(s.country)"))
        value = pick(("COUNT(*)", "COUNT(DISTINCT s.session_id)", "MAX(s.session_id)"))
        day = f"DATE '2026-01-{self._random.randint(1, 30):02}'"
        where = pick(
            ("TRUE", "s.country = 'CZ'", f"s.event_date >= {day}" if "sessions_v AS s" not in source else "TRUE")
        )
        return f"SELECT {key} AS k, {value} AS v, {number} AS n FROM {source} WHERE {where} GROUP BY k ORDER BY k"


@pytest.mark.soak
@pytest.mark.timeout(3_000)
async def test_nothing_bills_more_than_was_reserved(bq: StandIn, open_gateway: OpenGateway) -> None:
    tries, made, billed = count(12, 1_000), Statements(seed=5), 0
    async with open_gateway(scan={"max_daily_bytes_per_user": 2**50}) as gateway:
        for number in range(tries):
            request = ScanRequest(googlesql=made.next(number))
            estimate = await gateway.scans.estimate(ME, request)
            answer = await gateway.scans.scan(ME, request)
            assert answer.bytes_billed <= (estimate.reserve_bytes or 0), request.googlesql
            billed += answer.bytes_billed
        usage = await gateway.usage.today(ME)
    assert usage.quota.daily_bytes_used == billed > 0
    assert usage.quota.daily_bytes_reserved == 0
    assert all(job.maximum_bytes_billed for job in bq.query_jobs())
    tell("random statements", tried=tries, through=len(bq.query_jobs()))


async def test_a_person_is_asked_about_the_statement_that_runs(bq: StandIn, open_gateway: OpenGateway) -> None:
    request = ScanRequest(googlesql="SELECT s.padding, o.id FROM sessions AS s JOIN orders AS o ON o.id = s.amount")
    async with open_gateway(scan={"confirm_above_bytes": 1 * MIB}) as gateway:
        quoted = await gateway.scans.price_scan(ME, request)
        assert quoted is not None
        assert "orders, sessions" in quoted.question
        with pytest.raises(AgnesError) as unasked:
            await gateway.scans.scan(ME, request, consent=Consent())
        answer = await gateway.scans.scan(ME, request, consent=quoted.consent())
    assert unasked.value.kind == "approval_outdated"
    assert answer.row_count == 9
