"""Asking a person before a call that costs much, where the client can ask.

Each tool that may bill has two resolved parameters: the quote, and the answer to its question. The SDK carries both in
whichever way the client's protocol version has, and takes an answer only for the question as it was shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from pydantic import BaseModel, Field

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Aggregate, Consent, Principal, ScanRequest
from agnes_mcp.operations.quotes import Quoting
from agnes_mcp.serving.server import Serving
from agnes_mcp.spending.consent import Quote


class Approval(BaseModel):
    """What the person fills in."""

    approve: bool = Field(title="Run it", description="Run this statement and pay for it")


Answer = ElicitationResult[Approval]
Ask = Approval | Elicit[Approval]
_NOTHING_TO_ASK = Approval(approve=True)


async def scan_request(
    table_id: str,
    select: list[str] | None,
    where: str,
    group_by: list[str] | None,
    aggregates: list[Aggregate] | None,
    order_by: list[str] | None,
    limit: int | None,
) -> ScanRequest:
    """The arguments that scan and fetch share."""
    return ScanRequest(
        table_id=table_id, select=select, where=where, group_by=group_by, aggregates=aggregates, order_by=order_by,
        limit=limit,
    )  # fmt: skip


#: What a tool's parameters of these types are filled with.
Request = Annotated[ScanRequest, Resolve(scan_request)]


async def quote_scan(ctx: Context[Serving], request: Request) -> Quote | None:
    return await _quote(ctx, "scan", request.model_dump(), lambda q, who: q.scan(who, request))


async def quote_fetch(
    ctx: Context[Serving], request: Request, name: str, force: bool, estimate_only: bool
) -> Quote | None:
    if estimate_only:
        return None
    call = [request.model_dump(), name, force]
    return await _quote(ctx, "fetch", call, lambda q, who: q.fetch(who, request, name, force))


async def quote_refresh(ctx: Context[Serving], name: str, where: str) -> Quote | None:
    return await _quote(ctx, "snapshot_refresh", [name, where], lambda q, who: q.refresh(who, name, where))


async def quote_describe(ctx: Context[Serving], table_id: str, n: int, profile: bool) -> Quote | None:
    call = [table_id, n, profile]
    return await _quote(ctx, "describe", call, lambda q, who: q.describe(who, table_id, n, profile))


async def quote_sample(ctx: Context[Serving], table_id: str, n: int, select: list[str] | None) -> Quote | None:
    call = [table_id, n, select]
    return await _quote(ctx, "sample", call, lambda q, who: q.sample(who, table_id, n, select))


async def _quote(
    ctx: Context[Serving],
    tool: str,
    call: object,
    make: Callable[[Quoting, Principal], Awaitable[Quote | None]],
) -> Quote | None:
    """The quote of a call; None where nobody can be asked. A later round of the call has the first one's."""
    if not can_ask(ctx):
        return None
    serving = ctx.request_context.lifespan_context
    quoting, principal = serving.gateway.quoting, serving.principal
    again = ctx.request_state is not None
    return await quoting.ask(principal, [tool, call], lambda: make(quoting, principal), again=again)


async def ask_scan(quote: Annotated[Quote | None, Resolve(quote_scan)]) -> Ask:
    return ask(quote)


async def ask_fetch(quote: Annotated[Quote | None, Resolve(quote_fetch)]) -> Ask:
    return ask(quote)


async def ask_refresh(quote: Annotated[Quote | None, Resolve(quote_refresh)]) -> Ask:
    return ask(quote)


async def ask_describe(quote: Annotated[Quote | None, Resolve(quote_describe)]) -> Ask:
    return ask(quote)


async def ask_sample(quote: Annotated[Quote | None, Resolve(quote_sample)]) -> Ask:
    return ask(quote)


def ask(quote: Quote | None) -> Ask:
    return _NOTHING_TO_ASK if quote is None else Elicit(quote.question, Approval)


def can_ask(ctx: Context[Serving]) -> bool:
    """Whether the client can show a form to a person; an empty capability, older than the word, means forms."""
    asking = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    return asking is not None and (asking.form is not None or asking.url is None)


async def consent_of(ctx: Context[Serving], tool: str, quote: Quote | None, answer: Answer) -> Consent | None:
    """What the call may bill; None where there is nobody to ask. Raises `approval_declined`, `approval_cancelled`."""
    if isinstance(answer, AcceptedElicitation) and answer.data.approve:
        if quote is not None:
            return quote.consent()
        return Consent() if can_ask(ctx) else None
    error = _not_approved(quote, cancelled=isinstance(answer, CancelledElicitation))
    serving = ctx.request_context.lifespan_context
    await serving.gateway.record_refusal(tool, serving.principal, error, quote.table_id if quote else None)
    raise error


def _not_approved(quote: Quote | None, *, cancelled: bool) -> AgnesError:
    details = {"estimated_scan_bytes": quote.scan_bytes, "bq_cost_estimate_usd": quote.usd} if quote else {}
    if cancelled:
        return AgnesError(
            "approval_cancelled",
            "The question was closed without an answer; nothing was run.",
            "Ask the person, or make the call cheaper: fewer columns, a partition filter, aggregates.",
            details,
        )
    return AgnesError(
        "approval_declined",
        "The person did not approve the price; nothing was run.",
        "Do not repeat the call. Offer a cheaper one: fewer columns, a partition filter, aggregates.",
        details,
    )
