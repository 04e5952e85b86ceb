"""Files and folders that this process may not read: told as what they are, and no rows are left out for it."""

from __future__ import annotations

import ctypes
import gzip
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pytest
from support.instances import ME, write

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.source import LocalSource

T = TypeVar("T")
_VERSION_3 = 0x20080522
#: What root reads every file by, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_READS_ALL = 1 << 1 | 1 << 2


def _give_up_reading_all() -> None:
    """This thread, and those that it begins, may read what is permitted to its user."""
    if not hasattr(os, "geteuid") or (os.geteuid() == 0 and not sys.platform.startswith("linux")):
        pytest.skip("this user's privileges cannot be dropped here")
    if os.geteuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        assert library.capget(header, sets) == 0
        for place in (0, 1):  # effective, permitted
            sets[place] &= ~_READS_ALL
        if library.capset(header, sets) != 0:
            pytest.skip("this user's privileges cannot be dropped here")


def as_anybody(work: Callable[[], T]) -> T:
    """The result of `work`, in a thread of no privileges that ends with it."""

    def run() -> T:
        _give_up_reading_all()
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("closed")
    for name in ("parts", "parts/deeper", "unlisted", "unentered", "some", "texts"):
        (root / name).mkdir()
    for name in ("good", "t", "parts/1", "parts/deeper/2", "unlisted/1", "unentered/1", "some/1", "some/2"):
        write(root, f"{name}.parquet", "SELECT 1 AS a")
    for name in ("t.csv", "texts/1.csv", "texts/2.csv"):
        (root / name).write_text("a,b\n1,2\n")
    (root / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    (root / "t.json").write_text('{"a": 1}\n')
    (root / "unnamed").write_text("a,b\n1,2\n")
    batch = pa.record_batch({"a": [1]})
    with pa.ipc.new_file(root / "t.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    with duckdb.connect(str(root / "t.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    files = [*root.glob("t.*"), root / "unnamed", root / "some" / "2.parquet", root / "texts" / "2.csv"]
    modes = {"parts/deeper": 0o000, "unlisted": 0o300, "unentered": 0o600}
    for path in files:
        path.chmod(0o000)
    for name, mode in modes.items():
        (root / name).chmod(mode)
    yield root
    for name in modes:
        (root / name).chmod(0o700)  # so that it can be removed


def columns(source: LocalSource, path: Path) -> list[str]:
    table = Table(id="t", source_type="local", path=str(path))
    schema = as_anybody(lambda: source.schema(table, Call("schema", ME)))
    return [column.name for column in schema.columns]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        *((f"t.{ending}", "it") for ending in ("parquet", "csv", "csv.gz", "json", "arrow", "duckdb")),
        ("unnamed", "it"),
        ("unentered/1.parquet", "it"),
        ("unentered", "'1.parquet'"),
        ("unlisted", "it"),
        ("unlisted/*.parquet", "it"),
        ("some", "'2.parquet'"),
        ("texts/*.csv", "'2.csv'"),
        ("parts", "'deeper'"),
        ("parts/**/*.parquet", "'deeper'"),
        ("parts/*/*.parquet", "'deeper'"),
    ],
)
def test_what_may_not_be_read_is_told(folder: Path, source: LocalSource, path: str, named: str) -> None:
    with pytest.raises(AgnesError, match=rf"this server has no permission to read {named}\.$") as told:
        columns(source, folder / path)
    assert told.value.kind == "table_unavailable"
    assert folder.name not in f"{told.value.message}{told.value.hint}{told.value.details}"
    assert columns(source, folder / "good.parquet") == ["a"]


def test_what_may_be_read_beside_it_is(folder: Path, source: LocalSource) -> None:
    """A file whose folder may be entered, though not listed; and one among others that are none of the table's."""
    assert columns(source, folder / "unlisted" / "1.parquet") == ["a"]
    assert columns(source, folder / "some" / "1*.parquet") == ["a"]


def test_what_was_permitted_since_is_read(folder: Path, source: LocalSource) -> None:
    path = folder / "t.csv"
    with pytest.raises(AgnesError):
        columns(source, path)
    path.chmod(0o600)
    assert columns(source, path) == ["a", "b"]
    path.chmod(0o000)
    with pytest.raises(AgnesError, match="no permission"):
        columns(source, path)
