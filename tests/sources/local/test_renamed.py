"""Names that differ in case alone, which DuckDB takes for one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.instances import ME

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Statement, Table
from agnes_mcp.sources.local.source import LocalSource

FREE = Price(scan_bytes=0, reserved_bytes=0, path="local")


def rows(source: LocalSource, table: Table, names: list[str]) -> list[dict[str, object]]:
    selected = ", ".join(f'"{name}"' for name in names)
    statement = Statement(
        sql=f"SELECT {selected} FROM t",
        dialect="duckdb",
        columns=names,
        source_columns=names,
    )
    call = Call("scan", ME)
    with source.read(table, source.schema(table, call), statement, FREE, call) as reading:
        found: list[dict[str, object]] = reading.whole().to_pylist()
        return found


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_a_renamed_column_says_what_it_is_called_in_the_files(tmp_path: Path, source: LocalSource, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table([pa.array([each]) for each in (1, 2, 3, 4)], names=["a", "A", "b", "b_1"]), path)
    else:
        path.write_text({"json": '{"a": 1, "A": 2, "b": 3, "b_1": 4}', "csv": "a,A,b,b_1\n1,2,3,4\n"}[ending])
    table = Table(id="t", source_type="local", path=str(path))
    told = {column.name: column.description for column in source.schema(table, Call("schema", ME)).columns}
    assert list(told) == ["a", "A_1", "b", "b_1"]
    assert [name for name, description in told.items() if description] == ["A_1"]
    assert "field 'A'" in told["A_1"]
    assert rows(source, table, list(told)) == [{"a": 1, "A_1": 2, "b": 3, "b_1": 4}]


def test_a_record_whose_fields_differ_in_case_alone_is_told(tmp_path: Path, source: LocalSource) -> None:
    """DuckDB has no type for it; the delimiter was blamed."""
    path = tmp_path / "t.json"
    path.write_text('{"id": 1, "r": {"a": 1, "A": 2}}\n{"id": 2, "r": {"a": 3}}\n')
    with pytest.raises(AgnesError, match="fields whose names differ in case alone") as told:
        source.schema(Table(id="t", source_type="local", path=str(path)), Call("schema", ME))
    assert (told.value.kind, told.value.details["options"]) == ("table_unavailable", [])
