"""The list of resources, page by page: what is always there, then the caller's own tables and snapshots."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from mcp.types import ListResourcesResult, PaginatedRequestParams, Resource

from agnes_mcp.errors import AgnesError
from agnes_mcp.serving.announcements import SNAPSHOT_URI
from agnes_mcp.serving.errors import protocol_error
from agnes_mcp.serving.server import AgnesServer
from agnes_mcp.serving.strict_tools import VIEW_URI
from agnes_mcp.untrusted import clean

from ._contents import JSON
from .tables import SCHEMA_URI

PAGE = 100
_DESCRIPTION_CHARS = 300
#: A place in the list: what is always there before tables before snapshots, each by URI.
_Rank = tuple[int, str]


def register(server: AgnesServer) -> None:
    async def list_resources(ctx: Any, params: PaginatedRequestParams | None) -> ListResourcesResult:
        after = _read_cursor(params.cursor if params else None)
        ranked = sorted(await _ranked(server), key=lambda entry: entry[0])
        left = [(rank, resource) for rank, resource in ranked if after is None or rank > after]
        page = left[:PAGE]
        cursor = _write_cursor(page[-1][0]) if len(left) > PAGE else None
        return ListResourcesResult(resources=[resource for _, resource in page], next_cursor=cursor)

    server.lowlevel.add_request_handler("resources/list", PaginatedRequestParams, list_resources)


async def _ranked(server: AgnesServer) -> list[tuple[_Rank, Resource]]:
    principal, gateway = server.serving.principal, server.serving.gateway
    fixed = [listed for listed in await server.list_resources() if str(listed.uri) != VIEW_URI]  # tools name it
    tables = [
        _resource(SCHEMA_URI.format(table_id=table.id), f"{table.id} schema", table.description)
        for table in gateway.catalog.listed(principal)
    ]
    snapshots = [
        _resource(SNAPSHOT_URI.format(name=kept.name), kept.name, f"A snapshot of {kept.table_id or 'a table'}")
        for kept in await gateway.snapshots.kept(principal)
    ]
    return [((group, r.uri), r) for group, listed in enumerate((fixed, tables, snapshots)) for r in listed]


def _resource(uri: str, name: str, description: str) -> Resource:
    return Resource(uri=uri, name=name, description=clean(description, _DESCRIPTION_CHARS) or name, mime_type=JSON)


def _write_cursor(rank: _Rank) -> str:
    return base64.urlsafe_b64encode(f"{rank[0]}|{rank[1]}".encode()).decode()


def _read_cursor(cursor: str | None) -> _Rank | None:
    if cursor is None:
        return None
    try:
        group, _, uri = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return (int(group), uri)
    except (ValueError, binascii.Error):
        error = AgnesError("invalid_cursor", "This is not a cursor of this list.", "Start again without a cursor.")
        raise protocol_error(error) from None
