"""The one way to rows that may cost something: price, consent, reserve, read, settle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agnes_mcp.calls.audit import hash_predicate
from agnes_mcp.calls.call import UNTRACED, Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import (
    Column,
    JobReference,
    Price,
    Priced,
    Principal,
    QuotaLeft,
    Receipt,
    Relation,
    ScanRequest,
    Statement,
    Table,
    TableSchema,
    Verdict,
)
from agnes_mcp.sources import Reading
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.books import Reservation
from agnes_mcp.spending.caps import explain_cap
from agnes_mcp.spending.consent import Quote, quote_of, require_consent
from agnes_mcp.spending.prices import cost_usd, judge, rate_usd, refuse_over_cap
from agnes_mcp.spending.statements import Statements, check_way

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
#: By how much the bill of one table may pass its bytes, at most.
_ROUNDING = 10 * 2**20
#: How much of a selection the audit keeps.
_NOTED_COLUMNS, _NOTED_NAME_CHARS = 16, 64


ASSUMED = "BigQuery does not say what this was billed; what was set aside for it is charged, until it does."


class Purchase(Reading):
    """One statement that is being read: its batches, how much they held so far, and what it billed."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self._reading: Reading | None = None
        self._final: Receipt | None = None
        self.rows_read = 0
        self.bytes_read = 0

    @property
    def schema(self) -> pa.Schema:
        return self._under_way.schema

    @property
    def columns(self) -> list[Column] | None:
        return self._under_way.columns

    @property
    def receipt(self) -> Receipt:
        """Exact once the read has ended; what is known so far when it has not."""
        if self._final is None and self._reading is not None:
            return self._reading.receipt
        return self._final or Receipt()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._under_way:
            self.rows_read += batch.num_rows
            self.bytes_read += batch.nbytes
            yield batch

    @property
    def ended(self) -> bool:
        """Whether the receipt is the last word."""
        return self._final is not None

    @property
    def bill_note(self) -> str | None:
        """What a caller should know of the bill."""
        return ASSUMED if self.receipt.assumed else None

    def begin(self, reading: Reading) -> None:
        self._reading = reading

    def end(self, failed_job_billed: int | None) -> None:
        """Take the last word on what it billed; of a job that failed, the error has it."""
        self._final = self.receipt
        if failed_job_billed is not None:
            self._final.bytes_billed = int(failed_job_billed)

    @property
    def _under_way(self) -> Reading:
        assert self._reading is not None  # noqa: S101 - lent to nobody before it has begun
        return self._reading


class Purchases:
    """Prices statements and reads them under a reservation. Whatever bills goes through here, and nothing else does."""

    def __init__(
        self,
        calls: Calls,
        tables: Tables,
        sources: Sources,
        accounts: Accounts,
        scan: ScanSettings,
        statements: Statements,
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._accounts = accounts
        self._scan = scan
        self._statements = statements

    async def prepare(self, call: Call, request: ScanRequest, *, one_more: bool = False) -> Priced:
        """Check the request against its table and price exactly the statement that would run; reads nothing.

        `one_more`: it asks for one row beyond the limit, so that an answer knows whether there are more.
        """
        _note_request(call, request)
        if request.googlesql or not request.table_id:
            check_way(request)
        if request.googlesql:
            priced = self._capped(await self._statements.prepare(call, request))
            call.line.estimated_scan_bytes = priced.price.scan_bytes
            return priced

        def build(table: Table, schema: TableSchema, relation: Relation) -> Statement:
            from agnes_mcp.sql.statement import build_statement

            return build_statement(request, schema, relation, table.dialect, self._scan.max_limit, one_more=one_more)

        try:
            priced = await self.prepare_own(call, request.table_id, build, request)
        except AgnesError as error:
            raise await self.point(call, request, error) from None
        call.line.estimated_scan_bytes = priced.price.scan_bytes
        return priced

    async def point(
        self, call: Call, request: ScanRequest, error: AgnesError, having: str = "", distinct: bool = False
    ) -> AgnesError:
        """The same error, with the call that was meant where a habit is seen in the request."""
        from agnes_mcp.spending.turns import Turns

        turns = Turns(self._calls, self._tables, self._statements)
        return await turns.point(call, request, error, having, distinct)

    async def prepare_own(
        self,
        call: Call,
        table_id: str,
        build: Callable[[Table, TableSchema, Relation], Statement],
        request: ScanRequest | None = None,
    ) -> Priced:
        """The same for a statement of ours, which `build` makes, in a worker thread."""
        table = await self._tables.find(call, table_id)

        def work(schema: TableSchema) -> Priced:
            source = self._sources.of(table)
            relation = source.relation(table)
            with self._calls.interpreting(call):
                statement = build(table, schema, relation)
            price: Price = source.price(table, schema, statement, call)
            return Priced(table, schema, request or ScanRequest(table_id=table.id), statement, price)

        with call.step("price"):
            return self._capped(await self._tables.with_schema(call, table, work))

    def _capped(self, priced: Priced) -> Priced:
        """Where the price is not known, the cap that is set for that is what may be billed, and what is set aside."""
        if priced.price.scan_bytes is None and self._scan.unknown_price_cap_bytes:
            priced.price.reserved_bytes = self._scan.unknown_price_cap_bytes
        return priced

    async def buy(self, call: Call, priced: Priced, work: Callable[[Purchase], T]) -> tuple[T, Purchase]:
        """What `work` makes, in a worker thread, of the rows of that statement; with them, what became of the purchase.

        A slot and the bytes are held meanwhile; what was billed is charged and audited, however it ends. Raises what
        refuses it before anything is spent: `estimate_failed`, `over_scan_cap`, `approval_outdated`, `quota_exceeded`.
        """
        refuse_over_cap(priced, self._scan)  # what can never run waits for no slot, and keeps nobody from one
        apart = self._sources.of(priced.table).reads_apart(priced.table, priced.statement)
        run = self._calls.run_apart if apart else self._calls.run
        agreed = partial(self._agreed, call, priced)
        with call.step("reserve"):
            reservation = await self._accounts.reserve(call, priced.price.reserved_bytes or 0, agreed)
        purchase, unknown_before = Purchase(priced.price), call.line.reserved_bytes or 0

        def intend(job: JobReference | None) -> None:
            """In the audit's line first: what is in the books and in no line would be told by nobody."""
            call.line.job_id = job.job_id if job else None
            call.line.reserved_bytes = unknown_before + reservation.reserved_bytes
            reservation.intend(job)

        def spend() -> T:
            # charging for as long as the thread lives, whatever became of its call
            with call.charging(intend), call.step("read"):
                return self._spend(call, priced, reservation, purchase, work)

        try:
            return await run(call, spend), purchase
        finally:
            if not purchase.ended:  # its thread never began, or was given up and may still be billed
                await self._accounts.settle(reservation, None if reservation.intended else 0)
            elif not purchase.receipt.assumed:
                call.line.bytes_billed = (call.line.bytes_billed or 0) + purchase.receipt.bytes_billed
                call.line.reserved_bytes = unknown_before or None
            self._accounts.tell_of_slot(call.principal)  # once it is free: who looks earlier finds it taken
            call.line.job_id = purchase.receipt.job_id or call.line.job_id

    def _agreed(self, call: Call, priced: Priced, unasked_bytes: int) -> bool:
        """Whether a person has said yes to this. Raises `approval_outdated` where one has to be asked."""
        asked = call.consent is not None and call.consent.allowed  # that was a step of its own, a person's time long
        with UNTRACED if asked else call.step("approve"):
            if call.consent is None:  # without anybody to ask, the hard caps decide
                return False
            require_consent(call.consent, priced, self._scan, unasked_bytes)
            return call.consent.covers(priced)

    def _spend(
        self, call: Call, priced: Priced, reservation: Reservation, purchase: Purchase, work: Callable[[Purchase], T]
    ) -> T:
        """In a worker thread, which settles: it knows when nothing more is billed, perhaps long after its call."""
        try:
            return self._open(call, priced, purchase, work)
        finally:
            late, receipt = reservation.settled, purchase.receipt
            reservation.settle(None if receipt.assumed else receipt.bytes_billed)
            if late and not receipt.assumed and receipt.bytes_billed > 0:
                self._calls.note_bill(call, receipt.bytes_billed, receipt.job_id)

    def _open(self, call: Call, priced: Priced, purchase: Purchase, work: Callable[[Purchase], T]) -> T:
        source, job_billed = self._sources.of(priced.table), None
        try:
            with source.read(priced.table, priced.schema, priced.statement, priced.price, call) as reading:
                purchase.begin(reading)
                return work(purchase)
        except AgnesError as error:
            job_billed = error.details.get("bytes_billed")
            if error.kind != "bytes_billed_cap_reached":
                raise
            raise explain_cap(error, priced, lambda: source.price(*priced.reads[0], priced.statement, call)) from None
        finally:
            purchase.end(job_billed)

    async def quote(self, principal: Principal, statements: list[Priced]) -> Quote | None:
        """What a person must be asked about them; None: nothing."""
        left = await self._accounts.left(principal)
        return quote_of(statements, self._scan, left, await self._accounts.unasked_bytes(principal))

    async def verdict(self, principal: Principal, priced: Priced, left: QuotaLeft) -> Verdict:
        """Whether it would run now, and if not, what stands in its way."""
        unasked = await self._accounts.unasked_bytes(principal) if priced.price.reserved_bytes else 0
        return judge(priced.price, self._scan, left, unasked)

    async def bytes_by_table(self, call: Call, priced: Priced) -> dict[str, int | None]:
        """What a text over several tables reads of each, on its own; free."""
        return await self._statements.bytes_by_table(call, priced)

    async def may_be_costly(self, call: Call, table_id: str) -> bool:
        """False where no statement over the table can pass the threshold of a question: files, and small tables. True
        without a table, for a text over several."""
        if not table_id:
            return True
        table = await self._tables.find(call, table_id)
        if table.query_mode == "local":
            return False
        schema = await self._tables.schema_of(call, table)
        if schema.size_bytes is None:
            return True
        most = max(schema.size_bytes, self._scan.unknown_price_cap_bytes)
        unasked = await self._accounts.unasked_bytes(call.principal)
        return most + (unasked and unasked + _ROUNDING) > self._scan.confirm_above_bytes

    def usd(self, purchase: Purchase) -> float:
        """What it has cost so far, at the rate of the way that it took."""
        return cost_usd(purchase.receipt.bytes_billed, rate_usd(purchase.price, self._scan)) or 0.0


def _note_request(call: Call, request: ScanRequest) -> None:
    """In the audit: the first columns, of the predicate a digest."""
    columns = request.select
    call.line.select = None if columns is None else [name[:_NOTED_NAME_CHARS] for name in columns[:_NOTED_COLUMNS]]
    call.line.where_hash = hash_predicate(request.where)
    call.line.sql_hash = hash_predicate(request.googlesql) if request.googlesql else None
    call.line.limit = request.limit
