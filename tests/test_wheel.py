"""The wheel that is built from this tree: what is in it, and that it serves from anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import anyio
import pytest
import yaml
from mcp import Client, StdioServerParameters
from support.instances import body_of, table, write

ROOT = Path(__file__).parents[1]
SOURCES = ("agnes_mcp", "tools", "resources", "skills", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy, so that the checkout stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "dist", tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel alone; its dependencies are those of the running one."""
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    (site,) = (home / "lib").glob("python*/site-packages")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    (mine,) = [path for path in map(Path, sys.path) if path.name == "site-packages" and (path / "mcp").is_dir()]
    (site / "dependencies.pth").write_text(f"{mine}\n")
    return home / "bin"


def test_everything_is_under_one_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"agnes_mcp"}
    for needed in (
        "agnes_mcp/py.typed", "agnes_mcp/tools/scan.py", "agnes_mcp/resources/guide.md",
        "agnes_mcp/skills/agnes-data-querying/SKILL.md", "agnes_mcp/serving/http/app.py",
        "agnes_mcp/stand_in/wire/rest.py",
    ):  # fmt: skip
        assert needed in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in Path(name).name.lower() or name.endswith(".pyc")]


def test_every_source_file_is_in_it(wheel: Path) -> None:
    """A package that is missing in pyproject's list would be missing here."""
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"agnes_mcp": "agnes_mcp", "tools": "agnes_mcp/tools", "resources": "agnes_mcp/resources",
               "skills": "agnes_mcp/skills"}  # fmt: skip
    for folder, target in folders.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md"):
                assert f"{target}/{path.relative_to(ROOT / folder).as_posix()}" in names


def test_what_it_says_of_itself(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    said = Parser().parsestr(archive.read(place).decode())
    assert (said["Name"], said["License-Expression"]) == ("agnes-data-mcp", "MIT")
    assert "mcp<2.4,>=2.3" in said.get_all("Requires-Dist", [])
    (scripts,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "agnes-mcp = agnes_mcp.cli:main" in archive.read(scripts).decode()


def test_the_console_script_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    assert "serve" in run(installed / "agnes-mcp", "--help", cwd=tmp_path)
    where = run(installed / "python", "-c", "import agnes_mcp; print(agnes_mcp.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    assert list(tmp_path.iterdir()) == []  # nothing is scaffolded


async def test_the_installed_server_answers(installed: Path, tmp_path: Path) -> None:
    """With all its tools and resources, loaded by name."""
    path = write(tmp_path, "orders.parquet", "SELECT 42 AS answer")
    config = tmp_path / "instance.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "state"), "tables": [table("orders", path)]}))
    server = StdioServerParameters(
        command=str(installed / "agnes-mcp"), args=["serve", "--config", str(config)], cwd=tmp_path
    )
    with anyio.fail_after(60):
        async with Client(server) as client:
            answer = body_of(await client.call_tool("scan", {"table_id": "orders"}))
            assert answer["rows"] == [[42]]
            answer = body_of(await client.call_tool("query", {"sql": "SELECT answer + 1 FROM orders"}))
            assert answer["rows"] == [[43]]
            assert (await client.list_resources()).resources
