"""One Starlette app: `/mcp` (streamable HTTP), `/sse` with `/messages/`, `/manifest`, `/tables/`, and the probes.

From the outside in: path, Host and Origin; who calls; a body in bounds; then the SDK's transports. Nothing
compresses or buffers a response.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from agnes_mcp.access.users_file import AccessFile
from agnes_mcp.config.settings import ServerSettings, Settings, is_loopback
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.http.connections import most_connections
from agnes_mcp.serving.http.exposure import check_exposure
from agnes_mcp.serving.http.guards import BoundedBody, RequestGuard, browser_access, transport_security
from agnes_mcp.serving.http.identity import Callers, RequireUser, request_principal
from agnes_mcp.serving.http.metrics import Metrics, watch_loop
from agnes_mcp.serving.http.mirrors import mirror_routes
from agnes_mcp.serving.http.operator import OperatorPage
from agnes_mcp.serving.http.probes import figures, healthz, parts, readiness
from agnes_mcp.serving.http.request_ids import DistinctIds
from agnes_mcp.serving.http.sessions import Sessions, SharedRequests, SharedSessions
from agnes_mcp.serving.http.sse import MESSAGES_PATH, SseEndpoint
from agnes_mcp.serving.server import AgnesServer, build_server

if TYPE_CHECKING:
    from agnes_mcp.serving.http.jwts import JwtVerifier

#: An issuer is compared letter by letter, so that no slash may be put at its end.
_AS_WRITTEN = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


@dataclass(frozen=True)
class Binding:
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}"


def _verifier(settings: Settings) -> JwtVerifier | None:
    """Of JWTs, where some are accepted; else its library, of 2 MB, is not loaded."""
    if settings.access.oidc is None:
        return None
    from agnes_mcp.serving.http.jwts import JwtVerifier

    return JwtVerifier(settings.access.oidc)


def build_app(
    gateway: Gateway, binding: Binding, config_path: Path | None = None, server: AgnesServer | None = None
) -> Starlette:
    """The whole app around one gateway. Raises `ConfigError` where it would let strangers in.

    `server` has to identify its callers with `request_principal`; None: one is built.
    """
    settings, access = gateway.settings, gateway.access
    check_exposure(settings, binding.host)
    server = server or build_server(gateway, request_principal)
    file = AccessFile(config_path, access, gateway.registry.unsettled)
    verifier = _verifier(settings)
    callers = Callers(access, file, verifier, anonymous=is_loopback(binding.host))
    security = transport_security(settings.server, binding.host)
    metrics = Metrics(gateway, server.tools.names)
    manager = StreamableHTTPSessionManager(
        app=server.lowlevel,
        security_settings=security,
        session_idle_timeout=settings.server.session_idle_seconds,
        max_sessions=None,  # `Sessions` counts them, by caller
        max_request_body_size=settings.server.max_body_bytes,
    )

    @asynccontextmanager
    async def run_sessions(app: Starlette) -> AsyncIterator[None]:
        async with manager.run(), anyio.create_task_group() as group:
            group.start_soon(watch_loop, metrics.loop_lag.observe)
            await gateway.catalog.start_learning()
            yield
            group.cancel_scope.cancel()

    app = Starlette(
        routes=[
            *OperatorPage(gateway, callers, partial(parts, gateway, file, verifier), secure=_is_tls(settings)).routes(),
            Route("/healthz", healthz),
            Route("/readyz", readiness(gateway, file, verifier)),
            Route("/metrics", figures(metrics, callers, settings.server.metrics_token_sha256)),
            *mirror_routes(gateway, server.serving.rate, _issuer(settings)),
            *_transports(server, manager, settings, binding),
        ],
        middleware=[
            Middleware(RequestGuard, security=security),
            Middleware(CORSMiddleware, **browser_access(security)),
            Middleware(AuthenticationMiddleware, backend=callers),
            Middleware(AuthContextMiddleware),
            Middleware(SharedRequests, most=most_connections(settings.server.max_connections)),
        ],
        lifespan=run_sessions,
    )
    app.state.stopping = False  # until a signal came: `/readyz` says so
    app.router.redirect_slashes = False
    app.state.end_streams = server.end_streams
    return app


def _issuer(settings: Settings) -> str:
    return settings.access.oidc.issuer if settings.access.oidc else ""


def _is_tls(settings: Settings) -> bool:
    return (settings.server.public_url or "").startswith("https://")


def _transports(
    server: AgnesServer, manager: StreamableHTTPSessionManager, settings: Settings, binding: Binding
) -> list[BaseRoute]:
    limits = settings.server
    base = limits.public_url or binding.url
    streams = Sessions(limits.max_sessions, idle_s=inf)  # they are pinged, never idle
    sse = SseEndpoint(server, transport_security(limits, binding.host), limits.max_body_bytes, streams)
    sessions = Sessions(limits.max_sessions, limits.session_idle_seconds)
    mcp = SharedSessions(DistinctIds(StreamableHTTPASGIApp(manager)), sessions)
    routes: list[BaseRoute] = []
    issuer = _issuer(settings)
    for path, app, methods in (("/mcp", mcp, None), ("/sse", sse.stream, ["GET"])):
        metadata = _resource_metadata(settings, AnyHttpUrl(base + path))
        routes += metadata
        url = build_resource_metadata_url(AnyHttpUrl(base + path)) if metadata else None
        routes.append(Route(path, RequireUser(_bounded(app, limits), issuer, url), methods=methods))
    routes.append(Mount(MESSAGES_PATH, RequireUser(_bounded(sse.messages, limits), issuer)))
    return routes


def _bounded(app: ASGIApp, limits: ServerSettings) -> ASGIApp:
    return BoundedBody(app, limits.max_body_bytes, limits.body_timeout_seconds)


def _resource_metadata(settings: Settings, resource: AnyHttpUrl) -> list[Route]:
    """Where a client learns which provider's tokens are taken (RFC 9728); nothing without a provider."""
    oidc = settings.access.oidc
    if oidc is None:
        return []
    return create_protected_resource_routes(
        resource_url=resource, authorization_servers=[_AS_WRITTEN.validate_python(oidc.issuer)], resource_name="Agnes"
    )
