"""The shape of the code: imports point one way, heavy libraries wait, files and functions stay small."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"agnes_mcp": "agnes_mcp", "tools": "agnes_mcp.tools", "resources": "agnes_mcp.resources"}

#: Wings from the ground up. A wing may import what stands on a lower floor, and nothing of its own floor but itself.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "models", "untrusted", "stand_in"),
    ("config", "calls", "sql"),
    ("access", "sources", "snapshots", "workbench"),
    ("answers", "extracts"),
    ("catalog", "charts"),
    ("spending",),
    ("operations",),
    ("gateway",),
    ("serving", "doctor", "demo"),
    ("tools", "resources", "cli"),
)
#: On no floor yet, or planned: the first two go, the others come.
GOING: set[str] = set()
COMING: set[str] = set()
#: Imports that still point the wrong way. Only ever made shorter.
DEBT: frozenset[tuple[str, str]] = frozenset()
#: Who may import a library; everything else in the project may not.
KEEPERS: dict[str, tuple[str, ...]] = {
    "mcp": ("serving", "tools", "resources", "demo.session"),
    "mcp_types": ("serving",),
    "sqlglot": ("sql", "stand_in"),
    "google": ("sources.bigquery", "stand_in"),
    "grpc": ("sources.bigquery", "stand_in"),
    "starlette": ("serving.http", "stand_in"),
    "uvicorn": ("serving.http", "stand_in"),
    "psycopg": ("spending.stores",),
    "sqlite3": ("spending.stores",),
    "typer": ("cli", "demo.session"),
    "rich": ("cli", "demo.session"),
    "altair": ("charts",),
    "vl_convert": ("charts",),
}
#: Catches everything and does not raise it again, each for the reason that stands on its line.
BROAD = {"agnes_mcp/calls/workers.py": 1, "agnes_mcp/sql/predicate/second_reading.py": 1}
BANNED = {"manager", "helper", "helpers", "util", "utils", "handler", "processor", "data", "info"}
#: Named by the project's owner, by the libraries, or by what a file of a snapshot is called beside its sidecar.
NAMED_BY_OTHERS = {
    "agnes_mcp/demo/tables.py", "DataSources", "_data_dir", "disk_info", "_data_type", "data", "data_received",
    "staged_data",
}  # fmt: skip


class Module(NamedTuple):
    path: str
    name: str
    tree: ast.Module
    lines: int


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            text = path.read_text(encoding="utf-8")
            found.append(Module(str(path.relative_to(ROOT)), name, ast.parse(text), text.count("\n")))
    return tuple(found)


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else "__main__"


def floor_of(room: str) -> int:
    return next((number for number, floor in enumerate(FLOORS) if room in floor), -1)


def by_path(found: list[Module] | tuple[Module, ...]) -> list[str]:
    return [module.path for module in found]


def wrong_way(module: Module) -> set[tuple[str, str]]:
    """Imports of this module that do not point to a lower floor, TYPE_CHECKING or not: (module, the wing it wants)."""
    room = room_of(module.name)
    wanted = {room_of(name) for name in imports_of(module.tree) if name.startswith("agnes_mcp.")} - {
        room,
        "__version__",
    }
    return {(module.name.removeprefix("agnes_mcp."), wing) for wing in wanted if floor_of(wing) >= floor_of(room)}


def test_every_wing_has_a_floor() -> None:
    rooms = {room_of(module.name) for module in modules() if module.name != "agnes_mcp"}
    assert sorted(rooms - {room for floor in FLOORS for room in floor}) == sorted(GOING & rooms)
    assert sorted({room for floor in FLOORS for room in floor} - rooms) == sorted(COMING - rooms)


def test_imports_point_down() -> None:
    found = set().union(*(wrong_way(module) for module in modules() if room_of(module.name) not in GOING))
    assert found == DEBT


@pytest.mark.parametrize("library", KEEPERS)
def test_a_library_stays_with_its_keepers(library: str) -> None:
    strangers = [
        module.path
        for module in modules()
        if any(name.split(".")[0] == library for name in imports_of(module.tree))
        and not any(f"{module.name}.".startswith(f"agnes_mcp.{keeper}.") for keeper in KEEPERS[library])
    ]
    assert strangers == []


def test_the_table_tells_right_from_wrong() -> None:
    """An upward import is seen, wherever in a module it stands."""
    tree = ast.parse("def f():\n    from agnes_mcp.gateway import Gateway")
    assert wrong_way(Module("", "agnes_mcp.spending.books", tree, 2)) == {("spending.books", "gateway")}
    sideways = ast.parse("if TYPE_CHECKING:\n    from agnes_mcp.snapshots import Snapshots")
    assert wrong_way(Module("", "agnes_mcp.sources.local", sideways, 2)) == {("sources.local", "snapshots")}


def test_tools_are_only_loaded_by_name() -> None:
    importers = [
        module.path
        for module in modules()
        if not module.name.startswith(("agnes_mcp.tools", "agnes_mcp.resources"))
        and any(name.startswith(("agnes_mcp.tools", "agnes_mcp.resources")) for name in imports_of(module.tree))
    ]
    assert importers == []


HEAVY = ("duckdb", "pyarrow", "sqlglot", "google", "grpc", "numpy", "pandas")
LOADS = {
    "the server": "from agnes_mcp.config.settings import Settings; from agnes_mcp.gateway import Gateway;"
    "from agnes_mcp.serving.server import build_server; build_server(Gateway(Settings()))",
    "the transport": "import agnes_mcp.serving.stdio",
    "the command line": "import agnes_mcp.cli",
}


@pytest.mark.parametrize("what", LOADS)
def test_heavy_libraries_wait_for_their_first_use(what: str) -> None:
    code = f"import sys; {LOADS[what]}; print(*sorted({{n.split('.')[0] for n in sys.modules}} & {set(HEAVY)!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def test_the_command_line_does_without_the_sdk() -> None:
    code = "import sys, agnes_mcp.cli; print('mcp' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert loaded.stdout == "False\n", loaded.stderr


def functions() -> Iterator[tuple[str, int]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module.path}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_files_and_functions_are_small() -> None:
    assert [module.path for module in modules() if module.lines > 300] == []
    lengths = sorted(length for _, length in functions())
    assert statistics.median(lengths) <= 10
    assert lengths[int(len(lengths) * 0.95)] <= 45


def is_broad(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(is_broad(element) for element in node.elts)
    return node is None or (isinstance(node, ast.Name) and node.id in ("Exception", "BaseException"))


def swallows(node: ast.AST) -> bool:
    """Catches everything and does not raise the same again."""
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        return is_broad(node.type) and not (isinstance(last, ast.Raise) and last.exc is None)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "suppress"
        and any(is_broad(argument) for argument in node.args)
    )


def test_hardly_anything_is_caught_broadly() -> None:
    counted = {module.path: sum(swallows(node) for node in ast.walk(module.tree)) for module in modules()}
    assert {path: count for path, count in counted.items() if count} == BROAD


def words_of(name: str) -> set[str]:
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part)}


def test_names_say_what_things_are() -> None:
    named = {module.path: Path(module.path).stem for module in modules()}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                named[f"{module.path}:{node.name}"] = node.name
    bad = {place: name for place, name in named.items() if words_of(name) & BANNED}
    assert [place for place, name in bad.items() if not {place, name} & NAMED_BY_OTHERS] == []
