"""How google-auth reaches whoever gives tokens, beside GCE's metadata server: bounded, never redirected."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from google.auth.compute_engine import _metadata
from google.auth.transport import requests as requests_transport

from agnes_mcp.sources.bigquery import metadata_server
from agnes_mcp.sources.bigquery.proxies import DirectToThisMachine

#: One request of a refresh, and all of it.
REQUEST_TIMEOUT_S = 4.0
TOTAL_TIMEOUT_S = 4.5


class NotAsked(Exception):  # noqa: N818 - a signal out of google.auth.default, not a failure
    """google-auth has come to GCE's metadata server, which has been asked already, or must not be."""


class BoundedRequest(requests_transport.Request):
    """google-auth's own transport with a deadline over all of its requests and no way to GCE's metadata server.

    `sources`: addresses on a metadata server's host that may be asked all the same. `expiry_unknown`: the last token
    that came says nothing of its life, or nothing that can be.
    """

    def __init__(self, sources: frozenset[str] = frozenset()) -> None:
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, DirectToThisMachine())
        super().__init__(session)
        self.expiry_unknown = False
        self._sources = sources
        self._deadline = time.monotonic() + TOTAL_TIMEOUT_S

    def __call__(self, url: str, *args: Any, **kwargs: Any) -> Any:
        if _is_the_machines_own(url) or (_is_of_metadata(url) and not self._is_source(url)):
            raise NotAsked
        if (urlsplit(url).hostname or "").startswith("cloudresourcemanager."):
            # google.auth.default asks for the name of a project that nobody here uses, and needs a permission for it.
            return metadata_server.Answer(404, {}, b"{}")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no answer in time")
        kwargs["timeout"] = min(REQUEST_TIMEOUT_S, left)
        kwargs["allow_redirects"] = False  # a body with a credential in it goes to nobody whom the file does not name
        return self._with_a_lifetime(super().__call__(url, *args, **kwargs))

    def _is_source(self, url: str) -> bool:
        """That very address, or what AWS puts below it: the name of a role."""
        return any(url == source or url.startswith(f"{source.rstrip('/')}/") for source in self._sources)

    def _with_a_lifetime(self, answer: Any) -> Any:
        """The answer as google-auth can take it: it multiplies `expires_in`, whatever that is, and insists on one."""
        try:
            content = json.loads(answer.data) if answer.status == 200 else None
        except (ValueError, RecursionError):
            return answer
        if not isinstance(content, dict) or not {"access_token", "accessToken"} & content.keys():
            return answer
        self.expiry_unknown = False
        if "access_token" not in content:
            return answer
        seconds = metadata_server.lifetime_s(content.get("expires_in"))
        self.expiry_unknown = seconds is None
        told = json.dumps({**content, "expires_in": seconds or 0})
        return metadata_server.Answer(200, answer.headers, told.encode())


def _is_the_machines_own(url: str) -> bool:
    """Whether GCE gives its own tokens there, on whatever host: nobody else has such a path."""
    return "/computemetadata" in unquote(urlsplit(url).path).casefold()


def _is_of_metadata(url: str) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    named = _metadata_hosts()
    try:
        port = parts.port or 80
    except ValueError:
        return True
    return host in named or f"{host}:{port}" in named


def _metadata_hosts() -> frozenset[str]:
    """Every host that google-auth takes for the metadata server now; with its port where that is not 80."""
    named = {_metadata._get_metadata_ip_root(False), _metadata._get_metadata_root(False)}
    hosts = {root.split("//", 1)[1].split("/", 1)[0].casefold() for root in named}
    return frozenset({*hosts, metadata_server.DEFAULT_ADDRESS, metadata_server.DEFAULT_HOST, "metadata"})
