"""What answers and listings cost a model: characters, and tokens of a real tokenizer.

    python bench/characters.py [--small] [--json]

Tokens are o200k's, counted by bpe-openai, which carries its vocabulary and asks nobody. They are another vendor's; what
counts is the ratio to JSON of objects, which is how most servers answer.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpe_openai
from measuring import Figure, main

from support.instances import connected, settings_of, table, write  # isort: skip

from agnes_mcp.gateway import Gateway

SESSIONS = """
    SELECT 's' || printf('%07d', i) AS session_id, DATE '2026-01-01' + CAST(i % 90 AS INT) AS event_date,
           (ARRAY['CZ', 'DE', 'SK', 'PL'])[1 + i % 4] AS country_code, i % 2 = 0 AS converted,
           (i * 7919) % 1800 AS duration_s, (i % 977) * 1.25 AS revenue
    FROM range({rows}) AS r(i)"""
PER_COUNTRY = {
    "table_id": "web_sessions",
    "group_by": ["country_code"],
    "aggregates": [{"function": "count"}],
    "limit": 5,
}
#: For the listing: `chart` came later and has an allowance of its own.
LISTING, CHART = 12_500, 1_200


async def gather(small: bool) -> list[Figure]:
    encoding = bpe_openai.get_encoding("o200k_base")

    def count(text: str) -> int:
        return len(encoding.encode(text))

    rows = 50 if small else 1_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, "web_sessions.parquet", SESSIONS.format(rows=10 * rows))
        settings = settings_of(folder / "data", [table("web_sessions", path)], api={"max_result_chars": 1_000_000})
        async with Gateway(settings) as gateway, connected(gateway, "legacy") as client:
            many = await client.call_tool("scan", {"table_id": "web_sessions", "limit": rows})
            few = await client.call_tool("scan", PER_COUNTRY)
            listed = (await client.list_tools()).tools
    text = many.content[0].text
    body = json.loads(text)
    assert len(body["rows"]) == rows
    objects = json.dumps([dict(zip(body["columns"], row, strict=True)) for row in body["rows"]], indent=2)
    sizes = {
        tool.name: len(
            json.dumps(
                {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema},
                separators=(",", ":"), ensure_ascii=False,
            )
        )
        for tool in listed
    }  # fmt: skip
    chart = sizes.pop("chart", 0)
    return [
        Figure(f"characters of {rows:,} rows", "JSON of objects", len(text) / len(objects), 0.45,
               ours=len(text), theirs=len(objects), unit="chars"),
        Figure(f"o200k tokens of {rows:,} rows", "JSON of objects", count(text) / count(objects), 0.45,
               ours=count(text), theirs=count(objects), unit="tokens"),
        Figure("characters of an answer of four rows", "", len(few.content[0].text), 450, unit="chars"),
        Figure(f"characters of tools/list, {len(sizes)} tools", "", sum(sizes.values()), LISTING, unit="chars"),
        Figure("characters of `chart` in tools/list", "", chart, CHART, unit="chars"),
    ]  # fmt: skip


def measure(small: bool) -> Iterator[Figure]:
    yield from asyncio.run(gather(small))


if __name__ == "__main__":
    main(measure, __doc__)
