"""One line per call, whatever became of it; never a predicate, a value, or a failure of the call."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from filelock import FileLock
from support.instances import ERAS, ME, connected

from agnes_mcp.calls.audit import Audit, AuditLine, hash_predicate
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest


def lines_of(folder: Path) -> list[dict[str, Any]]:
    paths = [*sorted(folder.glob("audit-*.jsonl")), folder / "audit.jsonl"]
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def line(number: int = 0, principal: str = "ana", **more: Any) -> AuditLine:
    return AuditLine(request_id=f"r{number}", tool="scan", principal=principal, **more)


@pytest.mark.parametrize("mode", ERAS)
async def test_every_call_leaves_one_line(settings: Settings, mode: Any) -> None:
    """Answers, refusals, unknown tools and arguments."""
    where = "country = 'CZ' AND note = 'very secret'"
    calls: list[tuple[str, dict[str, Any], str, str | None]] = [
        ("catalog", {}, "ok", None),
        ("schema", {"table_id": "orders"}, "ok", None),
        ("scan", {"table_id": "orders", "select": ["order_id"], "limit": 5}, "truncated", None),
        ("scan", {"table_id": "orders", "where": where}, "rejected", "unknown_column"),
        ("scan", {"table_id": "nothing"}, "rejected", "table_not_found"),
        ("scan", {"table_id": "orders", "wher": "x"}, "rejected", "unknown_argument"),
        ("scan", {"table_id": "orders", "limit": 0}, "rejected", "invalid_argument"),
        ("scna", {}, "rejected", "unknown_tool"),
    ]
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        answers = [await client.call_tool(tool, arguments) for tool, arguments, _, _ in calls]
    folder = settings.data_dir / "audit"
    lines = lines_of(folder)
    assert [(x["tool"], x["status"], x["error_kind"]) for x in lines] == [(t, s, k) for t, _, s, k in calls]
    assert {x["principal"] for x in lines} == {"me"}
    told = [a.structured_content["request_id"] for a in answers if a.is_error and a.structured_content]
    assert told == [x["request_id"] for x in lines if x["error_kind"]]
    scan = lines[2]
    assert (scan["table_id"], scan["select"], scan["limit"], scan["bytes_billed"]) == ("orders", ["order_id"], 5, 0)
    assert scan["actual_result_rows"] >= 5
    assert isinstance(scan["latency_ms"], int)
    assert lines[3]["where_hash"] == hash_predicate(where)
    assert "secret" not in (folder / "audit.jsonl").read_text()


def test_a_predicate_s_digest_is_stable_and_tells_no_text() -> None:
    assert hash_predicate("a = 1") == hash_predicate("a = 1") != hash_predicate("a = 2")
    assert len(hash_predicate("\ud800")) == 32  # a lone surrogate does not crash it


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    Audit(tmp_path / "audit").write(line())
    assert stat.S_IMODE((tmp_path / "audit" / "audit.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("hostile", ["two\nlines", "\x1b[31mred", "\u202ebidi", "\u2028", "\0", "\ud800", '"},{"'])
def test_hostile_text_stays_one_escaped_line(tmp_path: Path, hostile: str) -> None:
    audit = Audit(tmp_path)
    audit.write(line(table_id=hostile, select=[hostile], error_kind="unknown_column"))
    raw = (tmp_path / "audit.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in raw[:-1])
    assert json.loads(raw)["table_id"] == hostile


def test_full_files_are_put_away_and_stay(tmp_path: Path) -> None:
    audit = Audit(tmp_path, rotate_at_bytes=2_000)
    for number in range(260):
        audit.write(line(number))
    left = sorted(tmp_path.glob("audit-*.jsonl"))
    assert len(left) > 20
    assert all(path.stat().st_size < 2_700 for path in left)
    assert [int(x["request_id"][1:]) for x in lines_of(tmp_path)] == list(range(260))
    assert audit.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))


NOW = datetime(2026, 7, 31, 12, tzinfo=UTC)


def put_away(folder: Path, *names: str) -> None:
    """Renamed files of 100 bytes each."""
    for name in names:
        (folder / name).write_text("x" * 100)


OF_JULY = (
    "audit-20260701T000000000000.jsonl",
    "audit-20260720T120000000000.jsonl",
    "audit-20260730T130000000000.jsonl",
)
TODAY, OF_OTHERS = "audit-20260731T000000000000.jsonl", ("audit-backup.jsonl", "audit-20269999T000000000000.jsonl")


@pytest.mark.parametrize(
    ("keep_for", "most_bytes", "gone"),
    [
        (None, None, ()),
        (timedelta(days=11), None, OF_JULY[:2]),
        (timedelta(days=11, seconds=1), None, OF_JULY[:1]),
        (timedelta(microseconds=1), None, OF_JULY),
        (None, 600, ()),
        (None, 450, OF_JULY[:2]),
        (None, 0, OF_JULY),
        (timedelta(days=20), 500, OF_JULY[:1]),
    ],
)
def test_what_is_retired_is_old_or_too_much_and_never_of_today(
    tmp_path: Path, keep_for: timedelta | None, most_bytes: int | None, gone: tuple[str, ...]
) -> None:
    put_away(tmp_path, *OF_JULY, TODAY, *OF_OTHERS)
    assert Audit(tmp_path).retire(keep_for, most_bytes, NOW) == [(name, 100) for name in gone]
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {*OF_JULY, TODAY, *OF_OTHERS} - set(gone)


def test_a_file_of_an_earlier_day_is_put_away_before_it_can_become_old(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.write(line(1))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert audit.retire(None, 0, tomorrow) == []
    assert (tmp_path / "audit.jsonl").exists()
    assert audit.retire(timedelta(days=1), None, tomorrow) == []
    (old,) = tmp_path.glob("audit-*.jsonl")
    assert not (tmp_path / "audit.jsonl").exists()
    ((name, _),) = audit.retire(timedelta(days=1), None, tomorrow + timedelta(days=1))
    assert name == old.name


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from agnes_mcp.calls.audit import Audit, AuditLine\n"
        "audit = Audit(Path(sys.argv[1]), rotate_at_bytes=60_000)\n"
        "for n in range(400): audit.write(AuditLine(request_id=f'{sys.argv[2]}{n}', tool='scan', principal='ana'))\n"
        "sys.exit(audit.failures)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    written = [x["request_id"] for x in lines_of(tmp_path)]
    assert sorted(written) == sorted(f"{name}{n}" for name in "ab" for n in range(400))
    assert len(list(tmp_path.glob("audit-*.jsonl"))) >= 2


async def test_a_disk_that_refuses_does_not_fail_the_call(settings: Settings) -> None:
    folder = settings.data_dir / "audit"
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    async with Gateway(settings) as gateway:
        assert (await gateway.catalog.columns(ME, "orders")).table_id == "orders"
        with pytest.raises(AgnesError, match="no table"):
            await gateway.catalog.columns(ME, "nothing")
        assert gateway.calls.audit.failures == 2
        folder.unlink()
        await gateway.catalog.columns(ME, "orders")
    assert len(lines_of(folder)) == 1


async def test_a_restart_does_not_give_the_budget_back(settings: Settings) -> None:
    """What the audit says was billed today counts; yesterday's, a torn line and foreign text do not."""
    folder = settings.data_dir / "audit"
    audit = Audit(folder)
    for billed in (700, None, 300):
        audit.write(line(principal="me", bytes_billed=billed))
    with (folder / "audit.jsonl").open("a") as file:
        file.write(json.dumps({"time": "2020-01-01T00:00:00Z", "principal": "me", "bytes_billed": 10**9}) + "\n")
        file.write('[1]\nnot json\n{"time": "' + datetime.now(UTC).date().isoformat() + '", "bytes_b')
    async with Gateway(settings) as gateway:
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == 1_000
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == 1_000


def test_a_bill_that_was_not_known_counts_as_what_was_set_aside_until_a_later_line_has_it(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.write(line(1, bytes_billed=100, reserved_bytes=700, status="cancelled"))  # one statement done, one not
    audit.write(line(2, reserved_bytes=50, status="cancelled"))
    audit.write(line(3, "ben", reserved_bytes=5))
    assert audit.billed_today(datetime.now(UTC)) == {"ana": 850, "ben": 5}
    audit.write(AuditLine(request_id="r1", tool="recovery", principal="ana", bytes_billed=600))
    assert audit.billed_today(datetime.now(UTC)) == {"ana": 750, "ben": 5}


@pytest.mark.parametrize("urgent", [True, False])
def test_a_line_is_written_once(tmp_path: Path, urgent: bool) -> None:
    """By whoever comes first: the end of the call, or the end of the process."""
    audit, one = Audit(tmp_path / "audit"), line(1)
    audit.write(one, urgent=urgent)
    one.status = "error"
    audit.write(one, urgent=not urgent)
    assert [x["status"] for x in lines_of(tmp_path / "audit")] == ["ok"]


def test_the_last_lines_do_not_wait_for_files_to_be_put_away(tmp_path: Path) -> None:
    audit = Audit(tmp_path, rotate_at_bytes=1)
    audit.write(line(0))
    with FileLock(tmp_path / ".rotate.lock"):
        audit.write(line(1), urgent=True)
    assert [x["request_id"] for x in lines_of(tmp_path)] == ["r0", "r1"]
    assert audit.failures == 0


async def test_a_cancelled_call_has_its_line(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        with anyio.move_on_after(30) as scope:
            async with gateway.calls.open("scan", ME, table_id="orders"):
                scope.cancel()
                await anyio.sleep_forever()
        async with gateway.calls.open("scan", ME) as admitted:
            admitted.line.status = "ok"
        with pytest.raises(ZeroDivisionError):
            async with gateway.calls.open("scan", ME):
                raise ZeroDivisionError
    assert [x["status"] for x in lines_of(settings.data_dir / "audit")] == ["cancelled", "ok", "error"]


async def test_the_line_is_written_before_the_answer(gateway: Gateway, settings: Settings) -> None:
    await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
    assert len(lines_of(settings.data_dir / "audit")) == 1


def test_a_line_is_not_glued_to_a_torn_one(tmp_path: Path) -> None:
    """By any number of processes that find it torn at once: every line of theirs is read back."""
    (tmp_path / "audit.jsonl").write_text('{"time": "2026-01-01T00:00:00Z", "princ')
    code = (
        "import sys, pathlib\nfrom agnes_mcp.calls.audit import Audit, AuditLine\n"
        f"audit = Audit(pathlib.Path({str(tmp_path)!r}))\nprint(flush=True); sys.stdin.readline()\n"
        "for n in range(50):\n    audit.write(AuditLine(request_id=f'{sys.argv[1]}-{n}', tool='scan', principal='a'))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "\n"
    for writer in writers:
        writer.communicate("go\n")
    whole = [line["request_id"] for line in Audit(tmp_path).recent(1_000)]
    assert sorted(whole) == sorted(f"{n}-{k}" for n in range(3) for k in range(50))
    assert (tmp_path / "audit.jsonl").read_text().count("\n\n") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_line_for_which_the_disk_had_no_room_swallows_none(tmp_path: Path) -> None:
    """The limit of a file's size stands for a full disk: a part is written, and the next process begins anew."""
    Audit(tmp_path).write(line(1))
    room = (tmp_path / "audit.jsonl").stat().st_size + 50
    code = (
        "import pathlib, resource, signal\nfrom agnes_mcp.calls.audit import Audit, AuditLine\n"
        f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        f"audit = Audit(pathlib.Path({str(tmp_path)!r}))\n"
        "audit.write(AuditLine(request_id='r2', tool='scan', principal='a')); print(audit.failures)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "1\n"
    assert (tmp_path / "audit.jsonl").stat().st_size == room
    Audit(tmp_path).write(line(3))
    assert [x["request_id"] for x in Audit(tmp_path).recent(10)] == ["r3", "r1"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_process_that_was_stopped_while_it_wrote_holds_nobody_up(tmp_path: Path) -> None:
    import fcntl

    Audit(tmp_path).write(line(1))
    with (tmp_path / "audit.jsonl").open("ab") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        stopped.write(b'{"half": ')
        stopped.flush()
        Audit(tmp_path).write(line(2), urgent=True)
    assert [x["request_id"] for x in Audit(tmp_path).recent(10)] == ["r2", "r1"]


@pytest.mark.parametrize("listed_first", [True, False])
def test_a_file_that_is_put_away_while_the_bills_are_read_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed_first: bool
) -> None:
    """Another process rotates: what it renamed must be missed no more than what is called as before."""
    audit, glob = Audit(tmp_path), Path.glob
    audit.write(line(0, bytes_billed=5))
    audit._put_away(datetime.now(UTC))
    audit.write(line(1, bytes_billed=7))

    def rotating(folder: Path, pattern: str) -> Iterator[Path]:
        monkeypatch.undo()
        before = list(glob(folder, pattern))
        audit._put_away(datetime.now(UTC))
        return iter(before if listed_first else list(glob(folder, pattern)))

    monkeypatch.setattr(Path, "glob", rotating)
    assert audit.billed_today(datetime.now(UTC)) == {"ana": 12}
    assert len(list(tmp_path.glob("audit-*.jsonl"))) == 2


def test_a_file_that_is_renamed_while_sizes_are_taken_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, glob = Audit(tmp_path), Path.glob
    audit.write(line(0))
    kept = audit.size_bytes
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [tmp_path / "audit-gone.jsonl", *glob(folder, pattern)])
    assert audit.size_bytes == kept > 0
