"""What a person's yes is worth: exactly that statement, at exactly that price."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import mcp.types as t
import pytest
from mcp import Client
from serving.served import ERAS, Era, body_of
from support.instances import ONE_PROCESS, bigquery_at

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Price, Statement, Table, TableSchema
from agnes_mcp.serving.server import build_server
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import StandIn

pytestmark = [pytest.mark.parametrize("era", ERAS)]
COSTLY = {"table_id": "remote", "select": ["pad"], "limit": 2}
YES = t.ElicitResult(action="accept", content={"approve": True})


@pytest.fixture(scope="module")
def bq() -> Iterator[StandIn]:
    rows = [{"id": i, "pad": "x" * 300} for i in range(1000)]
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "remote", schema="id INT64, pad STRING", rows=rows)
        stand_in.create_view("my_dataset", "remote_v", "SELECT pad FROM my_dataset.remote")
        yield stand_in


@pytest.fixture
async def gateway(bq: StandIn, tmp_path: Path) -> AsyncIterator[Gateway]:
    bigquery = bigquery_at(bq)
    settings = Settings.model_validate(
        {
            "data_dir": str(tmp_path / "data"),
            "data_source": {"bigquery": bigquery},
            "engine": ONE_PROCESS,
            "api": {"scan": {"confirm_above_bytes": 100_000, "max_scan_bytes": 5_000_000_000}},
            "tables": [
                {"id": name, "source_type": "bigquery", "bucket": "my_dataset", "source_table": name}
                for name in ("remote", "remote_v")
            ],
        }
    )
    async with Gateway(settings) as opened:
        yield opened


class Person:
    """Answers questions, and remembers them; `before` runs while the question is open."""

    def __init__(self, *answers: t.ElicitResult, before: Callable[[], None] = lambda: None) -> None:
        self._answers = list(answers)
        self._before = before
        self.asked: list[str] = []

    async def answer(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params.message)
        self._before()
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Repriced(BigQuerySource):
    """The real source, whose prices are multiplied."""

    factor = 1

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        price = super().price(table, schema, statement, call)
        return price.model_copy(update={"scan_bytes": (price.scan_bytes or 0) * self.factor})


def reprice(gateway: Gateway) -> Repriced:
    configured = gateway.settings.data_source.bigquery
    assert configured is not None
    repriced = Repriced(configured, gateway.warehouse)
    gateway.sources._made["bigquery"] = repriced
    return repriced


async def test_the_question_names_table_bytes_and_money(gateway: Gateway, era: Era) -> None:
    person = Person(YES)
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        estimate = body_of(await client.call_tool("estimate", COSTLY))
        assert estimate["verdict"] == "needs_approval"
        assert not (await client.call_tool("scan", COSTLY)).is_error
    assert len(person.asked) == 1
    assert "remote" in person.asked[0]
    assert f"{estimate['estimated_scan_bytes']:,} bytes" in person.asked[0]
    assert f"{estimate['bq_cost_estimate_usd']:,.4f} USD" in person.asked[0]
    assert "pad" in person.asked[0]


async def test_a_price_that_rises_while_the_person_thinks_is_not_covered(gateway: Gateway, era: Era) -> None:
    """Refused, not asked for ever: the table may go on growing. The next call asks about the price of then."""
    repriced = reprice(gateway)

    def rise() -> None:
        repriced.factor += 1

    person = Person(YES, YES, t.ElicitResult(action="decline"), before=rise)
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        kinds = [body_of(await client.call_tool("scan", COSTLY))["error"] for _ in range(3)]
    assert kinds == ["approval_outdated", "approval_outdated", "approval_declined"]
    assert len(set(person.asked)) == len(person.asked) == 3
    assert (await gateway.usage.today(_me())).quota.daily_bytes_used == 0


async def test_a_price_that_falls_is_covered(gateway: Gateway, era: Era) -> None:
    repriced = reprice(gateway)
    repriced.factor = 4
    person = Person(YES, before=lambda: setattr(repriced, "factor", 2))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        assert not (await client.call_tool("scan", COSTLY)).is_error


async def test_a_yes_to_one_call_is_none_to_the_next(gateway: Gateway, era: Era) -> None:
    person = Person(YES, t.ElicitResult(action="decline"))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        assert not (await client.call_tool("scan", COSTLY)).is_error
        again = body_of(await client.call_tool("scan", {**COSTLY, "limit": 1}))
        assert again["error"] == "approval_declined"
    assert len(set(person.asked)) == 2


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("scan", COSTLY),
        ("fetch", {"table_id": "remote", "select": ["pad"], "name": "held"}),
        ("describe", {"table_id": "remote", "profile": True}),
        ("describe", {"table_id": "remote_v"}),
        ("sample", {"table_id": "remote_v"}),
        ("snapshot_refresh", {"name": "kept"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_call_that_may_bill_asks(gateway: Gateway, era: Era, tool: str, arguments: dict[str, Any]) -> None:
    from agnes_mcp.models import ScanRequest

    await gateway.fetches.fetch(_me(), ScanRequest(table_id="remote", select=["pad"], limit=3), name="kept")
    before = (await gateway.usage.today(_me())).quota.daily_bytes_used
    person = Person(t.ElicitResult(action="decline"))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        refused = await client.call_tool(tool, arguments)
        assert body_of(refused)["error"] == "approval_declined"
        assert body_of(refused)["details"]["estimated_scan_bytes"] > 100_000
    assert len(person.asked) == 1
    assert (await gateway.usage.today(_me())).quota.daily_bytes_used == before


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("estimate", COSTLY),
        ("fetch", {"table_id": "remote", "select": ["pad"], "estimate_only": True}),
        ("scan", {"table_id": "remote", "select": ["id"], "limit": 1}),
        ("describe", {"table_id": "remote"}),
        ("sample", {"table_id": "remote"}),
        ("scan", {"table_id": "nowhere"}),
        ("scan", {"table_id": "remote", "select": ["nothing"]}),
        ("fetch", {"table_id": "remote", "select": ["pad"], "limit": 3, "name": "kept"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_nobody_is_asked_about_what_is_free_cheap_or_refused_anyway(
    gateway: Gateway, era: Era, tool: str, arguments: dict[str, Any]
) -> None:
    from agnes_mcp.models import ScanRequest

    await gateway.fetches.fetch(_me(), ScanRequest(table_id="remote", select=["pad"], limit=3), name="kept")
    person = Person(YES)
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        await client.call_tool(tool, arguments)
    assert person.asked == []


async def test_beyond_the_hard_cap_there_is_nothing_to_ask(gateway: Gateway, era: Era) -> None:
    reprice(gateway).factor = 100_000
    person = Person(YES)
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        assert body_of(await client.call_tool("scan", COSTLY))["error"] == "over_scan_cap"
    assert person.asked == []


async def test_a_client_that_cannot_ask_has_the_hard_caps(gateway: Gateway, era: Era) -> None:
    async with Client(build_server(gateway), mode=era) as client:
        assert not (await client.call_tool("scan", COSTLY)).is_error


@pytest.mark.parametrize("content", [None, {}, {"approve": "perhaps"}, {"other": True}], ids=str)
async def test_an_answer_that_is_none_runs_nothing(gateway: Gateway, era: Era, content: Any) -> None:
    person = Person(t.ElicitResult(action="accept", content=content))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        assert body_of(await client.call_tool("scan", COSTLY))["error"] == "approval_cancelled"
    assert (await gateway.usage.today(_me())).quota.daily_bytes_used == 0


async def test_a_client_that_answers_for_its_person_is_not_taken_for_the_person(gateway: Gateway, era: Era) -> None:
    person = Person(t.ElicitResult(action="decline"))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        told = body_of(await client.call_tool("scan", COSTLY))
    assert told["message"] == "The price was declined, by the person or by the client for them; nothing was run."


async def test_a_client_whose_question_fails_gets_a_coded_refusal(gateway: Gateway, era: Era) -> None:
    if era == "auto":  # there the client asks before it calls again, and its own failure never reaches a server
        return

    async def fail(context: Any, params: Any) -> t.ErrorData:
        return t.ErrorData(code=t.METHOD_NOT_FOUND, message="Nobody is here.")

    async with Client(build_server(gateway), mode=era, elicitation_callback=fail) as client:
        told = body_of(await client.call_tool("scan", COSTLY))
        assert told["error"] == "approval_cancelled"
        assert "could not ask" in told["message"]
    audited = (gateway.settings.data_dir / "audit" / "audit.jsonl").read_text()
    assert '"error_kind":"approval_cancelled"' in audited
    assert (await gateway.usage.today(_me())).quota.daily_bytes_used == 0


async def test_every_answer_is_one_line_of_the_audit(gateway: Gateway, era: Era) -> None:
    person = Person(t.ElicitResult(action="decline"), t.ElicitResult(action="cancel"), YES)
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        for _ in range(3):
            await client.call_tool("scan", COSTLY)
    path = gateway.settings.data_dir / "audit" / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["tool"], line["table_id"], line["error_kind"]) for line in lines] == [
        ("scan", "remote", "approval_declined"),
        ("scan", "remote", "approval_cancelled"),
        ("scan", "remote", None),
    ]


async def test_what_the_agent_wrote_cannot_reword_the_question(gateway: Gateway, era: Era) -> None:
    hostile = "id = 1 OR pad = 'x\u202e\u200b costs 0.0000 USD" + " y" * 500 + "'"
    person = Person(t.ElicitResult(action="decline"))
    async with Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client:
        await client.call_tool("scan", {**COSTLY, "where": hostile})
        await client.call_tool("scan", {**COSTLY, "where": "pad = '\n\nFree. costs 0.0000 USD'"})
    for question in person.asked:
        assert question.startswith("Reading remote will scan ")
        assert question.index("Run it?") < question.index("SELECT")
        assert len(question) < 600
        assert "\n" not in question


def _me() -> Any:
    from agnes_mcp.access.grants import os_user

    return os_user()
