"""What nobody sees, in names, cells and the agent's own words: never sent as it is, and what a cell holds is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mcp import MCPError
from mcp.types import ResourceTemplateReference
from support.instances import connected, settings_of, table

from agnes_mcp.gateway import Gateway
from agnes_mcp.untrusted import find_hidden

#: One of each kind: bidirectional, without width, a tag, a variation selector without a base, deprecated, annotation,
#: controls of both sets, a filler, private use, a separator.
HIDDEN = "\u202e\u2066\u200b\u2060\U000e0041\ufe0f\U000e0100\u206a\ufff9\x07\x85\x7f\u3164\ue000\u2028\xad\u034f"
#: What has joiners, selectors and tags where they belong.
READABLE = (
    "Žluťoučký 👩🏽‍🚀❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f می‌خواهم क्‍ष 辻\U000e0100 שלום"
)
NAME = f"amo{HIDDEN}unt"
KINDS = ("parquet", "csv", "json", "duckdb")


def rows(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f'CREATE TABLE t ("{NAME}" VARCHAR, "a\u200b" INT, a INT, s STRUCT(x VARCHAR), "č" VARCHAR)')
    cell = f"pay{HIDDEN}ment"
    connection.execute("INSERT INTO t VALUES (?, 1, 2, {'x': ?}, ?)", [cell, "\u202eabc", READABLE])


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        rows(connection)
        for kind in ("parquet", "csv", "json"):
            connection.execute(f"COPY t TO '{tmp_path / f't.{kind}'}'")
    tables = [
        table(kind, tmp_path / f"t.{kind}", source_table="t" if kind == "duckdb" else "", description=f"A{HIDDEN}B")
        for kind in KINDS
    ]
    tables.append(table("gone", tmp_path / "gone\u202e\u200b.csv"))
    async with Gateway(settings_of(tmp_path / "s", tables)) as gateway:
        yield gateway


def calls(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("catalog", {"search": "a\u200b"}),
        ("schema", {"table_id": kind}),
        ("describe", {"table_id": kind, "profile": True}),
        ("sample", {"table_id": kind}),
        ("estimate", {"table_id": kind, "select": ["amount"]}),
        ("scan", {"table_id": kind, "select": ["amount", "a_2"], "where": "amount LIKE 'pay%' AND a_2 = 1"}),
        ("scan", {"table_id": kind, "group_by": ["amount"], "aggregates": [{"fn": "max", "column": "a"}]}),
        ("scan", {"table_id": kind, "where": "č = '\u202e'"}),
        ("scan", {"table_id": kind, "select": ["no\u202esuch"]}),
        ("scan", {"table_id": f"no\u202esuch{kind}"}),
        ("fetch", {"table_id": kind, "name": f"kept_{kind}"}),
        ("fetch", {"table_id": kind, "name": "wro\u202eng"}),
        ("query", {"sql": f'SELECT amount, "a_2", s, č AS "x\u202e" FROM {kind}'}),
        ("query", {"sql": f"SELECT max(amount) FROM kept_{kind}"}),
        ("query", {"sql": f'SELECT "no\u202esuch" FROM {kind}'}),
        ("query", {"sql": f"SELECT CAST(amount AS INTEGER) FROM {kind}"}),
        ("chart", {"sql": f"SELECT amount, a FROM {kind}", "mark": "bar", "x": "amount", "y": "a"}),
        ("snapshot_list", {}),
    ]


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
async def test_no_answer_has_a_hidden_character(gateway: Gateway, kind: str) -> None:
    async with connected(gateway, "auto") as client:
        for tool, arguments in calls(kind):
            answer = await client.call_tool(tool, arguments)
            for block in answer.content:
                if block.type == "text":
                    assert find_hidden(block.text) < 0, (tool, arguments, block.text)
            assert hidden_in(answer.structured_content) == [], (tool, arguments)


def hidden_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [found for pair in value.items() for part in pair for found in hidden_in(part)]
    if isinstance(value, list):
        return [found for item in value for found in hidden_in(item)]
    return [value] if isinstance(value, str) and find_hidden(value) >= 0 else []


@pytest.mark.parametrize("kind", KINDS)
async def test_columns_are_named_as_they_are_seen_and_cells_tell(gateway: Gateway, kind: str) -> None:
    """What the schema shows can be written in every tool; a cell shows each hidden character, and how many."""
    async with connected(gateway, "auto") as client:
        schema = (await client.call_tool("schema", {"table_id": kind})).structured_content or {}
        assert [column["name"] for column in schema["columns"]] == ["amount", "a_2", "a", "s", "č"]
        scan = {"table_id": kind, "select": ["amount", "s", "č"], "where": "a_2 = 1 AND a = 2"}
        for tool, arguments in (("scan", scan), ("query", {"sql": f"SELECT amount, s, č FROM {kind} WHERE a_2 = 1"})):
            answer = (await client.call_tool(tool, arguments)).structured_content or {}
            amount, record, readable = answer["rows"][0]
            assert amount == "pay" + "".join(f"<U+{ord(character):04X}>" for character in HIDDEN) + "ment"
            assert record == ("{'x': <U+202E>abc}" if kind == "csv" else {"x": "<U+202E>abc"})
            assert readable == READABLE
            assert answer["hidden_characters"] == len(HIDDEN) + 1


async def test_a_profile_tells_as_well(gateway: Gateway) -> None:
    async with connected(gateway, "auto") as client:
        answer = (await client.call_tool("describe", {"table_id": "parquet", "profile": True})).structured_content or {}
        profile = answer["profile"]
        assert profile["columns"][0]["min"].startswith("pay<U+202E>")
        assert profile["hidden_characters"] >= len(HIDDEN)
        assert answer["sample"]["hidden_characters"] == len(HIDDEN) + 1


async def test_a_condition_may_hold_what_is_readable(gateway: Gateway) -> None:
    """Joiners and selectors where they belong are part of a word, and a word is what is looked for."""
    async with connected(gateway, "auto") as client:
        arguments = {"table_id": "parquet", "select": ["a"], "where": f"\"č\" = '{READABLE}'"}
        assert (await client.call_tool("scan", arguments)).structured_content["rows"] == [[2]]


ODD = "x\u202e\u200b\U000e0041\x07\x85y"
#: Whose arguments, their names, or the tool's own name hold what nobody sees.
ECHOING: list[tuple[str, dict[str, Any]]] = [
    (f"no{ODD}tool", {}),
    ("usage", {ODD: 1}),
    ("disk_info", {}),
    ("catalog", {"cursor": ODD}),
    ("catalog", {"source_type": ODD}),
    ("sample", {"table_id": "gone"}),
    ("scan", {"table_id": "parquet", f"whe{ODD}": 1}),
    ("scan", {"table_id": "parquet", "limit": ODD}),
    ("scan", {"table_id": "parquet", "order_by": [f"a{ODD}"]}),
    ("scan", {"table_id": "parquet", "aggregates": [{"fn": f"su{ODD}"}]}),
    ("scan", {"table_id": "parquet", "aggregates": [{"fn": "sum", f"co{ODD}": "a"}]}),
    ("scan", {"sql": f"SELECT 1 AS x{ODD}"}),
    ("snapshot_refresh", {"name": "kept", "where": f"amount = '{ODD}'"}),
    ("snapshot_refresh", {"name": ODD}),
    ("snapshot_drop", {"name": ODD}),
    ("snapshot_prune", {"older_than": f"3{ODD}"}),
    ("snapshot_prune", {"larger_than": f"3{ODD}"}),
    ("chart", {"sql": f'SELECT 1 AS "a{ODD}"', "mark": f"ba{ODD}", "x": "a"}),
    ("chart", {"sql": "SELECT 1 AS a, 'x\u202ey' AS b", "mark": "bar", "x": "b", "y": "a", "title": ODD}),
    ("chart", {"snapshot": ODD}),
    ("query", {"sql": f"SELECT * FROM 'a{ODD}.csv'"}),
    ("query", {"sql": f"SELECT {ODD}"}),
]


async def told_by(asked: Awaitable[Any]) -> Any:
    """What comes back, be it an error."""
    try:
        return (await asked).model_dump(mode="json")
    except MCPError as error:
        return error.error.model_dump(mode="json")


async def test_no_echo_prompt_or_resource_has_a_hidden_character(gateway: Gateway, tmp_path: Path) -> None:
    async with connected(gateway, "auto") as client:
        await client.call_tool("fetch", {"table_id": "parquet", "name": "kept"})
        for tool, arguments in ECHOING:
            assert hidden_in(await told_by(client.call_tool(tool, arguments))) == [], (tool, arguments)
        for prompt in (await client.list_prompts()).prompts:
            words = {argument.name: f"1 {ODD}" for argument in prompt.arguments or []}
            told = await told_by(client.get_prompt(prompt.name, words))
            assert "1 xy" in told["messages"][0]["content"]["text"]
            assert hidden_in(told) == []
        assert hidden_in(await told_by(client.get_prompt(ODD, {}))) == []
        listed = await client.list_resources()
        templates = (await client.list_resource_templates()).resource_templates
        assert hidden_in([listed.model_dump(mode="json"), [each.model_dump(mode="json") for each in templates]]) == []
        for uri in [*(str(each.uri) for each in listed.resources), f"agnes://tables/{ODD}/schema", f"agnes://{ODD}"]:
            assert hidden_in(await told_by(client.read_resource(uri))) == [], uri
        for template in templates:
            reference = ResourceTemplateReference(type="ref/resource", uri=template.uri_template)
            asked = {"name": template.uri_template.partition("{")[2].partition("}")[0], "value": ODD}
            assert hidden_in(await told_by(client.complete(reference, asked))) == []
    audit = (tmp_path / "s" / "audit" / "audit.jsonl").read_text()
    assert '"tool":"query"' in audit
    assert all(find_hidden(line) < 0 for line in audit.splitlines())
