"""The demo's data is made while the server already answers, and once."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import anyio
import pytest
from filelock import FileLock
from mcp import Client, StdioServerParameters
from support.instances import settings_of

from agnes_mcp.calls.call import Call
from agnes_mcp.demo import making
from agnes_mcp.demo.instance import open_demo
from agnes_mcp.demo.making import SPEC, Making, make
from agnes_mcp.demo.tables import demo_folder
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

COMMAND = str(Path(sysconfig.get_path("scripts")) / "agnes-mcp")
NOBODY = Principal("nobody")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Making takes no time and leaves one small file, for what is not about the tables themselves."""
    made: list[Path] = []

    def generate(folder: Path) -> None:
        made.append(folder)
        (folder / "products.parquet").write_bytes(b"rows")

    monkeypatch.setattr("agnes_mcp.demo.tables.generate", generate)
    return made


async def test_a_host_is_greeted_before_the_data_is_there(tmp_path: Path) -> None:
    """The making is held up by the lock that a second server would hold: greeting, listing and free answers come all
    the same, and the call that needs rows is answered once they are there."""
    root = tmp_path / "demo"
    root.mkdir(mode=0o700)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "AGNES_DATA_DIR": str(tmp_path)}
    server = StdioServerParameters(command=COMMAND, args=["serve", "--demo"], env=environment)
    found: list[object] = []

    async def count(client: Client) -> None:
        answer = await client.call_tool("query", {"sql": "SELECT count(*) AS n FROM products"})
        found.extend(answer.structured_content["rows"] if answer.structured_content else [answer])

    held = FileLock(root / ".lock")
    held.acquire()
    try:
        async with Client(server) as client, anyio.create_task_group() as asking:
            assert len((await client.list_tools()).tools) > 10
            asking.start_soon(count, client)
            usage = await client.call_tool("usage", {})
            assert not usage.is_error
            assert found == []
            assert not [path for path in root.iterdir() if path.is_dir()]
            held.release()
        assert found == [[800]]
    finally:
        held.release()


def test_what_a_killed_start_left_is_swept(tmp_path: Path, quick: list[Path]) -> None:
    folder = tmp_path / "demo" / "v9"
    for name in (".making-abc", ".making-def"):
        (folder.parent / name / "deep").mkdir(parents=True)
        (folder.parent / name / "half.parquet").write_bytes(b"half")
    make(folder)
    assert {path.name for path in folder.parent.iterdir()} == {"v9", ".lock"}
    assert {path.name for path in folder.iterdir()} == {"products.parquet", SPEC}


def test_it_is_made_once(tmp_path: Path, quick: list[Path]) -> None:
    for _ in range(2):
        make(tmp_path / "v9")
    assert len(quick) == 1


def test_a_command_has_the_data_before_it_asks(tmp_path: Path, quick: list[Path]) -> None:
    settings = settings_of(tmp_path, [])
    open_demo(settings)
    assert demo_folder(settings).is_dir()
    assert len(quick) == 1


def test_a_waiting_call_ends_at_its_deadline_and_the_making_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "demo" / "v9"
    folder.parent.mkdir()
    ahead = Making(folder)
    with FileLock(folder.parent / ".lock"):
        with pytest.raises(AgnesError) as refused:
            ahead.wait(Call("query", NOBODY, timeout_s=0.01))
        assert refused.value.kind == "timeout"
    assert ahead.wait(Call("query", NOBODY)) == folder
    assert (folder / SPEC).is_file()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system of 1 MiB, as root")
def test_a_full_disk_is_said_and_the_next_call_tries_again(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    try:
        ahead = Making(small / "demo" / "v9")
        with pytest.raises(AgnesError) as refused:
            ahead.wait(Call("query", NOBODY))
        assert refused.value.kind == "disk_full"
        assert not list((small / "demo").glob(".making-*"))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
    assert ahead.wait(Call("query", NOBODY)).is_dir()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file where the folder should be")
    with pytest.raises(AgnesError) as refused:
        Making(tmp_path / "demo" / "v9").wait(Call("query", NOBODY))
    assert refused.value.kind == "storage_failed"
    assert str(tmp_path) not in refused.value.message + (refused.value.hint or "")


def test_the_process_says_with_its_code_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").write_text("")
    monkeypatch.setattr("sys.argv", ["making", str(tmp_path / "demo" / "v9")])
    assert making.main() == 1
    assert "could not be made" in capsys.readouterr().err
