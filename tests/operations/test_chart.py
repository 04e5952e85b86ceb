"""Charts of local rows, snapshots and remote aggregates: what is drawn, what is read, what it bills, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.instances import ME
from support.waiting import until

from agnes_mcp.charts.encodings import ChartRequest
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Consent, Principal, ScanRequest
from agnes_mcp.operations import chart
from agnes_mcp.operations.chart import ChartSource, Drawn
from agnes_mcp.snapshots import charts
from agnes_mcp.stand_in import StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
BY_COUNTRY = ChartRequest("bar", "country", "sum(amount)")
SESSIONS = ChartSource(table_id="sessions")


async def refusal(call: Any) -> AgnesError:
    with pytest.raises(AgnesError) as refused:
        await call
    return refused.value


def heights(spec: dict[str, Any]) -> dict[str, float]:
    return {row["x"]: row["y"] for row in spec["data"]["values"]}


async def test_rows_of_a_select_are_drawn(settings: Settings) -> None:
    sql = "SELECT country, amount FROM orders WHERE country IS NOT NULL"
    async with Gateway(settings) as gateway:
        drawn = await gateway.charts.draw(ME, ChartSource(sql=sql), BY_COUNTRY)
        asked = "SELECT country, sum(amount) AS y FROM orders WHERE country IS NOT NULL GROUP BY ALL"
        summed = await gateway.queries.query(ME, asked)
        spec = json.loads(await gateway.charts.spec(ME, id_of(drawn)))
    assert heights(spec) == {country: float(amount) for country, amount in summed.rows}
    assert drawn.answer.tables == ["orders"]
    assert drawn.answer.bytes_billed == 0
    assert drawn.picture.content.startswith(b"\x89PNG")


async def test_a_snapshots_chart_reads_its_columns_and_goes_with_it(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="mine")
        drawn = await gateway.charts.draw(ME, ChartSource(snapshot="mine"), BY_COUNTRY)
        chart_id = id_of(drawn)
        assert len(heights(json.loads(await gateway.charts.spec(ME, chart_id)))) == 3
        assert (await refusal(gateway.charts.spec(Principal("other"), chart_id))).kind == "resource_not_found"
        await gateway.snapshots.remove(ME, "mine")
        assert (await refusal(gateway.charts.spec(ME, chart_id))).kind == "resource_not_found"
        assert (await refusal(gateway.charts.draw(ME, ChartSource(snapshot="mine"), BY_COUNTRY))).kind == (
            "snapshot_not_found"
        )


def id_of(drawn: Drawn) -> str:
    assert drawn.answer.spec is not None
    return drawn.answer.spec.rsplit("/", 1)[1]


async def test_charts_outlive_the_process_and_go_with_their_snapshot(settings: Settings) -> None:
    """Dropped, pruned or swept: a new snapshot of the old name brings no old chart back."""
    ids: dict[str, str] = {}
    sql = ChartSource(sql="SELECT country, amount FROM dropped WHERE EXISTS (FROM pruned)")
    async with Gateway(settings) as gateway:
        for name in ("dropped", "pruned"):
            await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name=name)
            ids[name] = id_of(await gateway.charts.draw(ME, ChartSource(snapshot=name), BY_COUNTRY))
        ids["both"] = id_of(await gateway.charts.draw(ME, sql, BY_COUNTRY))
        table = ChartSource(sql="SELECT country, amount FROM orders")
        ids["none"] = id_of(await gateway.charts.draw(ME, table, BY_COUNTRY))
        before = await gateway.snapshots.disk_space(ME)
    async with Gateway(settings) as gateway:
        for chart_id in ids.values():
            assert len(heights(json.loads(await gateway.charts.spec(ME, chart_id)))) == 3
            assert (await refusal(gateway.charts.spec(Principal("other"), chart_id))).kind == "resource_not_found"
        await gateway.snapshots.remove(ME, "dropped")
        await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="dropped", force=True)
        for name in ("dropped", "both"):
            assert (await refusal(gateway.charts.spec(ME, ids[name]))).kind == "resource_not_found"
        assert await gateway.charts.spec(ME, ids["pruned"])
        await gateway.snapshots.clear_out(ME, larger_than="1k")
        assert (await refusal(gateway.charts.spec(ME, ids["pruned"]))).kind == "resource_not_found"
        assert await gateway.charts.spec(ME, ids["none"])
        after = await gateway.snapshots.disk_space(ME)
    assert (before.chart_count, after.chart_count) == (4, 1)
    assert before.used_bytes > after.used_bytes > 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"spec": 1}', b"[]"])
async def test_a_chart_that_was_left_half_is_none(settings: Settings, content: bytes) -> None:
    source, request = ChartSource(sql="SELECT 'a' AS g, 1 AS n"), ChartRequest("bar", "g", "n")
    async with Gateway(settings) as gateway:
        chart_id = id_of(await gateway.charts.draw(ME, source, request))
        (file,) = settings.data_dir.rglob(f"{chart_id}.json")
        assert file.stat().st_mode & 0o077 == 0
        file.write_bytes(content)
        for asked in (chart_id, "../../books/books", "0" * 16):
            assert (await refusal(gateway.charts.spec(ME, asked))).kind == "resource_not_found"


async def test_a_picture_leaves_also_where_it_cannot_be_kept(settings: Settings) -> None:
    settings.snapshots.min_free_gb = 10**9
    async with Gateway(settings) as gateway:
        drawn = await gateway.charts.draw(ME, ChartSource(sql="SELECT 'a' AS g, 1 AS n"), ChartRequest("bar", "g", "n"))
    assert drawn.answer.spec is None
    assert "is not kept" in drawn.answer.words[-1]
    assert drawn.picture.content.startswith(b"\x89PNG")


async def test_only_the_newest_charts_are_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "KEPT_CHARTS", 1)
    source, request = ChartSource(sql="SELECT 'a' AS g, 1 AS n"), ChartRequest("bar", "g", "n")
    async with Gateway(settings) as gateway:
        first, second = [id_of(await gateway.charts.draw(ME, source, request)) for _ in range(2)]
        assert await gateway.charts.spec(ME, second)
        assert (await refusal(gateway.charts.spec(ME, first))).kind == "resource_not_found"


async def test_a_remote_table_is_grouped_where_it_is(bq: StandIn, open_gateway: OpenGateway) -> None:
    """One job, whose groups are drawn; its bytes are billed, charged and audited as a scan's."""
    async with open_gateway() as gateway:
        drawn = await gateway.charts.draw(ME, SESSIONS, BY_COUNTRY)
        usage = await gateway.usage.today(ME)
    (job,) = bq.query_jobs()
    assert "GROUP BY" in job.sql
    assert job.labels["tool"] == "chart"
    expected = {"CZ": 0, "DE": 1, "SK": 2}
    sums = dict.fromkeys(expected, 0)
    for number in range(300_000):
        sums[{0: "CZ", 1: "DE"}.get(number % 4, "SK")] += number
    assert heights(drawn.chart.spec) == sums
    assert drawn.answer.bytes_billed == 10 * MIB == usage.quota.daily_bytes_used


@pytest.mark.parametrize(
    ("request_", "channel"),
    [
        (ChartRequest("line", "week(event_date)"), "y"),
        (ChartRequest("histogram", "amount"), "y"),
        (ChartRequest("heatmap", "weekday(event_date)", "country"), "color"),
        (ChartRequest("bar", "country", "count()", color="month(event_date)"), "y"),
    ],
    ids=str,
)
async def test_counts_of_groups_are_counts_of_rows(
    bq: StandIn, open_gateway: OpenGateway, request_: ChartRequest, channel: str
) -> None:
    """Folded again by weeks and bins, every row is still counted once; and the axis says so."""
    async with open_gateway() as gateway:
        where = "amount < 3000"
        drawn = await gateway.charts.draw(ME, ChartSource(table_id="sessions", where=where), request_)
    assert sum(row[channel] for row in drawn.chart.spec["data"]["values"]) == 3000
    assert drawn.chart.spec["encoding"][channel]["title"] == "count"


NOT_IN_TWO_STEPS = [
    ChartRequest("line", "month(event_date)", "avg(amount)"),
    ChartRequest("bar", "country", "median(amount)"),
    ChartRequest("point", "amount", "amount"),
    ChartRequest("box", "country", "amount"),
    ChartRequest("bar", "country", "amount"),
    ChartRequest("bar", "padding_", "count()"),
]


@pytest.mark.parametrize("request_", NOT_IN_TWO_STEPS, ids=str)
async def test_what_a_table_cannot_fold_is_refused_before_it_bills(
    bq: StandIn, open_gateway: OpenGateway, request_: ChartRequest
) -> None:
    async with open_gateway() as gateway:
        error = await refusal(gateway.charts.draw(ME, SESSIONS, request_))
    assert error.kind in ("invalid_argument", "unknown_column")
    assert bq.query_jobs() == []


async def test_an_average_by_category_is_the_tables_own(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        drawn = await gateway.charts.draw(ME, SESSIONS, ChartRequest("bar", "country", "avg(amount)"))
    assert heights(drawn.chart.spec)["CZ"] == pytest.approx(149_998)


async def test_a_costly_aggregate_needs_the_yes_of_a_person(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(scan={"confirm_above_bytes": MIB}) as gateway:
        quote = await gateway.charts.price_chart(ME, SESSIONS, BY_COUNTRY)
        assert quote is not None
        refused = await refusal(gateway.charts.draw(ME, SESSIONS, BY_COUNTRY, consent=Consent()))
        assert refused.kind == "approval_outdated"
        assert bq.query_jobs() == []
        drawn = await gateway.charts.draw(ME, SESSIONS, BY_COUNTRY, consent=quote.consent())
    assert drawn.answer.marks == 3


async def test_a_cap_and_a_grant_hold_for_charts_too(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(scan={"max_scan_bytes": MIB}) as gateway:
        assert (await refusal(gateway.charts.draw(ME, SESSIONS, BY_COUNTRY))).kind == "over_scan_cap"
    stranger = Principal("stranger")
    async with open_gateway() as gateway:
        for source in (SESSIONS, ChartSource(sql="SELECT id AS country, id AS amount FROM local")):
            assert (await refusal(gateway.charts.draw(stranger, source, BY_COUNTRY))).kind == "table_not_found"
    assert bq.query_jobs() == []


SOURCES = [
    ChartSource(),
    ChartSource(sql="SELECT 1", snapshot="a"),
    ChartSource(sql="SELECT 1", table_id="a"),
    ChartSource(sql="SELECT 1 AS country", where="x = 1"),
]


@pytest.mark.parametrize("source", SOURCES, ids=str)
async def test_a_chart_has_one_source(settings: Settings, source: ChartSource) -> None:
    async with Gateway(settings) as gateway:
        assert (await refusal(gateway.charts.draw(ME, source, BY_COUNTRY))).kind == "invalid_argument"


async def test_more_rows_than_a_chart_reads_are_never_drawn_in_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chart, "MAX_ROWS", 100)
    async with Gateway(settings) as gateway:
        error = await refusal(gateway.charts.draw(ME, ChartSource(sql="SELECT * FROM orders"), BY_COUNTRY))
    assert error.kind == "result_too_large"
    assert "groups by" in error.hint


async def test_a_cancelled_chart_leaves_nothing_behind(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        async with anyio.create_task_group() as group:
            source = ChartSource(sql="SELECT country, amount FROM orders")
            group.start_soon(gateway.charts.draw, ME, source, BY_COUNTRY)
            await until(gateway.calls.running)
            group.cancel_scope.cancel()
        drawn = await gateway.charts.draw(ME, ChartSource(sql="SELECT 'a' AS g, 1 AS n"), ChartRequest("bar", "g", "n"))
        assert drawn.answer.marks == 1
    lines = (Path(settings.data_dir) / "audit" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["tool"] for line in lines] == ["chart", "chart"]


@pytest.mark.parametrize(
    ("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<svg role="), ("html", b"<!doctype html>")]
)
async def test_a_chart_is_exported(settings: Settings, form: str, begins: bytes) -> None:
    async with Gateway(settings) as gateway:
        exported = await gateway.charts.export(
            ME, ChartSource(sql="SELECT country, amount FROM orders"), BY_COUNTRY, form
        )
    assert exported.content.startswith(begins)
    assert (exported.answer.marks, exported.answer.spec) == (3, None)
