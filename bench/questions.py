"""What twelve ordinary questions over BigQuery cost an agent: calls and characters, as fixed calls to the real server.

    python bench/questions.py [--small] [--json]

The server is `agnes-mcp serve --demo` over stdio, its BigQuery the stand-in. Two calls look (which tables, which
columns), then each question is one call; each is told as it is answered. Counted are the characters of every answer's
text, which is what a host hands to its model. `--small` asks the first question alone. A refusal is an error.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import TextContent
from measuring import Figure, main

#: What the answers to all of them may take together.
MAX_CALLS, MAX_CHARS = 14, 14_000
SESSIONS, ORDERS, APRIL = "bq_web_sessions", "bq_orders", "event_date >= DATE '2026-04-01'"

LOOKING: list[tuple[str, str, dict[str, Any]]] = [
    ("Which tables are there?", "catalog", {"source_type": "bigquery"}),
    ("Which columns have the sessions?", "schema", {"table_id": SESSIONS}),
]
QUESTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("Sessions per country in April, the five largest?", "scan", {
        "table_id": SESSIONS, "where": APRIL, "group_by": "country_code", "aggregates": {"function": "count"},
        "order_by": "count DESC", "limit": 5}),
    ("How many signed-in sessions, customers and conversions?", "scan", {
        "table_id": SESSIONS, "where": f"{APRIL} AND customer_id IS NOT NULL", "aggregates": [
            {"function": "count"}, {"function": "count_distinct", "column": "customer_id"},
            {"function": "count_if", "column": "converted"}]}),
    ("Sessions per week?", "scan", {"sql":
        f"SELECT DATE_TRUNC(event_date, WEEK(MONDAY)) AS week, COUNT(*) AS n FROM {SESSIONS} GROUP BY 1 ORDER BY 1"}),
    ("At which hours do people come?", "scan", {"sql":
        f"SELECT EXTRACT(HOUR FROM started_at) AS hour, COUNT(*) AS n FROM {SESSIONS} WHERE {APRIL} "
        f"GROUP BY hour ORDER BY hour"}),
    ("What share converts, by platform?", "scan", {"sql":
        f"SELECT platform, COUNTIF(converted) AS won, ROUND(SAFE_DIVIDE(COUNTIF(converted), COUNT(*)), 4) AS share "
        f"FROM {SESSIONS} WHERE {APRIL} GROUP BY platform ORDER BY share DESC"}),
    ("How long is a session: median and 95th percentile?", "scan", {"sql":
        f"SELECT APPROX_QUANTILES(duration_s, 100)[OFFSET(50)] AS median, "
        f"APPROX_QUANTILES(duration_s, 100)[OFFSET(95)] AS p95 FROM {SESSIONS} WHERE {APRIL}"}),
    ("Which landing pages have over 20,000 sessions?", "scan", {"sql":
        f"SELECT landing_page, COUNT(*) AS n FROM {SESSIONS} GROUP BY landing_page HAVING n > 20000 ORDER BY n DESC"}),
    ("Of visitors by channel, how many ordered?", "scan", {"sql":
        f"SELECT s.channel, COUNT(DISTINCT s.customer_id) AS visitors, COUNT(DISTINCT o.customer_id) AS buyers "
        f"FROM {SESSIONS} AS s LEFT JOIN {ORDERS} AS o ON o.customer_id = s.customer_id "
        f"AND o.ordered_at >= TIMESTAMP '2026-04-01' WHERE s.{APRIL} AND s.customer_id IS NOT NULL "
        f"GROUP BY s.channel ORDER BY visitors DESC"}),
    ("Who are the three best customers of each status?", "scan", {"sql":
        f"SELECT status, customer_id, SUM(amount_eur) AS spent FROM {ORDERS} GROUP BY status, customer_id "
        f"QUALIFY ROW_NUMBER() OVER (PARTITION BY status ORDER BY SUM(amount_eur) DESC, customer_id) <= 3 "
        f"ORDER BY status, spent DESC"}),
    ("Which widths of screen are there?", "scan", {"sql":
        f"SELECT pixels, COUNT(*) AS n FROM {SESSIONS} AS s, UNNEST(s.device.viewport) AS pixels WITH OFFSET AS side "
        f"WHERE {APRIL} AND side = 0 GROUP BY pixels ORDER BY n DESC"}),
    ("Are there duplicate orders?", "scan", {"sql":
        f"SELECT COUNT(*) AS orders, COUNT(DISTINCT order_id) AS ids FROM {ORDERS}"}),
    ("How did revenue grow, week by week?", "scan", {"sql":
        f"SELECT week, revenue, ROUND(SAFE_DIVIDE(revenue, LAG(revenue) OVER (ORDER BY week)) - 1, 3) AS growth FROM ("
        f"SELECT DATE_TRUNC(DATE(ordered_at), WEEK(MONDAY)) AS week, SUM(amount_eur) AS revenue FROM {ORDERS} "
        f"WHERE status NOT IN ('cancelled', 'refunded') GROUP BY week) ORDER BY week"}),
]  # fmt: skip


async def ask(client: Client, tool: str, arguments: dict[str, Any]) -> tuple[int, int]:
    """Characters of the answer, and its rows. Raises `RuntimeError` for a refusal."""
    result = await client.call_tool(tool, arguments)
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    if result.is_error:
        raise RuntimeError(f"{tool} refused: {text}")
    body = dict(result.structured_content or {})
    return len(text), int(body.get("row_count", body.get("total", len(body.get("columns", [])))))


async def gather(folder: Path, first: int) -> tuple[int, int]:
    """Calls and characters; `folder` holds the demo's generated tables afterwards."""
    command = Path(sysconfig.get_path("scripts")) / ("agnes-mcp.exe" if sys.platform == "win32" else "agnes-mcp")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    environment |= {"AGNES_DATA_DIR": str(folder), "AGNES_API__SCAN__MAX_DAILY_BYTES_PER_USER": str(2**33)}
    server = StdioServerParameters(command=str(command), args=["serve", "--demo"], env=environment, cwd=str(folder))
    calls = characters = 0
    async with Client(server) as client:
        for question, tool, arguments in [*LOOKING, *QUESTIONS[:first]]:
            size, rows = await ask(client, tool, arguments)
            calls, characters = calls + 1, characters + size
            print(f"{question:<58} {tool:<8} {rows:>5} {size:>6}", flush=True)
    return calls, characters


def measure(small: bool) -> Iterator[Figure]:
    first = 1 if small else len(QUESTIONS)
    with tempfile.TemporaryDirectory() as temporary:
        calls, characters = anyio.run(gather, Path(temporary), first)
    asked = "the first question" if small else f"{first} questions over BigQuery"
    yield Figure(f"calls for {asked}", "", calls, MAX_CALLS, unit="calls")
    yield Figure(f"characters of the answers to {asked}", "", characters, MAX_CHARS, unit="chars")


if __name__ == "__main__":
    main(measure, __doc__)
