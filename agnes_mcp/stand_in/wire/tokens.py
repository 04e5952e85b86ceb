"""Which bearer tokens are accepted, changed at run time, and which were seen."""

from __future__ import annotations

import threading

from agnes_mcp.stand_in.wire.replies import MISSING_CREDENTIALS, unauthenticated


class Tokens:
    """Accepted tokens and prefixes. Where none is `required` any call passes, but for a token that was expired."""

    def __init__(self, required: bool = False) -> None:
        self.required = required
        self.seen: list[str] = []
        self._accepted: set[str] = set()
        self._prefixes: set[str] = set()
        self._expired: set[str] = set()
        self._drive: set[str] = set()
        self._lock = threading.Lock()

    def accept(self, token: str) -> None:
        with self._lock:
            self._accepted.add(token)
            self._expired.discard(token)

    def accept_prefix(self, prefix: str) -> None:
        with self._lock:
            self._prefixes.add(prefix)

    def grant_drive(self, token: str) -> None:
        """From now on `token` has Drive's scope, which tables in Drive ask for."""
        self._drive.add(token)

    def reads_drive(self, token: str) -> bool:
        return token in self._drive

    def expire(self, token: str) -> None:
        with self._lock:
            self._expired.add(token)

    def expire_all(self) -> None:
        """Expire every token accepted so far, and every prefix."""
        with self._lock:
            self._expired |= self._accepted
            self._prefixes.clear()

    def check(self, authorization: str | None) -> str:
        """The token of an Authorization header. Raises 401 where it is missing, unknown or expired."""
        scheme, _, token = (authorization or "").partition(" ")
        with self._lock:
            if token:
                self.seen.append(token)
            known = token in self._accepted or any(token.startswith(prefix) for prefix in self._prefixes)
            refused = token in self._expired or (self.required and not known)
        if self.required and (not token or scheme.lower() != "bearer"):
            raise unauthenticated(MISSING_CREDENTIALS)
        if refused:
            raise unauthenticated()
        return token
