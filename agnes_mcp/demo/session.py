"""A session as an agent would have it, against the real server over stdio, printed as it happens.

Nothing here is prepared text: each step calls a tool, shows what came back, and takes what the next step needs from it.
A step whose answer is not what it should be ends the demo with an error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agnes_mcp.errors import AgnesError

REMOTE = "bq_web_sessions"
#: A weekly funnel, visit to order, over two tables.
FUNNEL = """
WITH visits AS (
  SELECT customer_id, MIN(started_at) AS first_visit FROM bq_web_sessions
  WHERE event_date >= DATE '2026-04-01' AND customer_id IS NOT NULL GROUP BY customer_id
), purchases AS (
  SELECT customer_id, MAX(ordered_at) AS last_order FROM bq_orders
  WHERE ordered_at >= TIMESTAMP '2026-04-01' AND status NOT IN ('cancelled', 'refunded') GROUP BY customer_id
)
SELECT DATE_TRUNC(DATE(first_visit), WEEK(MONDAY)) AS week, COUNT(*) AS visitors,
  COUNTIF(last_order >= first_visit) AS buyers,
  ROUND(SAFE_DIVIDE(COUNTIF(last_order >= first_visit), COUNT(*)), 4) AS conversion
FROM visits LEFT JOIN purchases USING (customer_id) GROUP BY week ORDER BY week
""".strip()
SHOWN_ROWS = 6
_CUT_TEXT = 110


class Session:
    """One conversation with a server; every call is printed with its answer."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console

    def say(self, thought: str) -> None:
        self._console.print(f"\n[bold cyan]●[/] [italic]{escape(thought)}[/]")

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must answer; its structured content."""
        answer, refused = await self._ask(tool, arguments)
        if refused:
            raise AgnesError("internal_error", f"{tool} refused: {answer['message']}", answer["hint"])
        return answer

    async def refused(self, tool: str, kind: str, **arguments: Any) -> None:
        """Call a tool that must refuse, with that kind of error."""
        answer, refused = await self._ask(tool, arguments)
        if not refused or answer["error"] != kind:
            raise AgnesError("internal_error", f"{tool} should have refused with {kind}.", "Please report this.")
        self._console.print(f"  [red]✗ {answer['error']}[/] {escape(answer['message'])}")
        self._console.print(f"    [yellow]→ {escape(answer['hint'])}[/]")

    async def _ask(self, tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        spelled = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
        self._console.print(f"  [bold green]{tool}[/]({escape(spelled)})")
        result = await self._client.call_tool(tool, dict(arguments))
        return dict(result.structured_content or {}), bool(result.is_error)

    def facts(self, answer: Mapping[str, Any], *names: str) -> None:
        for name in names:
            self._console.print(f"    {name}: {escape(_short(answer.get(name)))}")

    def rows(self, answer: Mapping[str, Any]) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("")
        for column in answer["columns"][:8]:
            table.add_column(str(column))
        for row in answer["rows"][:SHOWN_ROWS]:
            table.add_row("   ", *(escape(_short(value, 26)) for value in row[:8]))
        self._console.print(table)
        more = answer["row_count"] - SHOWN_ROWS
        if more > 0:
            self._console.print(f"    … {more} more rows in the answer")


def _short(value: Any, chars: int = _CUT_TEXT) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= chars else text[: chars - 1] + "…"


async def discover(session: Session) -> None:
    session.say("Which tables are there? Looking is free.")
    catalog = await session.call("catalog")
    for entry in catalog["tables"]:
        session.facts(
            {entry["id"]: f"{entry['query_mode']}, {entry['sql_flavor']}: {entry['description']}"}, entry["id"]
        )
    session.say("The sessions are in BigQuery. What are the columns, and by what is the table partitioned?")
    schema = await session.call("schema", table_id=REMOTE)
    session.facts({"columns": ", ".join(f"{c['name']} {c['type']}" for c in schema["columns"])}, "columns")
    session.facts(schema, "rows", "size_bytes", "partition", "clustered_by")
    session.say("What is in a local table?")
    described = await session.call("describe", table_id="orders", n=2, profile=True)
    session.rows(described["sample"])
    for column in described["profile"]["columns"][4:6]:
        session.facts(
            {column["name"]: {k: column.get(k) for k in ("nulls", "approx_distinct", "min", "max", "top_values")}},
            column["name"],
        )


async def learn_the_price(session: Session) -> str:
    session.say("What would reading all of it cost?")
    dear = await session.call("estimate", table_id=REMOTE)
    session.facts(dear, "estimated_scan_bytes", "bq_cost_estimate_usd", "verdict", "advice")
    session.say("Too dear, and it would be refused:")
    await session.refused("scan", "over_scan_cap", table_id=REMOTE)
    where = "event_date >= DATE '2026-04-01' AND country_code IN ('CZ', 'SK')"
    session.say("Fewer columns, and only April:")
    cheap = await session.call("estimate", table_id=REMOTE, select=["platform", "converted"], where=where)
    session.facts(cheap, "estimated_scan_bytes", "bq_cost_estimate_usd", "verdict")
    return where


async def scan(session: Session, where: str) -> None:
    session.say("How many sessions per country, and how long? One aggregate, pushed down to BigQuery.")
    answer = await session.call(
        "scan",
        table_id=REMOTE,
        group_by=["country_code", "platform"],
        aggregates=[{"function": "count"}, {"function": "avg", "column": "duration_s"}],
        where=where,
        order_by=["count DESC"],
    )
    session.rows(answer)
    session.facts(answer, "bytes_billed", "cost_usd", "job_id")
    session.say("A table's text tells the agent to do more than filter. It cannot:")
    await session.refused(
        "scan", "nested_select", table_id=REMOTE, select=["platform"],
        where="platform = 'web' OR 1 = (SELECT COUNT(*) FROM `my-project.secrets.tokens`)",
    )  # fmt: skip
    await session.refused("scan", "unknown_column", table_id=REMOTE, select=["country"], where=where)


async def ask_across_tables(session: Session) -> None:
    session.say("Of each week's new visitors, how many ordered? Two remote tables, one statement; first its price.")
    price = await session.call("estimate", sql=FUNNEL)
    session.facts(price, "estimated_scan_bytes", "bq_cost_estimate_usd", "verdict", "tables")
    answer = await session.call("scan", sql=FUNNEL)
    session.rows(answer)
    session.facts(answer, "bytes_billed", "cost_usd")
    session.say("The same gates stand before it:")
    await session.refused("scan", "table_not_found", sql="SELECT * FROM bq_orders JOIN secrets.tokens USING (order_id)")
    await session.refused("scan", "mixed_sources", sql="SELECT * FROM bq_orders JOIN customers USING (customer_id)")


async def fetch_and_query(session: Session, where: str) -> None:
    session.say("Several questions need the same rows: fetch them once.")
    columns = ["session_id", "event_date", "country_code", "customer_id", "converted", "duration_s"]
    fetched = await session.call("fetch", table_id=REMOTE, select=columns, where=where, name="april_cz_sk")
    session.facts(fetched["snapshot"], "name", "rows", "bytes_local", "bytes_billed", "content_hash")
    session.say("Paying again for the same rows is refused:")
    await session.refused("fetch", "snapshot_exists", table_id=REMOTE, select=columns, where=where, name="again")
    session.say("From now on SQL is free, joined with local tables:")
    answer = await session.call(
        "query",
        sql="SELECT s.country_code, c.tier, count(*) AS sessions, round(avg(s.converted::INT), 4) AS conversion "
        "FROM april_cz_sk s LEFT JOIN customers c USING (customer_id) GROUP BY ALL ORDER BY sessions DESC",
    )
    session.rows(answer)
    await session.refused("query", "query_refused", sql="SELECT * FROM read_text('/etc/passwd')")
    session.say("Is it still what BigQuery says?")
    refreshed = await session.call("snapshot_refresh", name="april_cz_sk")
    session.facts(refreshed, "rows_old", "rows_new", "identical", "effective_as_of_new", "bytes_billed")
    session.facts(await session.call("disk_info"), "snapshot_count", "used_bytes")
    await session.call("snapshot_drop", name="april_cz_sk")


async def spend_it_all(session: Session) -> None:
    session.say("The day's bytes end, too. Scan after scan, until one is refused:")
    select = ["session_id", "landing_page", "country_code"]
    for limit in range(1, 20):  # another limit each time: BigQuery answers the same statement from its cache, free
        price = await session.call("estimate", table_id=REMOTE, select=select, limit=limit)
        session.facts({"left": price["quota"]["daily_bytes_left"], "needed": price["reserve_bytes"]}, "left", "needed")
        if price["verdict"] == "over_daily_quota":
            await session.refused("scan", "quota_exceeded", table_id=REMOTE, select=select, limit=limit)
            return
        await session.call("scan", table_id=REMOTE, select=select, limit=limit)
    raise AgnesError("internal_error", "The daily quota never ended.", "Please report this.")


async def _run(console: Console, folder: str) -> None:
    command = Path(sysconfig.get_path("scripts")) / ("agnes-mcp.exe" if sys.platform == "win32" else "agnes-mcp")
    # neither the user's instance nor its settings: --demo, and no variable of ours but these
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    environment |= {"AGNES_DATA_DIR": folder, "AGNES_API__SCAN__MAX_DAILY_BYTES_PER_USER": str(90 * 2**20)}
    server = StdioServerParameters(command=str(command), args=["serve", "--demo"], env=environment, cwd=folder)
    async with Client(server) as client:
        tools = await client.list_tools()
        console.print(f"[bold]agnes-mcp[/] over stdio: {', '.join(tool.name for tool in tools.tools)}")
        session = Session(client, console)
        await discover(session)
        where = await learn_the_price(session)
        await scan(session, where)
        await ask_across_tables(session)
        await fetch_and_query(session, where)
        await spend_it_all(session)
        session.say("What was spent, and what is left?")
        session.facts(await session.call("usage"), "principal", "quota", "bigquery")


def run_session(keep: bool = True) -> None:
    """Print the session. The generated tables are kept between runs; snapshots, audit and quota start empty."""
    console = Console(highlight=False, width=max(100, min(Console().width, 150)))
    folder = tempfile.mkdtemp(prefix="agnes-demo-")
    kept = Path(tempfile.gettempdir()) / f"agnes-demo-tables-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        if keep:
            kept.mkdir(mode=0o700, exist_ok=True)
            (Path(folder) / "demo").symlink_to(kept, target_is_directory=True)
        anyio.run(_run, console, folder)
    except* AgnesError as group:
        raise _first(group) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _first(group: BaseExceptionGroup[AgnesError]) -> AgnesError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, AgnesError)  # noqa: S101 - what the group was split by
    return error
