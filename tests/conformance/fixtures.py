"""What the official conformance suite asks of a server that belongs in no product: its tools, resources and prompts.

They are put onto our own server, behind our own transports, so that the suite judges those and not the fixtures.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
from conformance import questions
from conformance.pieces import PAUSE_S, STRING, WAV, Asked, Ctx, embedded, form, image, png, text_result
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    AudioContent,
    CallToolResult,
    EmptyResult,
    InputRequiredResult,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)

from agnes_mcp.serving.server import AgnesServer


def register(server: AgnesServer) -> None:
    for group in (_contents, _pushes, _changes, _resources, _prompts, _older, questions.register):
        group(server)


def _contents(server: AgnesServer) -> None:
    @server.tool()
    async def test_simple_text() -> CallToolResult:
        """Text."""
        return text_result("This is a simple text response for testing.")

    @server.tool()
    async def test_image_content() -> CallToolResult:
        """An image."""
        return CallToolResult(content=[image()])

    @server.tool()
    async def test_audio_content() -> CallToolResult:
        """A sound."""
        return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])

    @server.tool()
    async def test_embedded_resource() -> CallToolResult:
        """An embedded resource."""
        return CallToolResult(content=[embedded("test://embedded-resource", "This is an embedded resource content.")])

    @server.tool()
    async def test_multiple_content_types() -> CallToolResult:
        """Text, image and resource."""
        mixed = embedded(
            "test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json"
        )
        return CallToolResult(content=[TextContent(type="text", text="Multiple content types test:"), image(), mixed])

    @server.tool()
    async def test_error_handling() -> CallToolResult:
        """An error."""
        failure = TextContent(type="text", text="This tool intentionally returns an error for testing")
        return CallToolResult(content=[failure], is_error=True)

    @server.tool()
    async def test_tool_with_progress(ctx: Ctx) -> CallToolResult:
        """Progress."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
            await anyio.sleep(PAUSE_S)
        return text_result("done")


def _pushes(server: AgnesServer) -> None:
    """What the handshake versions push to the client in the middle of a call."""

    @server.tool()
    async def test_tool_with_logging(ctx: Ctx) -> CallToolResult:
        """Log messages."""
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)
            await anyio.sleep(PAUSE_S)
        return text_result("logged")

    @server.tool()
    async def test_logging_tool(ctx: Ctx) -> CallToolResult:
        """Log messages, for those who asked."""
        await ctx.session.send_log_message("info", "working", related_request_id=ctx.request_id)
        return text_result("logged")

    @server.tool()
    async def test_sampling(prompt: str, ctx: Ctx) -> CallToolResult:
        """Ask the client's model."""
        asked = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        said = await ctx.session.create_message([asked], max_tokens=100, related_request_id=ctx.request_id)
        return text_result(f"LLM response: {getattr(said.content, 'text', said.content)}")

    @server.tool()
    async def test_elicitation(message: str, ctx: Ctx) -> CallToolResult:
        """Ask the person."""
        wanted = {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        }
        return await _elicit(ctx, message, wanted, required=["username", "email"])

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> CallToolResult:
        """Ask with defaults."""
        wanted = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return await _elicit(ctx, "Please check the defaults", wanted)

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> CallToolResult:
        """Ask with every kind of enumeration."""
        options = ["option1", "option2", "option3"]
        titled = [
            {"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)
        ]
        wanted = {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }  # fmt: skip
        return await _elicit(ctx, "Please choose", wanted)


async def _elicit(
    ctx: Ctx, message: str, properties: dict[str, Any], required: list[str] | None = None
) -> CallToolResult:
    schema = {"type": "object", "properties": properties, "required": required or []}
    said = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return text_result(f"Elicitation completed: action={said.action}, content={json.dumps(said.content)}")


def _changes(server: AgnesServer) -> None:
    @server.tool()
    async def test_trigger_tool_change(ctx: Ctx) -> CallToolResult:
        """Say that the tools changed."""
        await ctx.notify_tools_changed()
        return text_result("said")

    @server.tool()
    async def test_trigger_prompt_change(ctx: Ctx) -> CallToolResult:
        """Say that the prompts changed."""
        await ctx.notify_prompts_changed()
        return text_result("said")


def _resources(server: AgnesServer) -> None:
    @server.resource("test://static-text", name="static-text", description="Text.", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", description="An image.", mime_type="image/png")
    async def static_binary() -> bytes:
        return png()

    @server.resource("test://watched-resource", name="watched", description="Watched.", mime_type="text/plain")
    async def watched() -> str:
        return "watched"

    @server.resource("test://template/{id}/data", description="A template.", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002 - the suite's name
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: AgnesServer) -> None:
    @server.prompt()
    async def test_simple_prompt() -> list[Message]:
        """Text."""
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> list[Message]:
        """Two arguments."""
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt(name="test_prompt_with_embedded_resource")
    async def with_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's name
        """An embedded resource."""
        return [
            UserMessage(embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    async def test_prompt_with_image() -> list[Message]:
        """An image."""
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        """A question first."""
        given = (ctx.input_responses or {}).get("user_context")
        if given is None:
            asked: Asked = {"user_context": form("What context should the prompt use?", context=STRING)}
            return InputRequiredResult(input_requests=asked)
        return [UserMessage(f"Context: {getattr(given, 'content', None)}")]


def _older(server: AgnesServer) -> None:
    """Methods of the handshake versions that this server does not offer."""
    low = server.lowlevel

    async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def watch(ctx: Any, params: SubscribeRequestParams | UnsubscribeRequestParams) -> EmptyResult:
        if not str(params.uri).startswith("test://"):
            raise MCPError(code=INVALID_PARAMS, message="not watched")
        return EmptyResult()

    low.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, watch)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, watch)
