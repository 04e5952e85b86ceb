"""`/healthz`: the process answers. `/readyz`: what does not work. `/metrics`: figures, for whoever may read them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agnes_mcp.access.users_file import AccessFile
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.http.guards import refusal_response
from agnes_mcp.serving.http.identity import Callers
from agnes_mcp.serving.http.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from agnes_mcp.serving.http.jwts import JwtVerifier

Endpoint = Callable[[Request], Awaitable[Response]]


async def healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def readiness(gateway: Gateway, file: AccessFile, verifier: JwtVerifier | None) -> Endpoint:
    """200 with `status` ok or degraded; 503 once the server is stopping. Names what is degraded, and nothing more."""

    async def readyz(request: Request) -> Response:
        degraded = [name for name, works in parts(gateway, file, verifier).items() if not works]
        if request.app.state.stopping:
            return JSONResponse({"status": "stopping", "degraded": degraded}, status_code=503)
        return JSONResponse({"status": "degraded" if degraded else "ok", "degraded": degraded})

    return readyz


def parts(gateway: Gateway, file: AccessFile, verifier: JwtVerifier | None) -> dict[str, bool]:
    """Which parts work, by name."""
    bigquery = gateway.sources.health("bigquery")
    token = bigquery.get("token", {})
    return {
        "bigquery": not bigquery.get("last_error") and not token.get("last_error"),
        "bigquery_storage_read": bigquery.get("storage_read", "ok") == "ok",
        "audit": gateway.calls.audit.failures == 0,
        "threads": gateway.calls.stuck == 0,
        "users": not file.problem,
        "oidc_keys": verifier is None or not verifier.keys.problem,
    }


def figures(metrics: Metrics, callers: Callers, token_sha256: str | None) -> Endpoint:
    """Metrics name users: where there are any, they need the token of `server.metrics_token_sha256`."""

    async def serve_metrics(request: Request) -> Response:
        if not callers.anonymous and not _holds(request, token_sha256):
            return refusal_response(
                401, "Metrics need their own bearer token.", "server.metrics_token_sha256 configures it."
            )
        return Response(await anyio.to_thread.run_sync(metrics.render), media_type=CONTENT_TYPE)

    return serve_metrics


def _holds(request: Request, token_sha256: str | None) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    presented = hashlib.sha256(token.strip().encode()).hexdigest()
    return token_sha256 is not None and scheme.lower() == "bearer" and hmac.compare_digest(presented, token_sha256)
