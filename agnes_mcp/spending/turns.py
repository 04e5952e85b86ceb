"""A refusal of the structured arguments that names the call which works, where a habit can be read from them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import ScanRequest, TableSchema
from agnes_mcp.spending.statements import Statements

if TYPE_CHECKING:
    from agnes_mcp.sql.working import WorkingCall

_HABITS = frozenset({
    "unknown_column", "invalid_argument", "nested_select", "unknown_function", "disallowed_node",
    "cross_table_reference", "parse_error", "not_boolean", "unknown_argument",
})  # fmt: skip
_JOINED = re.compile(r"\b(?:JOIN|,)\s*([A-Za-z_][A-Za-z0-9_]*)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_READ = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_][A-Za-z0-9_.]*)", re.IGNORECASE)


class Turns:
    def __init__(self, calls: Calls, tables: Tables, statements: Statements) -> None:
        self._calls, self._tables, self._statements = calls, tables, statements

    async def point(
        self, call: Call, request: ScanRequest, error: AgnesError, having: str = "", distinct: bool = False
    ) -> AgnesError:
        """The same error; its hint and `details["call"]` name the call that works, where one is seen to be meant."""
        if error.kind in _HABITS:
            working = await self._of_one_table(call, request, having, distinct)
        else:
            working = self._of_joined_tables(call, request) if error.kind == "table_not_found" else None
        if working is not None and await self._is_admitted(call, working):
            error.hint = f"Call {working}."
            error.details["call"] = {"tool": working.tool, "arguments": working.arguments}
        return error

    async def _of_one_table(self, call: Call, request: ScanRequest, having: str, distinct: bool) -> WorkingCall | None:
        from agnes_mcp.sql.turns import working_call

        table = await self._tables.find(call, request.table_id)
        schema = await self._tables.schema_of(call, table)
        others = await self._others(call, request)

        def work() -> WorkingCall | None:
            with self._calls.interpreting(call):
                return working_call(request, schema, table.dialect, call.tool, others, having, distinct)

        return await self._calls.run(call, work)

    async def _others(self, call: Call, request: ScanRequest) -> dict[str, TableSchema]:
        """The tables that are named beside its own."""
        aggregated = [entry.column or "" for entry in request.aggregates or []]
        texts = [request.where, *(request.select or []), *(request.group_by or []), *aggregated]
        words = {word.casefold() for text in texts for word in _WORD.findall(text)} - {request.table_id}
        named = [table for table in self._tables.visible(call.principal) if table.id in words][:3]
        return {table.id: await self._tables.schema_of(call, table) for table in named}

    def _of_joined_tables(self, call: Call, request: ScanRequest) -> WorkingCall | None:
        """`orders JOIN customers USING (customer_id)` where the id of one table belongs."""
        from agnes_mcp.sql.working import by_sql

        text = " ".join(request.table_id.split())
        names = [text.split(" ", 1)[0].rstrip(","), *_JOINED.findall(text)]
        known = {table.id: table for table in self._tables.visible(call.principal)}
        if len(names) < 2 or not set(names) <= set(known):
            return None
        local = {known[name].query_mode == "local" for name in names}
        if len(local) > 1:
            return None
        selected = ", ".join(request.select or ["*"])
        where = f" WHERE {request.where}" if request.where else ""
        sql = f"SELECT {selected} FROM {text}{where}"  # noqa: S608 - only shown
        return by_sql(sql, known[names[0]].dialect, call.tool, "_".join(names)[:50])

    async def _is_admitted(self, call: Call, working: WorkingCall) -> bool:
        """Whether the call would be let through: over remote tables by its gates, over files by what it reads."""
        text = working.arguments.get("sql")
        if text is None:
            return True
        if working.tool == "query":
            local = {table.id for table in self._tables.visible(call.principal) if table.query_mode == "local"}
            return {name.casefold() for name in _READ.findall(text)} <= local
        return await self._statements.admits(call, text)
