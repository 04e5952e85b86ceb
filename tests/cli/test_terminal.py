"""At a real terminal: tables that fit, questions before costs, colours; and none of it in a pipe."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml
from support.agnes import extract, parquet
from support.mirrored import TOKEN, Fault, mirrored
from support.waiting import wait_until

from agnes_mcp.stand_in import StandIn

COMMAND = str(Path(sys.executable).with_name("agnes-mcp"))
PATIENCE_S = 60.0


class Terminal:
    """A command on a pseudo-terminal of that width."""

    def __init__(self, home: Path, *arguments: str, columns: int = 80, **env: str) -> None:
        import fcntl
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("AGNES_") and name != "COLUMNS"
        }
        self.process = subprocess.Popen(
            [COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=home,
            env={**kept, "HOME": str(home), "TERM": "xterm-256color", **env}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            assert self._more(), self.seen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> int:
        while self._more():
            pass
        os.close(self._master)
        return self.process.wait(PATIENCE_S)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE_S)
        assert ready, f"nothing came: {self.seen}"
        try:
            part = os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # the other side has closed
            return False
        self.seen += part
        return bool(part)


def piped(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same without a terminal."""
    environment = {**os.environ, "HOME": str(home), "TERM": "xterm-256color", **env}
    return subprocess.run(
        [COMMAND, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=home, env=environment,
        timeout=PATIENCE_S,
    )  # fmt: skip


def plain(text: str) -> list[str]:
    """Lines as they stand on the screen."""
    import re

    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in text.split("\n")]
    return [line.rpartition("\r")[2].rstrip() for line in shown]


@pytest.mark.parametrize("columns", [60, 120])
def test_tables_fit_the_terminal(shop: Path, home: Path, columns: int) -> None:
    terminal = Terminal(home, "scan", "sessions", "--limit", "3", columns=columns)
    assert terminal.finish() == 0
    lines = plain(terminal.seen)
    assert any(line.split()[:2] == ["session_id", "amount"] for line in lines)
    rows = [line for line in lines if line.startswith(("session_id", "s0", "s1", "s2"))]
    assert len(rows) == 4
    assert max(map(len, rows)) <= columns
    assert "\x1b[" in terminal.seen


def test_a_terminal_too_narrow_for_columns_gets_rows_as_blocks(shop: Path, home: Path) -> None:
    terminal = Terminal(home, "query", "SELECT * FROM orders CROSS JOIN people LIMIT 1", columns=40)
    assert terminal.finish() == 0
    lines = plain(terminal.seen)
    assert [line.split()[0] for line in lines if line][:6] == [
        "order_id", "country", "amount", "day", "visit", "person_id"
    ]  # fmt: skip
    assert max(map(len, lines)) <= 40


def test_a_pipe_gets_whole_values_and_no_colour(shop: Path, home: Path) -> None:
    environment = {**os.environ, "HOME": str(home), "TERM": "xterm-256color"}
    ran = subprocess.run(
        [COMMAND, "scan", "sessions", "--limit", "3"],
        capture_output=True,
        text=True,
        cwd=home,
        env=environment,
        timeout=60,
    )
    assert (ran.returncode, "\x1b" in ran.stdout + ran.stderr) == (0, False)
    assert "x" * 200 in ran.stdout


def test_an_answer_that_cannot_be_written_is_one_line_and_a_code(shop: Path, home: Path) -> None:
    for sql, rows in (("SELECT 1 AS n", "1"), ("SELECT * FROM range(200000)", "200000")):
        ran = subprocess.run(
            ["sh", "-c", '"$0" query "$1" --limit "$2" > /dev/full', COMMAND, sql, rows],
            capture_output=True, text=True, cwd=home, timeout=PATIENCE_S,
        )  # fmt: skip
        said = "Error: The answer could not be written whole: No space left on device. Hint: Send it somewhere else.\n"
        assert (ran.returncode, ran.stderr) == (4, said)


def test_a_reader_who_leaves_is_no_fault(shop: Path, home: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", '"$0" query "SELECT * FROM range(200000)" --limit 200000 | head -n 1', COMMAND],
        capture_output=True, text=True, cwd=home, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("range\n", "")


def test_a_terminal_without_a_character_gets_its_number(shop: Path, home: Path) -> None:
    ran = piped(home, "query", "SELECT 'é' AS x", PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stdout) == (0, "x\n\\xe9\n")


def test_ctrl_c_while_a_mirror_fills_keeps_what_arrived(shop: Path, home: Path) -> None:
    with mirrored() as server:
        server.tables["big"] = os.urandom(4 * 2**20)
        server.faults["big"] = [Fault(stall_at=2**20)]
        terminal = Terminal(home, "sync", "--from", server.url, "--into", "mirror", AGNES_TOKEN=TOKEN)
        wait_until(lambda: sum(part.stat().st_size for part in (home / "mirror").glob(".*.part")) >= 2**19)
        os.killpg(terminal.process.pid, 2)
        assert terminal.finish() == 130
        assert "Stopped. Hint: What arrived is kept" in terminal.seen
        server.release.set()
        ran = piped(home, "sync", "--from", server.url, "--into", "mirror", AGNES_TOKEN=TOKEN)
        assert (ran.returncode, (home / "mirror" / "big.parquet").read_bytes()) == (0, server.tables["big"])
        assert int(server.asked("big")[-1]["range"].removeprefix("bytes=").removesuffix("-")) >= 2**19


def costly(shop: Path) -> None:
    shop.write_text(shop.read_text() + "api: {scan: {confirm_above_bytes: 10}}\n")


def test_a_costly_call_asks_and_a_yes_runs_it(shop: Path, home: Path) -> None:
    costly(shop)
    terminal = Terminal(home, "scan", "sessions", "--select", "amount", "--limit", "3")
    terminal.wait_for("Run it? [y/N]")
    assert "SELECT" in terminal.seen
    assert "under $0.01" in terminal.seen
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert "3 rows" in terminal.seen


@pytest.mark.parametrize("answer", ["n\n", "\n", "later\n"])
def test_anything_but_a_yes_runs_nothing(shop: Path, home: Path, answer: str) -> None:
    costly(shop)
    terminal = Terminal(home, "fetch", "sessions", "--no-estimate")
    terminal.wait_for("Run it? [y/N]")
    terminal.type(answer)
    assert terminal.finish() == 3
    assert "It was not run." in terminal.seen


def test_yes_beforehand_and_no_terminal_ask_nobody(shop: Path, home: Path) -> None:
    costly(shop)
    terminal = Terminal(home, "scan", "sessions", "--limit", "3", "--yes")
    assert (terminal.finish(), "Run it?" in terminal.seen) == (0, False)
    ran = piped(home, "scan", "sessions", "--limit", "3")
    assert ran.returncode == 0, ran.stderr


def test_ctrl_c_at_the_question_ends_it(shop: Path, home: Path) -> None:
    costly(shop)
    terminal = Terminal(home, "scan", "sessions")
    terminal.wait_for("Run it? [y/N]")
    os.killpg(terminal.process.pid, 2)
    assert terminal.finish() == 130


def test_help_is_everywhere_and_loads_little(home: Path) -> None:
    """Also what a shell asks for while somebody types: one process, which has loaded nothing more after all of them."""
    asked = [["--help"], ["-h"], ["snapshot", "-h"], ["token", "add", "-h"], ["sync", "--help"], ["--version"]]
    code = (
        "import sys\n"
        "from agnes_mcp.cli import main\n"
        f"for arguments in {asked!r}:\n"
        "    sys.argv = ['agnes-mcp', *arguments]\n"
        "    try:\n        main()\n"
        "    except SystemExit as ended:\n        assert not ended.code, (arguments, ended.code)\n"
        "    heavy = {n.split('.')[0] for n in sys.modules} & {'duckdb', 'mcp', 'pyarrow', 'google'}\n"
        "    print('LOADED', *sorted(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home, timeout=60)
    loaded = [line.strip() for line in ran.stdout.splitlines() if line.startswith("LOADED")]
    assert loaded == ["LOADED"] * len(asked), (ran.stdout[-300:], ran.stderr[-500:])


#: What stands on the line, and what is offered for its last word.
OFFERED = {"agnes-mcp scan o": ["orders"], "agnes-mcp snapshot drop f": ["few"], "agnes-mcp sch": ["schema"]}


def test_a_shell_completes_ids_and_names(shop: Path, home: Path) -> None:
    assert piped(home, "fetch", "sessions", "--as", "few", "--where", "amount < 2").returncode == 0
    for typed, offered in OFFERED.items():
        last = str(len(typed.split()) - 1)
        asked = {"_AGNES_MCP_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": last}
        assert (typed, piped(home, **asked).stdout.split()) == (typed, offered)


def test_a_shell_completes_what_was_discovered(home: Path) -> None:
    """From files alone: BigQuery is gone by then, and no heavy library is loaded."""
    with StandIn() as bq:
        for name in ("wanted_one", "wanted_two", "else"):
            bq.create_table("my_dataset", name, schema="id INT64", rows=[])
        endpoints = {"api_endpoint": bq.api_endpoint, "storage_endpoint": f"grpc://{bq.grpc_target}"}
        bigquery = {"project": "my-project", "datasets": ["my_dataset"], **endpoints}
        described = {"data_dir": str(home / "state"), "tables": [], "data_source": {"bigquery": bigquery}}
        (home / "instance.yaml").write_text(yaml.safe_dump(described))
        listed = piped(home, "catalog", "--json")
        assert [entry["id"] for entry in json.loads(listed.stdout)["tables"]] == ["else", "wanted_one", "wanted_two"]
        bq.drop_table("my_dataset", "wanted_two")
        assert piped(home, "catalog", "--refresh").returncode == 0
    asked = {"_AGNES_MCP_COMPLETE": "complete_bash", "COMP_WORDS": "agnes-mcp scan w", "COMP_CWORD": "2"}
    assert piped(home, **asked).stdout.split() == ["wanted_one"]
    code = (
        "import sys, typer; from pathlib import Path; from agnes_mcp.cli.completion import discovered\n"
        f"found = discovered(Path({str(home / 'state')!r}))\n"
        "print(*sorted(found), *({n.split('.')[0] for n in sys.modules} & {'duckdb', 'mcp', 'pyarrow', 'google'}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=home)
    assert ran.stdout.split() == ["else", "wanted_one"], ran.stderr


def test_a_shell_completes_what_was_mirrored(home: Path) -> None:
    """The files of an Agnes directory, whichever source's; what only an extract names takes DuckDB to be known."""
    extract(home / "agnes" / "extracts" / "shop", {"wanted_view": "local"}, "CREATE VIEW wanted_view AS SELECT 1 AS id")
    for file in ("shop/data/wanted_rows", "other.example_8000/data/wanted_mirrored", "other.example_8000/data/else"):
        parquet(home / "agnes" / "extracts" / f"{file}.parquet")
    (home / "instance.yaml").write_text("data_dir: ./state\ndata_source: {agnes: {data_dir: ./agnes}}\n")
    asked = {"_AGNES_MCP_COMPLETE": "complete_bash", "COMP_WORDS": "agnes-mcp scan w", "COMP_CWORD": "2"}
    assert piped(home, **asked).stdout.split() == ["wanted_mirrored", "wanted_rows"]


def test_a_server_that_a_person_starts_says_what_it_serves(shop: Path, home: Path) -> None:
    terminal = Terminal(home, "serve", "--transport", "http", "--port", "0", "--log-level", "info")
    terminal.wait_for("(SSE)")  # which ends the line with the address
    assert "Tables: orders, people, sessions" in terminal.seen
    assert "claude mcp add" in terminal.seen
    url = terminal.seen.split("serving ", 1)[1].split("/mcp", 1)[0]
    assert httpx2.get(f"{url}/manifest", timeout=PATIENCE_S).status_code == 200
    terminal.wait_for("manifest by")
    os.killpg(terminal.process.pid, 2)
    assert terminal.finish() == 0
    assert "from 127.0.0.1: ok in" in terminal.seen
