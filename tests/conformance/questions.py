"""Fixtures that ask the client something before they answer."""

from __future__ import annotations

from typing import Annotated, Any

from conformance.pieces import STRING, Asked, Ctx, form, sampling, text_result
from mcp.server.mcpserver import Elicit, Resolve
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    ClientCapabilities,
    InputRequiredResult,
    ListRootsRequest,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
)
from pydantic import BaseModel, Field

from agnes_mcp.serving.server import AgnesServer


class Name(BaseModel):
    name: str = Field(description="Your name")


async def _ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def _asks(server: AgnesServer) -> None:
    @server.tool()
    async def test_missing_capability(ctx: Ctx) -> CallToolResult:
        """Needs sampling."""
        _require_sampling(ctx)
        return text_result("sampling is there")

    @server.tool()
    async def test_streaming_elicitation(ctx: Ctx, name: Annotated[Name, Resolve(_ask_name)]) -> CallToolResult:
        """Progress, then a question."""
        await ctx.report_progress(1, 2)
        return text_result(f"Hello, {name.name}!")


def _require_sampling(ctx: Ctx) -> None:
    declared = ctx.client_capabilities
    if declared is None or declared.sampling is None:
        needed = MissingRequiredClientCapabilityErrorData(
            required_capabilities=ClientCapabilities(sampling=SamplingCapability())
        )
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="sampling is needed",
            data=needed.model_dump(by_alias=True, mode="json", exclude_none=True),
        )


def _answer(ctx: Ctx, key: str, field: str) -> Any:
    given = (ctx.input_responses or {}).get(key)
    said = getattr(given, "content", None)
    return said.get(field) if isinstance(said, dict) else None


def _ask_user_name() -> Asked:
    return {"user_name": form("What is your name?", name=STRING)}


def _rounds(server: AgnesServer) -> None:
    """Questions that a result carries (2026-07-28)."""

    @server.tool()
    async def test_input_required_result_elicitation(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask for a name."""
        name = _answer(ctx, "user_name", "name")
        return text_result(f"Hello, {name}!") if name else InputRequiredResult(input_requests=_ask_user_name())

    @server.tool()
    async def test_input_required_result_sampling(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask the client's model."""
        said = (ctx.input_responses or {}).get("capital_question")
        if said is None:
            return InputRequiredResult(input_requests={"capital_question": sampling("What is the capital of France?")})
        return text_result(f"The model said: {getattr(getattr(said, 'content', None), 'text', said)}")

    @server.tool()
    async def test_input_required_result_list_roots(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask for the client's roots."""
        said = (ctx.input_responses or {}).get("client_roots")
        if said is None:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return text_result(f"Roots: {[str(root.uri) for root in getattr(said, 'roots', [])]}")


def _states(server: AgnesServer) -> None:
    """Questions with a state that the client carries."""

    @server.tool()
    async def test_input_required_result_request_state(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Carry a state."""
        if ctx.request_state == "asked" and _answer(ctx, "confirm", "ok") is not None:
            return text_result("state-ok")
        confirm: Asked = {"confirm": form("Please confirm", ok={"type": "boolean"})}
        return InputRequiredResult(input_requests=confirm, request_state="asked")

    @server.tool()
    async def test_input_required_result_tampered_state(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Carry a state that must not be tampered with."""
        if ctx.request_state is not None:
            return text_result("state-ok")
        confirm: Asked = {"confirm": form("Please confirm", ok={"type": "boolean"})}
        return InputRequiredResult(input_requests=confirm, request_state="asked")

    @server.tool()
    async def test_input_required_result_multiple_inputs(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask for three things at once."""
        wanted: Asked = {
            **_ask_user_name(), "greeting": sampling("Generate a greeting", 50), "client_roots": ListRootsRequest(),
        }  # fmt: skip
        if set(wanted) <= set(ctx.input_responses or {}):
            return text_result("Thank you")
        return InputRequiredResult(input_requests=wanted, request_state="asked")


def _later(server: AgnesServer) -> None:
    @server.tool()
    async def test_input_required_result_multi_round(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask twice."""
        name, color = _answer(ctx, "step1", "name"), _answer(ctx, "step2", "color")
        if color:
            return text_result(f"{ctx.request_state}: {color}")
        if name:
            second: Asked = {"step2": form("Step 2: What is your favorite color?", color=STRING)}
            return InputRequiredResult(input_requests=second, request_state=f"name={name}")
        step: Asked = {"step1": form("Step 1: What is your name?", name=STRING)}
        return InputRequiredResult(input_requests=step, request_state="step1")

    @server.tool()
    async def test_input_required_result_capabilities(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Ask only what the client can answer."""
        declared = ctx.client_capabilities or ClientCapabilities()
        wanted: Asked = {}
        if declared.sampling is not None:
            wanted["greeting"] = sampling("Generate a greeting", 50)
        if declared.elicitation is not None:
            wanted.update(_ask_user_name())
        return InputRequiredResult(input_requests=wanted) if wanted else text_result("nothing to ask")


def register(server: AgnesServer) -> None:
    for group in (_asks, _rounds, _states, _later):
        group(server)
