"""Which files a table stands for: looked at in every call, opened where they are not those that were opened before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.files import find_files


def test_what_a_file_is_is_asked_again_once_it_was_written_to(tmp_path: Path) -> None:
    """Of the same length and the same time, in the same place on the disk: only its bytes say that it is another."""
    path = tmp_path / "named_by_nothing"
    path.write_text("a,b\n1,2\n")
    table = Table(id="t", source_type="local", path=str(path))
    before = path.stat()
    assert find_files(table).kind == "csv"
    with path.open("r+") as file:
        file.write('{"a":1}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert find_files(table).kind == "json"


def test_a_file_that_is_refused_is_served_once_it_was_mended(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"not so: PAR1")
    table = Table(id="t", source_type="local", path=str(path))
    for _ in range(2):
        with pytest.raises(AgnesError, match="its file is text, not Parquet"):
            find_files(table)
    path.write_bytes(b"PAR1 may be.")
    assert find_files(table).kind == "parquet"
