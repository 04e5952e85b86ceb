"""Arrow files, which others may write anew while they are converted."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from support.instances import ME

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.conversion import Conversions, _arrow
from agnes_mcp.sources.local.files import find_files


def arrow(path: Path) -> pa.RecordBatch:
    """A file of four such batches, of some 800 kB each."""
    batch = pa.record_batch({"a": list(range(100_000))})
    new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with new(path, batch.schema) as writer:
        for _ in range(4):
            writer.write_batch(batch)
    return batch


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """And no signal, which would end the process."""
    path = tmp_path / "t.arrow"
    batch = arrow(path)
    with _arrow(str(path)) as (schema, batches):
        assert next(batches).equals(batch)
        os.truncate(path, 4096)
        with pytest.raises((pa.ArrowException, OSError)):
            list(batches)
    assert schema == batch.schema


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_a_file_that_is_not_what_was_found_is_not_kept(tmp_path: Path, ending: str) -> None:
    """Of a stream the batches before the cut would be taken for all."""
    path = tmp_path / f"t.{ending}"
    batch = arrow(path)
    table, call = Table(id="t", source_type="local", path=str(path)), Call("scan", ME)
    conversions, files = Conversions(2**30), find_files(table)
    (made,) = conversions.parquet(table, files, tmp_path, call)
    assert Path(made).stat().st_size > 0
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(AgnesError, match="damaged or not what it was"):
        Conversions(2**30).parquet(table, files, tmp_path, call)
    assert list(tmp_path.glob("*.parquet")) == []
