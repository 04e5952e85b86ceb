"""Asking a person before a call that costs much, where the client can ask.

The annotations of the functions below are read when they are made, by the SDK too: this module must not postpone them.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from pydantic import BaseModel, Field

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent
from agnes_mcp.serving.server import Serving
from agnes_mcp.spending.consent import Quote


class Approval(BaseModel):
    """What the person fills in."""

    approve: bool = Field(title="Run it", description="Run this statement and pay for it")


_NOTHING_TO_ASK = Approval(approve=True)
#: The SDK names this type for every resolved parameter, and pydantic forgets a type that nobody holds: making it anew
#: would take a millisecond each time.
_ACCEPTED = AcceptedElicitation[Any]


def approval(tool: str, price: Callable[..., Awaitable[Quote | None]]) -> Callable[..., Awaitable[Consent | None]]:
    """What fills the parameter of a tool that holds a person's consent.

    `price` is the tool's own question: it takes `ctx` and those of the tool's arguments, by name, on which the price
    depends, and gives what a person must be asked; None: nothing. The SDK carries question and answer in whichever way
    the client's protocol version has, and takes an answer only for the question as it was shown.
    """

    @wraps(price)  # and with it the parameters that the SDK fills
    async def quote(ctx: Context[Serving], **arguments: Any) -> Quote | None:
        if not can_ask(ctx):
            return None
        serving = ctx.request_context.lifespan_context
        key = f"{serving.principal.name} {tool} {arguments!r}"
        again = ctx.request_state is not None  # a further round of a call whose question was shown
        return await serving.gateway.questions.ask(key, lambda: price(ctx=ctx, **arguments), again=again)

    async def ask(
        ctx: Context[Serving], quoted: Annotated[Quote | None, Resolve(quote)]
    ) -> Approval | Elicit[Approval]:
        if quoted is None:
            return _NOTHING_TO_ASK
        ctx.request_context.lifespan_context.gateway.calls.asked(quoted.made_at_ns)
        return Elicit(quoted.question, Approval)

    async def consent(
        ctx: Context[Serving],
        quoted: Annotated[Quote | None, Resolve(quote)],
        answer: Annotated[ElicitationResult[Approval], Resolve(ask)],
    ) -> Consent | None:
        """None where there is nobody to ask. Raises `approval_declined`, `approval_cancelled`."""
        calls = ctx.request_context.lifespan_context.gateway.calls
        if isinstance(answer, AcceptedElicitation) and answer.data.approve:
            calls.answered()
            if quoted is not None:
                return quoted.consent()
            return Consent() if can_ask(ctx) else None
        error = _not_approved(quoted, cancelled=isinstance(answer, CancelledElicitation))
        calls.answered(error.kind)
        principal = ctx.request_context.lifespan_context.principal
        await calls.refuse(tool, principal, error, quoted.table_id if quoted else None)
        raise error

    return consent


def can_ask(ctx: Context[Serving]) -> bool:
    """Whether the client can show a form to a person; an empty capability, older than the word, means forms."""
    asking = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    return asking is not None and (asking.form is not None or asking.url is None)


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
        "The price was declined, by the person or by the client for them; nothing was run.",
        "Do not repeat the call. Offer a cheaper one: fewer columns, a partition filter, aggregates. If the person saw "
        "no question, their client's settings answered it.",
        details,
    )
