"""Google's two clients, built on first use with one credential, and where they connect to."""

# google-auth and grpc annotate only a part of themselves:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agnes_mcp import __version__
from agnes_mcp.errors import ConfigError
from agnes_mcp.sources.bigquery import metadata_server
from agnes_mcp.sources.bigquery.proxies import DirectToThisMachine, proxy_for
from agnes_mcp.sources.bigquery.tokens import Mode, TokenSource

if TYPE_CHECKING:
    import grpc
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient

    from agnes_mcp.config.settings import BigQuerySettings

USER_AGENT = f"agnes-mcp/{__version__}"
#: Kept open; one worker thread has one request under way.
CONNECTIONS = 32


class Clients:
    """The REST client and the Storage Read client of one instance. Safe to share between threads.

    Raises `ConfigError` for endpoints to which a token would travel in the clear.
    """

    def __init__(self, settings: BigQuerySettings) -> None:
        self.settings = settings
        self.tokens = TokenSource(
            token_mode(settings),
            scopes=settings.scopes,
            impersonate=settings.impersonate,
            universe_domain=settings.universe_domain,
        )
        self._storage_scheme, self._storage_host = storage_address(settings)
        self._lock = threading.Lock()
        self._rest: bigquery.Client | None = None
        self._storage: BigQueryReadClient | None = None

    @property
    def rest(self) -> bigquery.Client:
        """BigQuery's REST API; jobs run in the billed project."""
        with self._lock:
            if self._rest is None:
                self._rest = self._build_rest()
            return self._rest

    @property
    def storage(self) -> BigQueryReadClient:
        """The Storage Read API. Give every call `storage_metadata()`."""
        with self._lock:
            if self._storage is None:
                self._storage = self._build_storage()
            return self._storage

    def storage_metadata(self) -> list[tuple[str, str]]:
        """The token as call metadata, where the channel cannot carry it: plaintext, to this machine only."""
        token = self.tokens.token()
        return [("authorization", f"Bearer {token}")] if self._storage_scheme == "grpc" and token else []

    def close(self) -> None:
        with self._lock:
            rest, self._rest = self._rest, None
            storage, self._storage = self._storage, None
        if rest is not None:
            rest.close()
        if storage is not None:
            storage.transport.close()

    def _build_rest(self) -> bigquery.Client:
        from google.api_core.client_info import ClientInfo
        from google.auth.transport.requests import AuthorizedSession

        from agnes_mcp.sources.bigquery.job_resources import RestClient

        # One refresh and one retry after a 401, then the error; google-auth's default is two.
        session = AuthorizedSession(self.tokens.credentials, max_refresh_attempts=1)
        for scheme in ("https://", "http://"):
            session.mount(scheme, DirectToThisMachine(pool_maxsize=CONNECTIONS))
        if self.settings.api_endpoint is None:
            session.configure_mtls_channel()
        return RestClient(
            project=self.settings.billed_project,
            credentials=self.tokens.credentials,
            location=self.settings.location or None,
            client_options=self._options(self.settings.api_endpoint),
            client_info=ClientInfo(user_agent=USER_AGENT),
            _http=session,
        )

    def _options(self, endpoint: str | None) -> dict[str, str]:
        options = {"universe_domain": self.settings.universe_domain}
        return {**options, "api_endpoint": endpoint} if endpoint else options

    def _build_storage(self) -> BigQueryReadClient:
        import grpc
        from google.api_core.gapic_v1.client_info import ClientInfo
        from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

        client_info = ClientInfo(user_agent=USER_AGENT)
        if self._storage_scheme == "grpc":
            options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
            channel = grpc.insecure_channel(self._storage_host, options=options)
            return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel), client_info=client_info)
        return BigQueryReadClient(
            credentials=self.tokens.credentials,
            transport=partial(BigQueryReadGrpcTransport, channel=_secured_channel),
            client_options=self._options(self._storage_host),
            client_info=client_info,
        )


def _secured_channel(host: str, *, options: Sequence[tuple[str, Any]], **ways: Any) -> grpc.Channel:
    """Google's own channel, through the proxy through which the REST client goes, or through none."""
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    proxy = proxy_for(urlsplit(f"//{host}").hostname or "")
    way = ("grpc.http_proxy", proxy) if proxy else ("grpc.enable_http_proxy", 0)
    return BigQueryReadGrpcTransport.create_channel(host, options=[*options, way], **ways)


def token_mode(settings: BigQuerySettings) -> Mode:
    """Which credentials to use. Raises `ConfigError` where a token would travel in the clear.

    With `auth: auto`, an `api_endpoint` of plain http on this machine and no metadata server named in the environment,
    no credential is looked for and none is sent: that is a stand-in, and a real token has no business there.
    """
    if not settings.api_endpoint or urlsplit(settings.api_endpoint).scheme != "http":
        return settings.auth
    if not is_loopback(urlsplit(settings.api_endpoint).hostname or ""):
        raise ConfigError(
            "data_source.bigquery.api_endpoint is plain http to another machine; a token would travel in the clear.",
            "Use https.",
            "data_source.bigquery.api_endpoint",
        )
    return "anonymous" if settings.auth == "auto" and not metadata_server.configured() else settings.auth


def storage_address(settings: BigQuerySettings) -> tuple[str, str]:
    """Scheme (`grpc` plaintext, `grpcs` TLS) and `host:port` of `storage_endpoint`; "" is Google's own.

    Raises `ConfigError` for plaintext to another machine.
    """
    endpoint = settings.storage_endpoint or ""
    if "://" not in endpoint:
        return "grpcs", endpoint
    parts = urlsplit(endpoint)
    if parts.scheme in ("grpcs", "https"):
        return "grpcs", parts.netloc
    if parts.scheme not in ("grpc", "http") or not is_loopback(parts.hostname or ""):
        raise ConfigError(
            "data_source.bigquery.storage_endpoint is not TLS and not on this machine.",
            "Write grpcs://host:port, or grpc://127.0.0.1:port for a stand-in.",
            "data_source.bigquery.storage_endpoint",
        )
    return "grpc", parts.netloc


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
