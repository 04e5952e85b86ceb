"""A SELECT that an agent wrote over several tables: read against today's grants, priced, and held to what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Priced, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.names import PrincipalNames
from agnes_mcp.spending.references import References

if TYPE_CHECKING:
    from agnes_mcp.sql.warehouse import Admitted

_OF_ONE_TABLE = ("table_id", "select", "where", "group_by", "aggregates", "order_by")


def check_way(request: ScanRequest) -> None:
    """A request is of one table, or one SELECT. Raises `invalid_argument` for neither and for both."""
    given = [name for name in _OF_ONE_TABLE if getattr(request, name) not in (None, "", [])]
    if request.googlesql and given:
        raise AgnesError(
            "invalid_argument",
            f"sql and {', '.join(given)} are two ways to say what is read.",
            "Give sql alone, with everything in its SELECT; or leave it out, and give table_id with select, where, ….",
        )
    if not request.googlesql and not request.table_id:
        raise AgnesError(
            "invalid_argument",
            "Neither table_id nor sql says what is to be read.",
            'Give table_id: scan(table_id="orders", group_by=["country"], aggregates=[{"function": "count"}]); '
            'or sql, one SELECT in GoogleSQL: scan(sql="SELECT country, COUNT(*) FROM orders GROUP BY country").',
        )


class Statements:
    """`store` is asked which names are snapshots, so that a text over those is pointed to `query`."""

    def __init__(
        self, calls: Calls, tables: Tables, sources: Sources, store: SnapshotStore, scan: ScanSettings
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._store = store
        self._scan = scan
        self._references = References()

    async def prepare(self, call: Call, request: ScanRequest) -> Priced:
        """Admit the text, price exactly what would run, and refuse it where BigQuery would read more than it names."""
        from agnes_mcp.sql.statement import check_limit

        check_limit(request.limit, self._scan.max_limit)
        await self._tables.look(call)
        with call.step("authorise"):
            admitted = await self._admit(call, request.googlesql)
        reads = [(self._table(place.table_id), place.schema) for place in admitted.tables]
        pairs = [(table, schema) for table, schema in reads if table is not None and schema is not None]
        call.line.places = [place.path for place in admitted.tables]
        if not pairs or len(pairs) != len(reads):
            raise _no_table()
        _check_locations(pairs)
        statement = _statement_of(admitted)
        with call.step("price"):
            price = await self._calls.run(
                call, lambda: self._price(call, pairs, statement, admitted, request.googlesql)
            )
        (table, schema), *beside = pairs
        return Priced(table, schema, request, statement, price, beside)

    async def admits(self, call: Call, text: str) -> bool:
        """Whether the gates let a text through; asks nothing of its price."""
        await self._tables.look(call)
        try:
            await self._admit(call, text)
        except AgnesError:
            return False
        return True

    async def bytes_by_table(self, call: Call, priced: Priced) -> dict[str, int | None]:
        """What the statement reads of each table: of one its price, of several each as a dry run of its own."""
        if not priced.beside:
            return {priced.table.id: priced.price.scan_bytes}

        def work() -> dict[str, int | None]:
            return {table.id: self._share(call, table, schema, priced.statement) for table, schema in priced.reads}

        return await self._calls.run(call, work)

    async def _admit(self, call: Call, text: str) -> Admitted:
        """Twice where schemas have to be asked for: which tables are in a text is known once it has been read."""
        try:
            return await self._admit_now(call, text)
        except AgnesError as error:
            if error.kind != "table_not_found" or not self._tables.lists_datasets or self._tables.listed:
                raise
        await self._calls.run(call, lambda: self._tables.list_datasets(call))
        return await self._admit_now(call, text)

    async def _admit_now(self, call: Call, text: str) -> Admitted:
        visible = self._tables.visible(call.principal)
        schemas = {table.id: kept for table in visible if (kept := self._tables.kept_schema(table)) is not None}
        admitted = await self._calls.run(call, lambda: self._read(call, text, visible, schemas))
        wanted = [table for p in admitted.tables if p.schema is None and (table := self._table(p.table_id)) is not None]
        if not wanted:
            return admitted
        for table in wanted:  # one after the other: a call has one thread
            schemas[table.id] = await self._tables.schema_of(call, table)
        return await self._calls.run(call, lambda: self._read(call, text, visible, schemas))

    def _read(self, call: Call, text: str, visible: list[Table], schemas: dict[str, TableSchema]) -> Admitted:
        from agnes_mcp.sql.warehouse import admit

        def kept() -> set[str]:
            return {snapshot.name for snapshot in self._store.list(call.principal.name)}

        with self._calls.interpreting(call):
            return admit(text, PrincipalNames(visible, schemas, self._sources, kept))

    def _price(
        self, call: Call, pairs: list[tuple[Table, TableSchema]], statement: Statement, admitted: Admitted, text: str
    ) -> Price:
        from agnes_mcp.sql.warehouse.complaints import explain

        table, schema = pairs[0]
        source = self._sources.of(table)
        try:
            price = source.price(table, schema, statement, call)
        except AgnesError as error:
            raise explain(error, admitted, text) from None
        self._references.check(price, admitted, lambda sql: source.price(table, schema, _bare(sql), call))
        return price

    def _share(self, call: Call, table: Table, schema: TableSchema, statement: Statement) -> int | None:
        """None where BigQuery cannot tell, be it for a filter that the table asks for."""
        try:
            return self._sources.of(table).price(table, schema, _bare(statement.alone[table.id]), call).scan_bytes
        except AgnesError as error:
            if error.kind not in ("bq_bad_request", "estimate_failed"):
                raise
            return None

    def _table(self, table_id: str) -> Table | None:
        return self._tables.known(table_id)


def _statement_of(admitted: Admitted) -> Statement:
    from agnes_mcp.sql.warehouse.advice import advise

    return Statement(
        sql=admitted.sql,
        dialect="bigquery",
        columns=list(admitted.columns or ()),
        source_columns=[],
        limit=admitted.limit,
        places={place.table_id: place.path for place in admitted.tables},
        alone={place.table_id: admitted.alone(place) for place in admitted.tables},
        advice=advise(admitted),
    )


def _bare(sql: str) -> Statement:
    """A statement of ours that is only priced."""
    return Statement(sql=sql, dialect="bigquery", columns=[], source_columns=[])


def _no_table() -> AgnesError:
    return AgnesError(
        "remote_sql_local_table",
        "The statement reads no table of BigQuery.",
        "Call `query` with it, in DuckDB's dialect; it is free.",
    )


def _check_locations(pairs: list[tuple[Table, TableSchema]]) -> None:
    """One job reads tables of one location: BigQuery would say of the others that they are not found there."""
    by_location: dict[str, list[str]] = {}
    for table, schema in pairs:
        if schema.location:
            by_location.setdefault(schema.location.upper(), []).append(table.id)
    if len(by_location) < 2:
        return
    where = "; ".join(f"{', '.join(sorted(ids))} in {location}" for location, ids in sorted(by_location.items()))
    raise AgnesError(
        "mixed_locations",
        f"One statement reads tables of one location, and these are in several: {where}.",
        "fetch what you need of each location into a snapshot, then join the snapshots with `query`.",
        {"locations": {location: sorted(ids) for location, ids in by_location.items()}},
    )
