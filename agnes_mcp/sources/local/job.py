"""A statement of ours over the files of one local table, run in a process that can be killed."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes import frames
from agnes_mcp.calls.processes.arrow import Stream
from agnes_mcp.calls.processes.child import Channel
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.complaints import refuse_text
from agnes_mcp.sql import duckdb_errors
from agnes_mcp.sql.duckdb_types import columns_of, lossless
from agnes_mcp.sql.instance import OneAnswer
from agnes_mcp.sql.names import identifier
from agnes_mcp.sql.views import View


class Reads(OneAnswer):
    """The job: each read in an instance that is locked to the files of its table. No SQL asks for its columns."""

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        table_id, view, sql = question["table"], View(**question["view"]), question["sql"]
        try:
            self._run(sql, view, question, channel)
        except (AgnesError, duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
            cause = duckdb_errors.cause_of(error, sql, self._instance.execute)
            failure = _explain(cause, table_id, view, sql)
            channel.fail(frames.as_message(failure))
            return duckdb_errors.leaves_process_sound(cause, failure)
        return True

    def _run(self, sql: str, view: View, question: dict[str, Any], channel: Channel) -> None:
        self.grant([view])
        if not sql:
            self._instance.execute(f"SELECT * FROM {identifier(view.name)} LIMIT 0")  # noqa: S608 - quoted
            columns = columns_of(self._instance.description or [])
            channel.end({"columns": [column.model_dump(mode="json") for column in columns]})
            return
        reader = lossless(self._instance, sql).to_arrow_reader(question["rows"])
        stream = Stream(channel, reader.schema)
        for batch in reader:
            stream.send(batch)
        stream.close()
        channel.end({"rows": stream.rows})


def _explain(error: BaseException, table_id: str, view: View, own: str) -> AgnesError:
    """What the shared connection would say of it."""
    cause = error.__cause__ if isinstance(error, AgnesError) else error
    if view.kind in ("csv", "json") and cause is not None:
        try:
            refuse_text(table_id, view.kind, str(cause), view.files())
        except AgnesError as refused:
            return refused
    if isinstance(cause, duckdb.Error | pa.ArrowException | MemoryError | OSError):
        return duckdb_errors.of_our_statement(cause, own)
    return error if isinstance(error, AgnesError) else duckdb_errors.of_our_statement(error, own)
