"""The shape of the code: imports point one way, heavy libraries wait, files and functions stay small."""

from __future__ import annotations

import ast
import itertools
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import BaseModel

from agnes_mcp.config.sections import CsvSettings
from agnes_mcp.config.settings import Settings
from agnes_mcp.config.types import Section
from agnes_mcp.errors import KINDS

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
#: What stands in the hall, `__init__.py` and `py.typed` included.
MAX_ENTRIES = 24
#: Classes that hand one call to each other: where two rooms call a method the same, a reader takes one for the other.
WAY = ("calls.frame", "catalog.tables", "gateway", "operations", "sources", "spending.purchase")
#: Whoever is opened is closed; every room may call that so.
EVERYBODY_S = {"close", "aclose"}
#: What an object of a library, or of the system, is asked whether it has it, and where. Ours have base classes.
FOREIGN: dict[str, set[str]] = {
    # the system: what another platform, or another C library, has not
    "agnes_mcp/calls/processes/confinement.py": {"getppid", "malloc_trim"},
    "agnes_mcp/demo/session.py": {"getuid"},
    "agnes_mcp/extracts/published.py": {"O_BINARY"},
    "agnes_mcp/snapshots/files.py": {"O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"},
    # Google's errors and credentials, whose classes share no base that has it; what a thread has kept
    "agnes_mcp/sources/bigquery/errors.py": {"headers", "retry_delay"},
    "agnes_mcp/sources/bigquery/origins.py": {"quota_project_id", "universe_domain"},
    "agnes_mcp/sources/bigquery/streams.py": {"trailing_metadata"},
    "agnes_mcp/sources/bigquery/tokens.py": {"token"},
    # types and readers of Arrow, errors of SQLite, comments of ruamel.yaml, nodes of sqlglot
    "agnes_mcp/snapshots/storable.py": {"value_field"},
    "agnes_mcp/spending/stores/sqlite.py": {"sqlite_errorcode"},
    "agnes_mcp/config/editing.py": {"end"},
    "agnes_mcp/sql/warehouse/binding.py": {"meta_get"},
}
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
    "opentelemetry": ("serving.telemetry",),
    "altair": ("charts",),
    "vl_convert": ("charts",),
}
#: What a constructor names, at most: more of it is two objects.
MAX_NAMED = 8
#: Builds the parts of the settings; everything else gets the section, or the value, that it uses.
BUILDER = "agnes_mcp/gateway.py:Gateway"
#: Extend a class of a library, and hand its arguments on to it.
HANDING_ON = {"agnes_mcp/serving/http/connections.py:BoundedHttp", "agnes_mcp/serving/server.py:AgnesServer"}
#: Used by a library that looks for it under this name; and what is promised in words, of which a test holds each.
CALLED_BY_LIBRARIES = {
    "ARRAY_CONSTRUCTORS", "NO_PAREN_FUNCTIONS", "SUPPORTS_IMPLICIT_UNNEST",  # sqlglot
    "HTTP", "SSE", "authenticate", "before_request", "collect", "eof_received", "makefile", "readinto",
    "_ACCEPTED",  # only has to be held
}  # fmt: skip
PROMISED = {"EXIT_OK", "LEAST_CUT_CHARS", "LINES"}
#: Catches everything and does not raise it again, each for the reason that stands on its line.
BROAD = {"agnes_mcp/calls/call.py": 1, "agnes_mcp/sql/predicate/second_reading.py": 1}
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


def made_up(name: str, code: str) -> Module:
    """A module that is not there, to see a rule fail on it."""
    path = name.replace(".", "/") + ".py"
    return Module(path, name, ast.parse(code), code.count("\n") + 1)


def imports_of(module: Module) -> Iterator[str]:
    """What it imports, wherever that stands and under whatever condition, each name in full."""
    package = module.name.split(".") if module.path.endswith("__init__.py") else module.name.split(".")[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else "__main__"


def floor_of(room: str) -> int:
    return next((number for number, floor in enumerate(FLOORS) if room in floor), -1)


def wrong_way(module: Module) -> set[tuple[str, str]]:
    """Imports of this module that do not point to a lower floor, TYPE_CHECKING or not: (module, the wing it wants)."""
    room = room_of(module.name)
    wanted = {room_of(name) for name in imports_of(module) if name.startswith("agnes_mcp.")} - {room, "__version__"}
    return {(module.name.removeprefix("agnes_mcp."), wing) for wing in wanted if floor_of(wing) >= floor_of(room)}


def test_every_wing_has_a_floor() -> None:
    rooms = {room_of(module.name) for module in modules() if module.name != "agnes_mcp"}
    assert sorted(rooms) == sorted(room for floor in FLOORS for room in floor)
    assert floor_of("a_new_wing") == -1


def test_imports_point_down() -> None:
    assert set().union(*(wrong_way(module) for module in modules())) == set()


@pytest.mark.parametrize(
    ("name", "code", "wing"),
    [
        ("agnes_mcp.spending.books", "def f():\n    from agnes_mcp.gateway import Gateway", "gateway"),
        ("agnes_mcp.sources.local", "if TYPE_CHECKING:\n    from agnes_mcp.snapshots import Snapshots", "snapshots"),
        ("agnes_mcp.calls.frame", "from ..sources import Source", "sources"),
        ("agnes_mcp.models", "import agnes_mcp.errors", "errors"),
    ],
    ids=["upward", "sideways, for types", "relative", "plain"],
)
def test_an_import_that_points_elsewhere_is_seen(name: str, code: str, wing: str) -> None:
    assert {wanted for _, wanted in wrong_way(made_up(name, code))} == {wing}


def graph_of(found: Iterable[Module]) -> dict[str, set[str]]:
    """Which module imports which, of these: the module itself where it is named, else the one that has the name."""
    by_name = {module.name: module for module in found}
    graph: dict[str, set[str]] = {}
    for name, module in by_name.items():
        meant = (wanted if wanted in by_name else wanted.rpartition(".")[0] for wanted in imports_of(module))
        graph[name] = {wanted for wanted in meant if wanted in by_name} - {name}
    return graph


def cycles(found: Iterable[Module]) -> list[list[str]]:
    """Modules that import each other, however far around."""
    graph = graph_of(found)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reachable = {name: reached(name) for name in graph}
    rings = {tuple(sorted(other for other in graph if other in reachable[name] and name in reachable[other]))
             for name in graph if name in reachable[name]}  # fmt: skip
    return [list(ring) for ring in sorted(rings)]


def test_no_modules_import_each_other() -> None:
    assert cycles(modules()) == []
    around = [
        made_up("agnes_mcp.sql.a", "from agnes_mcp.sql.b import x"),
        made_up("agnes_mcp.sql.b", "if TYPE_CHECKING:\n    from .c import y"),
        made_up("agnes_mcp.sql.c", "def f():\n    import agnes_mcp.sql.a"),
        made_up("agnes_mcp.sql.d", "from agnes_mcp.sql import a"),
    ]
    assert cycles(around) == [["agnes_mcp.sql.a", "agnes_mcp.sql.b", "agnes_mcp.sql.c"]]


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "__pycache__")))


def test_the_hall_is_not_crowded(tmp_path: Path) -> None:
    assert len(entries(ROOT / "agnes_mcp")) <= MAX_ENTRIES
    for number in range(MAX_ENTRIES + 1):
        (tmp_path / f"room{number}.py").touch()
    assert len(entries(tmp_path)) > MAX_ENTRIES


def strangers(library: str, found: Iterable[Module]) -> list[str]:
    """Modules that import a library without being its keepers."""
    return [
        module.path
        for module in found
        if any(name.split(".")[0] == library for name in imports_of(module))
        and not any(f"{module.name}.".startswith(f"agnes_mcp.{keeper}.") for keeper in KEEPERS[library])
    ]


@pytest.mark.parametrize("library", KEEPERS)
def test_a_library_stays_with_its_keepers(library: str) -> None:
    assert strangers(library, modules()) == []
    thief = made_up("agnes_mcp.errors", f"def f():\n    from {library}.inner import x")
    assert strangers(library, [thief]) == [thief.path]


def loads_features(found: Iterable[Module]) -> list[str]:
    return [
        module.path
        for module in found
        if not module.name.startswith(("agnes_mcp.tools", "agnes_mcp.resources"))
        and any(name.startswith(("agnes_mcp.tools", "agnes_mcp.resources")) for name in imports_of(module))
    ]


def test_tools_are_only_loaded_by_name() -> None:
    assert loads_features(modules()) == []
    assert loads_features([made_up("agnes_mcp.serving.server", "from agnes_mcp.tools.scan import scan")]) != []


def asked_whether(node: ast.AST) -> str:
    """The name in `hasattr(x, "name")`, or in `getattr` with something else for who does not have it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
        named, asks = node.args[1], {"getattr": 3, "hasattr": 2}.get(node.func.id) == len(node.args)
        return str(named.value) if asks and isinstance(named, ast.Constant) else ""
    return ""


def guessing(found: Iterable[Module]) -> dict[str, set[str]]:
    """Modules that ask an object whether it happens to have something, and what."""
    asked = {module.path: {asked_whether(node) for node in ast.walk(module.tree)} - {""} for module in found}
    return {path: names for path, names in asked.items() if names}


def test_no_seam_is_guessed_at() -> None:
    """What one of ours may be asked stands in its base class."""
    assert guessing(module for module in modules() if room_of(module.name) != "stand_in") == FOREIGN
    for code in ('close = getattr(source, "close", None)', 'if hasattr(source, "close"): source.close()'):
        assert guessing([made_up("agnes_mcp.sources.kinds", code)]) == {"agnes_mcp/sources/kinds.py": {"close"}}
    assert not guessing([made_up("agnes_mcp.models", "value = getattr(self, name)")])


def shared_names(found: Iterable[Module]) -> dict[str, list[str]]:
    """Methods that classes of several rooms have under one name, except where one of them extends the other."""
    having: dict[str, dict[str, list[ast.ClassDef]]] = {}
    for module in found:
        for defined in (node for node in module.tree.body if isinstance(node, ast.ClassDef)):
            for method in defined.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_"):
                    having.setdefault(method.name, {}).setdefault(room_of(module.name), []).append(defined)
    return {
        name: sorted(rooms) for name, rooms in having.items()
        if name not in EVERYBODY_S and len(rooms) > 1 and not _extend([c for found in rooms.values() for c in found])
    }  # fmt: skip


def _extend(classes: list[ast.ClassDef]) -> bool:
    """Whether one class here is the base of another."""
    names = {defined.name for defined in classes}
    return any(isinstance(base, ast.Name) and base.id in names for defined in classes for base in defined.bases)


def test_no_two_rooms_of_one_way_call_a_method_the_same() -> None:
    inside = tuple(f"agnes_mcp.{place}" for place in WAY)
    on_the_way = [m for m in modules() if m.name in inside or m.name.startswith("agnes_mcp.operations.")]
    assert shared_names(on_the_way) == {}
    twice = [
        made_up("agnes_mcp.gateway", "class Gateway:\n    def scan(self): ..."),
        made_up("agnes_mcp.operations.scan", "class Scans:\n    async def scan(self): ..."),
    ]
    assert shared_names(twice) == {"scan": ["gateway", "operations"]}


def constructors(found: Iterable[Module]) -> Iterator[tuple[str, list[ast.expr | None], bool]]:
    """Where it is, the types of what it names, and whether it takes anything else: written, or made of fields."""
    for module in found:
        for defined in (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)):
            place = f"{module.path}:{defined.name}"
            for node in defined.body:
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    named = node.args
                    types = [one.annotation for one in (*named.posonlyargs, *named.args, *named.kwonlyargs)][1:]
                    yield place, types, bool(named.kwarg)
            if "dataclass" in " ".join(map(ast.unparse, defined.decorator_list)):
                yield place, [node.annotation for node in defined.body if isinstance(node, ast.AnnAssign)], False


def holding_all(found: Iterable[Module]) -> list[str]:
    """Objects that are handed the whole settings, or anything at all."""
    return [
        place
        for place, types, anything in constructors(found)
        if (anything and place not in HANDING_ON) or ("Settings" in words_in(types) and place != BUILDER)
    ]


def words_in(types: list[ast.expr | None]) -> set[str]:
    return {word for kind in types if kind is not None for word in re.findall(r"\w+", ast.unparse(kind))}


def naming_many(found: Iterable[Module]) -> list[str]:
    """Written constructors alone: the fields of what travels are what there is to tell."""
    return [
        f"{module.path}:{defined.name}"
        for module in found
        for defined in ast.walk(module.tree) if isinstance(defined, ast.ClassDef)
        for node in defined.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        and len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - 1 > MAX_NAMED
    ]  # fmt: skip


def test_a_constructor_names_what_its_object_needs() -> None:
    assert holding_all(modules()) == []
    assert naming_many(modules()) == []
    for handed in ("def __init__(self, settings: Settings | None): ...", "def __init__(self, **options: Any): ..."):
        bag = made_up("agnes_mcp.spending.accounts", f"class Accounts:\n    {handed}")
        assert holding_all([bag]) == ["agnes_mcp/spending/accounts.py:Accounts"]
    field = made_up("agnes_mcp.calls.frame", "@dataclass(frozen=True)\nclass Framed:\n    settings: Settings")
    assert holding_all([field]) == ["agnes_mcp/calls/frame.py:Framed"]
    nine = ", ".join(f"part{number}: int" for number in range(MAX_NAMED + 1))
    assert naming_many([made_up("agnes_mcp.models", f"class Many:\n    def __init__(self, {nine}): ...")]) != []


def quoting(found: Iterable[Module]) -> set[str]:
    """Modules that double a quote themselves, as names and literals of SQL need it."""
    return {
        module.path for module in found for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace"
        and [getattr(argument, "value", None) for argument in node.args] in (["'", "''"], ['"', '""'])
    }  # fmt: skip


def test_one_module_quotes() -> None:
    assert quoting(module for module in modules() if room_of(module.name) != "stand_in") == {"agnes_mcp/sql/names.py"}
    code = """sql = "'" + text.replace("'", "''") + "'\""""
    assert quoting([made_up("agnes_mcp.extracts.writing", code)]) == {"agnes_mcp/extracts/writing.py"}


def unbounded(found: Iterable[Module]) -> list[str]:
    """Functions that remember what they answered to any argument, and do not say to how many."""
    return [
        f"{module.path}:{node.name}"
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in map(ast.unparse, node.decorator_list)
        if re.fullmatch(r"(functools\.)?(cache|lru_cache(\((maxsize=)?None\))?)", decorator)
        and (node.args.posonlyargs or node.args.args or node.args.kwonlyargs)
    ]


def unexplained(place: str, text: str) -> list[str]:
    """What an object keeps by key from one call to the next, without a word on how much of it and until when."""
    lines = ["", *text.splitlines()]
    kept = re.compile(r" +self\.(_\w+): (?:dict\[.+ = \{\}|OrderedDict\[.+ = OrderedDict\(\))( +# .*)?")
    matches = ((before, kept.fullmatch(line)) for before, line in itertools.pairwise(lines))
    return [
        f"{place}:{match[1]}" for before, match in matches
        if match and not match[2] and not before.lstrip().startswith("#") and not kept_together(before)
    ]  # fmt: skip


def kept_together(line: str) -> bool:
    """The line before keeps something too: one comment is for both."""
    return bool(re.match(r" +self\._\w+: (dict|OrderedDict)\[", line))


def test_what_is_kept_says_how_much_and_until_when() -> None:
    product = [module for module in modules() if room_of(module.name) != "stand_in"]
    assert unbounded(modules()) == []
    assert unbounded([made_up("agnes_mcp.models", "@cache\ndef read(name: str) -> str: ...")]) != []
    assert unbounded([made_up("agnes_mcp.models", "@lru_cache\ndef read(name: str) -> str: ...")]) != []
    texts = {module.path: (ROOT / module.path).read_text(encoding="utf-8") for module in product}
    assert [kept for path, text in texts.items() for kept in unexplained(path, text)] == []
    assert unexplained("x", "class X:\n    def __init__(self):\n        self._seen: dict[str, int] = {}") == ["x:_seen"]


def named_in(module: Module) -> Iterator[tuple[str, bool]]:
    """Names that a module gives (True: functions, classes, methods, constants; a decorator may use it) or uses."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, not node.decorator_list or ast.unparse(node.decorator_list[0]) in ("property", "cache")
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            yield name, isinstance(node.ctx, ast.Store) and name.isupper()
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from ((alias.name.rpartition(".")[2], False) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 100:
            yield from ((word, False) for word in node.value.replace(":", ".").split(".") if word.isidentifier())


def unused(found: Iterable[Module]) -> set[str]:
    names = [named for module in found for named in named_in(module)]
    given = {name for name, gives in names if gives and not name.startswith("__")}
    return given - {name for name, gives in names if not gives}


def test_nothing_is_there_that_nobody_uses() -> None:
    assert (
        unused(module for module in modules() if room_of(module.name) != "stand_in") == CALLED_BY_LIBRARIES | PROMISED
    )
    code = "class Rows:\n    def first(self): ...\n    def last(self): ...\nRows().first()\n_MOST = 3"
    assert unused([made_up("agnes_mcp.models", code)]) == {"last", "_MOST"}


def words_of_code(found: Iterable[Module]) -> set[str]:
    return {name for module in found for name, gives in named_in(module) if not gives}


def test_every_kind_of_error_and_every_setting_is_used() -> None:
    outside = [module for module in modules() if room_of(module.name) not in ("errors", "stand_in")]
    assert set(KINDS) - words_of_code(outside) == set()
    readers = [module for module in outside if room_of(module.name) != "config"]
    sections: list[type[BaseModel]] = [
        Settings,
        *(section for section in Section.__subclasses__() if section is not CsvSettings),
    ]
    keys = {name for section in sections for name in section.model_fields}
    assert len(keys) > 50
    assert keys - words_of_code(readers) == set()
    assert set(CsvSettings.model_fields) & words_of_code(readers)  # handed to DuckDB's reader as they are, by name
    alone = made_up("agnes_mcp.calls.frame", 'raise AgnesError("timeout", "Too long.", "Ask for less.")')
    assert set(KINDS) - words_of_code([alone]) == set(KINDS) - {"timeout"}


HEAVY = ("duckdb", "pyarrow", "sqlglot", "google", "grpc", "numpy", "pandas", "rich")
LOADS = {
    "the server": "from agnes_mcp.config.settings import Settings; from agnes_mcp.gateway import Gateway;"
    "from agnes_mcp.serving.server import build_server; build_server(Gateway(Settings()))",
    "the transport": "import agnes_mcp.serving.stdio",
    "the command line": "import agnes_mcp.cli; agnes_mcp.cli.app_for()",
}


@pytest.mark.parametrize("what", LOADS)
def test_heavy_libraries_wait_for_their_first_use(what: str) -> None:
    code = f"import sys; {LOADS[what]}; print(*sorted({{n.split('.')[0] for n in sys.modules}} & {set(HEAVY)!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def test_the_command_line_does_without_the_sdk() -> None:
    code = "import sys, agnes_mcp.cli; agnes_mcp.cli.app_for(); print('mcp' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert loaded.stdout == "False\n", loaded.stderr


@pytest.mark.parametrize("job", ["workbench.serving", "sources.local.job", "sources.bigquery.attached_job"])
def test_a_worker_process_starts_without_the_servers_side(job: str) -> None:
    """Each is started anew after a kill, and somebody waits for it."""
    imports = f"import sys, agnes_mcp.calls.processes.child, agnes_mcp.{job}"
    code = f"{imports}; print(*{{'asyncio', 'pydantic'}} & {{*sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def functions() -> Iterator[tuple[str, int]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module.path}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def long_ones(found: Iterable[Module]) -> list[str]:
    return [module.path for module in found if module.lines > 300]


def test_files_and_functions_are_small() -> None:
    assert long_ones(modules()) == []
    assert long_ones([made_up("agnes_mcp.models", "x = 1\n" * 300)]) == ["agnes_mcp/models.py"]
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


def swallowing(found: Iterable[Module]) -> dict[str, int]:
    counted = {module.path: sum(swallows(node) for node in ast.walk(module.tree)) for module in found}
    return {path: count for path, count in counted.items() if count}


def test_hardly_anything_is_caught_broadly() -> None:
    assert swallowing(modules()) == BROAD
    careless = (
        "try: f()\nexcept (OSError, Exception): pass\nwith suppress(Exception): g()\ntry: h()\nexcept Exception: raise"
    )
    assert swallowing([made_up("agnes_mcp.models", careless)]) == {"agnes_mcp/models.py": 2}


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
