"""Who we are to Google: the machine's account, a file of credentials, a gcloud login, an account to act for.

Each origin gives a credential with a token, or says in words why not. Application Default Credentials never reach GCE's
metadata server from here (it has been asked, or must not be); a workload of another cloud reaches that cloud's own, at
exactly the addresses that its file of credentials names.
"""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth import _cloud_sdk, compute_engine, credentials, exceptions, impersonated_credentials
from google.auth.compute_engine import _metadata
from google.auth.transport import requests as requests_transport
from google.oauth2 import credentials as oauth2

from agnes_mcp.sources.bigquery import metadata_server
from agnes_mcp.sources.bigquery.proxies import DirectToThisMachine
from agnes_mcp.untrusted import redact, without_paths_in_prose

Origin = Literal["metadata", "adc"]
logging.getLogger("google.auth._default").setLevel(logging.ERROR)  # it warns of a project that is not wanted

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
DEFAULT_UNIVERSE = credentials.DEFAULT_UNIVERSE_DOMAIN
NAMED_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
#: One request of a refresh, and all of it.
REQUEST_TIMEOUT_S = 4.0
TOTAL_TIMEOUT_S = 4.5
#: How long an impersonated account's token lives; the longest that needs no organisation policy.
IMPERSONATED_LIFETIME_S = 3600
_MAX_FILE_BYTES = 1024 * 1024
_GENERATE = "/v1/projects/-/serviceAccounts/{}:generateAccessToken"
#: Where a credential of another cloud names the addresses of that cloud's metadata server.
_SOURCE_KEYS = ("url", "region_url", "imdsv2_session_token_url")


@dataclass(frozen=True)
class Found:
    """A credential that holds a token. `identity` is its kind in google-auth's words, never a name or a key."""

    held: credentials.Credentials
    origin: Origin
    identity: str
    quota_project_id: str | None = None


def named_file() -> str:
    """The file of credentials that the environment names; empty: none."""
    return os.environ.get(NAMED_FILE, "").strip()


def find(origin: Origin, scopes: Sequence[str], universe_domain: str) -> Found | str:
    """A token of that origin, or why there is none."""
    found = _from_metadata(scopes) if origin == "metadata" else _from_adc(scopes)
    if isinstance(found, Found) and origin == "adc":
        theirs = getattr(found.held, "universe_domain", DEFAULT_UNIVERSE)
        if theirs != universe_domain:
            return f"ADC fallback: the credentials belong to {theirs!r}, not to universe_domain {universe_domain!r}"
    return found


def impersonated(found: Found, account: str, scopes: Sequence[str], iam_endpoint: str | None = None) -> Found | str:
    """A token of the service account that the found identity may act for, or why there is none."""
    source = oauth2.Credentials(found.held.token, quota_project_id=found.quota_project_id)
    held = impersonated_credentials.Credentials(
        source,
        account,
        list(scopes),
        lifetime=IMPERSONATED_LIFETIME_S,
        iam_endpoint_override=iam_endpoint
        and f"{iam_endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
    )
    try:
        held.refresh(_BoundedRequest(frozenset()))
    except (exceptions.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        return f"impersonation of the configured service account: {_first_line(error)}"
    return Found(held, found.origin, f"impersonated, by {found.identity}", found.quota_project_id)


def _from_metadata(scopes: Sequence[str]) -> Found | str:
    held = compute_engine.Credentials(scopes=list(scopes))
    transport = metadata_server.Transport()
    try:
        held.refresh(transport)
    except metadata_server.MetadataError as error:
        return f"GCE metadata: {error}"
    except exceptions.GoogleAuthError as error:
        return f"GCE metadata: metadata server unreachable: {_first_line(error)}"
    if transport.expiry_unknown:
        held.expiry = None
    return Found(held, "metadata", "the machine's service account")


def _from_adc(scopes: Sequence[str]) -> Found | str:
    content = _file_content()
    request = _BoundedRequest(_sources_of(content))
    try:
        held, _ = google.auth.default(scopes=list(scopes), request=request)
        if not held.valid:  # it is where a project was looked for
            held.refresh(request)
    except _NotAsked:
        return "ADC fallback: no Application Default Credentials were found"
    except (exceptions.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        return f"ADC fallback: {_first_line(error)}"
    if not isinstance(held.token, str) or not held.token:
        return "ADC fallback: no access_token in response"
    kind = content.get("type") if isinstance(content.get("type"), str) else type(held).__name__
    return Found(held, "adc", str(kind)[:64], getattr(held, "quota_project_id", None))


def _file_content() -> dict[str, Any]:
    """The file that Application Default Credentials will read; empty where there is none, or none that can be read."""
    path = Path(named_file() or _cloud_sdk.get_application_default_credentials_path())
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _sources_of(content: dict[str, Any]) -> frozenset[str]:
    """The addresses from which a workload of another cloud has its own identity, as its file names them."""
    if content.get("type") != "external_account":
        return frozenset()
    named = content.get("credential_source")
    found = [named.get(key) for key in _SOURCE_KEYS] if isinstance(named, dict) else []
    return frozenset(url for url in found if isinstance(url, str))


class _NotAsked(Exception):  # noqa: N818 - a signal out of google.auth.default, not a failure
    """`google.auth.default` has come to the metadata server, which has been asked already."""


class _BoundedRequest(requests_transport.Request):
    """google-auth's own transport with a deadline over all of its requests and no way to GCE's metadata server.

    `sources`: addresses on a metadata server's host that may be asked all the same.
    """

    def __init__(self, sources: frozenset[str]) -> None:
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, DirectToThisMachine())
        super().__init__(session)
        self._sources = sources
        self._deadline = time.monotonic() + TOTAL_TIMEOUT_S

    def __call__(self, url: str, *args: Any, **kwargs: Any) -> Any:
        if _is_of_metadata(url) and not self._is_source(url):
            raise _NotAsked
        if (urlsplit(url).hostname or "").startswith("cloudresourcemanager."):
            # google.auth.default asks for the name of a project that nobody here uses, and needs a permission for it.
            return metadata_server.Answer(404, {}, b"{}")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no answer in time")
        kwargs["timeout"] = min(REQUEST_TIMEOUT_S, left)
        return super().__call__(url, *args, **kwargs)

    def _is_source(self, url: str) -> bool:
        """That very address, or what AWS puts below it: the name of a role."""
        if "/computeMetadata" in urlsplit(url).path:
            return False
        return any(url == source or url.startswith(f"{source.rstrip('/')}/") for source in self._sources)


def _is_of_metadata(url: str) -> bool:
    return urlsplit(url).netloc in _metadata_hosts()


def _metadata_hosts() -> frozenset[str]:
    """Every host that google-auth takes for the metadata server now."""
    named = {_metadata._get_metadata_ip_root(False), _metadata._get_metadata_root(False)}
    hosts = {root.split("//", 1)[1].split("/", 1)[0] for root in named}
    return frozenset({*hosts, metadata_server.DEFAULT_ADDRESS, metadata_server.DEFAULT_HOST})


def _first_line(error: Exception) -> str:
    """What an exception of google-auth says, without the body of an answer, a path of this machine, or a token."""
    text = str(error.args[0]) if error.args else ""
    text = text.splitlines()[0] if text else ""
    if named := named_file():
        text = text.replace(named, NAMED_FILE)
    return redact(f"{type(error).__name__}: {without_paths_in_prose(text)}")
