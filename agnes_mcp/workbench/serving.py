"""One query in a worker process: gate, grant, lock, run, stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes import frames
from agnes_mcp.calls.processes.arrow import Stream
from agnes_mcp.calls.processes.child import Channel
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_errors
from agnes_mcp.sql.cells import cut_batch, shown_schema
from agnes_mcp.sql.duckdb_types import names_asked, with_null_named
from agnes_mcp.sql.instance import OneAnswer
from agnes_mcp.sql.views import WRITTEN_ANEW, View
from agnes_mcp.untrusted import tidy
from agnes_mcp.workbench import admission, columns
from agnes_mcp.workbench.admission import Parser
from agnes_mcp.workbench.mentions import Mentions
from agnes_mcp.workbench.parser import DuckDBParser

#: Rows of a batch: what may be computed past the limit. Small answers should not wait for a large batch.
SMALL_BATCH_ROWS, LARGE_BATCH_ROWS = 2048, 16384

Admit = Callable[[str, Sequence[str], Parser], list[str]]


class Queries(OneAnswer):
    """The job of the workbench: each query in an instance that is locked to the tables it names."""

    admit: Admit = staticmethod(admission.admit)

    def __init__(self, memory_bytes: int, threads: int) -> None:
        super().__init__(memory_bytes, threads)
        self._parser = DuckDBParser(memory_bytes)
        self._paths: list[str] = []

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        self._paths, self.left_out = [], {}
        try:
            self._answer(question, channel)
        except (AgnesError, duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
            cause = duckdb_errors.cause_of(error, question["sql"], self._instance.execute)
            failure = self._told(duckdb_errors.of_agents_sql(cause, question["sql"], self._paths), cause)
            channel.fail(frames.as_message(failure))
            return duckdb_errors.leaves_process_sound(cause, failure)
        return True

    def _told(self, failure: AgnesError, cause: BaseException) -> AgnesError:
        """With the reason, where it is about a column that a view leaves out."""
        said = str(cause).casefold()
        for name, reason in self.left_out.items() if isinstance(cause, duckdb.BinderException) else ():
            if f'column "{name.casefold()}"' in said:
                message = f"The column {tidy(name)[:80]!r} is left out: {reason}."
                return AgnesError("query_failed", message, WRITTEN_ANEW)
        return failure

    def _answer(self, question: dict[str, Any], channel: Channel) -> None:
        tables = type(self).admit(question["sql"], question["tables"], self._parser)
        views = [View(**view) for view in channel.need({"tables": tables})["views"]]
        self._paths = [path for view in views for path in view.files()]
        relation = self._granted_relation(question["sql"], views)
        self._run(question["sql"], relation, question["limit_rows"], question["max_bytes"], channel)

    def _granted_relation(self, sql: str, views: Sequence[View]) -> duckdb.DuckDBPyRelation:
        """The statement over its views. Where a name means nothing in them, they are made again with all columns, of
        which DuckDB's answer then tells."""
        mentions = Mentions(sql, self._parser)
        self.grant(views, mentions)
        try:
            return self._relation(sql)
        except (duckdb.BinderException, duckdb.CatalogException):
            if not mentions.asked:
                raise
        self.renew()
        self.grant(views)
        return self._relation(sql)

    def _relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """The statement, bound. Its rows stream from here; from a cursor DuckDB 2.0 would copy them all first."""
        try:
            relation: duckdb.DuckDBPyRelation | None = self._instance.sql(sql)
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
            self._instance.execute(sql)  # fails alike, and says where in the text
            raise
        if relation is None:  # a statement without rows: the gate refuses each, and the lock must hold without it
            return self._instance.sql("SELECT NULL WHERE false")
        return relation

    def _run(
        self, sql: str, relation: duckdb.DuckDBPyRelation, limit_rows: int, max_bytes: int, channel: Channel
    ) -> None:
        with names_asked():
            names, types = relation.columns, [str(kind) for kind in relation.types]
        whole = columns.carried_whole(sql, types)
        if whole != sql:
            relation = self._instance.sql(whole)
        batch_rows = SMALL_BATCH_ROWS if limit_rows < SMALL_BATCH_ROWS else LARGE_BATCH_ROWS
        reader = relation.to_arrow_reader(batch_rows)
        schema = columns.readable_schema(reader.schema, names)
        stream, cut_cells = Stream(channel, shown_schema(schema)), list[tuple[int, int, int | None]]()
        cut_by = _copy(stream, reader, limit_rows, max_bytes, cut_cells)
        shown = [with_null_named(kind) for kind in types]
        channel.end({"rows": stream.rows, "cut_by": cut_by, "types": shown, "cut_cells": cut_cells})


def _copy(
    stream: Stream,
    reader: pa.RecordBatchReader,
    limit_rows: int,
    max_bytes: int,
    cut_cells: list[tuple[int, int, int | None]],
) -> str:
    """Send batches, their cells cut, until the limits; returns what ended it: "rows", "bytes", or "" for nothing.

    `cut_cells` gets the row, the column and the length of each cell that was cut.
    """
    cut_by = ""
    for batch in reader:
        part, lengths = cut_batch(batch.slice(0, limit_rows - stream.rows))
        cut_cells += [(stream.rows + row, column, chars) for (row, column), chars in lengths.items()]
        cut_by = "rows" if part.num_rows < batch.num_rows else ""
        if stream.bytes + part.nbytes > max_bytes:
            part, cut_by = part.slice(0, _rows_within(part, max_bytes - stream.bytes)), "bytes"
        stream.send(part)
        if cut_by:
            break
    if cut_by == "bytes" and stream.rows == 0:
        raise _row_too_large(max_bytes)
    stream.close()
    return cut_by


def _rows_within(batch: pa.RecordBatch, max_bytes: int) -> int:
    """The largest number of leading rows that fit."""
    low, high = 0, batch.num_rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if batch.slice(0, middle).nbytes <= max_bytes else (low, middle - 1)
    return low


def _row_too_large(max_bytes: int) -> AgnesError:
    return AgnesError(
        "result_too_large",
        f"One row of the result alone has more than {max_bytes:,} bytes.",
        "Select fewer columns, or shorten long texts and lists (left(text, 200), list[1:20]).",
        {"max_bytes": max_bytes},
    )
