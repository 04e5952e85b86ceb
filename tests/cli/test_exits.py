"""Each exit code is reached by what it stands for, and its error is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import Ran, Run
from support.metadata_server import closed_port
from support.waiting import until_a_child_works

from agnes_mcp import errors
from agnes_mcp.stand_in import StandIn

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


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system of 1 MiB, as root")
def test_4_is_for_the_disk(run: Run, shop: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = home / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this system lets nobody mount")
    try:
        monkeypatch.setenv("AGNES_SNAPSHOTS__MIN_FREE_GB", "0")
        (small / "filler").write_bytes(bytes(900_000))
        wide = "SELECT * FROM range(400000) AS a(i)"
        ran = run("query", wide, "--limit", "400000", "--csv", small / "a.csv")
        told(ran, errors.EXIT_DISK, "full")
        assert sorted(path.name for path in small.iterdir()) == ["filler"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


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
