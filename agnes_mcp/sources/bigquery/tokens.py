"""Access tokens: one for the whole process, from where `origins` finds them.

One `TokenSource` per instance. Its `credentials` is what every Google client of this process gets, so that there is one
token: fetched by one caller however many need it, kept until shortly before it expires, dropped on a 401. Everything it
raises is `auth_failed`; no text, repr or exception chain of it holds a token.
"""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from google.auth import credentials
from google.auth._helpers import utcnow

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery import metadata_server, origins, token_requests
from agnes_mcp.untrusted import redact, remember

_log = logging.getLogger(__name__)

Mode = Literal["auto", "metadata", "adc", "anonymous"]

#: How long before its expiry a token is replaced. The metadata server hands out the same token until 4 minutes before
#: its end, so asking much earlier changes nothing; google-auth uses this value too.
REFRESH_MARGIN_S = 225.0
#: Outside Google Cloud: for how long the metadata server is not asked again while ADC works.
ABSENT_FOR_S = 300.0
#: A caller waits for another one's fetch at most as long as one may take.
FLIGHT_TIMEOUT_S = metadata_server.TOTAL_TIMEOUT_S + 2 * token_requests.TOTAL_TIMEOUT_S + 0.5

HINT = (
    "On Google Cloud, attach a service account to the machine. Elsewhere run `gcloud auth application-default login` "
    "or set GOOGLE_APPLICATION_CREDENTIALS, then call again."
)

HINT_OF_A_FILE = (
    "GOOGLE_APPLICATION_CREDENTIALS names a file, so nobody else is asked. Correct the file or what it points to, or "
    "unset the variable, then start again."
)


class TokenSource:
    """Where this process's BigQuery token comes from.

    `mode`: `auto` asks the metadata server, then ADC, and with GOOGLE_APPLICATION_CREDENTIALS that file alone: who
    names an identity does not want the machine's; `metadata` and `adc` (a file of credentials or a gcloud login; GCE's
    metadata server is not part of it) ask only one; `anonymous` sends no token at all. `impersonate` is a service
    account that the found one may act for, delegates before it with commas; `scopes` come beside cloud-platform's.
    """

    def __init__(
        self,
        mode: Mode = "auto",
        *,
        scopes: Sequence[str] = (),
        impersonate: str | None = None,
        universe_domain: str = origins.DEFAULT_UNIVERSE,
        iam_endpoint: str | None = None,
    ) -> None:
        self.mode = mode
        self.universe_domain = universe_domain
        self._scopes = [origins.SCOPE, *scopes]
        self._impersonate, self._iam_endpoint = impersonate, iam_endpoint
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

    def fresh_for_s(self) -> float:
        """Seconds for which the token that is kept will be handed out; 0 where none is. Asks nobody."""
        token = self._token
        return 0.0 if token is None else max(0.0, token.left_s() - token.margin_s)

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
            state["identity"] = token.identity
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
        for origin in self._order():
            if origin == "metadata" and self._skips_metadata():
                reasons.append("GCE metadata: not found on this machine earlier")
                continue
            found = origins.find(origin, self._scopes, self.universe_domain)
            if isinstance(found, origins.Found) and self._impersonate is not None:
                found = origins.impersonated(
                    found, self._impersonate, self._scopes, self.universe_domain, self._iam_endpoint
                )
            if isinstance(found, origins.Found):
                self._remember(origin)
                return _Token(found)
            reasons.append(found)
        self._metadata_absent_until = 0.0
        raise AgnesError("auth_failed", redact("No BigQuery access token. " + "; ".join(reasons)), self._hint())

    def _hint(self) -> str:
        return HINT_OF_A_FILE if origins.named_file() and self.mode != "metadata" else HINT

    def _order(self) -> tuple[origins.Origin, ...]:
        if self.mode == "auto":
            return ("adc",) if origins.named_file() else ("metadata", "adc")
        return ("metadata",) if self.mode == "metadata" else ("adc",)

    def _skips_metadata(self) -> bool:
        return self.mode == "auto" and time.monotonic() < self._metadata_absent_until

    def _remember(self, origin: str) -> None:
        if origin == "adc" and self.mode == "auto":
            self._metadata_absent_until = time.monotonic() + ABSENT_FOR_S
        _log.info("BigQuery token from %s", origin)


class _Token:
    """One token. Its age is counted on the monotonic clock and on the wall clock; whichever ends first ends it."""

    def __init__(self, found: origins.Found) -> None:
        held = found.held
        self.text = str(held.token)
        self.origin, self.identity = found.origin, found.identity
        self.expiry = held.expiry
        self.quota_project_id = found.quota_project_id
        self.fetched_at = time.monotonic()
        # Nobody knows when a token without an expiry ends: it is used for what it was fetched for, and not kept.
        self.lifetime_s = (held.expiry - utcnow()).total_seconds() if held.expiry else 0.0
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
        self._universe_domain = source.universe_domain
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
