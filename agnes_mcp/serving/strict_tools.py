"""The tools of a server, each loaded by name on first use; what a tool does not take is an error, not ignored.

What `tools/list` answers is recorded in `tools/listed.json`, which a test holds against the modules: a host waits for
that answer at every start, and making the schemas of all tools takes longer than the whole handshake.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from mcp.server.mcpserver.tools import Tool, ToolManager
from mcp.types import Tool as ListedTool
from mcp.types import ToolAnnotations
from pydantic import ConfigDict, ValidationError

from agnes_mcp.errors import AgnesError, ConfigError, nearest
from agnes_mcp.serving.errors import allow_errors, describe_arguments
from agnes_mcp.serving.terse import terse

#: The features, in the order in which an agent meets them, and the tools of each. A name that repeats refuses to start.
TOOL_MODULES = {
    "catalog": ["catalog"], "schema": ["schema"], "describe": ["describe"], "sample": ["sample"],
    "estimate": ["estimate"], "scan": ["scan"], "fetch": ["fetch"], "query": ["query"], "chart": ["chart"],
    "snapshots": ["snapshot_list", "snapshot_refresh", "snapshot_drop", "snapshot_prune", "disk_info"],
    "usage": ["usage"],
}  # fmt: skip
_MODULE_OF = {tool: module for module, tools in TOOL_MODULES.items() for tool in tools}
#: The interactive view of rows and charts.
VIEW_URI = "ui://agnes/view"
#: What an answer may say beside its rows: hosts cut what is longer than a tool announces.
_BESIDE_AN_ANSWER_CHARS = 5_000
_MOST_CHARS = "anthropic/maxResultSizeChars"


class StrictTools:
    """Registers tools with the SDK's own list of them, `registered`, and makes them strict."""

    def __init__(self, registered: ToolManager, max_result_chars: int) -> None:
        self._registered = registered
        self._max_result_chars = max_result_chars
        self._unloaded = list(TOOL_MODULES)
        self._listed: list[ListedTool] = []
        self.changing: set[str] = set()  # tools whose answer may tell of something that changed

    def load(self, *modules: str) -> None:
        """Register the tools of these modules, or of all."""
        for module in modules or tuple(self._unloaded):
            load_feature(f"agnes_mcp.tools.{module}").register(self)
            self._unloaded.remove(module)

    def load_named(self, name: str) -> bool:
        """Register the tool of that name, and those of its module. False: there is none."""
        module = _MODULE_OF.get(name)
        if module in self._unloaded:
            self.load(module)
        return module is not None

    def listed(self) -> list[ListedTool]:
        """What `tools/list` answers. Blocking: the first time it is read from the file that is installed beside the
        tools."""
        if not self._listed:
            recorded = Path(load_feature("agnes_mcp.tools").__file__).with_name("listed.json")
            tools = json.loads(recorded.read_text(encoding="utf-8"))
            for tool in tools:
                if _MOST_CHARS in tool.get("_meta", {}):
                    tool["_meta"][_MOST_CHARS] = self._max_result_chars + _BESIDE_AN_ANSWER_CHARS
            self._listed = [ListedTool.model_validate(tool) for tool in tools]
        return self._listed

    def offer(
        self,
        fn: Callable[..., Any],
        *,
        title: str,
        annotations: ToolAnnotations,
        large: bool = False,
        viewed: bool = False,
    ) -> None:
        """Register a tool under the function's name and docstring; an unknown argument is an error.

        `large`: its answers may be long. `viewed`: hosts with MCP Apps show its answers in the view.
        """
        meta: dict[str, Any] = {}
        if large:
            meta[_MOST_CHARS] = self._max_result_chars + _BESIDE_AN_ANSWER_CHARS
        if viewed:
            meta["ui"] = {"resourceUri": VIEW_URI}
        said = " ".join((fn.__doc__ or "").split())  # the same with every version of Python
        tool = Tool.from_function(fn, title=title, description=said, annotations=annotations, meta=meta or None)
        base: Any = tool.fn_metadata.arg_model
        forbidding = {"model_config": ConfigDict(extra="forbid"), "__module__": base.__module__}
        strict = type(base.__name__, (base,), forbidding)
        tool.fn_metadata.arg_model = strict
        tool.parameters = terse(cast("Any", strict).model_json_schema(by_alias=True))
        tool.fn_metadata.output_schema = allow_errors(terse(tool.fn_metadata.output_schema or {}))
        tool.fn_metadata.output_model = None  # answers are made of that very model
        if self._registered.get_tool(tool.name) is not None:
            raise ConfigError(f"Two tools are called {tool.name!r}.", "Rename one of them.")
        self._registered._tools[tool.name] = tool
        if not (annotations.read_only_hint and annotations.idempotent_hint):
            self.changing.add(tool.name)

    @property
    def names(self) -> list[str]:
        return list(_MODULE_OF)

    def unknown(self, name: str) -> AgnesError:
        """What to say of a tool that there is not."""
        known = sorted(self.names)
        close = nearest(name, known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}."
        return AgnesError("unknown_tool", f"There is no tool {name[:80]!r}.", hint, {"nearest": close})

    def wrong_arguments(self, name: str, error: ValidationError) -> AgnesError:
        """What to say of arguments that the tool does not take."""
        tool = self._registered.get_tool(name)
        known = list(tool.parameters.get("properties", {})) if tool else []
        return describe_arguments(name, known, error)


def load_feature(name: str) -> Any:
    """A module of `tools/` or `resources/`. Raises `ConfigError` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(str(error.name)):
            raise
        raise ConfigError(
            f"{name} is not installed.",
            "Start the server with the console script `agnes-mcp`, or install the project editable.",
        ) from None
