"""A fingerprint of all rows of a result: equal for equal rows, whatever the batches they came in.

Construction. Every row gets a 64-bit hash h of its values in column order: DuckDB's `hash`; nested values go in as
text, because `hash` gives `[]` and NULL, or `[[1], [2]]` and `[[1, 2]]`, the same number. Two exact sums are kept: of
h, and of h mixed once more. A sum does not depend on the order of its terms, so a result without ORDER BY is a bag of
rows: two reads that give the same rows in another order are identical. Where an order was asked for, the row's
position is hashed with it, and the order counts. The fingerprint is SHA-256 over the sums, the number of rows, and
the names and types of the columns. A changed row goes unnoticed with a chance of about 2^-64. It guards against
accidents, not against somebody who constructs rows; the file itself is guarded by SHA-256.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

# In the fingerprint itself: a change of the construction makes all old ones differ, which costs one rewrite, never a
# wrong "identical". DuckDB's `hash` is not promised to stay between its versions; a test holds its present values.
_CONSTRUCTION = "rows-1"


class Engine:
    """One small DuckDB, without access to the network, that hashes rows and names types; any thread may ask it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parent: duckdb.DuckDBPyConnection | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        with self._lock:
            if self._parent is None:
                self._parent = duckdb.connect(
                    ":memory:",
                    config={
                        "threads": 1,
                        "memory_limit": "1GB",
                        "temp_directory": "",
                        "autoinstall_known_extensions": False,
                        "autoload_known_extensions": False,
                        "python_enable_replacements": False,
                    },
                )
                self._parent.execute("SET GLOBAL TimeZone = 'UTC'")
            return self._parent.cursor()

    def footer(self, parquet: Path) -> tuple[int, list[Column]]:
        """The rows of a Parquet file, and its columns as a query will see them."""
        with self.cursor() as cursor:
            described = cursor.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(parquet)]).fetchall()
            rows = cursor.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(parquet)]).fetchall()[0][0]
        return int(rows), [Column(name=name, type=kind) for name, kind, *_ in described]


class ContentHash:
    """Of all tables that it takes in, which have one schema."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, *, ordered: bool) -> None:
        self.rows = 0
        self._cursor = cursor
        self._ordered = ordered
        self._sums = [0, 0]
        self._failure: BaseException | None = None
        self._shape = [(field.name, str(field.type)) for field in schema]
        terms = [_term(position, field.type) for position, field in enumerate(schema)]
        if ordered:
            terms.insert(0, "position")
        self._schema = _under_places(schema, ordered)
        self._sql = f"SELECT sum(h), sum(hash(h)) FROM (SELECT hash({', '.join(terms)}) AS h FROM part)"  # noqa: S608 - our own names only
        self._require_readable(schema)

    def take(self, tables: Iterable[pa.Table]) -> None:
        """All of them, in their order. The next one is asked for, by this thread, once the last is hashed: in one
        statement over all, for to begin one for each would take a quarter of the time. Raises what asking raises."""
        import duckdb
        import pyarrow as pa

        # The bare stream: a reader of pyarrow's DuckDB wraps in a scanner, which reads ahead without bound.
        stream = pa.RecordBatchReader.from_batches(self._schema, self._batches(tables)).__arrow_c_stream__()
        self._cursor.register("part", stream)
        try:
            sums = self._cursor.execute(self._sql).fetchall()[0]
        except duckdb.Error as error:
            raise self._failure or error from None
        finally:
            self._cursor.unregister("part")
        self._sums = [old + (new or 0) for old, new in zip(self._sums, sums, strict=True)]

    def _batches(self, tables: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
        """What DuckDB reads. It tells of a failure in words alone, so that is kept as it was raised."""
        import pyarrow as pa

        try:
            for table in tables:
                positions = [_positions(self.rows, table.num_rows)] if self._ordered else []
                self.rows += table.num_rows
                yield from pa.Table.from_arrays([*table.columns, *positions], schema=self._schema).to_batches()
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failure = error
            raise

    def _require_readable(self, schema: pa.Schema) -> None:
        """`invalid_argument` where DuckDB does not know a type: better before the rows are paid for."""
        import duckdb

        if all(_surely_readable(kind) for kind in set(schema.types)):
            return
        try:
            self.take([schema.empty_table()])
        except duckdb.Error as error:
            raise AgnesError(
                "invalid_argument",
                "A column has a type that a snapshot cannot hold.",
                "Select fewer columns to find out which, or ask for aggregates.",
                {"argument": "select"},
            ) from error

    def hexdigest(self) -> str:
        sealed = repr((_CONSTRUCTION, self._ordered, self._shape, self.rows, self._sums))
        return hashlib.sha256(sealed.encode("utf-8", "surrogatepass")).hexdigest()


def _surely_readable(kind: pa.DataType) -> bool:
    """The types of nearly every table, about which DuckDB need not be asked."""
    import pyarrow.types as types

    text = types.is_string(kind) or types.is_binary(kind)
    number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind) or types.is_decimal128(kind)
    return bool(text or number or types.is_boolean(kind) or types.is_date32(kind) or types.is_timestamp(kind))


def _term(position: int, kind: pa.DataType) -> str:
    import pyarrow.types as types

    return f"c{position}::VARCHAR" if types.is_nested(kind) else f"c{position}"


def _under_places(schema: pa.Schema, ordered: bool) -> pa.Schema:
    """Its types under names that no two columns share, in whatever case."""
    import pyarrow as pa

    fields = [field.with_name(f"c{position}") for position, field in enumerate(schema)]
    return pa.schema([*fields, *([pa.field("position", pa.int64())] if ordered else [])])


def _positions(first: int, count: int) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=first)
