"""Which of several files cannot be read, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Statement, Table
from agnes_mcp.sources.local.source import LocalSource

GARBAGE = bytes((i * 7919 + 13) % 256 for i in range(5000))
RAGGED = b"id,price\n1,2,3\n4\n5,6,7,8\n"
TYPES = {"types": {"id": "BIGINT"}}
FREE = Price(scan_bytes=0, reserved_bytes=0, path="local")


def beside(folder: Path, ending: str, bad: bytes, csv: dict[str, Any] | None = None) -> Table:
    """A table of sound files and one more, deeper than they are."""
    good = {"csv": b"id,price\n1,2.5\n", "json": b'{"id": 1, "price": 2.5}\n'}.get(ending, bad)
    (folder / "2026").mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.{ending}").write_bytes(good)
    (folder / "2026" / f"new.{ending}").write_bytes(bad)
    (folder / f"z.{ending}").symlink_to(folder / "2026" / f"new.{ending}")  # is the same file
    (folder.parent / f"{folder.name}-linked").symlink_to(folder)
    return Table(id="t", source_type="local", path=f"{folder}-linked", csv=csv or {})


@pytest.mark.parametrize(
    ("ending", "bad", "csv", "says"),
    [
        ("csv", GARBAGE, None, "not UTF-8"),
        ("csv", GARBAGE, TYPES, "not UTF-8"),
        ("csv", b"x\0y,\x01\n" * 100, TYPES, "bytes (NUL)"),
        ("csv", bytes(5000), None, "bytes (NUL)"),
        ("csv", RAGGED, None, "do not have the same number of fields"),
        ("csv", RAGGED, TYPES, "do not have the same number of fields"),
        ("json", GARBAGE, None, "not UTF-8"),
        ("json", b'{"id": 1\nx', None, "not well-formed JSON"),
    ],
)
def test_a_bad_file_among_good_ones_is_named(
    tmp_path: Path, source: LocalSource, ending: str, bad: bytes, csv: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(AgnesError) as told:
        source.schema(beside(tmp_path, ending, bad, csv), Call("schema", ME))
    assert (told.value.kind, told.value.details["file"]) == ("table_unavailable", f"2026/new.{ending}")
    assert says in told.value.message
    assert "types" not in told.value.hint
    assert tmp_path.name not in f"{told.value.message}{told.value.hint}{told.value.details}"


def test_a_bad_value_is_told_with_its_file_once_it_is_met(tmp_path: Path, source: LocalSource) -> None:
    table, call = beside(tmp_path, "csv", b"id,price\nx,1\n", TYPES), Call("scan", ME)
    statement = Statement(sql="SELECT id FROM t", dialect="duckdb", columns=["id"], source_columns=["id"])
    with (
        pytest.raises(AgnesError, match=r"column 'id' holds .* It is the file '2026/new.csv'"),
        source.read(table, source.schema(table, call), statement, FREE, call) as reading,
    ):
        reading.whole()


def test_a_file_of_another_kind_in_disguise_is_named(tmp_path: Path, source: LocalSource) -> None:
    table = beside(tmp_path, "parquet", b"PAR1")
    (tmp_path / "2026" / "new.parquet").write_bytes(b"%PDF")
    with pytest.raises(AgnesError, match=r"its file is PDF, not Parquet. It is the file '2026/new.parquet'") as told:
        source.schema(table, Call("schema", ME))
    assert told.value.kind == "unsupported_format"


def test_a_record_without_end_is_told_as_that(tmp_path: Path, source: LocalSource) -> None:
    (tmp_path / "t.json").write_bytes(b'{"rows": [%s{"id": 1}]}' % (b'{"id": 1}, ' * 2_000_000))
    with pytest.raises(AgnesError, match="one of its records is longer than 16 MiB"):
        source.schema(Table(id="t", source_type="local", path=f"{tmp_path}/t.json"), Call("schema", ME))


def test_types_that_the_instance_says_of_no_column_are_blamed(tmp_path: Path, source: LocalSource) -> None:
    table = beside(tmp_path, "csv", b"id,price\n2,3\n", {"types": {"nothing": "BIGINT"}})
    with pytest.raises(AgnesError, match=r"`csv.types` names a column that it does not have\.$"):
        source.schema(table, Call("schema", ME))
