"""Rows as files: CSV and Parquet, written beside their place and renamed once they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agnes_mcp.cli.options import CommandError, wrong
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import EXIT_DISK, AgnesError
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.answers.models import RowsAnswer
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal


#: Types whose values an answer spells in its own way.
_LEFT_TEXT = frozenset({"STRUCT", "MAP", "UNION", "BLOB", "BIT", "LIST", "INTERVAL", "ENUM", "JSON", "VARIANT"})


@dataclass(frozen=True)
class Export:
    """Where rows go instead of the terminal."""

    kind: Literal["csv", "parquet"]
    path: Path

    @classmethod
    def of(cls, csv: Path | None, parquet: Path | None) -> Export | None:
        """What was asked for. Raises `invalid_argument` for both, and for a folder that is not there."""
        if csv is not None and parquet is not None:
            raise wrong("Rows go to one file.", "Give --csv or --parquet.")
        path = csv or parquet
        if path is None:
            return None
        return cls("csv" if csv else "parquet", file_at(path))

    @property
    def options(self) -> str:
        return "FORMAT csv, HEADER" if self.kind == "csv" else "FORMAT parquet, COMPRESSION zstd"


def file_at(path: Path) -> Path:
    """Where a file can be written. Raises `invalid_argument` for a folder, and for one in no folder that is there."""
    whole = Path(expanded(path))
    if not whole.absolute().parent.is_dir() or whole.is_dir():
        raise wrong(f"{whole} cannot be a file.", "Name one in a folder that is there.")
    return whole


async def export_snapshot(gateway: Gateway, me: Principal, name: str, export: Export) -> None:
    """Every row of a snapshot, with its types."""
    import anyio.to_thread

    file = await gateway.snapshots.file_of(me, name)
    if file is None:
        raise AgnesError(
            "snapshot_not_found", f"There is no snapshot {name!r}.", "`snapshot list` shows those there are."
        )

    def copy(connection: duckdb.DuckDBPyConnection, target: str) -> None:
        rows = f"SELECT * FROM read_parquet({literal(str(file))})"  # noqa: S608 - a quoted literal
        connection.execute(f"COPY ({rows}) TO {literal(target)} ({export.options})")

    await anyio.to_thread.run_sync(_write, export, copy)


def write_answer(answer: RowsAnswer, export: Export) -> None:
    """The rows of an answer, with DuckDB's types as the answer names them."""
    import pyarrow as pa

    places = range(len(answer.columns))
    texts = pa.table({f"c{n}": pa.array([_text(row[n]) for row in answer.rows], pa.string()) for n in places})
    kinds = zip(places, answer.columns, answer.types, strict=True)
    typed = ", ".join(_typed(f"c{n}", name, kind) for n, name, kind in kinds)

    def copy(connection: duckdb.DuckDBPyConnection, target: str) -> None:
        connection.register("answer", texts)
        connection.execute(f"COPY (SELECT {typed} FROM answer) TO {literal(target)} ({export.options})")  # noqa: S608

    _write(export, copy)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _typed(column: str, name: str, kind: str) -> str:
    """The column in its type; nested values and bytes are text in an answer, and stay it."""
    plain = kind.partition("(")[0].upper()
    cast = column if "[" in kind or plain in _LEFT_TEXT else f"TRY_CAST({column} AS {kind})"
    return f"{cast} AS {identifier(name)}"


def _write(export: Export, copy: Callable[[duckdb.DuckDBPyConnection, str], None]) -> None:
    import duckdb

    with _building(export.path) as building, duckdb.connect(":memory:") as connection:
        try:
            copy(connection, str(building))
        except duckdb.Error as error:
            full = "No space left" in str(error)
            there = "its folder cannot be written" if isinstance(error, duckdb.IOException) else type(error).__name__
            raise _unwritten(export.path, "the disk is full" if full else there) from None


def write_content(path: Path, content: bytes) -> None:
    """A file of these bytes, whole or not there. Raises `CommandError`."""
    with _building(path) as building:
        building.write_bytes(content)


@contextmanager
def _building(path: Path) -> Iterator[Path]:
    """Where to write what gets its name once it is whole."""
    building = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield building
        building.replace(path)
    except OSError as error:
        raise _unwritten(path, os.strerror(error.errno) if error.errno else type(error).__name__) from None
    finally:
        building.unlink(missing_ok=True)


def _unwritten(path: Path, reason: str) -> CommandError:
    return CommandError(f"{path} was not written: {reason}.", "Name another place.", EXIT_DISK)
