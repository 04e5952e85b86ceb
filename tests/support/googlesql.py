"""Google's own parser and evaluator of GoogleSQL, as WebAssembly: exact, and slow to compile.

Compiling takes a minute of both cores. It is done once per user, before the first test that needs it and outside any
test's time limit (see `conftest.py`).
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import filelock
import platformdirs
from wasmtime import Engine, Module, WasmtimeError
from zetasql.api import Parser
from zetasql.core.local_service import ZetaSqlLocalService
from zetasql.types import LanguageOptions

_compile = Module.from_file


def start() -> None:
    """Load the compiled module, or compile it; what uses zetasql afterwards shares it."""
    with mock.patch.object(Module, "from_file", _load):
        ZetaSqlLocalService.get_instance()


def compiled() -> Path:
    """Where the compiled module is kept: in the user's cache folder, by the versions of what it was made from."""
    folder = platformdirs.user_cache_path("agnes-mcp-tests", ensure_exists=True)
    return folder / f"zetasql-{version('zetasql')}-{version('wasmtime')}.cwasm"


def _load(engine: Engine, path: str) -> Module:
    kept = compiled()
    with filelock.FileLock(f"{kept}.lock"):  # several processes of pytest begin at once; one of them compiles
        return _kept(engine, path, kept)


def _kept(engine: Engine, path: str, kept: Path) -> Module:
    if kept.exists():
        try:
            return Module.deserialize_file(engine, str(kept))
        except WasmtimeError:  # made on another kind of processor, as in a cache that machines share
            kept.unlink()
    module = _compile(engine, path)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as staging:
        staging.write(module.serialize())
    os.replace(staging.name, kept)
    return module


def parse(sql: str) -> None:
    """Raises where the text is not one GoogleSQL statement."""
    start()
    Parser.parse_statement_static(sql, LanguageOptions.maximum_features())
