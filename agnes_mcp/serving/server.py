"""The MCP server, assembled from the modules of `tools/` and `resources/`, each loaded by name.

Here and in `strict_tools` the project reaches behind the SDK's public face; its version is capped accordingly."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.apps import Apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.server.subscriptions import ResourcesListChanged
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    SubscriptionsListenRequestParams,
)
from mcp.types import Tool as ListedTool
from pydantic import AnyUrl, ValidationError

from agnes_mcp import __version__
from agnes_mcp.access.grants import os_user
from agnes_mcp.access.rate import CallRate
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal
from agnes_mcp.serving.announcements import AnnouncementBus, Listening, events_of, tell_older_client
from agnes_mcp.serving.errors import (
    CACHE_HINTS,
    error_result,
    internal_error,
    protocol_error,
    unasked,
    unreadable_answer,
    with_call,
)
from agnes_mcp.serving.prompts import INSTRUCTIONS, check_prompt, prompt_failure
from agnes_mcp.serving.repeats import logging_left_alone
from agnes_mcp.serving.strict_tools import StrictTools, load_feature
from agnes_mcp.serving.unreadable import stdio_streams
from agnes_mcp.untrusted import tidy

logger = logging.getLogger(__name__)

RESOURCE_MODULES = (
    "guide", "catalog", "tables", "snapshots", "charts", "view", "usage", "listing", "prompts", "completions", "skills",
)  # fmt: skip

_MAX_URI_CHARS = 4_096  # the longest names a table, by at most 256 characters that may be escaped
#: A listing differs by version of the protocol; of so many forms one copy is kept.
_MOST_FORMS = 8


@dataclass
class Serving:
    """What tools and resources reach: the engine, and who is asking just now."""

    gateway: Gateway
    identify: Callable[[], Principal]
    rate: CallRate

    @property
    def principal(self) -> Principal:
        return self.identify()


class OneListing:
    """What a session was last answered stays in memory with it, and that is mostly the list of tools, of 230 KB: every
    session is given the same one. For `Server.middleware`."""

    def __init__(self) -> None:
        self._forms: list[Any] = []

    async def __call__(self, ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        if ctx.method != "tools/list" or not isinstance(result, dict):
            return result
        if result["tools"] not in self._forms:
            self._forms = [*self._forms, result["tools"]][-_MOST_FORMS:]
        return {**result, "tools": self._forms[self._forms.index(result["tools"])]}


#: What this request is answered with, beside its text; empty until it is known.
_STRUCTURE: ContextVar[list[Any]] = ContextVar("structure of the answer")


async def keep_structure(ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
    """An answer's structure is JSON already, with thousands of cells: the SDK, which walks twice through what it puts
    into an envelope, is given an empty one for it. For `Server.middleware`."""
    kept: list[Any] = []
    mark = _STRUCTURE.set(kept)
    try:
        result = await call_next(ctx)
    finally:
        _STRUCTURE.reset(mark)
    if kept and isinstance(result, dict) and "structuredContent" in result:  # older clients are sent the text alone
        return {**result, "structuredContent": kept[0]}
    return result


class AgnesServer(MCPServer[Serving]):
    """Strict arguments in, coded errors out."""

    def __init__(self, serving: Serving, **options: Any) -> None:
        self.announcements = AnnouncementBus(serving.identify)
        with logging_left_alone():
            super().__init__(
                "agnes", title="Agnes", version=__version__, instructions=INSTRUCTIONS, lifespan=_lend(serving),
                extensions=[Apps()], subscriptions=self.announcements, cache_hints=CACHE_HINTS,
                warn_on_duplicate_resources=False, **options,
            )  # fmt: skip
        self.serving = serving
        self.tools = StrictTools(self._tool_manager, serving.gateway.settings.api.max_result_chars)
        low = self._lowlevel_server
        low.middleware += [OneListing(), keep_structure]
        self._listening = Listening(self.announcements, serving.identify)
        low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listening)
        changing = NotificationOptions(resources_changed=True)
        low.create_initialization_options = partial(low.create_initialization_options, changing)  # type: ignore[method-assign]

    async def list_tools(self) -> list[ListedTool]:
        listed = await anyio.to_thread.run_sync(self.tools.listed)
        await self.serving.gateway.upkeep.make_ready()
        return listed

    def end_streams(self) -> None:
        """Let the streams of change events end, each with its last word."""
        self._listening.close()

    @property
    def lowlevel(self) -> Server[Serving]:
        """The SDK's own server, for the transports that are put together here."""
        return self._lowlevel_server

    async def serve_streams(self, incoming: Any, outgoing: Any, *, legacy: bool = False) -> None:
        """Serve one connection over a pair of streams until the client leaves.

        `legacy` answers only the handshake versions of the protocol, for hosts that cannot cope with both.
        """
        low = self._lowlevel_server
        loop = serve_loop if legacy else serve_dual_era_loop
        async with low.lifespan(low) as serving:
            await loop(
                low, incoming, outgoing, lifespan_state=serving, init_options=low.create_initialization_options()
            )

    async def serve_stdio(self, *, legacy: bool = False) -> None:
        """Raises OSError once nobody reads the answers."""
        async with stdio_streams() as (incoming, outgoing):
            await self.serve_streams(incoming, outgoing, legacy=legacy)

    async def _handle_call_tool(
        self, ctx: ServerRequestContext[Serving], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        result = await super()._handle_call_tool(ctx, params)
        if isinstance(result, CallToolResult) and result.structured_content is not None:
            _STRUCTURE.get().append(result.structured_content)
            result.structured_content = {}
        return result

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Serving, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Run a tool; whatever goes wrong is one coded error, and one line in the audit."""
        if self._tool_manager.get_tool(name) is None and not self.tools.load_named(name):
            return await self._refuse(name, self.tools.unknown(name))
        with self.serving.gateway.calls.request(name):
            return await self._call_known(name, arguments, context)

    def _given(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Null says what leaving an argument out says: many clients send every argument that a schema lists."""
        tool = self._tool_manager.get_tool(name)
        listed = tool.parameters if tool else {}
        optional = listed.get("properties", {}).keys() - set(listed.get("required", []))
        return {key: value for key, value in arguments.items() if value is not None or key not in optional}

    async def _call_known(
        self, name: str, arguments: dict[str, Any], context: Context[Serving, Any] | None
    ) -> CallToolResult | InputRequiredResult:
        try:
            self._count()
        except AgnesError as error:
            return await self._refuse(name, error)
        try:
            result = await super().call_tool(name, self._given(name, arguments), context)
            if name in self.tools.changing:
                await self._announce(name, result, context)
            return result
        except MCPError as error:  # of a request of ours: the question about a price is the only one
            if error.code == MISSING_REQUIRED_CLIENT_CAPABILITY:
                raise  # the protocol's own word for a client that never said it could be asked
            return await self._refuse(name, unasked())
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, AgnesError):
                return error_result(cause)
            if not isinstance(error, UnexpectedToolError) and "elicitation" in str(error):
                return await self._refuse(name, unreadable_answer())
            if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
                wrong, scans = self.tools.wrong_arguments(name, cause), self.serving.gateway.scans
                return await self._refuse(name, await with_call(wrong, name, arguments, scans, self.serving.principal))
            logger.error("tool %s crashed", name, exc_info=cause or error)
            return error_result(internal_error())

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Serving, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """A resource's content, or a JSON-RPC error that says what to do."""
        try:
            self._count()
            if len(str(uri)) > _MAX_URI_CHARS:  # each template is a pattern that is tried
                raise ResourceNotFoundError
            return await super().read_resource(uri, context)
        except AgnesError as error:
            raise protocol_error(error, uri=str(uri)) from None
        except ResourceError as error:
            failure = await self._resource_failure(str(uri), error)
            raise protocol_error(failure, uri=str(uri)[:_MAX_URI_CHARS]) from None

    async def _resource_failure(self, uri: str, error: ResourceError) -> AgnesError:
        if isinstance(error.__cause__, AgnesError):
            return error.__cause__
        if isinstance(error, ResourceNotFoundError):
            failure = AgnesError(
                "resource_not_found", "There is no such resource.", "List resources and resource templates."
            )
            await self.serving.gateway.calls.refuse("read_resource", self.serving.principal, failure)
            return failure
        logger.error("a resource crashed", exc_info=error.__cause__ or error)
        return internal_error()

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Serving, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """A prompt's messages, or a JSON-RPC error that names the argument that is wrong."""
        try:
            self._count()
            check_prompt(self._prompt_manager, name, arguments or {})
            return await super().get_prompt(name, tidy(arguments or {}), context)  # they are echoed
        except AgnesError as error:
            raise protocol_error(error) from None
        except ValueError as error:
            raise protocol_error(prompt_failure(self._prompt_manager, name, error)) from None

    async def _announce(self, tool: str, result: object, context: Context[Serving, Any] | None) -> None:
        """Tell listeners of this principal what the call changed; a client of an older protocol, in its session."""
        body = result.structured_content if isinstance(result, CallToolResult) and not result.is_error else None
        events = events_of(tool, body) if body else []
        if not events:
            return
        await self.announcements.announce(self.serving.principal.name, events)
        if context is not None and ResourcesListChanged() in events:
            await tell_older_client(context)

    def _count(self) -> None:
        """One call more of this principal; whoever runs the process is not counted. Raises `rate_limited`."""
        principal = self.serving.principal
        if not principal.local:
            self.serving.rate.take(principal)

    async def _refuse(self, tool: str, error: AgnesError) -> CallToolResult:
        calls = self.serving.gateway.calls
        calls.answered(error.kind)  # a question that was put, and whose answer nobody can read
        await calls.refuse(tool[:64], self.serving.principal, error)
        return error_result(error)


def _lend(serving: Serving) -> Callable[[MCPServer[Serving]], AbstractAsyncContextManager[Serving]]:
    """A lifespan that lends the process's one engine: SSE enters it for every connection."""

    @asynccontextmanager
    async def lifespan(server: MCPServer[Serving]) -> AsyncIterator[Serving]:
        yield serving

    return lifespan


def build_server(gateway: Gateway, identify: Callable[[], Principal] = os_user, **options: Any) -> AgnesServer:
    """A server with every tool and resource. Raises `ConfigError` where a feature cannot be loaded."""
    per_minute = gateway.settings.server.max_calls_per_minute_per_user
    server = AgnesServer(Serving(gateway, identify, CallRate(per_minute)), **options)
    for name in RESOURCE_MODULES:
        load_feature(f"agnes_mcp.resources.{name}").register(server)
    return server
