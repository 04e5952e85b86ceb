"""Many clients at once: 64 sessions over streamable HTTP call mixed tools, while a few of them scan.

    python bench/load.py [--seconds 20] [--sessions 64] [--think 1.0] [--attack]

It starts a real server and prints calls per second, the latency of cheap calls next to that of one client alone, how
late the server's event loop ran (from its own metrics), and what was left behind: errors, slots, reserved bytes.
With `--attack` another caller has twelve endless queries, patterns that nothing interrupts, and estimates of predicates
of three kilobytes under way all the time; the figures are those of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from serving.served import Era, Served, bearer, body_of, connect, serve, token_of, user, write_instance
from support.instances import table, write

from agnes_mcp.access.grants import digest_token

USERS = 8
ALONE_ROUNDS = 20
SCRAPER = "scraper-token-of-the-load"
CHEAP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("catalog", {}),
    ("schema", {"table_id": "small"}),
    ("estimate", {"table_id": "big", "where": "bucket = 3"}),
    ("sample", {"table_id": "small", "n": 3}),
    ("usage", {}),
    ("snapshot_list", {}),
)
WORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("scan", {"table_id": "big", "group_by": ["bucket"], "aggregates": [{"function": "sum", "column": "id"}]}),
    ("scan", {"table_id": "small", "where": "id = {nonce}", "limit": 5}),
    ("query", {"sql": "SELECT {nonce} AS nonce, count(*) AS n FROM small"}),
)
ATTACKER = "mallory"
_LONG = " OR ".join(f"note LIKE '%{number:03}%'" for number in range(140))
#: What the attacker has under way, and how many of each.
ATTACKS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("query", {"sql": "SELECT max(a.id * b.id) FROM big AS a, big AS b, big AS c"}, 12),
    ("scan", {"table_id": "big", "where": f"note ILIKE '{'%x' * 12}Z'", "limit": 1}, 4),
    ("estimate", {"table_id": "big", "where": _LONG}, 20),
)
#: What a busy server may refuse, and says so.
EXPECTED = ("quota_exceeded",)


@dataclass
class Tally:
    calls: int = 0
    refused: int = 0
    crossed: int = 0
    errors: list[str] = field(default_factory=list)
    cheap_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    lag: dict[float, float] = field(default_factory=dict)
    left_over: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def lag_p99_s(self) -> float:
        """The loop's lag at its 99th percentile, rounded up to a bucket of the histogram."""
        total = max(self.lag.values())
        return min(bound for bound, count in self.lag.items() if count >= 0.99 * total)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def make_instance(folder: Path) -> Path:
    big = "SELECT i AS id, i % 1000 AS bucket, 'x' || i AS note FROM range(3000000) AS r(i)"
    small = "SELECT i AS id, 'name ' || i AS name FROM range(1000) AS r(i)"
    tables = [table("big", write(folder, "big.parquet", big)), table("small", write(folder, "small.parquet", small))]
    users = [user(ATTACKER, "*"), *(user(f"user{n}", "*") for n in range(USERS))]
    server = {"max_calls_per_minute_per_user": None, "metrics_token_sha256": digest_token(SCRAPER)}
    return write_instance(folder / "instance.yaml", tables=tables, access={"users": users}, server=server)


async def load(served: Served, seconds: float, sessions: int, think_s: float, attack: bool = False) -> Tally:
    """Let so many sessions call for so long, and count; `attack`: beside a caller who wants everything."""
    async with anyio.create_task_group() as attackers:
        for tool, arguments, times in ATTACKS if attack else ():
            for _ in range(times):
                attackers.start_soon(keep_calling, served, tool, arguments)
        tally = await load_honestly(served, seconds, sessions, think_s)
        attackers.cancel_scope.cancel()
    return tally


async def keep_calling(served: Served, tool: str, arguments: dict[str, Any]) -> None:
    async with connect(served, "http", "auto", token_of(ATTACKER)) as client:
        while True:
            await client.call_tool(tool, arguments)


async def load_honestly(served: Served, seconds: float, sessions: int, think_s: float) -> Tally:
    """The same without the attacker."""
    tally = Tally()
    await call_alone(served, tally)
    ready = Gate(sessions)
    before = await loop_lag(served)
    async with anyio.create_task_group() as group:
        for number in range(sessions):
            group.start_soon(session, served, number, (seconds, think_s), tally, ready)
        await ready.open.wait()
        ready.started_at = time.monotonic()
        ready.go.set()
    tally.seconds = time.monotonic() - ready.started_at
    tally.lag = {bound: count - before[bound] for bound, count in (await loop_lag(served)).items()}
    await look_back(served, tally)
    return tally


async def call_alone(served: Served, tally: Tally) -> None:
    """What cheap calls take when nobody else calls."""
    async with connect(served, "http", "auto", token_of("user0")) as client:
        for _ in range(ALONE_ROUNDS):
            for tool, arguments in CHEAP:
                before = time.monotonic()
                await client.call_tool(tool, arguments)
                tally.alone_s.append(time.monotonic() - before)


async def loop_lag(served: Served) -> dict[float, float]:
    """The histogram of the loop's lag so far: how often it was at most so many seconds."""
    async with httpx2.AsyncClient(timeout=30, headers=bearer(SCRAPER)) as http:
        text = (await http.get(f"{served.url}/metrics")).text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "agnes_event_loop_lag_seconds_bucket"
    }


class Gate:
    """Opens when so many have arrived; they go on together."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.open, self.go = anyio.Event(), anyio.Event()
        self.started_at = 0.0

    async def arrive(self) -> None:
        self._wanted -= 1
        if self._wanted == 0:
            self.open.set()
        await self.go.wait()


async def session(served: Served, number: int, pace: tuple[float, float], tally: Tally, ready: Gate) -> None:
    dice, (seconds, think_s) = random.Random(number), pace
    era: Era = "legacy" if number % 2 else "auto"
    async with connect(served, "http", era, token_of(f"user{number % USERS}")) as client:
        await ready.arrive()
        while time.monotonic() - ready.started_at < seconds:
            await asyncio.sleep(dice.random() * 2 * think_s)  # as an agent thinks
            cheap = dice.random() < 0.8
            tool, arguments = dice.choice(CHEAP if cheap else WORK)
            nonce = dice.randrange(1000)
            before = time.monotonic()
            result = await client.call_tool(tool, with_nonce(arguments, nonce))
            tally.calls += 1
            if cheap:
                tally.cheap_s.append(time.monotonic() - before)
            check(tally, tool, arguments, nonce, result)


def with_nonce(arguments: dict[str, Any], nonce: int) -> dict[str, Any]:
    return {
        key: value.replace("{nonce}", str(nonce)) if isinstance(value, str) else value
        for key, value in arguments.items()
    }


def check(tally: Tally, tool: str, arguments: dict[str, Any], nonce: int, result: Any) -> None:
    body = body_of(result)
    if result.is_error:
        tally.refused += 1
        if body["error"] not in EXPECTED:
            tally.errors.append(f"{tool}: {body['error']}: {body['message']}")
    elif "{nonce}" in str(arguments) and body["rows"][0][0] != nonce:
        tally.crossed += 1


async def look_back(served: Served, tally: Tally) -> None:
    """Nothing may be held once every client has left."""
    for number in range(USERS):
        async with connect(served, "http", "auto", token_of(f"user{number}")) as client:
            quota = body_of(await client.call_tool("usage", {}))["quota"]
        for held in ("running_scans", "daily_bytes_reserved"):
            if quota[held]:
                tally.left_over.append(f"user{number}: {held} = {quota[held]}")


def report(tally: Tally, sessions: int) -> None:
    rate = tally.calls / tally.seconds
    print(f"{sessions} sessions, {tally.seconds:.0f} s: {tally.calls} calls, {rate:.0f} per second")
    for share in (0.5, 0.99):
        alone, among = quantile(tally.alone_s, share), quantile(tally.cheap_s, share)
        print(
            f"cheap calls, p{share * 100:.0f}: alone {alone * 1000:.0f} ms, "
            f"among {sessions} {among * 1000:.0f} ms: x{among / alone:.1f}"
        )
    print(f"the event loop's lag, p99: at most {tally.lag_p99_s * 1000:.0f} ms")
    print(f"refused for the quota: {tally.refused - len(tally.errors)}; crossed answers: {tally.crossed}")
    print(f"errors: {tally.errors[:5] or 'none'}; held at the end: {tally.left_over or 'nothing'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between a session's calls")
    parser.add_argument("--attack", action="store_true", help="beside a caller who wants everything")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve(make_instance(Path(folder))) as served:
        tally = anyio.run(load, served, given.seconds, given.sessions, given.think, given.attack)
    report(tally, given.sessions)
    sys.exit(bool(tally.errors or tally.left_over or tally.crossed))


if __name__ == "__main__":
    main()
