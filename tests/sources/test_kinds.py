"""One source per kind, made when it is first needed, with nothing asked of it that its base class does not have."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Principal, Relation, Statement, Table, TableSchema
from agnes_mcp.sources import Reading, Source
from agnes_mcp.sources.kinds import Sources

LOCAL = Table(id="orders", source_type="local")
REMOTE = Table(id="sessions", source_type="bigquery", query_mode="remote")


class Plain(Source):
    """No more than a source must have."""

    def schema(self, table: Table, call: Call) -> TableSchema:
        return TableSchema(table_id=table.id, columns=[])

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> None:
        return None

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        return Price(scan_bytes=0, reserved_bytes=0)

    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> AbstractContextManager[Reading]:
        raise AgnesError("table_unavailable", "There is nothing to read.", "Ask another.")

    def relation(self, table: Table) -> Relation:
        return Relation("", "", table.id)


class Listing(Plain):
    closed = 0

    def discover(self, call: Call) -> list[Table]:
        return [REMOTE]

    def health(self) -> dict[str, Any]:
        return {"token": "young"}

    def close(self) -> None:
        type(self).closed += 1


def test_a_source_is_made_once_however_many_ask_at_the_same_time() -> None:
    made: list[Source] = []
    waiting = threading.Barrier(8)

    def make() -> Source:
        made.append(Plain())
        return made[-1]

    def ask(_: int) -> Source:
        waiting.wait(30)
        return sources.of(LOCAL)

    sources = Sources({"local": make})
    assert made == []
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == set(made)
    assert len(made) == 1


def test_a_kind_that_is_not_configured_says_so_and_has_no_health() -> None:
    sources = Sources({"local": Plain})
    with pytest.raises(AgnesError) as refused:
        sources.of(REMOTE)
    assert refused.value.kind == "not_configured"
    assert sources.health("bigquery") == {}
    assert sources.kinds == {"local"}


def test_health_is_that_of_a_source_that_was_used() -> None:
    sources = Sources({"local": Plain, "bigquery": Listing})
    assert sources.health("bigquery") == {"used": False}
    sources.of(REMOTE)
    assert sources.health("bigquery") == {"token": "young"}


def test_whoever_can_be_listed_is_and_whoever_cannot_has_nothing_to_add() -> None:
    sources = Sources({"local": Plain, "bigquery": Listing})
    assert sources.discover(Call("catalog", Principal("ana"))) == [REMOTE]


def test_only_what_was_made_is_closed() -> None:
    sources = Sources({"local": Plain, "bigquery": Listing})
    sources.close()
    assert Listing.closed == 0
    sources.of(REMOTE)
    sources.close()
    assert Listing.closed == 1


def test_a_source_without_a_price_is_none() -> None:
    incomplete = type("Incomplete", (Plain,), {"price": Source.price})
    with pytest.raises(TypeError, match="price"):
        incomplete()


def test_a_table_that_has_no_files_cannot_be_viewed() -> None:
    with pytest.raises(AgnesError) as refused:
        Plain().view(REMOTE, Call("query", Principal("ana")))
    assert refused.value.kind == "table_unavailable"
