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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import google.auth
import requests
from google.auth import _cloud_sdk, compute_engine, credentials, exceptions, impersonated_credentials
from google.oauth2 import credentials as oauth2

from agnes_mcp.sources.bigquery import metadata_server
from agnes_mcp.sources.bigquery.token_requests import BoundedRequest, NotAsked
from agnes_mcp.untrusted import redact, without_paths_in_prose

Origin = Literal["metadata", "adc"]
logging.getLogger("google.auth._default").setLevel(logging.ERROR)  # it warns of a project that is not wanted

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
DEFAULT_UNIVERSE = credentials.DEFAULT_UNIVERSE_DOMAIN
NAMED_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
#: How long an impersonated account's token lives; the longest that needs no organisation policy.
IMPERSONATED_LIFETIME_S = 3600
_MAX_FILE_BYTES = 1024 * 1024
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
    """The file of credentials that the environment names; empty: none. As google-auth reads it, blanks and all."""
    return os.environ.get(NAMED_FILE, "")


def find(origin: Origin, scopes: Sequence[str], universe_domain: str) -> Found | str:
    """A token of that origin, or why there is none."""
    found = _from_metadata(scopes) if origin == "metadata" else _from_adc(scopes)
    if isinstance(found, Found) and origin == "adc":
        theirs = getattr(found.held, "universe_domain", DEFAULT_UNIVERSE)
        if theirs != universe_domain:
            return f"ADC fallback: the credentials belong to {theirs!r}, not to universe_domain {universe_domain!r}"
    return found


def impersonated(
    found: Found, accounts: str, scopes: Sequence[str], universe_domain: str, iam_endpoint: str | None = None
) -> Found | str:
    """A token of the service account that the found identity may act for, or why there is none.

    `accounts`: that account; before it, with commas, those that pass the permission on (delegates), in their order.
    """
    *delegates, account = accounts.split(",")
    source = oauth2.Credentials(
        found.held.token, quota_project_id=found.quota_project_id, universe_domain=universe_domain
    )
    held = impersonated_credentials.Credentials(
        source,
        account,
        list(scopes),
        delegates,
        lifetime=IMPERSONATED_LIFETIME_S,
        iam_endpoint_override=iam_endpoint
        and f"{iam_endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
    )
    try:
        held.refresh(BoundedRequest())
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
    if isinstance(content, str):
        return f"ADC fallback: {content}"
    request = BoundedRequest(_sources_of(content))
    try:
        held, _ = google.auth.default(scopes=list(scopes), request=request)
        if not held.token:  # it is there where a project was looked for
            held.refresh(request)
    except NotAsked:
        return "ADC fallback: no Application Default Credentials were found"
    except (exceptions.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        return f"ADC fallback: {_first_line(error)}"
    except (AttributeError, KeyError, TypeError) as error:  # google-auth takes a file's fields for what they should be
        return (
            f"ADC fallback: the {_kind_of(content)} file has a field that is not as it should be: {_first_line(error)}"
        )
    if not isinstance(held.token, str) or not held.token:
        return "ADC fallback: no access_token in response"
    if request.expiry_unknown:
        held.expiry = None
    return Found(held, "adc", _kind_of(content) or type(held).__name__, getattr(held, "quota_project_id", None))


def _kind_of(content: dict[str, Any]) -> str:
    kind = content.get("type")
    return kind[:64] if isinstance(kind, str) else ""


def _file_content() -> dict[str, Any] | str:
    """The file that Application Default Credentials will read, or why they will not; empty where there is none.

    What is missing or no JSON google-auth says itself.
    """
    path = Path(named_file() or _cloud_sdk.get_application_default_credentials_path())
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return "the file of credentials is not a JSON object"
    source = content.get("credential_source")
    if isinstance(source, dict) and "executable" in source:
        return "credentials that a program gives (`executable`) are not used here: a server starts no other programs"
    return content


def _sources_of(content: dict[str, Any]) -> frozenset[str]:
    """The addresses from which a workload of another cloud has its own identity, as its file names them."""
    if content.get("type") != "external_account":
        return frozenset()
    named = content.get("credential_source")
    found = [named.get(key) for key in _SOURCE_KEYS] if isinstance(named, dict) else []
    return frozenset(url for url in found if isinstance(url, str))


def _first_line(error: Exception) -> str:
    """What an exception of google-auth says, without the body of an answer, a path of this machine, or a token."""
    text = _said(error)
    if isinstance(error, exceptions.DefaultCredentialsError) and isinstance(error.__cause__, Exception):
        text = f"{text}: {_said(error.__cause__)}" if text.startswith("Failed to load") else text
    if (named := named_file()).strip():
        text = text.replace(named, NAMED_FILE)
    return redact(f"{type(error).__name__}: {without_paths_in_prose(text)}")


def _said(error: Exception) -> str:
    text = str((isinstance(error, OSError) and error.strerror) or (error.args[0] if error.args else ""))
    return text.splitlines()[0] if text else ""
