"""`GET /manifest` and `GET /tables/{id}.parquet`: what `agnes-mcp sync` mirrors. Grants as for the tools.

The file's hash is its ETag, and a range is answered only for the very file that the client has begun with.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agnes_mcp.access.rate import CallRate
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import TABLE_ID_PATTERN
from agnes_mcp.serving.http.identity import RequireUser, request_principal

if TYPE_CHECKING:
    from agnes_mcp.extracts.published import PublishedFile

#: By kind; what is not listed is this server's failure.
_STATUS = {
    "unauthenticated": 401,
    "table_not_found": 404,
    "resource_not_found": 404,
    "rate_limited": 429,
    "invalid_argument": 400,
    "table_unavailable": 503,
    "timeout": 503,
    "cancelled": 503,
}
_PARQUET = "application/vnd.apache.parquet"


def mirror_routes(gateway: Gateway, rate: CallRate, issuer: str = "") -> list[Route]:
    """The two endpoints, for callers who are known; `issuer` as in `RequireUser`."""

    async def manifest(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            principal = request_principal()
            rate.take(principal)
            answer = await gateway.manifests.manifest(principal)
            response: Response = Response(answer.model_dump_json(), media_type="application/json", headers=_FRESH)
        except AgnesError as error:
            response = _refused(error)
        await response(scope, receive, send)

    async def table(scope: Scope, receive: Receive, send: Send) -> None:
        name = Request(scope).path_params["name"]
        named = re.fullmatch(rf"({TABLE_ID_PATTERN})\.parquet", name)
        try:
            principal = request_principal()
            rate.take(principal)
            if named is None:
                raise AgnesError("resource_not_found", "There is no such file.", "See /manifest for those there are.")
            descriptor, file = await gateway.manifests.open_table(principal, named[1])
        except AgnesError as error:
            await _refused(error)(scope, receive, send)
            return
        try:
            response = await anyio.to_thread.run_sync(_sent, descriptor, file)
            await _while_connected(response, scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(os.close, descriptor)

    return [
        Route("/manifest", RequireUser(manifest, issuer), methods=["GET"]),
        Route("/tables/{name}", RequireUser(table, issuer), methods=["GET", "HEAD"]),
    ]


#: A proxy may keep nothing of what one caller may read.
_FRESH = {"cache-control": "private, no-cache"}


def _sent(descriptor: int, file: PublishedFile) -> FileResponse:
    """The very file that is open, where the system can name it so, whatever has been put in its place since."""
    by_descriptor = f"/dev/fd/{descriptor}"
    return FileResponse(
        by_descriptor if os.path.exists(by_descriptor) else file.path,
        media_type=_PARQUET,
        headers={**_FRESH, "etag": f'"{file.hash}"'},
        stat_result=os.fstat(descriptor),
    )


async def _while_connected(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """A client that goes away ends its download; otherwise the file would be read to its end for nobody."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await response(scope, receive, send)
        group.cancel_scope.cancel()


def _refused(error: AgnesError) -> JSONResponse:
    status = _STATUS.get(error.kind, 500)
    return JSONResponse({"error": error.message, "kind": error.kind, "hint": error.hint}, status_code=status)
