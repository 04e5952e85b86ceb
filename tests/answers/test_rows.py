"""Rows beside what an answer says anyway: what is only known late still fits."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from agnes_mcp.answers.fitting import Room, WrittenRows, chars_of, compact, fit, quota_beside
from agnes_mcp.answers.models import QueryAnswer, SampleAnswer, ScanAnswer
from agnes_mcp.answers.rows import LATE_FACTS_CHARS, NO_ROWS, RowsFitting, note_cut_columns
from agnes_mcp.models import QuotaLeft
from agnes_mcp.operations.scan import _NOTES, _note
from agnes_mcp.operations.snapshots import Kept
from agnes_mcp.snapshots import scan_name
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.spending.purchase import ASSUMED

#: The longest that each can be: BigQuery takes 1,024 characters of a job's id, ours are far shorter.
LONGEST_NAME = scan_name("t" * 64)
LONGEST_JOB_ID = "agnes_" + "f" * 60
MANY = 2**63 - 1
WARNING = f"100% of your project's bytes for today are taken: {MANY:,} of {MANY:,} are left."


def standing(used: int, warning: str | None = None) -> QuotaLeft:
    return QuotaLeft(
        warning=warning,
        daily_bytes_used=used,
        daily_bytes_reserved=used,
        daily_bytes_limit=MANY,
        daily_bytes_left=MANY - used,
        running_scans=1,
        max_concurrent_scans=5,
        resets_at=datetime(2026, 1, 2, tzinfo=UTC),
        seconds_to_reset=1,
    )


def rows(count: int, columns: int = 2) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({f"column_{n}": [f"value {i}" for i in range(count)] for n in range(columns)})


def fitting_of(answer: ScanAnswer, batch: pa.RecordBatch, chars: int) -> RowsFitting[ScanAnswer]:
    fitting = RowsFitting(answer, batch.schema.names, [str(kind) for kind in batch.schema.types], chars)
    fitting.add(batch)
    return fitting


@pytest.mark.parametrize("count", [0, 1, 300, 1_000])
@pytest.mark.parametrize("most", [None, 299])
def test_the_text_of_rows_is_that_which_was_measured(count: int, most: int | None) -> None:
    """Over several slices, up to a limit; and where a cell has to be looked at alone, there is none yet."""
    answer = ScanAnswer(**NO_ROWS)
    for batch, plain in ((rows(count), True), (one_hidden(rows(count)), count == 0)):
        fitting = RowsFitting(answer, batch.schema.names, ["VARCHAR"] * 2, 100_000, most)
        fitting.add(batch)
        shown = fitting.finish().rows
        assert len(shown) == min(count, most or count)
        assert isinstance(shown, WrittenRows) is plain
        assert not isinstance(shown, WrittenRows) or shown.text == compact(list(shown))


def one_hidden(batch: pa.RecordBatch) -> pa.RecordBatch:
    cells = ["a\u202eb", *batch.column(0).to_pylist()[1:]][: batch.num_rows]
    return batch.set_column(0, batch.schema.field(0), pa.array(cells, batch.schema.field(0).type))


@pytest.mark.parametrize("chars", [2_000, 8_000, 40_000])
@pytest.mark.parametrize("columns", [1, 30, 3_000])
def test_what_is_known_late_fits_as_well(chars: int, columns: int) -> None:
    """Every late fact at its longest, beside as many rows as were taken before any of them was known."""
    empty = ScanAnswer(**NO_ROWS, sql="SELECT 1", quota=quota_beside(standing(0)))
    fitting = fitting_of(empty, rows(5_000 if columns < 100 else 100, columns), chars)
    kept = (Kept(), Kept(Snapshot(name=LONGEST_NAME, rows=MANY, limit=MANY)))
    notes = [_note(fitting.columns_cut, kind, name, ASSUMED) or "" for kind in _NOTES for name in kept]
    answer = fitting.finish(
        truncated_by="result_bytes",
        bytes_billed=MANY,
        cost_usd=123456789.1234,
        job_id=LONGEST_JOB_ID,
        snapshot=LONGEST_NAME,
        quota=quota_beside(standing(10**12, WARNING)),
        note=max(notes, key=len),
    )
    assert chars_of(answer) <= chars
    assert answer.row_count == len(answer.rows)
    assert answer.columns_cut == columns - len(answer.columns)


def test_no_room_is_given_away() -> None:
    """What is kept free for late facts is the most that an answer leaves unused, but for one row."""
    empty = ScanAnswer(**NO_ROWS, sql="SELECT 1", quota=quota_beside(standing(0)))
    answer = fitting_of(empty, rows(5_000), 8_000).finish()
    assert 8_000 - chars_of(answer) <= LATE_FACTS_CHARS + chars_of(answer.rows[-1]) + 10


def test_an_answer_says_what_kept_rows_and_columns_out() -> None:
    batch = rows(10)
    names, kinds = batch.schema.names, [str(kind) for kind in batch.schema.types]
    query = QueryAnswer(**NO_ROWS, tables=["orders"], elapsed_s=0.1)
    limited = RowsFitting(query, names, kinds, 8_000, max_rows=3)
    limited.add(batch)
    assert (limited.truncated_by, limited.full, limited.lacking) == ("limit", True, False)
    assert limited.finish().row_count == 3
    wide = RowsFitting(SampleAnswer(**NO_ROWS, table_id="t"), [f"c{n}" for n in range(900)], ["string"] * 900, 4_000)
    assert (wide.truncated_by, wide.full, wide.lacking) == ("answer_size", False, True)
    assert str(wide.columns_cut) in (note_cut_columns(wide.columns_cut) or "")
    assert note_cut_columns(0) is None


@pytest.mark.parametrize("chars", [0, 5, 40, 41, 42, 400])
def test_items_are_taken_while_they_fit_with_their_commas(chars: int) -> None:
    items = [f"item {n}" for n in range(20)]
    taken = fit(items, chars)
    assert taken == items[: len(taken)]
    assert chars_of(taken) - 2 <= chars or not taken
    if len(taken) < len(items):
        assert chars_of(items[: len(taken) + 1]) - 2 >= chars


def test_at_least_so_many_are_taken_and_nothing_after_one_that_was_too_long() -> None:
    assert fit(["x" * 100, "y", "z"], 10, at_least=1) == ["x" * 100]
    assert fit(["x" * 100, "y"], 10) == []
    assert fit([], 10, at_least=1) == []


def test_room_is_taken_whole_or_not_at_all() -> None:
    room = Room(10)
    assert room.take(5)
    assert not room.take(4)
    assert room.left == 4
    assert room.take(3)
