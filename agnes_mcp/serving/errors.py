"""Our errors in the protocol's shapes: a tool's result, or a JSON-RPC error for resources, prompts and completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent
from pydantic import ValidationError

from agnes_mcp.calls.call import new_request_id
from agnes_mcp.errors import AgnesError, nearest
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.untrusted import tidy

if TYPE_CHECKING:
    from agnes_mcp.operations.scan import Scans

#: How long a client of 2026-07-28 may keep what it was given. Lists of tools change only with the server; what a
#: principal may see is its own.
CACHE_HINTS: dict[CacheableMethod, CacheHint] = {
    "tools/list": CacheHint(ttl_ms=300_000, scope="public"),
    "prompts/list": CacheHint(ttl_ms=300_000, scope="public"),
    "resources/templates/list": CacheHint(ttl_ms=300_000, scope="public"),
    "server/discover": CacheHint(ttl_ms=300_000, scope="public"),
}
_ERROR_SCHEMA = {
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"}},
    "required": ["error", "message", "hint", "request_id", "details"],
}
#: Kinds that are not the request's fault; every other one is answered as invalid parameters.
_OURS = ("internal_error", "timeout", "cancelled", "storage_failed")


def describe_arguments(tool: str, known: list[str], error: ValidationError) -> AgnesError:
    """Pydantic's complaints as one error that names the arguments, without the values that were given."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    unknown = [str(p["loc"][0]) for p in problems if p["type"] == "extra_forbidden" and len(p["loc"]) == 1]
    if unknown:
        close = nearest(unknown[0], known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"It takes {', '.join(known) or 'no arguments'}."
        message = f"{tool} has no argument {unknown[0][:80]!r}."
        return AgnesError("unknown_argument", message, hint, {"argument": unknown[0][:80], "nearest": close})
    spelled = [{"argument": _spell(p["loc"]), "problem": p["msg"]} for p in problems[:10]]
    message = "; ".join(f"{p['argument']}: {p['problem']}" for p in spelled)
    return AgnesError(
        "invalid_argument", f"{message}.", f"{tool} takes {', '.join(known) or 'no arguments'}.", {"problems": spelled}
    )


async def with_call(
    error: AgnesError, tool: str, arguments: dict[str, Any], scans: Scans, principal: Principal
) -> AgnesError:
    """The same; where HAVING or DISTINCT was given as an argument, with the call that was meant."""
    given = dict(arguments)
    having, distinct = given.pop("having", ""), given.pop("distinct", False)
    if tool not in ("scan", "fetch", "estimate") or len(given) == len(arguments):
        return error
    try:
        asked = {key: value for key, value in given.items() if key in ScanRequest.model_fields and value}
        lists = asked.keys() & {"select", "group_by", "aggregates", "order_by"}
        asked |= {key: [asked[key]] for key in lists if not isinstance(asked[key], list)}
        request = ScanRequest.model_validate(asked)
        return await scans.correct(principal, tool, request, error, str(having or ""), bool(distinct))
    except (ValidationError, AgnesError):
        return error


def _spell(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in location)


def internal_error() -> AgnesError:
    return AgnesError(
        "internal_error", "The server failed at this call.", "Call again; if it repeats, tell whoever keeps the server."
    )


def error_result(error: AgnesError) -> CallToolResult:
    """The error as a client sees it: the same facts as text and as structured content."""
    from agnes_mcp.answers.fitting import compact

    details = dict(error.details)
    request_id = details.pop("request_id", None) or new_request_id()
    said = {"error": error.kind, "message": error.message, "hint": error.hint}
    body = tidy({**said, "request_id": request_id, "details": details})
    return CallToolResult(
        content=[TextContent(type="text", text=compact(body))], structured_content=body, is_error=True
    )


def allow_errors(schema: dict[str, Any]) -> dict[str, Any]:
    """An answer's schema that an error satisfies too: some clients hold errors against it, and show nothing of one that
    does not fit."""
    opened = {key: part for key, part in schema.items() if key not in ("required", "additionalProperties")}
    return {**opened, "anyOf": [{"required": schema.get("required", [])}, _ERROR_SCHEMA]}


def check_prompt_arguments(prompt: str, required_by_name: dict[str, bool], given: dict[str, Any]) -> None:
    """Raises `unknown_argument` and `invalid_argument`."""
    takes = ", ".join(required_by_name) or "no arguments"
    for name in given:
        if name not in required_by_name:
            close = nearest(name, list(required_by_name), 1)
            hint = f"Did you mean {close[0]}?" if close else f"It takes {takes}."
            raise AgnesError("unknown_argument", f"{prompt} has no argument {name[:80]!r}.", hint)
    missing = [name for name, required in required_by_name.items() if required and not given.get(name)]
    if missing:
        raise AgnesError("invalid_argument", f"{prompt} needs {', '.join(missing)}.", f"It takes {takes}.")


def unreadable_answer() -> AgnesError:
    return AgnesError(
        "approval_cancelled",
        "The answer to the question could not be read; nothing was run.",
        "Ask the person, or make the call cheaper: fewer columns, a partition filter, aggregates.",
    )


def unasked() -> AgnesError:
    return AgnesError(
        "approval_cancelled",
        "The client could not ask the person about the price: it answered with an error; nothing was run.",
        "Make the call cheaper: fewer columns, a partition filter, aggregates. Or use a client that can ask.",
    )


def find_cause(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    """The first failure of those kinds that was wrapped, however often."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__
    return error


def protocol_error(error: AgnesError, **named: Any) -> MCPError:
    """The error where the protocol has no result to put it in; hosts show only the message, so the hint is in it."""
    code = INTERNAL_ERROR if error.kind in _OURS else INVALID_PARAMS
    details = tidy({"error": error.kind, "hint": error.hint, **error.details, **named})
    return MCPError(code=code, message=tidy(f"{error.message} {error.hint}"), data=details)
