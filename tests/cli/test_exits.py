"""Each exit code is reached by what it stands for, and its error is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import Ran, Run
from support.agnes import extract, parquet
from support.metadata_server import closed_port
from support.mirrored import TOKEN, mirrored
from support.waiting import until_a_child_works, wait_until

from agnes_mcp import errors
from agnes_mcp.stand_in import Fault, StandIn

COMMAND = str(Path(sys.executable).with_name("agnes-mcp"))


def told(ran: Ran, code: int, part: str) -> None:
    err = ran.err
    assert (ran.code, ran.out) == (code, ""), err
    assert err.startswith("Error: ")
    assert " Hint: " in err
    assert err.count("\n") == 1
    assert part in err


def test_0_is_for_what_was_asked_for(run: Run, shop: Path) -> None:
    assert run("catalog").code == errors.EXIT_OK


def test_2_is_for_what_cannot_be_meant(run: Run, shop: Path) -> None:
    told(run("scan", "orders", "--where", "nope = 1"), errors.EXIT_VALIDATION, "nope")


def test_3_is_for_budgets(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNES_API__SCAN__MAX_DAILY_BYTES_PER_USER", "10")
    told(run("scan", "sessions"), errors.EXIT_QUOTA, "bytes")


@pytest.fixture
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounts a file system of 1 MiB, as root")
    folder = home / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this system lets nobody mount")
    monkeypatch.setenv("AGNES_SNAPSHOTS__MIN_FREE_GB", "0")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(small: Path, left: int) -> Path:
    """So that so many bytes are free."""
    there = os.statvfs(small)
    file = small / "filler"
    file.write_bytes(bytes(there.f_bavail * there.f_frsize - left))
    return file


def seen(folder: Path) -> dict[str, bytes]:
    """Files that anybody would read: no locks, no filler."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "filler")
    return {path.name: path.read_bytes() for path in found if ".lock" not in path.name}


def test_4_is_for_the_disk(run: Run, shop: Path, small: Path) -> None:
    fill(small, 100_000)
    wide = "SELECT * FROM range(400000) AS a(i)"
    ran = run("query", wide, "--limit", "400000", "--csv", small / "a.csv")
    told(ran, errors.EXIT_DISK, "full")
    assert sorted(path.name for path in small.iterdir()) == ["filler"]


@pytest.mark.parametrize("command", ["usage", "doctor"])
@pytest.mark.parametrize("data_dir", ["orders.parquet", "orders.parquet/deeper"])
def test_4_is_for_a_data_directory_that_is_none(run: Run, shop: Path, command: str, data_dir: str) -> None:
    """The doctor says 5, as of all that is broken."""
    shop.write_text(shop.read_text().replace("data_dir: ./state", f"data_dir: ./{data_dir}"))
    if command == "doctor":
        ran = run(command)
        assert (ran.code, ran.err) == (5, "")
        assert "FAILED data_dir: The data directory (data_dir) cannot be used" in ran.out
        return
    told(run(command), 4, "The data directory (data_dir) cannot be used: ")


def test_a_server_that_could_write_nothing_down_does_not_start(shop: Path) -> None:
    """It would refuse every call. Nothing is on the standard output, which is the protocol's."""
    shop.write_text(shop.read_text().replace("data_dir: ./state", "data_dir: ./orders.parquet"))
    ended = subprocess.run([COMMAND, "serve"], input="", capture_output=True, text=True, timeout=60, check=False)
    told(Ran(ended.returncode, ended.stdout, ended.stderr), 4, "cannot be used: it is no folder")


def test_an_extract_onto_a_full_disk_is_not_there_and_then_is(
    run: Run, shop: Path, small: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(home / "none.duckdb_extension"))
    shop.write_text(shop.read_text().replace("data_source:\n", f"data_source:\n  agnes: {{data_dir: {small}}}\n"))
    fill(small, 60_000)
    told(run("extract"), errors.EXIT_DISK, "extract.duckdb was not written, and what was there stays")
    assert seen(small) == {}
    subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
    ran = run("extract")
    assert ran.out == "1 table registered, 0 with a view\n", ran.err
    before = seen(small)
    assert list(before) == ["extract.duckdb"]
    fill(small, 60_000)
    told(run("extract"), errors.EXIT_DISK, "full")
    assert seen(small) == before


def test_a_rebuild_onto_a_full_disk_leaves_the_file_before_it(run: Run, small: Path, home: Path) -> None:
    (home / "instance.yaml").write_text(f"data_source: {{agnes: {{data_dir: {small}}}}}\n")
    extract(small / "extracts" / "shop", {"kept": "local"}, "CREATE TABLE kept AS SELECT 1 AS id")
    assert seen(small / "analytics") == {}
    for _ in range(2):  # without a file before it, and with one
        filler = fill(small, 60_000)
        known = seen(small / "analytics")
        told(run("rebuild"), errors.EXIT_DISK, "server.duckdb was not written, and what was there stays")
        assert seen(small / "analytics") == known
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert run("rebuild").code == 0
        assert list(seen(small / "analytics")) == ["server.duckdb"]


def test_a_fetch_onto_a_full_disk_keeps_nothing(
    run: Run, shop: Path, small: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_DATA_DIR", str(small / "state"))
    parquet(home / "people.parquet", "SELECT i * 0.377 % 1 AS x FROM range(400000) r(i)")
    told(run("fetch", "people", "--as", "p", "--no-estimate"), errors.EXIT_DISK, "disk")
    assert [name for name in seen(small) if name.startswith("p.")] == []
    assert run("snapshot", "list").out == "(no snapshots)\n"
    assert run("fetch", "people", "--as", "p", "--limit", "10", "--no-estimate").code == 0


def test_a_sync_onto_a_full_disk_keeps_what_was_there_and_brings_the_rest(
    run: Run, small: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit code says that something failed; the table's line says what."""
    monkeypatch.setenv("AGNES_TOKEN", TOKEN)
    with mirrored() as server:
        server.tables = {
            "big": parquet(home / "a.parquet").read_bytes(),
            "small": parquet(home / "b.parquet").read_bytes(),
        }
        assert run("sync", "--from", server.url, "--into", small).code == 0
        before = seen(small)
        server.tables = {
            "big": os.urandom(3 * 2**20),
            "small": parquet(home / "c.parquet", "SELECT 7 AS n").read_bytes(),
        }
        ran = run("sync", "--from", server.url, "--into", small)
        assert (ran.code, ran.err) == (1, "big: the disk is full\n")
        assert seen(small)["big.parquet"] == before["big.parquet"]
        assert seen(small)["small.parquet"] == server.tables["small"]
        assert not list(small.glob("*.part"))
        server.tables["big"] = parquet(home / "d.parquet", "SELECT 8 AS n").read_bytes()
        assert run("sync", "--from", server.url, "--into", small).code == 0
        assert seen(small)["big.parquet"] == server.tables["big"]
        assert (small / "not a folder").write_bytes(b"x") == 1
        ran = run("sync", "--from", server.url, "--into", small / "not a folder")
    assert (ran.code, "--into" in ran.err, ran.err.count("\n")) == (1, True, 1)


@pytest.mark.parametrize("left", [4_096, 16_384, 24_576, 40_960])
def test_books_that_find_no_room_say_so_in_words(
    run: Run, shop: Path, small: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """However far SQLite came: to its file, its log, or the index of that."""
    monkeypatch.setenv("AGNES_DATA_DIR", str(small / "state"))
    fill(small, left)
    ran = run("scan", "sessions")
    told(ran, errors.EXIT_DISK, "disk is full")
    assert ("SQLITE" in ran.err, "snapshot drop" in ran.err or "disk" in ran.err) == (False, True)


def test_a_doctor_writes_to_know_whether_a_disk_is_full(
    run: Run, shop: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_DATA_DIR", str(small / "state"))
    fill(small, 0)
    ran = run("doctor", "--json")
    (found,) = [each for each in json.loads(ran.out)["findings"] if each["subject"] == "data_dir"]
    assert (ran.code, found["state"], "no space left" in found["found"]) == (errors.EXIT_SERVER, "fail", True)


def test_4_is_for_a_disk_that_has_to_stay_free(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNES_SNAPSHOTS__MIN_FREE_GB", "1000000")
    ran = run("fetch", "sessions", "--no-estimate")
    assert (ran.code, ran.out) == (errors.EXIT_DISK, "")


def test_5_is_for_a_server_that_fails(run: Run, shop: Path, home: Path) -> None:
    (home / "orders.parquet").write_bytes(b"PAR1 nothing PAR1")
    ran = run("scan", "orders")
    assert (ran.code, ran.err.startswith("Error: ")) == (errors.EXIT_SERVER, True)


def test_6_is_for_what_is_there_already(run: Run, shop: Path) -> None:
    assert run("fetch", "sessions", "--as", "kept", "--where", "amount < 9", "--no-estimate").code == 0
    told(run("fetch", "sessions", "--as", "kept", "--limit", "1", "--no-estimate"), errors.EXIT_EXISTS, "kept")


def test_7_is_for_who_is_not_known(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write_text(shop.read_text().replace("project: my-project\n", "project: my-project\n    auth: metadata\n"))
    with closed_port() as port:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        told(run("schema", "sessions"), errors.EXIT_AUTH, "token")


def test_8_is_for_what_may_not_be_seen(run: Run, shop: Path) -> None:
    told(run("schema", "gone"), errors.EXIT_ACCESS, "gone")


def test_9_is_for_a_network_that_is_not_there(run: Run, shop: Path, bq: StandIn) -> None:
    with closed_port() as port:
        shop.write_text(shop.read_text().replace(bq.api_endpoint, f"http://127.0.0.1:{port}"))
        told(run("schema", "sessions"), errors.EXIT_NETWORK, "BigQuery")


def test_130_is_for_ctrl_c(shop: Path, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    slow = "SELECT count(*) FROM range(100000) a, range(100000) b WHERE sin(a.range * b.range) > 0.3"
    process = subprocess.Popen(
        [COMMAND, "query", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=home
    )
    audit = home / "state" / "audit"
    until_a_child_works(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err.startswith("Error: Stopped.")
    lines = "".join(path.read_text() for path in audit.glob("*"))
    assert '"status":"cancelled"' in lines.replace(" ", "")


def test_ctrl_c_cancels_the_job_at_bigquery_and_settles(shop: Path, home: Path, bq: StandIn) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    before = {name: len(bq.requests.named(name)) for name in ("jobs.get", "jobs.cancel")}
    bq.faults.add(Fault("job", stuck=True))
    asked = [COMMAND, "fetch", "sessions", "--where", "amount < 77", "--as", "kept", "--no-estimate"]
    process = subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=home
    )
    wait_until(lambda: len(bq.requests.named("jobs.get")) > before["jobs.get"])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (130, "", 1), err
    assert len(bq.requests.named("jobs.cancel")) == before["jobs.cancel"] + 1
    for name, found in (("usage", '"running_scans":0'), ("snapshot list", '"snapshots":[]')):
        ran = subprocess.run(
            [COMMAND, *name.split(), "--json"], capture_output=True, text=True, env=environment, cwd=home, timeout=60
        )
        assert found in ran.stdout or (name == "snapshot list" and "kept" not in ran.stdout), ran.stdout


@pytest.mark.race
def test_shells_share_one_day(shop: Path, home: Path) -> None:
    """Six at once on a budget for three: each bills 10 MB, the least there is, and no byte goes over."""
    mib = 2**20
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    environment["AGNES_API__SCAN__MAX_DAILY_BYTES_PER_USER"] = str(35 * mib)
    asked = [COMMAND, "scan", "sessions", "--select", "amount", "--json", "--where"]
    shells = [
        subprocess.Popen(
            [*asked, f"amount < {n}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=home,
        )
        for n in range(1, 7)
    ]
    ended = [(shell.communicate(timeout=110), shell.returncode) for shell in shells]
    billed = [json.loads(out).get("bytes_billed", 0) for (out, _), code in ended if code == 0]
    assert sorted(code for _, code in ended) == [0, 0, 0, 3, 3, 3], ended
    assert sum(billed) <= 35 * mib
    told = subprocess.run([COMMAND, "usage", "--json"], capture_output=True, text=True, env=environment, cwd=home)
    assert json.loads(told.stdout)["quota"]["daily_bytes_used"] == sum(billed)
