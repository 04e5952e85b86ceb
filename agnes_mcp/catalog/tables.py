"""The tables as a call sees them: found only where they are granted, their schemas kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from agnes_mcp.access.grants import Access, Grants
from agnes_mcp.calls.audit import AuditLine
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.cache import TtlCache
from agnes_mcp.catalog.index import Index
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError, nearest
from agnes_mcp.models import Principal, Table, TableSchema
from agnes_mcp.sources.kinds import Sources

if TYPE_CHECKING:
    from agnes_mcp.answers.models import SampleAnswer
    from agnes_mcp.extracts.directory import AgnesDirectory

T = TypeVar("T")
#: An ordinary schema takes some tens of KB: all together some tens of MB, and no listing of a warehouse more.
MAX_SCHEMAS = 512
MAX_SAMPLES = 512
#: Whose lists of tables are kept; beyond that all are made anew, which costs one pass over the tables.
MAX_CALLERS = 64
#: A call that ended so was misled by what is kept of its table.
_MISLED = ("schema_changed", "approval_outdated", "bq_not_found")


def kept_as(table: Table) -> str:
    """The key of what is kept of a table, below its id: also how it is configured. A call that began before a reload
    goes on with the table of then, beside calls with that of now."""
    return f"{table.id}|{table.model_dump_json()}"


class Tables:
    """`lists_datasets`: there are tables that are only known once their datasets have been listed. `directory`: there
    are tables that come and go with files.

    `index` is what the catalog knows of them; `dataset_problems` says which datasets could not be listed, by name: at
    least while their tables are missing.

    `schemas` and `samples` are kept for every principal alike: only who may read the table gets that far. Their keys
    begin with `kept_as`.
    """

    def __init__(
        self,
        calls: Calls,
        access: Access,
        registry: Registry,
        sources: Sources,
        api: ApiSettings,
        *,
        lists_datasets: bool = False,
        directory: AgnesDirectory | None = None,
        index: Index | None = None,
    ) -> None:
        self._calls = calls
        self._access = access
        self._registry = registry
        self._sources = sources
        self.schemas: TtlCache[TableSchema] = TtlCache(MAX_SCHEMAS, api.schema_cache_ttl_seconds)
        self.samples: TtlCache[SampleAnswer] = TtlCache(MAX_SAMPLES, api.sample_cache_ttl_seconds)
        self._states: dict[str, object] = {}  # of local tables, as their source tells them; of others their places
        self._looking = threading.Lock()
        self.dataset_problems: Mapping[str, Any] = {}
        self.lists_datasets = lists_datasets
        self._directory = directory
        self.index = index or Index(None)
        self.recalled = False
        # Of `MAX_CALLERS`; true while grants and tables are the very same objects.
        self._visible: dict[str, tuple[object, object, list[Table]]] = {}
        self.listed = False  # whether the datasets have been listed
        calls.failure_observers.append(self._note)

    async def find(self, call: Call, table_id: str) -> Table:
        """The table, with the grant checked now.

        Raises `table_not_found`, with the same words where it does not exist and where it may not be read, and with
        suggestions only of what the principal may see. An id that is not known may be in a dataset that has not been
        listed yet: then that is awaited.
        """
        with call.step("authorise"):
            return await self._find(call, table_id)

    async def _find(self, call: Call, table_id: str) -> Table:
        grants = self._access.grants(call.principal)
        if grants.datasets or grants.covers(table_id):
            await self.look(call)
            if table_id not in self._registry.by_id and self.lists_datasets and not self.listed:
                await self._calls.run(call, lambda: self.list_datasets(call))
        grants, registered = self._of_one_moment(call.principal)
        table = registered.get(table_id)
        if table is None or not grants.covers(table_id, table.place):
            raise self._not_found(call.principal, table_id)
        call.line.place = table.place or None
        return table

    def _of_one_moment(self, principal: Principal) -> tuple[Grants, Mapping[str, Table]]:
        """Grants and tables that are served together: a reload replaces the grants before the tables, and after."""
        while True:
            grants, registered = self._access.grants(principal), self._registry.by_id
            if self._access.grants(principal) is grants:
                return grants, registered

    async def look(self, call: Call) -> None:
        """Take note of what has changed in the Agnes directory, where one is served."""
        directory = self._directory
        if directory is not None:

            def work() -> set[str]:
                with self._looking:  # what was seen last is what is served
                    return self._registry.replace_offered(directory.tables(call))

            for table_id in await self._calls.run(call, work):
                self.forget(table_id)

    def known(self, table_id: str) -> Table | None:
        """The table of that id, whoever asks: its grant has been checked before."""
        return self._registry.by_id.get(table_id)

    def visible(self, principal: Principal) -> list[Table]:
        """The tables that the principal may read, by id; the same list until grants or tables change."""
        # Both are replaced whole when they change, so that being the same object is being unchanged.
        grants, registered = self._of_one_moment(principal)
        kept = self._visible.get(principal.name)
        if kept is not None and kept[0] is grants and kept[1] is registered:
            return kept[2]
        found = [table for table in registered.values() if grants.covers(table.id, table.place)]
        if len(self._visible) >= MAX_CALLERS:
            self._visible.clear()
        self._visible[principal.name] = (grants, registered, found)
        return found

    @property
    def registered(self) -> Mapping[str, Table]:
        """Every table, whoever may see it; replaced whole when one comes or goes."""
        return self._registry.by_id

    def may_read(self, principal: Principal, table_id: str, place: str | None) -> bool:
        """Whether the principal may still read what was made of that table: by its id, or by where the table is."""
        return self._access.may_read(principal, table_id, place or self._registry.ids.places.get(table_id, ""))

    def check_place(self, what: str, table_id: str, place: str | None) -> None:
        """Refuse `what` was made of another table than the id means now: `table_moved`.

        `place` None: made before places were kept; it is taken for this table's where the id is exactly its name and
        has never meant another.
        """
        table = self._registry.by_id.get(table_id)
        now = table.place if table is not None else self._registry.ids.places.get(table_id, place or "")
        if place is None:
            bound = not now or (now.rpartition(".")[2] == table_id and table_id not in self._registry.ids.moved)
        else:
            bound = place == now
        if not bound:
            raise AgnesError(
                "table_moved",
                f"{what} was made of another table than {table_id!r} means now.",
                "Fetch it anew under another name, or drop it; its rows are not those of the table of now.",
                {"table_id": table_id},
            )

    async def schema_of(self, call: Call, table: Table) -> TableSchema:
        """What is known of the table without reading it; kept, and free to ask for."""

        async def ask() -> TableSchema:
            schema = await self._calls.run(call, lambda: self._sources.of(table).schema(table, call))
            if table.query_mode == "remote":
                self.index.put(table, schema)
            return schema

        await self._forget_changed(call, table)  # first: what is kept of other files, or another place, is not of it
        return await self.schemas.get_or_make(kept_as(table), ask)

    def kept_schema(self, table: Table) -> TableSchema | None:
        """Its schema if it is kept; costs nothing of a table whose schema nobody has asked for."""
        return self.schemas.get(kept_as(table)) if table.id in self._states else None

    async def with_schema(self, call: Call, table: Table, work: Callable[[TableSchema], T]) -> T:
        """What `work` makes of that, in a worker thread: where the schema of files is kept, in the same that looks
        whether they are still those."""
        kept, state = self.schemas.get(kept_as(table)), self._states.get(table.id)
        if kept is not None and table.query_mode == "local":

            def look_and_work() -> list[T]:
                return [work(kept)] if self._sources.of(table).state(table) == state else []

            for made in await self._calls.run(call, look_and_work):
                return made
        schema = await self.schema_of(call, table)
        return await self._calls.run(call, lambda: work(schema))

    async def _forget_changed(self, call: Call, table: Table) -> None:
        """Files that were replaced are noticed at once, not when what is kept of them has become old."""
        state: object = table.place
        if table.query_mode == "local":
            state = await self._calls.run(call, lambda: self._sources.of(table).state(table))
        if self._states.get(table.id, state) != state:
            self.forget(table.id)
        self._states[table.id] = state

    def list_datasets(self, call: Call) -> None:
        """List the configured datasets and register what they hold. Blocking; free."""
        before = self.dataset_problems
        try:
            found = self._sources.discover(call)
        finally:
            problems = self._problems_of_datasets()
            self.dataset_problems = {**before, **problems}  # told until the tables that are there now are registered
        self._registry.replace_discovered(found)
        self.listed, self.dataset_problems = True, problems
        self.index.note_listed(table.place for table in self._registry.by_id.values() if table.discovered)

    def _problems_of_datasets(self) -> Mapping[str, Any]:
        state = self._sources.health("bigquery") if "bigquery" in self._sources.kinds else {}
        problems: Mapping[str, Any] = state.get("datasets", {})
        return problems

    def recall(self) -> None:
        """Once, before datasets are listed: register what they were last seen to hold. Blocking; asks nobody."""
        if self.recalled:
            return
        self.recalled = True
        self.index.load()
        if self.lists_datasets and not self.listed and self.index.listed:
            with suppress(AgnesError):  # listing them tells it
                self._registry.recall_discovered(self.index.listed)

    def places_to_keep(self) -> set[str]:
        """The remote tables there are; until the datasets have been listed, those too that they held before."""
        places = {table.place for table in self._registry.by_id.values() if table.place}
        return places if self.listed or not self.lists_datasets else places | self.index.listed

    def forget(self, table_id: str) -> None:
        """Nothing that was kept of this table is true any more. On the event loop, as every use of the caches."""
        self.schemas.invalidate(table_id)
        self.samples.invalidate(table_id)

    def _note(self, line: AuditLine) -> None:
        if line.error_kind not in _MISLED:
            return
        if line.table_id:
            self.forget(line.table_id)
        places = set(line.places or ())
        for table in self._registry.by_id.values() if places else ():
            if table.place in places:
                self.forget(table.id)

    def _not_found(self, principal: Principal, table_id: str) -> AgnesError:
        close = nearest(table_id, [table.id for table in self.visible(principal)])
        return AgnesError(
            "table_not_found",
            f"There is no table {table_id[:80]!r} that you can read.",
            f"Did you mean {' or '.join(close)}?" if close else "Call `catalog` for the tables there are.",
            {"table_id": table_id[:80], "nearest": close},
        )
