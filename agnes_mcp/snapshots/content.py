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
    """Fed with tables of one schema, in their order, by one thread."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, *, ordered: bool) -> None:
        self.rows = 0
        self._cursor = cursor
        self._ordered = ordered
        self._sums = [0, 0]
        self._shape = [(field.name, str(field.type)) for field in schema]
        terms = [_term(position, field.type) for position, field in enumerate(schema)]
        if ordered:
            terms.insert(0, "position")
        self._sql = f"SELECT sum(h), sum(hash(h)) FROM (SELECT hash({', '.join(terms)}) AS h FROM part)"  # noqa: S608 - our own names only
        self._require_readable(schema)

    def update(self, part: pa.Table) -> None:
        if part.num_rows == 0:
            return
        sums = self._sum(part)
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)]
        self.rows += part.num_rows

    def _sum(self, part: pa.Table) -> tuple[int, int]:
        renamed = part.rename_columns([f"c{position}" for position in range(part.num_columns)])
        if self._ordered:
            renamed = renamed.append_column("position", _positions(self.rows, part.num_rows))
        self._cursor.register("part", renamed)
        try:
            of_rows, of_mixed = self._cursor.execute(self._sql).fetchall()[0]
        finally:
            self._cursor.unregister("part")
        return of_rows or 0, of_mixed or 0

    def _require_readable(self, schema: pa.Schema) -> None:
        """`invalid_argument` where DuckDB does not know a type: better before the rows are paid for."""
        import duckdb

        if all(_surely_readable(kind) for kind in set(schema.types)):
            return
        try:
            self._sum(schema.empty_table())
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


def _positions(first: int, count: int) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=first)
