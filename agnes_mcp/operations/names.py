"""The names that a principal may see, for lists and completions. Free and uncounted; nothing is read for them."""

from __future__ import annotations

from agnes_mcp.access.grants import visible_tables
from agnes_mcp.engine import Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, Table
from agnes_mcp.snapshots.models import Snapshot


class Naming:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tables(self, principal: Principal) -> list[Table]:
        """Tables by id."""
        return visible_tables(self._engine.registry, self._engine.access, principal)

    async def columns(self, principal: Principal, table_id: str) -> list[str]:
        """Columns and nested fields of a table, dotted; none where the table cannot be seen or described."""
        try:
            async with self._engine.admit("complete", principal, table_id=table_id, noted=False) as admitted:
                table = await self._engine.find(admitted, table_id)
                return [path for path, _ in (await self._engine.schema(admitted, table)).walk()]
        except AgnesError:
            return []

    async def snapshots(self, principal: Principal) -> list[Snapshot]:
        """The principal's snapshots by name."""
        async with self._engine.admit("complete", principal, noted=False) as admitted:
            store = self._engine.snapshots
            return await self._engine.workers.run(admitted.call, lambda: store.list(principal.name))
