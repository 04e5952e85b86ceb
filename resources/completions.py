"""Completions of table ids, snapshot names and column names: only what the caller may see."""

from __future__ import annotations

from typing import Any

from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from agnes_mcp.serving.server import AgnesServer

#: The most values that the protocol lets an answer hold.
MAX_VALUES = 100


def register(server: AgnesServer) -> None:
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        known = context.arguments if context and context.arguments else {}
        return _completion(await _candidates(server, argument.name, argument.value, known))

    offer: Any = server.completion  # the SDK leaves it untyped
    offer()(complete)


async def _candidates(server: AgnesServer, name: str, typed: str, known: dict[str, str]) -> list[str]:
    """Whole values that begin as the typed one does, without regard to case."""
    principal, gateway = server.serving.principal, server.serving.gateway
    if name == "table_id":
        return _beginning([table.id for table in gateway.catalog.listed(principal)], typed)
    if name == "name":
        return _beginning([kept.name for kept in await gateway.snapshots.kept(principal)], typed)
    if name == "columns" and known.get("table_id"):
        before, comma, last = typed.rpartition(",")
        columns = await gateway.catalog.column_names(principal, known["table_id"])
        spacing = last[: len(last) - len(last.lstrip())]
        return [f"{before}{comma}{spacing}{column}" for column in _beginning(columns, last.strip())]
    return []


def _beginning(names: list[str], typed: str) -> list[str]:
    begun = typed.casefold()
    return [name for name in names if name.casefold().startswith(begun)]


def _completion(found: list[str]) -> Completion:
    return Completion(values=found[:MAX_VALUES], total=len(found), has_more=len(found) > MAX_VALUES)
