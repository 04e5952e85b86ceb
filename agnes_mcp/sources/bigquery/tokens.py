"""Access tokens: the GCE metadata server first, then Application Default Credentials (ADC).

One `TokenSource` per instance. Its `credentials` is what every Google client of this process gets, so that there is one
token: fetched by one caller however many need it, kept until shortly before it expires, dropped on a 401. Everything it
raises is `auth_failed`; no text, repr or exception chain of it holds a token.
"""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, Literal

import google.auth
import requests
from google.auth import compute_engine, credentials, exceptions
from google.auth._helpers import utcnow
from google.auth.compute_engine import _metadata
from google.auth.transport import requests as requests_transport

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery import metadata_server
from agnes_mcp.untrusted import redact, remember, without_paths_in_prose

_log = logging.getLogger(__name__)

Mode = Literal["auto", "metadata", "adc", "anonymous"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: How long before its expiry a token is replaced. The metadata server hands out the same token until 4 minutes before
#: its end, so asking much earlier changes nothing; google-auth uses this value too.
REFRESH_MARGIN_S = 225.0
#: Outside Google Cloud: for how long the metadata server is not asked again while ADC works.
ABSENT_FOR_S = 300.0
#: One request of an ADC refresh, and all of it.
ADC_REQUEST_TIMEOUT_S = 4.0
ADC_TOTAL_TIMEOUT_S = 4.5
#: A caller waits for another one's fetch at most as long as one may take.
FLIGHT_TIMEOUT_S = metadata_server.TOTAL_TIMEOUT_S + ADC_TOTAL_TIMEOUT_S + 0.5

HINT = (
    "On Google Cloud, attach a service account to the machine. Elsewhere run `gcloud auth application-default login` "
    "or set GOOGLE_APPLICATION_CREDENTIALS, then call again."
)


class TokenSource:
    """Where this process's BigQuery token comes from.

    `mode`: `auto` asks the metadata server, then ADC; `metadata` and `adc` (a key file or a gcloud login; the metadata
    server is not part of it) ask only one; `anonymous` sends no token at all.
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self.mode = mode
        self.credentials: credentials.Credentials
        if mode == "anonymous":
            self.credentials = credentials.AnonymousCredentials()
        else:
            self.credentials = SharedCredentials(self)
        self._lock = threading.Lock()
        self._flight: _Flight | None = None
        self._token: _Token | None = None
        self._metadata_absent_until = 0.0
        self._last_error = ""

    def token(self) -> str:
        """A token that is good for a while yet; "" when anonymous. Blocks up to 10 s. Raises `auth_failed`."""
        if self.mode == "anonymous":
            return ""
        return self._current().text

    def discard(self, token: str) -> None:
        """Forget this token, because BigQuery refused it; another one that came meanwhile stays."""
        with self._lock:
            if self._token is not None and self._token.text == token:
                self._token = None

    def health(self) -> dict[str, Any]:
        """Origin and age of the token in seconds, and the last failure's text. Never the token."""
        token = self._token
        state: dict[str, Any] = {"mode": self.mode, "origin": token.origin if token else None}
        if token is not None:
            state["token_age_s"] = round(time.monotonic() - token.fetched_at)
            state["token_expires_in_s"] = round(token.left_s())
        if self._last_error:
            state["last_error"] = self._last_error
        return state

    def current(self) -> _Token:
        """The token and its expiry, fetched if need be."""
        return self._current()

    def _current(self) -> _Token:
        token = self._token
        if token is not None and token.fresh():
            return token
        with self._lock:
            token = self._token
            if token is not None and token.fresh():
                return token
            flight, leading = self._flight, self._flight is None
            if flight is None:
                flight = self._flight = _Flight()
        if leading:
            self._lead(flight)
        return flight.landed()

    def _lead(self, flight: _Flight) -> None:
        """Fetch for everybody who waits on `flight`."""
        try:
            flight.token = self._fetch()
        except AgnesError as error:
            flight.error = error
        finally:
            with self._lock:
                if flight.token is not None:
                    self._token = flight.token
                    remember(flight.token.text)
                self._last_error = flight.error.message if flight.error else ""
                self._flight = None
            flight.done.set()

    def _fetch(self) -> _Token:
        reasons = []
        for origin in ("metadata", "adc") if self.mode == "auto" else (self.mode,):
            if origin == "metadata" and self._skips_metadata():
                reasons.append("GCE metadata: not found on this machine earlier")
                continue
            outcome = _from_metadata() if origin == "metadata" else _from_adc()
            if isinstance(outcome, _Token):
                self._remember(origin)
                return outcome
            reasons.append(outcome)
        self._metadata_absent_until = 0.0
        raise AgnesError("auth_failed", redact("No BigQuery access token. " + "; ".join(reasons)), HINT)

    def _skips_metadata(self) -> bool:
        return self.mode == "auto" and time.monotonic() < self._metadata_absent_until

    def _remember(self, origin: str) -> None:
        if origin == "adc" and self.mode == "auto":
            self._metadata_absent_until = time.monotonic() + ABSENT_FOR_S
        _log.info("BigQuery token from %s", origin)


class _Token:
    """One token. Its age is counted on the monotonic clock and on the wall clock; whichever ends first ends it."""

    def __init__(self, held: credentials.Credentials, origin: str) -> None:
        self.text = str(held.token)
        self.origin = origin
        self.expiry = held.expiry
        self.quota_project_id: str | None = getattr(held, "quota_project_id", None)
        self.fetched_at = time.monotonic()
        self.lifetime_s = (held.expiry - utcnow()).total_seconds() if held.expiry else 300.0
        # A token shorter than the margin is still used for half of its life.
        self.margin_s = min(REFRESH_MARGIN_S, self.lifetime_s / 2)

    def left_s(self) -> float:
        monotonic = self.lifetime_s - (time.monotonic() - self.fetched_at)
        if self.expiry is None:
            return monotonic
        return min(monotonic, (self.expiry - utcnow()).total_seconds())

    def fresh(self) -> bool:
        return self.left_s() > self.margin_s


class _Flight:
    """A fetch under way, and what came of it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.token: _Token | None = None
        self.error: AgnesError | None = None

    def landed(self) -> _Token:
        self.done.wait(FLIGHT_TIMEOUT_S)
        if self.token is not None:
            return self.token
        if self.error is not None:
            # An instance of its own for every thread: a raised exception collects the traceback of whoever raises it.
            raise AgnesError(self.error.kind, self.error.message, self.error.hint, self.error.details)
        raise AgnesError("auth_failed", "No BigQuery access token: the request for one did not end in time.", HINT)


class SharedCredentials(credentials.Credentials):
    """What google's clients hold: the token of a `TokenSource`."""

    def __init__(self, source: TokenSource) -> None:
        super().__init__()
        self._source = source
        self._sent = threading.local()

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        """Put a fresh token into `headers`."""
        token = self._adopt(self._source.current())
        self.apply(headers, token=token)

    def refresh(self, request: object) -> None:
        """Called by google's clients after a 401: drop the token that this thread has just sent, then have one."""
        self._source.discard(getattr(self._sent, "token", ""))
        self._adopt(self._source.current())

    def _adopt(self, token: _Token) -> str:
        self.token, self.expiry = token.text, token.expiry
        self._quota_project_id = token.quota_project_id
        self._sent.token = token.text
        return token.text


def _from_metadata() -> _Token | str:
    """A token of the machine's service account, or why there is none."""
    held = compute_engine.Credentials(scopes=[SCOPE])
    try:
        held.refresh(metadata_server.Transport())
    except metadata_server.MetadataError as error:
        return f"GCE metadata: {error}"
    except exceptions.GoogleAuthError as error:
        return f"GCE metadata: metadata server unreachable: {_first_line(error)}"
    return _Token(held, "metadata")


def _from_adc() -> _Token | str:
    """A token of a key file or a gcloud login, or why there is none."""
    request = _BoundedRequest()
    try:
        held, _ = google.auth.default(scopes=[SCOPE], request=request)
        held.refresh(request)
    except _NotAsked:
        return "ADC fallback: no Application Default Credentials were found"
    except (exceptions.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        return f"ADC fallback: {_first_line(error)}"
    if not isinstance(held.token, str) or not held.token:
        return "ADC fallback: no access_token in response"
    return _Token(held, "adc")


class _NotAsked(Exception):  # noqa: N818 - a signal out of google.auth.default, not a failure
    """`google.auth.default` has come to the metadata server, which has been asked already."""


class _BoundedRequest(requests_transport.Request):
    """google-auth's own transport with a deadline over all of its requests and no way to the metadata server."""

    def __init__(self) -> None:
        super().__init__()
        self._deadline = time.monotonic() + ADC_TOTAL_TIMEOUT_S

    def __call__(self, url: str, *args: Any, **kwargs: Any) -> Any:
        if any(url.startswith(f"{scheme}://{host}") for scheme in ("http", "https") for host in _metadata_hosts()):
            raise _NotAsked
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no answer in time")
        kwargs["timeout"] = min(ADC_REQUEST_TIMEOUT_S, left)
        return super().__call__(url, *args, **kwargs)


def _metadata_hosts() -> tuple[str, ...]:
    """Every host that google-auth takes for the metadata server now."""
    named = {_metadata._get_metadata_ip_root(False), _metadata._get_metadata_root(False)}
    hosts = {root.split("//", 1)[1].split("/", 1)[0] for root in named}
    return (*sorted(hosts), metadata_server.DEFAULT_ADDRESS, metadata_server.DEFAULT_HOST)


def _first_line(error: Exception) -> str:
    """What an exception of google-auth says, without the body of an answer, a path of this machine, or a token."""
    text = str(error.args[0]) if error.args else ""
    text = text.splitlines()[0] if text else ""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        text = text.replace(named, "GOOGLE_APPLICATION_CREDENTIALS")
    return redact(f"{type(error).__name__}: {without_paths_in_prose(text)}")
