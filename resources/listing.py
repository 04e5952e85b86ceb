"""The list of resources, page by page: what is always there, then the caller's own tables and snapshots."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from mcp.types import ListResourcesResult, PaginatedRequestParams, Resource

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.serving.announcements import SNAPSHOT_URI
from agnes_mcp.serving.errors import protocol_error
from agnes_mcp.serving.server import AgnesServer
from agnes_mcp.serving.strict_tools import VIEW_URI
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.untrusted import clean

from ._contents import JSON
from .tables import SCHEMA_URI

PAGE = 100
_DESCRIPTION_CHARS = 300
#: A place in the list: what is always there by URI, before tables by id, before snapshots by name.
_Rank = tuple[int, str]
_FIXED, _TABLES, _SNAPSHOTS = range(3)


def register(server: AgnesServer) -> None:
    async def list_resources(ctx: Any, params: PaginatedRequestParams | None) -> ListResourcesResult:
        left = await _after(server, _read_cursor(params.cursor if params else None))
        page = left[:PAGE]
        cursor = _write_cursor(page[-1][0]) if len(left) > PAGE else None
        return ListResourcesResult(resources=[resource() for _, resource in page], next_cursor=cursor)

    server.lowlevel.add_request_handler("resources/list", PaginatedRequestParams, list_resources)


async def _after(server: AgnesServer, after: _Rank) -> list[tuple[_Rank, Callable[[], Resource]]]:
    """What comes after that place, in order: a page, and one more where there are more. Of thousands of tables those of
    the page alone are looked at, as this is done on the event loop."""
    principal, gateway = server.serving.principal, server.serving.gateway
    found: list[tuple[_Rank, Callable[[], Resource]]] = []
    if after < (_TABLES, ""):
        fixed = [listed for listed in await server.list_resources() if str(listed.uri) != VIEW_URI]  # tools name it
        found += [((_FIXED, str(listed.uri)), partial(_itself, listed)) for listed in sorted(fixed, key=_uri)]
    if after < (_SNAPSHOTS, ""):
        tables = gateway.catalog.listed(principal)
        begin = bisect_right(tables, after[1], key=attrgetter("id")) if after[0] == _TABLES else 0
        found += [((_TABLES, table.id), partial(_of_table, table)) for table in tables[begin : begin + PAGE + 1]]
    if len(found) <= PAGE:
        kept = sorted(await gateway.snapshots.kept(principal), key=attrgetter("name"))
        found += [((_SNAPSHOTS, one.name), partial(_of_snapshot, one)) for one in kept]
    return [(rank, resource) for rank, resource in found if rank > after]


def _uri(resource: Resource) -> str:
    return str(resource.uri)


def _itself(resource: Resource) -> Resource:
    return resource


def _of_table(table: Table) -> Resource:
    return _resource(SCHEMA_URI.format(table_id=table.id), f"{table.id} schema", table.description)


def _of_snapshot(kept: Snapshot) -> Resource:
    return _resource(SNAPSHOT_URI.format(name=kept.name), kept.name, f"A snapshot of {kept.table_id or 'a table'}")


def _resource(uri: str, name: str, description: str) -> Resource:
    return Resource(uri=uri, name=name, description=clean(description, _DESCRIPTION_CHARS) or name, mime_type=JSON)


def _write_cursor(rank: _Rank) -> str:
    return base64.urlsafe_b64encode(f"{rank[0]}|{rank[1]}".encode()).decode()


def _read_cursor(cursor: str | None) -> _Rank:
    if cursor is None:
        return (_FIXED, "")
    try:
        group, _, name = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return (int(group), name)
    except (ValueError, binascii.Error):
        error = AgnesError("invalid_cursor", "This is not a cursor of this list.", "Start again without a cursor.")
        raise protocol_error(error) from None
