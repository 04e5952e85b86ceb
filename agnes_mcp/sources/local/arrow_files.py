"""Arrow files, read in a process of its own: a few kilobytes of one may stand for more rows than a machine holds, by
compression, by runs, by nulls that take no room, by a dictionary or many texts that share one buffer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local import as_parquet
from agnes_mcp.untrusted import tidy

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.calls.processes.child import Channel

#: The job's name.
ARROW = "arrow"
#: A schema that takes more goes without its notes, as the server's DuckDB reads them all.
_SCHEMA_BYTES = 2**20
#: The most digits of a decimal that DuckDB reads as one; of more it reads a number, and only of 76 the right one.
_MOST_DIGITS, _WIDEST = 38, 76


class ArrowFiles:
    """The job: one file as Parquet. The process ends with its question, and with it all memory."""

    def __init__(self, memory_bytes: int, threads: int) -> None:
        pass

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        """`path` of the table `table`, in `work_s` of the processor's time; where it is `mapped`, memory is bounded
        beside the file's own bytes."""
        path, table_id = question["path"], question["table"]
        as_parquet.limit_work(question["work_s"])
        reading = partial(_read, path, table_id, question["mapped"])
        as_parquet.answer(channel, table_id, reading, too_large(table_id))
        return False

    def renew(self) -> bool:
        return False


def too_large(table_id: str) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"The table {table_id!r} cannot be read: its Arrow file, or one of its batches, takes more than the memory of "
        "a query (api.engine.query_memory_bytes).",
        "Whoever keeps this instance can write it in smaller batches, or as Parquet. Other tables are not affected.",
    )


def too_much(table_id: str) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"The table {table_id!r} cannot be read: its file stands for far more than files of its size do.",
        "Whoever keeps this instance can look at the file, or write it as Parquet. Other tables are not affected.",
    )


def _read(path: str, table_id: str, mapped: bool) -> as_parquet.Rows:
    """The schema that is written, and batches under it. Raises what Arrow raises, `unsupported_format`."""
    import pyarrow as pa

    found, batches = _open(path, mapped)
    kinds = [_written_as(kind) for kind in found.types]
    # Without its own notes: what it says of itself, as of its geometry, is not true of Parquet.
    schema = pa.schema([field.with_type(kind) for field, kind in zip(found, kinds, strict=True)])
    if schema.serialize().size > _SCHEMA_BYTES:
        schema = pa.schema([pa.field(field.name, field.type, field.nullable) for field in schema])
    _refuse_unwritable(schema, table_id)
    return schema, _sound(batches, schema)


def _open(path: str, mapped: bool) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Arrow's file format, its stream format, or Feather of version 1."""
    import pyarrow as pa
    from pyarrow import feather

    with open(path, "rb") as file:
        head = file.read(6)
    if head[:4] == b"FEA1":
        rows = feather.read_table(path, memory_map=mapped, use_threads=False)
        return rows.schema, rows.to_batches()
    source = pa.memory_map(path) if mapped else pa.OSFile(path)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if head != b"ARROW1":
        stream = pa.ipc.open_stream(source, options=options)
        return stream.schema, stream
    reader = pa.ipc.open_file(source, options=options)
    return reader.schema, map(reader.get_batch, range(reader.num_record_batches))


def _sound(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """What a damaged file says of the lengths of its text is not followed out of its memory."""
    import pyarrow as pa

    for batch in batches:
        batch.validate(full=True)
        for part in as_parquet.parts(batch):
            columns = [_written(column, kind) for column, kind in zip(part.columns, schema.types, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _written_as(kind: pa.DataType) -> pa.DataType:
    """The type under which Parquet, and DuckDB after it, has the same values."""
    import pyarrow as pa

    if pa.types.is_run_end_encoded(kind) or (pa.types.is_dictionary(kind) and _is_spelt_out(kind.value_type)):
        return _written_as(kind.value_type)
    if pa.types.is_decimal256(kind) and kind.precision > _MOST_DIGITS:
        return pa.decimal256(_WIDEST, kind.scale)
    return kind


def _is_spelt_out(kind: pa.DataType) -> bool:
    """Whether a dictionary of such values is written as its values: Parquet has dictionaries of plain ones only."""
    import pyarrow as pa

    return bool(pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_decimal256(kind))


def _written(column: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    while column.type != kind:
        if pa.types.is_run_end_encoded(column.type):
            import pyarrow.compute as pc

            column = pc.run_end_decode(column)
        elif pa.types.is_dictionary(column.type):
            column = column.dictionary.take(column.indices)
        else:
            column = column.cast(kind)
    return column


def _refuse_unwritable(schema: pa.Schema, table_id: str) -> None:
    import pyarrow as pa

    if _is_writable(schema):
        return
    for field in schema:
        if not _is_writable(pa.schema([field])):
            raise AgnesError(
                "unsupported_format",
                f"The table {table_id!r} cannot be read: its column {tidy(field.name)[:80]!r} is of Arrow's type "
                f"{tidy(str(field.type))[:80]}, which Parquet does not have.",
                "Whoever keeps this instance can write the column as another type. Other tables are not affected.",
            )


def _is_writable(schema: pa.Schema) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(schema.empty_table(), pa.BufferOutputStream())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True
