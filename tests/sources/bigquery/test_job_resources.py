"""What Google's REST client is given of jobs whose resources have nulls, or lack what it takes to be there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.bigquery import ORDERS, call, read_all, statement

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.jobs.job import Job
from agnes_mcp.stand_in.jobs.queue import Jobs

ASKED = statement(ORDERS, ["id"], "WHERE id = 1")
Change = Callable[[dict[str, Any]], dict[str, Any]]


def query_null(resource: dict[str, Any]) -> dict[str, Any]:
    return {**resource, "statistics": {**resource["statistics"], "query": None}}


def nulls_within(resource: dict[str, Any]) -> dict[str, Any]:
    names = ("referencedTables", "referencedRoutines", "timeline", "totalBytesBilled", "totalBytesProcessed")
    query = {**resource["statistics"].get("query", {}), **dict.fromkeys(names)}
    return {**resource, "statistics": {**resource["statistics"], "totalBytesProcessed": None, "query": query}}


WITHOUT_FIGURES: dict[str, Change] = {
    "null": lambda resource: {**resource, "statistics": None},
    "absent": lambda resource: {name: value for name, value in resource.items() if name != "statistics"},
    "no object": lambda resource: {**resource, "statistics": []},
    "query null": query_null,
    "nulls within": nulls_within,
}
UNUSABLE: dict[str, Change] = {
    "no reference": lambda resource: {**resource, "jobReference": None},
    "no configuration": lambda resource: {**resource, "configuration": None},
    "no query": lambda resource: {**resource, "configuration": {**resource["configuration"], "query": None}},
}


@pytest.mark.parametrize("change", WITHOUT_FIGURES.values(), ids=WITHOUT_FIGURES)
def test_a_dry_run_without_figures_is_no_price(
    source: BigQuerySource, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    told = Jobs._dry_resource
    monkeypatch.setattr(Jobs, "_dry_resource", lambda self, *given: change(told(self, *given)))
    price = source.price(ORDERS, source.schema(ORDERS, call()), ASKED, call())
    assert (price.scan_bytes, price.reserved_bytes, price.path) == (None, None, "query_job")


@pytest.mark.parametrize("change", WITHOUT_FIGURES.values(), ids=WITHOUT_FIGURES)
def test_a_job_without_figures_gives_its_rows_and_is_charged_what_was_set_aside(
    source: BigQuerySource, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    price = source.price(ORDERS, source.schema(ORDERS, call()), ASKED, call())
    told = Job.rest
    monkeypatch.setattr(Job, "rest", lambda self: change(told(self)))
    rows, receipt = read_all(source, ORDERS, ASKED, price=price)
    assert rows["id"].to_pylist() == [1]
    assert (receipt.bytes_billed, receipt.assumed) == (price.reserved_bytes, True)


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_a_job_that_does_not_say_where_its_rows_are_is_the_other_side_s_fault(
    source: BigQuerySource, monkeypatch: pytest.MonkeyPatch, change: Change, bq: StandIn
) -> None:
    price = source.price(ORDERS, source.schema(ORDERS, call()), ASKED, call())
    told = Job.rest
    monkeypatch.setattr(Job, "rest", lambda self: change(told(self)))
    with pytest.raises(AgnesError) as failed:
        read_all(source, ORDERS, ASKED, price=price)
    assert failed.value.kind == "bq_upstream_error"
    assert failed.value.details["job_id"]
    assert len({job.body["jobReference"]["jobId"] for job in bq.query_jobs()}) == 1


def test_cells_keep_their_nulls(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "orders", "id INT64, day DATE", rows=[{"id": 1, "day": None}])
    rows, _ = read_all(source, ORDERS, statement(ORDERS, ["id", "day"], "WHERE id = 1"))
    assert rows.to_pylist() == [{"id": 1, "day": None}]
