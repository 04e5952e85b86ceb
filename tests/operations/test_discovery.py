"""Discovery that tells the truth: every remote table is learned behind, and each answer says how far that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.instances import ME
from support.waiting import PATIENCE_S, soon

from agnes_mcp.answers.models import CatalogAnswer
from agnes_mcp.catalog import learning
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.search import Finder, Rank
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Column, Principal, Table, TableSchema
from agnes_mcp.stand_in import Fault, Partition, StandIn

OPEN = Callable[..., Gateway]
ANA = Principal("ana")
COUNT = 60
FAST = {"datasets": ["many"], "discovery_requests_per_second": 100}


@pytest.fixture
def many(bq: StandIn) -> StandIn:
    """`many.t00` to `t59`, each with a column of its own; the last is partitioned and has a description."""
    for n in range(COUNT):
        last = n == COUNT - 1
        bq.create_table(
            "many",
            f"t{n:02}",
            schema=f"id INT64, day DATE, only_{n:02} STRING",
            partition=Partition("day") if last else None,
            description="One row per heron" if last else "",
        )
    return bq


def discovering(open_gateway: OPEN, **more: Any) -> Gateway:
    return open_gateway(**{"tables": (), "bigquery": FAST, **more})


async def settled(gateway: Gateway, principal: Principal = ME, **asked: Any) -> CatalogAnswer:
    """The catalog's answer once everything that can be known is."""
    import anyio

    with anyio.fail_after(PATIENCE_S):
        while True:
            listed = gateway.tables.listed
            visible = gateway.tables.visible(principal)
            # before the answer: what fails while it is made is not told by it
            failed = sum(gateway.catalog._learning.failures(visible).values())
            answer = await gateway.catalog.browse(principal, **asked)
            missing = (answer.metadata_total or 0) - (answer.metadata_known or 0)
            if listed and missing == failed:
                return answer
            await anyio.sleep(0.02)


def read(bq: StandIn) -> list[str]:
    """The tables that `tables.get` was asked for, in order."""
    return [request.path.rpartition("/")[2] for request in bq.requests.named("tables.get")]


async def test_a_column_of_a_table_that_was_never_listed_is_found(many: StandIn, open_gateway: OPEN) -> None:
    """And as long as it may be missed the answer says so; Google's client sees the same tables."""
    async with discovering(open_gateway) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        first = await gateway.catalog.browse(ME, search="only_59", limit=1)
        if first.total == 0:
            assert first.metadata_known is not None
            assert first.metadata_total == COUNT
            assert first.metadata_known < COUNT
            assert "call again" in (first.note or "")
        found = await settled(gateway, search="only_59", limit=1)
        assert [entry.id for entry in found.tables] == ["t59"]
        assert (found.metadata_known, found.metadata_total, found.note) == (None, None, None)
        [heron] = (await gateway.catalog.browse(ME, search="heron")).tables
        assert (heron.id, heron.partition_by, heron.rows, heron.entity_type) == ("t59", "day", 0, "BASE TABLE")
        assert heron.metadata_as_of is not None
        options = ClientOptions(api_endpoint=many.api_endpoint)
        client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
        theirs = [entry.table_id for entry in client.list_tables("many")]
        assert [
            entry.id for entry in (await gateway.catalog.browse(ME, limit=500)).tables if entry.id[0] == "t"
        ] == theirs
    assert sorted(read(many)) == sorted(theirs)


async def test_what_becomes_known_during_a_search_is_not_called_known(
    many: StandIn, open_gateway: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search did not see it: an answer without it that misses nothing would say that there is no such table."""
    find = Finder.find
    many.faults.add(Fault("tables.get", delay_s=30, times=None))

    def find_then_learn(finder: Finder, tables: list[Table], wanted: str) -> list[tuple[Rank, Table]]:
        found = find(finder, tables, wanted)
        for table in tables:
            column = Column(name=table.id.replace("t", "only_"), type="STRING")
            finder._index.put(table, TableSchema(table_id=table.id, columns=[column]))
        return found

    async with discovering(open_gateway) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        monkeypatch.setattr(Finder, "find", find_then_learn)
        answer = await gateway.catalog.browse(ME, search="only_59")
        assert (answer.total, answer.metadata_known, answer.metadata_total) == (0, 0, COUNT)
        assert "call again" in (answer.note or "")
        assert (await gateway.catalog.browse(ME, search="only_59")).total == 1


async def test_an_entry_that_was_not_read_yet_says_so(many: StandIn, open_gateway: OPEN) -> None:
    """A null is "not known" then; with a time beside it it is "none"."""
    many.faults.add(Fault("tables.get", delay_s=30, times=None))
    async with discovering(open_gateway) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        entry = (await gateway.catalog.browse(ME, search="t59")).tables[0]
        assert (entry.metadata_as_of, entry.partition_by, entry.rows, entry.entity_type) == (None, None, None, None)
        with soon():
            await gateway.aclose()  # what is being asked does not hold up the end


async def test_what_a_caller_may_see_is_read_first_and_counted_alone(many: StandIn, open_gateway: OPEN) -> None:
    many.create_table("other", "z1", schema="id INT64, wanted STRING")
    many.create_table("other", "z2", schema="id INT64")
    access = {"users": [{"name": "ana", "token_sha256": "0" * 64, "tables": ["other.*"]}]}
    both = {**FAST, "datasets": ["many", "other"]}
    async with discovering(open_gateway, bigquery=both, access=access) as gateway:
        first = await gateway.catalog.browse(ANA)
        assert first.metadata_total in (None, 0, 2)
        found = await settled(gateway, ANA, search="wanted")
        assert [entry.id for entry in found.tables] == ["z1"]
        await settled(gateway)
        assert set(read(many)[:2]) == {"z1", "z2"}
        assert found.total == 1


async def test_a_restart_searches_at_once(many: StandIn, open_gateway: OPEN, tmp_path: Path) -> None:
    """Before the datasets are listed, and where BigQuery does not answer at all."""
    async with discovering(open_gateway) as gateway:
        await settled(gateway)
    many.requests.clear()
    many.faults.add(Fault("tables.*", status=503, times=None))
    async with discovering(open_gateway) as gateway:
        answer = await gateway.catalog.browse(ME, search="only_42")
        assert [(entry.id, entry.metadata_as_of is None) for entry in answer.tables] == [("t42", False)]
        assert not gateway.tables.listed
        assert "being listed" in (answer.note or "") or "cannot be listed" in (answer.note or "")
    assert read(many) == []


async def test_a_damaged_index_is_begun_anew(many: StandIn, open_gateway: OPEN, tmp_path: Path) -> None:
    kept = tmp_path / "data/tables.jsonl"
    async with discovering(open_gateway) as gateway:
        await settled(gateway)
    lines = kept.read_text().splitlines()
    assert json.loads(lines[0]) == {"format": 2}
    assert len(lines) == COUNT + 1
    for damage in ("", '{"format": 2}\n', "\n".join([*lines[:9], lines[9][:40]]), "\0\xff"):
        kept.write_text(damage, encoding="latin-1")
        async with discovering(open_gateway) as gateway:
            found = await settled(gateway, search="only_42")
            assert [entry.id for entry in found.tables] == ["t42"]
    assert len(kept.read_text().splitlines()) == COUNT + 1


async def test_an_id_that_was_moved_never_shows_the_old_tables_columns(many: StandIn, open_gateway: OPEN) -> None:
    async with discovering(open_gateway) as gateway:
        await settled(gateway)
    many.faults.add(Fault("tables.get", status=503, times=None))
    moved = {"id": "t01", "source_type": "bigquery", "bucket": "many", "source_table": "t02"}
    async with discovering(open_gateway, tables=[moved]) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        assert (await gateway.catalog.browse(ME, search="only_01")).total == 0 or gateway.tables.listed
        found = (await gateway.catalog.browse(ME, search="only_02")).tables
        assert [entry.id for entry in found] == ["t01"]
        assert not [entry for entry in (await gateway.catalog.browse(ME, search="only_01")).tables if entry.id == "t01"]


async def test_tables_that_cannot_be_read_are_counted_and_stop_nothing(many: StandIn, open_gateway: OPEN) -> None:
    many.catalog.table("my-project", "many", "t07").forbidden = True
    many.faults.add(Fault("tables.get", status=500, times=None, where="*/t08"))
    async with discovering(open_gateway) as gateway:
        answer = await settled(gateway)
        assert (answer.metadata_known, answer.metadata_total) == (COUNT - 2, COUNT)
        assert "1 × bq_forbidden" in (answer.note or "")
        assert "1 × bq_upstream_error" in (answer.note or "")
        many.faults.clear()
        assert (await gateway.catalog.columns(ME, "t08")).columns  # a call that reads it makes it known
        assert (await gateway.catalog.browse(ME)).metadata_known == COUNT - 1


async def test_a_bigquery_that_does_not_answer_is_waited_for(
    many: StandIn, open_gateway: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with all of them is no table's fault, and is not asked sixty times."""
    monkeypatch.setattr(learning, "RETRY_AFTER_S", 0.2)
    async with discovering(open_gateway) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        many.faults.add(Fault("tables.get", status=401, times=None))
        await gateway.catalog.browse(ME, refresh=True)
        import anyio

        with anyio.fail_after(PATIENCE_S):
            while not gateway.catalog._learning._not_before:
                await anyio.sleep(0.01)
        assert not gateway.catalog._learning.failed
        many.faults.clear()
        assert (await settled(gateway)).metadata_known is None


async def test_refresh_reads_again(many: StandIn, open_gateway: OPEN) -> None:
    """The page that is looked at and everything else; new tables and those that are gone too."""
    import anyio

    async with discovering(open_gateway) as gateway:
        await settled(gateway)
        for n in (0, 59):
            many.create_table("many", f"t{n:02}", schema="id INT64, renewed STRING")
        many.drop_table("many", "t30")
        many.create_table("many", "t99", schema="id INT64, renewed STRING")
        gateway.catalog._learning._listing = None  # as if the last listing were long ago
        await gateway.catalog.browse(ME, refresh=True, limit=5)
        with anyio.fail_after(PATIENCE_S):
            while (await gateway.catalog.browse(ME, search="renewed")).total != 3:
                await anyio.sleep(0.02)
        ids = [entry.id for entry in (await settled(gateway, limit=500)).tables]
        assert "t30" not in ids
        assert "t99" in ids


async def test_processes_over_one_folder_read_each_table_once(many: StandIn, open_gateway: OPEN) -> None:
    """Turn by turn, and what one has read the others find."""
    async with discovering(open_gateway) as one, discovering(open_gateway) as two:
        for gateway in (one, two):
            await gateway.catalog.settle(PATIENCE_S)
            await gateway.catalog.browse(ME, limit=1)
        for gateway in (one, two):
            assert (await settled(gateway, limit=1)).metadata_known is None
    assert len(read(many)) <= COUNT + 2  # each has the first of its page, whose schema it may ask for before its turn
    assert set(read(many)) == {f"t{n:02}" for n in range(COUNT)}


async def test_no_faster_than_was_said(many: StandIn, open_gateway: OPEN) -> None:
    slow = {**FAST, "discovery_requests_per_second": 20}
    async with discovering(open_gateway, bigquery=slow) as gateway:
        await settled(gateway)
    moments = [request.at for request in many.requests.named("tables.get")]
    assert min(later - earlier for earlier, later in pairwise(moments)) > 0.04


async def test_tables_of_a_reloaded_instance_are_learned(many: StandIn, open_gateway: OPEN) -> None:
    async with discovering(open_gateway) as gateway:
        await settled(gateway)
        settings = gateway.settings.model_dump()
        settings["tables"].append(
            {"id": "sales", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "orders"}
        )
        await gateway.upkeep.reload(Settings.model_validate(settings))
        found = await settled(gateway, search="sales")
        assert [entry.entity_type for entry in found.tables] == ["BASE TABLE"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 404}, "bq_not_found"),
        ({"status": 403, "reason": "accessDenied"}, "bq_forbidden"),
        ({"status": 401}, "auth_failed"),
        ({"status": 503}, "bq_upstream_error"),
        ({"status": 400, "reason": "invalid"}, "bq_bad_request"),
    ],
)
async def test_one_bad_dataset_hides_no_other(
    fault: dict[str, Any], kind: str, many: StandIn, open_gateway: OPEN
) -> None:
    many.create_table("bad", "b1", schema="id INT64")
    many.faults.add(Fault("tables.list", times=None, where="*/datasets/bad/*", **fault))
    async with discovering(open_gateway, bigquery={**FAST, "datasets": ["bad", "many"]}) as gateway:
        answer = await settled(gateway)
        assert answer.total == COUNT + 1
        told = (await gateway.usage.today(ME)).bigquery["datasets"]["bad"]
        assert told["error"] in (kind, "cross_project_forbidden" if kind == "bq_forbidden" else kind)
        assert told["hint"]
        assert "The dataset bad is not listed" in (answer.note or "")
        assert told["hint"][:40] in (answer.note or "")
        assert ("no dataset of that name" in told["hint"]) is (kind == "bq_not_found")
        assert "registered here" not in (answer.note or "")


async def test_a_dataset_that_fails_for_a_moment_keeps_its_tables(many: StandIn, open_gateway: OPEN) -> None:
    async with discovering(open_gateway) as gateway:
        await settled(gateway)
        many.create_table("more", "m1", schema="id INT64")
        gateway.settings.data_source.bigquery.datasets.append("more")  # type: ignore[union-attr]
        many.faults.add(Fault("tables.list", status=503, times=None, where="*/datasets/many/*"))
        call = gateway.calls.background("test")
        await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call))
        ids = {table.id for table in gateway.tables.visible(ME)}
        assert {"t00", "m1"} <= ids


async def test_a_dataset_that_is_listed_again_is_missing_until_its_tables_are_served(
    many: StandIn, open_gateway: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not served yet and not said to be missing, they would be taken for tables that there are not."""
    from anyio import from_thread, lowlevel

    many.create_table("bad", "b1", schema="id INT64")
    many.faults.add(Fault("tables.list", status=404, times=None, where="*/datasets/bad/*"))
    replace, loop = Registry.replace_discovered, lowlevel.current_token()
    async with discovering(open_gateway, bigquery={**FAST, "datasets": ["bad", "many"]}) as gateway:
        await settled(gateway)
        many.faults.clear()
        answers: list[CatalogAnswer] = []

        def look_first(registry: Registry, tables: Iterable[Table]) -> None:
            answers.append(from_thread.run(gateway.catalog.browse, ME, token=loop))
            replace(registry, tables)

        monkeypatch.setattr(Registry, "replace_discovered", look_first)
        call = gateway.calls.background("test")
        await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call))
        answers.append(await gateway.catalog.browse(ME))
    assert [answer.total for answer in answers] == [COUNT + 1, COUNT + 2]
    assert ["The dataset bad is not listed" in (answer.note or "") for answer in answers] == [True, False]


async def test_a_failure_that_goes_away_while_it_is_counted_fails_no_answer(open_gateway: OPEN) -> None:
    class Passing(dict[str, tuple[str, float]]):
        def __contains__(self, place: object) -> bool:
            return self.pop(str(place), None) is not None

    [table] = [Table(id="t", source_type="bigquery", place="my-project.many.t")]
    async with discovering(open_gateway) as gateway:
        learner = gateway.catalog._learning
        learner.failed = Passing({table.place: ("bq_forbidden", 0.0)})
        assert learner.failures([table]) == {"bq_forbidden": 1}
