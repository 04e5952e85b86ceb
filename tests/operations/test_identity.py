"""A table is its place: an id, a grant, a snapshot never come to mean another table's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.stand_in import StandIn

ANA = Principal("ana")
OPEN = Callable[..., Gateway]


def create(bq: StandIn, name: str, amount: int, dataset: str = "my_dataset") -> None:
    bq.create_table(dataset, name, schema="amount INT64", rows=[{"amount": amount}])


def discovering(open_gateway: OPEN, tables: Any = ()) -> Gateway:
    users = [{"name": "ana", "token_sha256": "0" * 64, "tables": ["my_table"]}]
    return open_gateway(tables=tables, bigquery={"datasets": ["my_dataset"]}, access={"users": users})


async def rows(gateway: Gateway, table_id: str, principal: Principal = ME) -> list[list[Any]]:
    return (await gateway.scans.scan(principal, ScanRequest(table_id=table_id))).rows


async def kind_of(asked: Any) -> str:
    with pytest.raises(AgnesError) as told:
        await asked
    return told.value.kind


async def listed(gateway: Gateway) -> list[str]:
    """The ids as they are once the datasets have been listed anew."""
    call = gateway.calls.background("test")
    await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call))
    return [table.id for table in gateway.tables.visible(ME)]


async def test_a_grant_does_not_follow_a_name_to_another_table(bq: StandIn, open_gateway: OPEN) -> None:
    create(bq, "my_table", 1)
    async with discovering(open_gateway) as gateway:
        assert await rows(gateway, "my_table", ANA) == [[1]]
        create(bq, "my-table", 2)
        assert "my_dataset_my_table" in await listed(gateway)
        assert await rows(gateway, "my_table", ANA) == [[1]]
        assert await kind_of(rows(gateway, "my_dataset_my_table", ANA)) == "table_not_found"
        assert await rows(gateway, "my_dataset_my_table") == [[2]]
    bq.drop_table("my_dataset", "my_table")
    async with discovering(open_gateway) as gateway:
        await listed(gateway)
        assert await kind_of(rows(gateway, "my_table", ANA)) == "table_not_found"
        assert await rows(gateway, "my_dataset_my_table") == [[2]]


async def test_a_grant_on_an_id_that_nobody_has_grants_nothing_yet(bq: StandIn, open_gateway: OPEN) -> None:
    async with discovering(open_gateway) as gateway:
        assert await kind_of(rows(gateway, "my_table", ANA)) == "table_not_found"
        create(bq, "my_table", 1)
        await listed(gateway)
        assert await rows(gateway, "my_table", ANA) == [[1]]


async def test_a_snapshot_of_a_table_whose_id_was_moved_is_refused(
    bq: StandIn, open_gateway: OPEN, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    create(bq, "my_table", 1)
    create(bq, "other_table", 2)
    async with discovering(open_gateway) as gateway:
        await gateway.fetches.fetch(ME, ScanRequest(table_id="my_table"), name="kept")
        assert (await gateway.queries.query(ME, "SELECT * FROM kept")).rows == [[1]]
    moved = {"id": "my_table", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "other_table"}
    async with discovering(open_gateway, tables=[moved]) as gateway:
        assert await rows(gateway, "my_table") == [[2]]
        assert "the id my_table meant my-project.my_dataset.my_table" in caplog.text
        assert await kind_of(gateway.queries.query(ME, "SELECT * FROM kept")) == "table_moved"
        assert await kind_of(gateway.fetches.refresh(ME, "kept")) == "table_moved"
        await gateway.fetches.fetch(ME, ScanRequest(table_id="my_table"), name="anew")
        assert (await gateway.queries.query(ME, "SELECT * FROM anew")).rows == [[2]]


async def test_a_dataset_that_cannot_be_listed_hides_no_other(bq: StandIn, open_gateway: OPEN) -> None:
    create(bq, "my_table", 1)
    async with open_gateway(tables=(), bigquery={"datasets": ["misspelt", "my_dataset"]}) as gateway:
        assert "my_table" in await listed(gateway)
        answer = await gateway.catalog.browse(ME)
        assert answer.note is not None
        assert "misspelt" in answer.note
        assert "bq_not_found" in answer.note
        told = (await gateway.usage.today(ME)).bigquery["datasets"]
        assert told["misspelt"]["error"] == "bq_not_found"


async def test_the_audit_holds_the_place(bq: StandIn, open_gateway: OPEN, tmp_path: Path) -> None:
    create(bq, "my_table", 1)
    async with discovering(open_gateway) as gateway:
        lines: list[str | None] = []
        gateway.calls.observers.append(lambda call: lines.append(call.line.place))
        await rows(gateway, "my_table")
        assert lines == ["my-project.my_dataset.my_table"]


async def test_a_grant_of_a_dataset_means_its_tables_those_to_come_too(bq: StandIn, open_gateway: OPEN) -> None:
    create(bq, "my_table", 1)
    create(bq, "elsewhere", 3, dataset="my_dataset_too")
    users = [{"name": "ana", "token_sha256": "0" * 64, "groups": ["marketing"]}]
    access = {"users": users, "groups": [{"name": "marketing", "tables": ["my_dataset.*"]}]}
    bigquery = {"datasets": ["my_dataset", "my_dataset_too"]}
    async with open_gateway(tables=(), bigquery=bigquery, access=access) as gateway:
        assert await rows(gateway, "my_table", ANA) == [[1]]
        assert await kind_of(rows(gateway, "elsewhere", ANA)) == "table_not_found"
        assert await kind_of(rows(gateway, "local", ANA)) == "table_not_found"
        create(bq, "newer", 2)
        await listed(gateway)
        assert await rows(gateway, "newer", ANA) == [[2]]
        await gateway.fetches.fetch(ANA, ScanRequest(table_id="newer"), name="kept")
        assert (await gateway.queries.query(ANA, "SELECT * FROM kept")).rows == [[2]]
        gateway.access.replace([])
        assert await kind_of(gateway.queries.query(ANA, "SELECT * FROM kept")) == "table_not_found"
