"""Google's own parser of GoogleSQL, as WebAssembly: exact; compiled once per user, which takes a minute."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import platformdirs
from wasmtime import Engine, Module
from zetasql.api import Parser
from zetasql.types import LanguageOptions

_compile = Module.from_file


def _load(engine: Engine, path: str) -> Module:
    """The compiled module, from the user's cache folder; compiled into it where it is not there."""
    folder = platformdirs.user_cache_path("agnes-mcp-tests", ensure_exists=True)
    name = f"{Path(path).stem}-{version('zetasql')}-{version('wasmtime')}.cwasm"
    if (folder / name).exists():
        return Module.deserialize_file(engine, str(folder / name))
    module = _compile(engine, path)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as staging:
        staging.write(module.serialize())
    os.replace(staging.name, folder / name)
    return module


@contextmanager
def compiled_once() -> Iterator[None]:
    """While inside, the first use of zetasql loads the compiled module instead of compiling it."""
    with mock.patch.object(Module, "from_file", _load):
        yield


def parse(sql: str) -> None:
    """Raises where the text is not one GoogleSQL statement."""
    with compiled_once():
        Parser.parse_statement_static(sql, LanguageOptions.maximum_features())
