"""Each host starts the server from an empty home through the configuration that it is given, and speaks MCP with it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import anyio
import pytest
from plugin.hosts import PLUGIN, ROOT, bare, command_of, load, prepare, speaks
from plugin.model import model, said
from support.waiting import wait_until

START = PLUGIN / "bin" / "start.py"


@pytest.fixture(scope="module")
def geminis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home from which Gemini's configuration has started the server, which made the demo's tables there."""
    folder = tmp_path_factory.mktemp("gemini")
    prepare(folder / "home" / ".agnes" / "plugin", PLUGIN / "server")
    entry = load(ROOT / "gemini-extension.json")["mcpServers"]["agnes"]
    anyio.run(partial(speaks, entry, bare(folder / "home"), folder, extensionPath=str(ROOT)))
    return folder / "home"


@pytest.fixture
def home(geminis: Path, tmp_path: Path) -> Path:
    """An empty one, but for the demo's tables: they take seconds to make, and are not the host's."""
    (tmp_path / "home" / ".agnes").mkdir(parents=True)
    (tmp_path / "home" / ".agnes" / "demo").symlink_to(geminis / ".agnes" / "demo")
    return tmp_path / "home"


def test_geminis_configuration_starts_the_server(geminis: Path) -> None:
    context = ROOT / load(ROOT / "gemini-extension.json")["contextFileName"]
    assert context.is_file()
    assert list((geminis / ".agnes" / "demo").glob("*/web_sessions.parquet"))


async def test_claude_codes_configuration_starts_the_server(home: Path, tmp_path: Path) -> None:
    places = {"CLAUDE_PLUGIN_ROOT": str(PLUGIN), "CLAUDE_PLUGIN_DATA": str(tmp_path / "data")}
    prepare(tmp_path / "data", PLUGIN / "server")
    entry = load(PLUGIN / ".mcp.json")["mcpServers"]["agnes"]
    await speaks(entry, bare(home), tmp_path, **places)


@pytest.mark.needs("mcpb")
async def test_claude_desktops_bundle_starts_the_server(home: Path, tmp_path: Path) -> None:
    """Unpacked as the host unpacks it; uv takes the environment of the tests instead of downloading one."""
    bundle = tmp_path / "agnes.mcpb"
    pack = [*command_of("mcpb"), "pack", str(PLUGIN), str(bundle)]
    await anyio.run_process(pack, env=bare(tmp_path / "npm"))
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(bundle).extractall(unpacked)
    entry = load(unpacked / "manifest.json")["server"]["mcp_config"]
    assert entry["env"] == {"AGNES_CONFIG": "${user_config.config}"}
    here = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1", "AGNES_CONFIG": ""}
    await speaks(entry, bare(home, **here), tmp_path, __dirname=str(unpacked))


@pytest.mark.needs("claude")
def test_claude_code_installs_the_plugin_and_connects(home: Path, tmp_path: Path) -> None:
    env = bare(home, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1")
    prepare(home / ".claude" / "plugins" / "data" / "agnes-agnes", PLUGIN / "server")
    claude = command_of("claude")

    def run(*words: str, **more: str) -> str:
        done = subprocess.run(
            [*claude, *words], env={**env, **more}, cwd=tmp_path, capture_output=True, text=True, timeout=100,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("plugin", "marketplace", "add", str(ROOT))
    run("plugin", "install", "agnes@agnes")
    assert "Connected" in run("mcp", "list")
    question = 'How many sessions per country, and "why" $1?'
    with model() as (url, asked):
        run("-p", f"/agnes:ask {question}", ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="none")
    told = said(asked)
    assert "with the tools of the agnes server: How many sessions per country, and" in told
    assert 'why\\\\\\" $1?' in told or 'why\\" $1?' in told
    assert "agnes-data-querying" in str(asked)  # the skill came along


STUB = """#!/bin/sh
# stands in for uv: says that it has begun, and installs when it is let
echo started >> "$STUB_LOG"
while [ ! -e "$STUB_GO" ]; do sleep 0.05; done
echo finished >> "$STUB_LOG"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for uv")
def test_a_host_that_gives_up_does_not_end_the_installation(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text(STUB)
    (programs / "uv").chmod(0o755)
    log, go, folder = tmp_path / "log", tmp_path / "go", tmp_path / "data"
    env = bare(tmp_path / "home", STUB_LOG=str(log), STUB_GO=str(go))
    env["PATH"] = f"{programs}:{env['PATH']}"
    start = subprocess.Popen([sys.executable, str(START), str(folder)], env=env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    wait_until(lambda: log.exists())
    start.kill()
    stdout, _ = start.communicate(timeout=60)
    assert stdout == b""  # it belongs to the protocol
    go.touch()
    wait_until(lambda: bool(list(folder.glob("venv-*/.ready"))))
    assert log.read_text().split() == ["started", "finished"]


def test_an_installation_that_fails_says_where_to_look(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (programs / "uv").chmod(0o755)
    env = bare(tmp_path / "home")
    env["PATH"] = f"{programs}:{env['PATH']}"
    done = subprocess.run(
        [sys.executable, str(START), str(tmp_path / "data")], env=env, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, b"")
    log = Path(done.stderr.decode().rsplit("see ", 1)[1].strip())
    assert "no network" in log.read_text()
