"""What was in vain once is not begun anew by every call."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.arrow_bombs import file, run
from support.instances import ME

from agnes_mcp.calls.audit import Audit
from agnes_mcp.calls.call import Call, timed_out
from agnes_mcp.calls.frame import Calls
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local import refusals
from agnes_mcp.sources.local.conversion import Conversions
from agnes_mcp.sources.local.files import find_files
from agnes_mcp.sources.local.refusals import Refusals
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sql.duckdb_errors import unavailable

MINUTES = 60.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of refusals, which stands still."""
    shown = SimpleNamespace(now=1000.0)
    shown.monotonic = lambda: shown.now
    monkeypatch.setattr(refusals, "time", shown)
    return shown


@pytest.fixture
def unforgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time the first call had, however long the next ones may last, and come later."""
    monkeypatch.setattr(refusals, "_TIMES", 1e9)
    monkeypatch.setattr(refusals, "_LONGER", 1e9)


def attempt(
    kept: Refusals, clock: SimpleNamespace, call: Call, state: str = "as it is", fault: AgnesError | None = None
) -> None:
    """Ten seconds of work."""
    with kept.attempt("t", state, call) as tried:
        clock.now += 10.0
        if fault is not None:
            raise fault
        tried.end()


def test_work_that_took_longer_than_a_call_may_last_is_refused_to_the_next(clock: SimpleNamespace) -> None:
    kept = Refusals()
    with pytest.raises(AgnesError, match="stopped after"):
        attempt(kept, clock, Call("schema", ME, 10), fault=timed_out(10))
    for _ in range(2):
        with pytest.raises(AgnesError, match="longer than the 10 seconds") as told:
            attempt(kept, clock, Call("schema", ME, 10))
        assert (told.value.kind, "raise" in told.value.hint) == ("table_unavailable", True)
    attempt(kept, clock, Call("scan", ME, MINUTES))  # which may last longer
    attempt(kept, clock, Call("schema", ME, 10), "as it became")
    clock.now += 200  # the machine may have been busy
    attempt(kept, clock, Call("schema", ME, 10))


def test_a_fault_of_the_files_that_took_long_to_find_is_kept(clock: SimpleNamespace) -> None:
    kept = Refusals()
    fault = unavailable("its file is damaged", "t")
    for _ in range(2):
        with pytest.raises(AgnesError, match="damaged"):
            attempt(kept, clock, Call("schema", ME, 60), fault=fault)
        assert clock.now == 1010.0  # it was not looked for again
    clock.now += 200
    attempt(kept, clock, Call("schema", ME, 60))


async def test_what_is_kept_of_one_call_names_no_other(clock: SimpleNamespace, tmp_path: Path) -> None:
    """Each answer has the id of its own call, however often the same is refused."""
    kept, calls, named = Refusals(), Calls(Audit(tmp_path), 1), []

    async def ask() -> None:
        async with calls.open("schema", ME) as call:
            named.append(call.request_id)
            attempt(kept, clock, call, fault=unavailable("its text is not whole", "t"))

    for _ in range(3):
        with pytest.raises(AgnesError) as caught:
            await ask()
        assert caught.value.details == {"request_id": named[-1]}
    assert len(set(named)) == 3


def test_a_conversion_that_no_call_has_the_time_for_is_not_begun_anew(tmp_path: Path, unforgotten: None) -> None:
    path, conversions = file(tmp_path / "t.arrow", run(2**31 - 1, 7)), Conversions(2**28)
    table = Table(id="t", source_type="local", path=str(path))

    def convert(timeout_s: float) -> list[str]:
        return conversions.parquet(table, find_files(table), tmp_path, Call("scan", ME, timeout_s))

    with pytest.raises(AgnesError, match="stopped after"):
        convert(0.2)
    with pytest.raises(AgnesError, match="to make its file ready took longer"):
        convert(MINUTES)
    file(path, run(3, 7))
    assert len(convert(MINUTES)) == 1
    conversions.close()


def test_a_conversion_of_several_files_goes_on_where_it_was_left(tmp_path: Path, unforgotten: None) -> None:
    for name, rows in (("1", 3), ("2", 2**31 - 1)):
        file(tmp_path / f"{name}.arrow", run(rows, 7))
    conversions, table = Conversions(2**28), Table(id="t", source_type="local", path=f"{tmp_path}/*.arrow")
    files, made = find_files(table), tmp_path / "made"
    made.mkdir()
    while not list(made.iterdir()):  # the first is there at the deadline, however busy the machine is
        with pytest.raises(AgnesError):
            conversions.parquet(table, files, made, Call("scan", ME, 0.5))
        conversions._refusals = Refusals()
    (first,) = made.iterdir()
    inode = first.stat().st_ino
    with pytest.raises(AgnesError, match="stopped after"):
        conversions.parquet(table, files, made, Call("scan", ME, 0.2))
    assert first.stat().st_ino == inode
    conversions.close()


def test_a_text_that_no_call_has_the_time_to_unpack_is_not_begun_anew(
    tmp_path: Path, source: LocalSource, unforgotten: None
) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    table = Table(id="t", source_type="local", path=str(path))
    for read in (source.schema, source.view):
        with pytest.raises(AgnesError, match="stopped after"):
            read(table, Call("schema", ME, 0.0))
        with pytest.raises(AgnesError, match="to make its file ready took longer"):
            read(table, Call("schema", ME, MINUTES))
        path.write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n" + str(read).encode()))
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert [column.name for column in source.schema(table, Call("schema", ME, MINUTES)).columns] == ["a", "b"]
