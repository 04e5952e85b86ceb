"""However wide a table and long a cell, an answer fits, and says what it left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pydantic import BaseModel
from support.instances import ME, settings_of, table

from agnes_mcp.answers.fitting import MAX_CELL_CHARS, RowShaper, chars_of, compact
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest

WIDE = 1_000
TABLES = {
    # columns, names of ordinary and of the greatest length
    "wide": f"SELECT {', '.join(f'i AS column_{n}' for n in range(WIDE))} FROM range(30) AS r(i)",
    "wide_text": f"SELECT {', '.join(f'''repeat('ab', 100) AS c{n}''' for n in range(WIDE))} FROM range(30)",
    "wide_names": f"""SELECT {', '.join(f'i AS "{n:04}{"x" * 250}"' for n in range(300))} FROM range(30) AS r(i)""",
    # cells
    "long_text": "SELECT i AS id, repeat('é\"', 500000) AS note FROM range(8) AS r(i)",
    "long_escapes": "SELECT repeat(chr(1), 1000000) AS note FROM range(4)",
    "long_list": "SELECT range(300000) AS numbers, {'a': repeat('x', 300000)} AS s FROM range(4)",
    "long_blob": "SELECT repeat('ab', 300000)::BLOB AS raw FROM range(4)",
    # types whose spelling is long
    "long_type": "SELECT {" + ", ".join(f"'field_{n}': i" for n in range(3_000)) + "} AS s FROM range(5) AS r(i)",
    "many": "SELECT i AS id, 'row ' || i AS name FROM range(100000) AS r(i)",
}  # fmt: skip


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each table: whoever opens one reads the columns of all that it holds."""
    folder = tmp_path_factory.mktemp("wide")
    paths = {name: folder / f"{name}.duckdb" for name in TABLES}
    for name, path in paths.items():
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"CREATE TABLE {name} AS {TABLES[name]}")
    return paths


@pytest.fixture
def settings(tmp_path: Path, databases: dict[str, Path]) -> Settings:
    return settings_of(tmp_path / "state", [table(name, path) for name, path in databases.items()])


Ask = Callable[[Gateway, str], Awaitable[BaseModel]]
CALLS: dict[str, Ask] = {
    "schema": lambda g, t: g.catalog.columns(ME, t),
    "sample": lambda g, t: g.descriptions.sample(ME, t, 100),
    "describe": lambda g, t: g.descriptions.describe(ME, t, 20, profile=True),
    "estimate": lambda g, t: g.scans.estimate(ME, ScanRequest(table_id=t)),
    "scan": lambda g, t: g.scans.scan(ME, ScanRequest(table_id=t, limit=1_000)),
    "fetch": lambda g, t: g.fetches.fetch(ME, ScanRequest(table_id=t, limit=2), name="kept", force=True),
    "snapshot_list": lambda g, t: g.snapshots.entries(ME),
    "snapshot_refresh": lambda g, t: g.fetches.refresh(ME, "kept"),
    "query": lambda g, t: g.queries.query(ME, f"SELECT * FROM {t}"),
}


@pytest.mark.parametrize("name", TABLES)
async def test_every_answer_fits(settings: Settings, name: str) -> None:
    too_long: dict[tuple[int, str], int] = {}
    async with Gateway(settings) as gateway:
        for chars in (40_000, 8_000):
            settings.api.max_result_chars = chars
            sizes = {call: chars_of(await ask(gateway, name)) for call, ask in CALLS.items()}
            too_long |= {(chars, call): size for call, size in sizes.items() if size > chars}
    assert too_long == {}


async def test_every_search_fits(gateway: Gateway) -> None:
    """Each reads the columns of every table, once for an instance."""
    too_long: dict[tuple[int, str], int] = {}
    for chars in (40_000, 8_000):
        gateway.settings.api.max_result_chars = chars
        sizes = {name: chars_of(await gateway.catalog.browse(ME, search=name)) for name in TABLES}
        too_long |= {(chars, name): size for name, size in sizes.items() if size > chars}
    assert too_long == {}


async def test_what_was_left_out_is_said(gateway: Gateway) -> None:
    schema = await gateway.catalog.columns(ME, "wide_names")
    assert schema.columns_cut == 300 - len(schema.columns) > 0
    assert str(schema.columns_cut) in (schema.note or "")
    sample = await gateway.descriptions.sample(ME, "wide", 5)
    assert sample.columns_cut == WIDE - len(sample.columns) > 0
    assert str(sample.columns_cut) in (sample.note or "")
    assert sample.row_count == 5
    scan = await gateway.scans.scan(ME, ScanRequest(table_id="wide", limit=5))
    assert scan.columns_cut == WIDE - len(scan.columns) > 0
    assert str(scan.columns_cut) in (scan.note or "")
    assert scan.row_count == 5
    assert scan.truncated
    described = await gateway.descriptions.describe(ME, "wide", 2, profile=True)
    assert described.profile is not None
    assert described.profile.columns_cut == WIDE - len(described.profile.columns)
    assert described.profile.columns


async def test_a_snapshot_s_columns_that_did_not_fit_are_counted(gateway: Gateway) -> None:
    answer = await gateway.fetches.fetch(ME, ScanRequest(table_id="wide", limit=2), name="kept")
    assert answer.snapshot is not None
    assert answer.snapshot.columns_cut == WIDE - len(answer.snapshot.columns) > 0
    assert len(compact(answer.first_rows)) <= 2_000
    fetched = await gateway.snapshots.entry(ME, "kept")
    assert fetched.sql.endswith("characters in all]")
    whole = await gateway.queries.query(ME, f"SELECT column_{WIDE - 1} FROM kept ORDER BY 1")
    assert whole.rows == [[0], [1]]


async def test_the_rows_that_did_not_fit_are_kept_whole(gateway: Gateway) -> None:
    """Never a silent cut; what was paid for is a snapshot."""
    scan = await gateway.scans.scan(ME, ScanRequest(table_id="many", limit=90_000))
    assert (scan.truncated, scan.truncated_by) == (True, "answer_size")
    assert scan.snapshot
    counted = await gateway.queries.query(ME, f"SELECT count(*), max(id) FROM {scan.snapshot}")
    assert counted.rows[0][0] == 90_000
    assert scan.snapshot in (scan.note or "")


async def test_a_limit_that_was_reached_is_told_from_a_table_that_ended(gateway: Gateway) -> None:
    reached = await gateway.scans.scan(ME, ScanRequest(table_id="many", limit=10))
    assert (reached.row_count, reached.truncated, reached.more_rows) == (10, False, True)
    ours = await gateway.scans.scan(ME, ScanRequest(table_id="many", limit=10), own_limit=False)
    assert (ours.row_count, ours.truncated, ours.truncated_by, ours.more_rows) == (10, True, "limit", False)
    ended = await gateway.scans.scan(ME, ScanRequest(table_id="many", where="id < 10", limit=10))
    assert (ended.row_count, ended.truncated, ended.truncated_by) == (10, False, None)
    answer = await gateway.scans.scan(ME, ScanRequest(table_id="many", aggregates=[Aggregate(function="count")]))
    assert (answer.rows, answer.truncated) == ([[100_000]], False)


@pytest.mark.parametrize("name", ["long_text", "long_list", "long_blob", "long_escapes"])
async def test_a_long_cell_is_cut_and_tells_its_length(gateway: Gateway, name: str) -> None:
    lengths = {
        "long_text": "1,000,000",
        "long_list": "more than 16,384",
        "long_blob": "800,000",
        "long_escapes": "1,000,000",
    }
    for answer in (
        await gateway.descriptions.sample(ME, name, 2),
        await gateway.scans.scan(ME, ScanRequest(table_id=name, limit=2)),
    ):
        assert answer.rows
        cut = [cell for row in answer.rows for cell in row if isinstance(cell, str) and "… [cut: " in cell]
        assert len(cut) == answer.cut_cells > 0
        assert all(cell.count("… [cut: ") == 1 for cell in cut)
        assert f"[cut: {lengths.get(name, 'more than 16,384')}" in cut[0]


def shaped(rows: list[list[Any]], budget: int, max_rows: int | None = None) -> RowShaper:
    columns = [pa.array([row[n] for row in rows]) for n in range(len(rows[0]))]
    shaper = RowShaper(len(columns), budget, max_rows)
    shaper.add(pa.RecordBatch.from_arrays(columns, names=[str(n) for n in range(len(columns))]))
    return shaper


@pytest.mark.parametrize("budget", [60, 200, 1_000, 5_000, 30_000])
async def test_rows_never_exceed_their_budget(budget: int) -> None:
    for cell in ("x" * 10, "é" * 3_000, "\0" * 20_000, '"' * 20_000, "y" * 20_000):
        shaper = shaped([[cell, 1]] * 20, budget)
        assert len(compact(shaper.rows)) <= budget
        if budget >= 1_000:
            assert shaper.rows


async def test_a_row_more_than_allowed_is_what_makes_it_truncated() -> None:
    """A cap is announced, never silent."""
    assert shaped([[1]] * 3, 1_000, max_rows=3).truncated_by is None
    assert shaped([[1]] * 4, 1_000, max_rows=3).truncated_by == "limit"
    assert shaped([["x" * (MAX_CELL_CHARS + 1)]], 10_000).cut_cells == 1


@pytest.mark.parametrize("oddity", ["", "é", "\u202e", "a\tb", '"', "y" * 5_000])
async def test_rows_that_are_taken_together_are_those_that_fit_one_by_one(oddity: str) -> None:
    rows: list[list[Any]] = [[n, "plain " * (n % 7), None if n % 5 else n / 8] for n in range(400)]
    rows[150][1] = oddity or rows[150][1]
    for budget, most in ((200, None), (6_000, None), (9_000, 180), (50_000, 350), (50_000, 400)):
        together, singly = shaped(rows, budget, most), RowShaper(3, budget, most)
        batch = pa.RecordBatch.from_pylist([dict(zip("abc", row, strict=True)) for row in rows])
        for place in range(len(rows)):
            if not singly.full:
                singly.add(batch.slice(place, 1))
        assert together.rows == singly.rows
        assert (together.truncated_by, together.cut_cells) == (singly.truncated_by, singly.cut_cells)
        assert together.hidden_characters == singly.hidden_characters
